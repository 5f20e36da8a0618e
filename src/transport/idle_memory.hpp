// SPDX-License-Identifier: MIT
// Gives freed memory back to the system when a program has nothing to do.
#pragma once

#include <functional>

#include "transport/reactor.hpp"

namespace remofile::transport {

// One thread: the reactor's.
class IdleMemory {
public:
    // A second or two after the last time that busy() was called, calls `give_back`, once; and every minute while there
    // is no such pause.
    IdleMemory(Reactor& reactor, std::function<void()> give_back);
    ~IdleMemory();
    IdleMemory(const IdleMemory&) = delete;
    IdleMemory& operator=(const IdleMemory&) = delete;

    // There is work. Costs next to nothing.
    void busy();

private:
    void wait();
    void on_timer();

    Reactor& reactor_;
    std::function<void()> give_back_;
    TimerId timer_;
    bool was_busy_ = false;
    int busy_turns_ = 0;
};

}  // namespace remofile::transport
