// SPDX-License-Identifier: MIT
#include "transport/zmq_socket.hpp"

#include <zmq.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "base/assert.hpp"

namespace remofile::transport {
namespace {

// Frames up to this size are copied: handing memory over costs two allocations and a release on another thread, and a
// small frame received without a copy would pin libzmq's whole receive buffer (8 KiB).
constexpr std::size_t copy_limit_bytes = 1024;

// What CURVE adds to a frame, which counts towards libzmq's limit: 33 bytes in ZMTP 3.1, rounded up. Without
// encryption, frames that are too long by less than that get past libzmq and are refused by wire::parse_message().
constexpr std::size_t curve_overhead_bytes = 64;

// TCP's own view of a dead network: data that is not acknowledged for that long, or as many seconds of silence without
// an answer to its probes. Unlike ZeroMQ's heartbeats it does not mistake a slow network for a dead one.
constexpr Duration network_timeout = std::chrono::seconds(20);
constexpr int keepalive_idle_s = 5;
constexpr int keepalive_interval_s = 5;
constexpr int keepalive_probes = 3;

// What a frame without a copy holds until libzmq is done with it, on whichever thread that is.
struct ForeignMemory {
    Buffer buffer;
    // Orders all that was done to the memory before its release. libzmq does that too, where thread sanitizer cannot
    // see it.
    std::atomic<bool> handed_over{false};
};

void release_foreign_memory(void*, void* hint) noexcept {
    const std::unique_ptr<ForeignMemory> memory(static_cast<ForeignMemory*>(hint));
    REMOFILE_ASSERT(memory->handed_over.load(std::memory_order_acquire));
}

void close_frame(void* hint) noexcept {
    const std::unique_ptr<zmq_msg_t> frame(static_cast<zmq_msg_t*>(hint));
    zmq_msg_close(frame.get());
}

// What a long frame will need, so that a message of which a part is sent cannot fail any more.
std::unique_ptr<ForeignMemory> prepare(const Buffer& buffer) {
    return buffer.size() <= copy_limit_bytes ? nullptr : std::make_unique<ForeignMemory>();
}

void to_frame(Buffer buffer, std::unique_ptr<ForeignMemory> memory, zmq_msg_t& frame) {
    if (memory == nullptr) {
        REMOFILE_ASSERT(zmq_msg_init_size(&frame, buffer.size()) == 0);
        if (!buffer.empty())
            std::memcpy(zmq_msg_data(&frame), buffer.data(), buffer.size());
        return;
    }
    std::byte* const data = buffer.data();
    const std::size_t size = buffer.size();
    memory->buffer = std::move(buffer);
    memory->handed_over.store(true, std::memory_order_release);
    REMOFILE_ASSERT(zmq_msg_init_data(&frame, data, size, release_foreign_memory, memory.get()) == 0);
    memory.release();  // libzmq's now
}

// `frame` stays as it is; long frames are shared.
Buffer to_buffer(zmq_msg_t& frame) {
    const auto* data = static_cast<const std::byte*>(zmq_msg_data(&frame));
    const std::size_t size = zmq_msg_size(&frame);
    if (size <= copy_limit_bytes)
        return Buffer::copy_of(std::span(data, size));
    auto owner = std::make_unique<zmq_msg_t>();
    zmq_msg_init(owner.get());
    REMOFILE_ASSERT(zmq_msg_copy(owner.get(), &frame) == 0);
    auto* memory = static_cast<std::byte*>(zmq_msg_data(owner.get()));
    return Buffer(memory, size, close_frame, owner.release());
}

// If the frame was queued libzmq owns it, else it is closed.
SendOutcome send_frame(void* socket, zmq_msg_t& frame, bool more) {
    const int flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0);
    bool retried = false;
    for (;;) {
        if (zmq_msg_send(&frame, socket, flags) >= 0)
            return SendOutcome::sent;
        const int failure = zmq_errno();
        if (failure == EINTR)
            continue;
        if (failure == EAGAIN && !retried) {
            // Of a DEALER, whose queue is unlimited: there is no pipe, or libzmq has not looked at its mailbox yet. Of
            // a ROUTER: the queue is full, or libzmq has not looked.
            int events = 0;
            std::size_t size = sizeof(events);
            zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size);
            retried = true;
            continue;
        }
        REMOFILE_ASSERT(failure == EAGAIN || failure == EHOSTUNREACH);
        zmq_msg_close(&frame);
        return failure == EAGAIN ? SendOutcome::queue_full : SendOutcome::no_such_peer;
    }
}

bool receive_frame(void* socket, zmq_msg_t& frame) {
    while (zmq_msg_recv(&frame, socket, ZMQ_DONTWAIT) < 0) {
        if (zmq_errno() == EAGAIN)
            return false;
        REMOFILE_ASSERT(zmq_errno() == EINTR);
    }
    return true;
}

}  // namespace

ZmqSocket::ZmqSocket(Context& context, int type) : handle_(zmq_socket(context.handle(), type)) {
    REMOFILE_ASSERT(handle_ != nullptr);
}

void ZmqSocket::close() {
    if (handle_ != nullptr)
        REMOFILE_ASSERT(zmq_close(std::exchange(handle_, nullptr)) == 0);
}

void ZmqSocket::set(int option, int value) {
    REMOFILE_ASSERT(zmq_setsockopt(handle_, option, &value, sizeof(value)) == 0);
}

void ZmqSocket::set(int option, std::string_view value) {
    REMOFILE_ASSERT(zmq_setsockopt(handle_, option, value.data(), value.size()) == 0);
}

std::string ZmqSocket::get_text(int option) const {
    char text[1024];
    std::size_t size = sizeof(text);
    REMOFILE_ASSERT(zmq_getsockopt(handle_, option, text, &size) == 0);
    return std::string(text, size > 0 ? size - 1 : 0);  // less its NUL
}

void ZmqSocket::set_limits(const Limits& limits) {
    set(ZMQ_LINGER, limits.linger);
    set(ZMQ_SNDHWM, limits.max_unsent_messages);
    set(ZMQ_RCVHWM, limits.max_received_messages);
    set(ZMQ_IPV6, 1);
    const auto max_frame =
        static_cast<std::int64_t>(std::max(wire::max_frame_bytes, wire::max_head_bytes) + curve_overhead_bytes);
    REMOFILE_ASSERT(zmq_setsockopt(handle_, ZMQ_MAXMSGSIZE, &max_frame, sizeof(max_frame)) == 0);
    set(ZMQ_HANDSHAKE_IVL, limits.handshake_timeout);
    set(ZMQ_TCP_MAXRT, network_timeout);
    set(ZMQ_TCP_KEEPALIVE, 1);
    set(ZMQ_TCP_KEEPALIVE_IDLE, keepalive_idle_s);
    set(ZMQ_TCP_KEEPALIVE_INTVL, keepalive_interval_s);
    set(ZMQ_TCP_KEEPALIVE_CNT, keepalive_probes);
    set(ZMQ_HEARTBEAT_IVL, limits.heartbeat_interval);
    set(ZMQ_HEARTBEAT_TIMEOUT, limits.heartbeat_timeout);
    // The peer gives us up after that. libzmq 4.3.4 announces it in tenths of a second and goes wrong from a minute on.
    const Duration time_to_live = limits.heartbeat_interval + limits.heartbeat_timeout;
    set(ZMQ_HEARTBEAT_TTL, std::min<Duration>(time_to_live, std::chrono::seconds(59)));
}

int ZmqSocket::to_milliseconds(Duration duration) {
    const auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
    return static_cast<int>(std::clamp<std::int64_t>(count, 0, INT_MAX));
}

SendOutcome send_message(void* socket, std::optional<std::string_view> routing_id, wire::Message& message) {
    std::unique_ptr<ForeignMemory> for_head = prepare(message.head);
    std::vector<std::unique_ptr<ForeignMemory>> for_bulk;
    for_bulk.reserve(message.bulk.size());
    for (const Buffer& bulk : message.bulk)
        for_bulk.push_back(prepare(bulk));

    zmq_msg_t frame;
    if (routing_id) {
        REMOFILE_ASSERT(zmq_msg_init_size(&frame, routing_id->size()) == 0);
        if (!routing_id->empty())
            std::memcpy(zmq_msg_data(&frame), routing_id->data(), routing_id->size());
        // A queue counts whole messages, so that it has room for the rest once it has taken this.
        const SendOutcome outcome = send_frame(socket, frame, true);
        if (outcome == SendOutcome::no_such_peer)
            message = {};
        if (outcome != SendOutcome::sent)
            return outcome;
    }
    wire::Message taken = std::exchange(message, {});
    to_frame(std::move(taken.head), std::move(for_head), frame);
    if (send_frame(socket, frame, !taken.bulk.empty()) != SendOutcome::sent)
        return SendOutcome::no_such_peer;
    for (std::size_t i = 0; i < taken.bulk.size(); ++i) {
        to_frame(std::move(taken.bulk[i]), std::move(for_bulk[i]), frame);
        if (send_frame(socket, frame, i + 1 < taken.bulk.size()) != SendOutcome::sent)
            return SendOutcome::no_such_peer;
    }
    return SendOutcome::sent;
}

std::string Received::property(const char* name) const {
    const char* value = zmq_msg_gets(&head.message, name);
    return value != nullptr ? value : "";
}

ReceiveOutcome receive_message(void* socket, bool has_routing_id, Received& received) {
    received.message = {};
    Frame next;
    if (!receive_frame(socket, has_routing_id ? next.message : received.head.message))
        return ReceiveOutcome::nothing;
    // libzmq queues whole messages: once the first frame is here, the others are.
    if (has_routing_id) {
        received.routing_id.assign(static_cast<const char*>(zmq_msg_data(&next.message)), zmq_msg_size(&next.message));
        REMOFILE_ASSERT(zmq_msg_more(&next.message) != 0);  // a message over the network has at least one frame
        REMOFILE_ASSERT(receive_frame(socket, received.head.message));
    }
    bool more = zmq_msg_more(&received.head.message) != 0;
    bool lost = false;
    const auto take = [&](auto&& keep) {
        try {
            keep();
        } catch (const std::bad_alloc&) {
            lost = true;  // its other frames must be taken from the socket all the same
        }
    };
    take([&] { received.message.head = to_buffer(received.head.message); });
    std::size_t bulk_frames = 0;
    while (more) {
        REMOFILE_ASSERT(receive_frame(socket, next.message));
        more = zmq_msg_more(&next.message) != 0;
        if (++bulk_frames <= wire::max_records)
            take([&] { received.message.bulk.push_back(to_buffer(next.message)); });
    }
    if (bulk_frames <= wire::max_records && !lost)
        return ReceiveOutcome::received;
    received.message = {};
    return lost ? ReceiveOutcome::lost : ReceiveOutcome::malformed;
}

}  // namespace remofile::transport
