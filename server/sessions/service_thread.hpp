// SPDX-License-Identifier: MIT
// What the service needs of the thread that it lives on. Two implementations: the reactor with its listener, and the
// tests' own with a clock that they turn.
#pragma once

#include <cstdint>
#include <functional>

#include "base/clock.hpp"
#include "transport/listener.hpp"

namespace remofile::server {

class ServiceThread {
public:
    using Work = std::move_only_function<void()>;
    virtual ~ServiceThread() = default;

    virtual const Clock& clock() const = 0;
    // Seconds since 1970, to be shown to people.
    virtual std::uint64_t unix_time() const = 0;

    // As the methods of Listener.
    virtual bool send(const transport::RouteId& route, wire::Message message) = 0;
    virtual bool clogged(const transport::RouteId& route) const = 0;
    virtual void keep(const transport::RouteId& route) = 0;
    virtual void retire(const transport::RouteId& route) = 0;

    // As the methods of Reactor.
    virtual transport::TimerId after(Duration delay, Work work) = 0;
    virtual void cancel(transport::TimerId timer) = 0;
    virtual void at_end_of_turn(Work work) = 0;
    virtual void post(Work work) = 0;  // callable from any thread
};

}  // namespace remofile::server
