// SPDX-License-Identifier: MIT
// libzmq's sockets and messages in the project's terms. Internal to this layer.
#pragma once

#include <zmq.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/buffer.hpp"
#include "base/clock.hpp"
#include "transport/context.hpp"
#include "transport/keys.hpp"
#include "wire/frame.hpp"

namespace remofile::transport {

// Messages that one handler takes from its socket before the others have their turn.
inline constexpr int max_messages_per_turn = 64;

// Received messages of one client that may wait in its connection's queue before TCP's back-pressure stops it. Credits
// keep an honest client far below; it bounds the memory that a flooding one can claim while our thread is busy.
// A lane has no such limit (0): its queue is bounded by the reply window, and libzmq 4.3.4 throws away what it has not
// yet queued when the connection ends.
inline constexpr int max_queued_messages_per_client = 128;

// Messages to one client that may wait in libzmq for its connection to take them. It bounds the memory of a client that
// acknowledges what it never reads, which the reply window does not; libzmq asks for more when half of them have left.
// A lane has no such limit (0): its client bounds what it sends.
inline constexpr int max_unsent_messages_per_client = 64;

// Owns a ZeroMQ socket. One thread at a time; closing never blocks (what is queued lingers on libzmq's I/O thread).
class ZmqSocket {
public:
    ZmqSocket() = default;
    ZmqSocket(Context& context, int type);
    ZmqSocket(ZmqSocket&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    ZmqSocket& operator=(ZmqSocket&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ZmqSocket(const ZmqSocket&) = delete;
    ZmqSocket& operator=(const ZmqSocket&) = delete;
    ~ZmqSocket() { close(); }

    void close();
    void* get() const { return handle_; }
    explicit operator bool() const { return handle_ != nullptr; }

    // The options are this layer's own, so a refusal is our fault.
    void set(int option, int value);
    void set(int option, Duration value_ms) { set(option, to_milliseconds(value_ms)); }
    void set(int option, std::string_view value);
    std::string get_text(int option) const;

    // What lanes and listeners have in common: limits, heartbeats, IPv6, lingering.
    struct Limits {
        Duration handshake_timeout;
        Duration heartbeat_interval;
        Duration heartbeat_timeout;
        Duration linger;
        int max_received_messages;  // waiting; 0 for no limit
        int max_unsent_messages;    // the same
    };
    void set_limits(const Limits& limits);

    static int to_milliseconds(Duration duration);

private:
    void* handle_ = nullptr;
};

enum class SendOutcome { sent, queue_full, no_such_peer };

// Sends the frames of `message`, after `routing_id` if given, without blocking. Frames beyond a small size travel
// without a copy; their release function then runs on libzmq's thread. With `queue_full`, of a peer with a routing id
// only, `message` is as before; else it is used up: sent or dropped whole.
SendOutcome send_message(void* socket, std::optional<std::string_view> routing_id, wire::Message& message);

// `lost`: there is no memory for the message, which is gone; a ROUTER's caller is told whose it was.
enum class ReceiveOutcome { received, nothing, malformed, lost };

// A libzmq message that is closed whatever happens.
struct Frame {
    zmq_msg_t message;
    Frame() { zmq_msg_init(&message); }
    ~Frame() { zmq_msg_close(&message); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;
};

// One received message; it can be received into again.
struct Received {
    std::string routing_id;  // of the sender; a ROUTER's messages only
    wire::Message message;
    Frame head;  // shares its memory with message.head

    // What libzmq noted when the connection was made: "Peer-Address", "User-Id" (the ZAP handler's); empty if it did
    // not. libzmq 4.3.4 keeps that with what came over the connection, but not always with the routing id.
    std::string property(const char* name) const;
};

// Receives one message without blocking. One of more frames than the protocol allows is read to its end and dropped:
// `malformed`; `head` is then as received.
ReceiveOutcome receive_message(void* socket, bool has_routing_id, Received& received);

}  // namespace remofile::transport
