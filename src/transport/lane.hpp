// SPDX-License-Identifier: MIT
// A client's connection to a server: one DEALER socket that is thrown away whenever its connection is lost, so that
// nothing that was queued for the old connection is ever delivered late over a new one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "transport/congestion_control.hpp"
#include "transport/context.hpp"
#include "transport/keys.hpp"
#include "transport/message_cipher.hpp"
#include "transport/reactor.hpp"
#include "wire/frame.hpp"

namespace remofile::transport {

struct LaneOptions {
    std::string endpoint;
    // Both set: CURVE. Neither: plain text, for a server told --insecure.
    std::optional<KeyPair> identity;
    std::optional<PublicKey> server_key;
    // Set, with neither key: a sealed lane. One ticket is good for one connection.
    std::optional<LaneTicket> ticket;
    CongestionControl congestion_control;
    Duration connect_timeout = std::chrono::seconds(5);  // from TCP's SYN to the end of CURVE's handshake
    // ZeroMQ's own. libzmq gives a connection up if no complete message comes for both together, even while one is
    // coming in: 20 s let the longest frame through at 53 kB/s. It must stay well below a session's time-out, or a
    // connection that hangs costs the session.
    Duration heartbeat_interval = std::chrono::seconds(5);
    Duration heartbeat_timeout = std::chrono::seconds(15);
    // How long the destructor waits for queued messages (BYE) to reach the network.
    Duration linger = std::chrono::milliseconds(500);
};

// Used on its reactor's thread only. Handlers run there; a handler may destroy the lane as its last act.
class Lane {
public:
    struct Handlers {
        // The connection stands: authenticated and encrypted (if CURVE is used).
        std::function<void()> on_connected;
        // A message arrived. Frames longer than the protocol allows never get here: ZeroMQ cuts the connection.
        std::function<void(wire::Message)> on_message;
        // The connection is lost, or could not be made: unreachable (refused, no route, timed out; the message says
        // which), not_authorized (the server refused our key), wrong_server_key (the server could not prove its key,
        // or speaks no CURVE). Called once for each connect(); the socket is closed by then and nothing more of it
        // arrives. Call connect() to try again.
        std::function<void(Error)> on_disconnected;
    };

    Lane(Context& context, Reactor& reactor, LaneOptions options, Handlers handlers);
    ~Lane();
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    // Starts one attempt. Precondition: not connecting or connected.
    void connect();
    // Closes the socket; queued messages have `linger` to get out. on_disconnected is not called.
    void disconnect();
    bool connected() const;
    // What came of the choice of a congestion control for the latest connection; none if it is not TCP's.
    const std::optional<CongestionControl::Outcome>& congestion() const;

    // Queues a message without blocking. Precondition: connected. Bulk frames travel without a copy, unless the lane is
    // sealed.
    void send(wire::Message message);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::transport
