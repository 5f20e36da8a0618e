// SPDX-License-Identifier: MIT
// What libzmq reports about a socket's connections. Internal to this layer.
#pragma once

#include <cstdint>
#include <functional>

#include "transport/context.hpp"
#include "transport/reactor.hpp"
#include "transport/zmq_socket.hpp"

namespace remofile::transport {

// Calls `on_event` on the reactor's thread with ZMQ_EVENT_* and its value, for the events of the mask. Destroy it
// before the socket; a handler may do so as its last act.
class SocketMonitor {
public:
    using OnEvent = std::function<void(int event, std::uint32_t value)>;

    SocketMonitor(Context& context, Reactor& reactor, void* socket, int events, OnEvent on_event);
    ~SocketMonitor();
    SocketMonitor(const SocketMonitor&) = delete;
    SocketMonitor& operator=(const SocketMonitor&) = delete;

private:
    void take_events();

    Reactor& reactor_;
    void* socket_;
    ZmqSocket events_;
    std::shared_ptr<OnEvent> on_event_;  // shared with a call under way, which may destroy this object
    std::shared_ptr<bool> alive_;        // the same
};

}  // namespace remofile::transport
