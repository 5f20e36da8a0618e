// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/status.hpp"
#include "base/task.hpp"
#include "client/session.hpp"

namespace remofile::client {

// Coroutines that wait for one event, each of which may be told to give up. One thread. The object may go while
// coroutines wait only after wake().
class Waiters {
public:
    // Ends at the next wake() with the status given there, or with `interrupted`. `cancellation` may be null, and must
    // live until then.
    Task<Status> wait(Cancellation* cancellation) {
        if (cancellation != nullptr && cancellation->cancelled())
            co_return Status::interrupted;
        const auto waiting = std::make_shared<Waiting>();
        waiting_.push_back(waiting);
        if (cancellation == nullptr)
            co_return co_await waiting->event;
        const auto until_woken = cancellation->watch([waiting] { waiting->deliver(Status::interrupted); });
        co_return co_await waiting->event;
    }

    // Resumes those that wait now, before it returns.
    void wake(Status status) {
        for (const auto& waiting : std::exchange(waiting_, {}))
            waiting->deliver(status);
    }

    bool empty() const { return waiting_.empty(); }

private:
    // Shared by the list, the coroutine and its cancellation: whichever speaks first ends the wait.
    struct Waiting {
        Completion<Status> event;
        bool delivered = false;
        void deliver(Status status) {
            if (!std::exchange(delivered, true))
                event.deliver(status);
        }
    };
    std::vector<std::shared_ptr<Waiting>> waiting_;
};

}  // namespace remofile::client
