// SPDX-License-Identifier: MIT
// The threads that carry out what may block: file operations.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.hpp"
#include "base/counters.hpp"

namespace remofile::server {

// Where work goes that must not run on the reactor's thread. Two implementations: the pool, and the tests' own, which
// runs work when told to.
class Executor {
public:
    using Work = std::move_only_function<void()>;
    virtual ~Executor() = default;

    // Runs `work` on some thread; an exception that it lets out is logged. Work of one group starts in the order given,
    // and at most a part of the threads runs work of one group at a time; groups take turns.
    virtual void submit(std::uint64_t group, Work work) = 0;
};

// A worker without work sleeps at once: docs/adr/0003-idle-workers-sleep.md. Callable from any thread. The queue is
// bounded by its users: a session has at most its granted number of requests under way, and other work is limited by
// the number of sessions.
class WorkerPool final : public Executor {
public:
    struct Options {
        unsigned threads = 4;
        unsigned max_running_per_group = 3;
    };

    // max(4, 2 x cores) threads: half of them may wait for a disk while the others keep the cores busy. One group
    // leaves at least a quarter of them to others.
    static Options default_options();

    WorkerPool(Options options, Counters& counters);
    // Drops work that has not begun, waits for what has.
    ~WorkerPool() override;
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    void submit(std::uint64_t group, Work work) override;

    // Waits until nothing runs any more; false when `timeout` passes first. What is queued is dropped.
    bool stop(Duration timeout);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::server
