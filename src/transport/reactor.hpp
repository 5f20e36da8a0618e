// SPDX-License-Identifier: MIT
// One thread's event loop over ZeroMQ sockets, file descriptors, timers and work that other threads post.
//
// Everything that a reactor calls runs on the thread in run(). All methods but post() and stop() belong to that
// thread, or to the thread that builds the program before run(). An exception that a handler lets out is logged and
// goes no further.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/strong_id.hpp"

namespace remofile::transport {

using TimerId = StrongId<struct TimerTag>;

// What most requests over a fast network take, and waking an idle core.
inline constexpr Duration usual_spin = std::chrono::microseconds(200);

class Reactor {
public:
    using Work = std::move_only_function<void()>;

    explicit Reactor(const Clock& clock = Clock::system());
    ~Reactor();
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    // Calls `on_readable` whenever `fd` can be read, level-triggered; the reactor does not own the descriptor.
    // A handler may unwatch itself or others.
    void watch(int fd, std::function<void()> on_readable);
    void unwatch(int fd);

    // Calls `work` once, at or soon after `delay` from now.
    TimerId after(Duration delay, Work work);
    // No effect on a timer that has run.
    void cancel(TimerId timer);

    // Runs `work` on the reactor's thread, in the order of posting. Callable from any thread; counted as a thread
    // hand-off. Work posted after run() has returned is dropped when the reactor goes.
    void post(Work work);

    // Runs `work` once, after the handlers of this turn and before the reactor waits: the place to send what they
    // queued.
    void at_end_of_turn(Work work);

    // From now on looks for work for up to `longest_spin` before it sleeps, while that pays (SpinBudget). Other threads
    // that want the core get it. Zero, as from the start: sleeps at once.
    void spin_before_sleeping(Duration longest_spin);
    // A message of that size was sent or received, which SpinBudget wants to know.
    void moved(std::size_t bytes);

    // Serves until stop().
    void run();
    // Makes run() return after the current turn. Callable from any thread and from a signal handler.
    void stop();

    const Clock& clock() const;
    // How often post() woke a sleeping reactor. Callable from any thread, as the next.
    std::uint64_t wakeups() const;
    // How often it went to sleep.
    std::uint64_t sleeps() const;

    // For this layer's sockets: calls `on_ready` while a ZeroMQ socket (a void* of libzmq) may have messages to
    // receive. The handler takes a bounded number of them without waiting; the reactor comes back for the rest.
    void watch_socket(void* zmq_socket, std::function<void()> on_ready);
    void unwatch_socket(void* zmq_socket);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::transport
