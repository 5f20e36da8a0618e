// SPDX-License-Identifier: MIT
#include "transport/socket_monitor.hpp"

#include <zmq.h>

#include <cstring>
#include <string>

#include "base/assert.hpp"

namespace remofile::transport {
namespace {

// The first frame of version 1 of an event: u16 number, u32 value, in the machine's byte order (zmq_socket_monitor(3)).
struct Event {
    std::uint16_t number = 0;
    std::uint32_t value = 0;
};
constexpr std::size_t event_bytes = sizeof(std::uint16_t) + sizeof(std::uint32_t);

bool receive(void* socket, Event& event) {
    Received received;
    if (receive_message(socket, false, received) != ReceiveOutcome::received)
        return false;
    const Buffer& frame = received.message.head;
    REMOFILE_ASSERT(frame.size() == event_bytes);
    std::memcpy(&event.number, frame.data(), sizeof(event.number));
    std::memcpy(&event.value, frame.data() + sizeof(event.number), sizeof(event.value));
    return true;
}

}  // namespace

SocketMonitor::SocketMonitor(Context& context, Reactor& reactor, void* socket, int events, OnEvent on_event)
    : reactor_(reactor),
      socket_(socket),
      events_(context, ZMQ_PAIR),
      on_event_(std::make_shared<OnEvent>(std::move(on_event))),
      alive_(std::make_shared<bool>(true)) {
    const std::string endpoint = "inproc://remofile-monitor-" + context.unique_name();
    REMOFILE_ASSERT(zmq_socket_monitor(socket, endpoint.c_str(), events) == 0);
    events_.set(ZMQ_LINGER, 0);
    // Unlimited, because libzmq waits for room while it holds a lock that stopping the monitor needs: with a limit, a
    // flood of events could lock up the I/O thread and us for good.
    events_.set(ZMQ_RCVHWM, 0);
    REMOFILE_ASSERT(zmq_connect(events_.get(), endpoint.c_str()) == 0);
    reactor_.watch_socket(events_.get(), [this] { take_events(); });
}

SocketMonitor::~SocketMonitor() {
    *alive_ = false;
    reactor_.unwatch_socket(events_.get());
    zmq_socket_monitor(socket_, nullptr, 0);
}

void SocketMonitor::take_events() {
    const auto alive = alive_;
    const auto on_event = on_event_;
    Event event;
    for (int i = 0; i < max_messages_per_turn && *alive && receive(events_.get(), event); ++i)
        (*on_event)(event.number, event.value);
}

}  // namespace remofile::transport
