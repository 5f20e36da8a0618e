// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <utility>

#include "base/assert.hpp"
#include "base/task.hpp"
#include "client/waiters.hpp"

namespace remofile::cli {

// Coroutines that go on side by side, as long as what they weigh together (bytes, or their number) stays below a limit.
// One thread; must outlive them, so await idle() before it goes.
class Parallel {
public:
    explicit Parallel(std::uint64_t limit) : limit_(limit) {}
    ~Parallel() { REMOFILE_ASSERT(weight_ == 0); }
    Parallel(const Parallel&) = delete;
    Parallel& operator=(const Parallel&) = delete;

    // Starts `task` once there is room for its weight; one that weighs more than the limit goes alone.
    Task<void> add(std::uint64_t weight, Task<void> task) {
        while (weight_ > 0 && weight_ + weight > limit_)
            co_await changed_.wait(nullptr);
        weight_ += weight;
        spawn(carry_out(weight, std::move(task)), [this, weight](Status) {
            failure_ = std::make_exception_ptr(std::bad_alloc());
            end(weight);
        });
    }

    // Until all have ended. An exception that ended one of them comes from here.
    Task<void> idle() {
        while (weight_ > 0)
            co_await changed_.wait(nullptr);
        if (failure_)
            std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    Task<void> carry_out(std::uint64_t weight, Task<void> task) {
        {
            // What it holds goes before anybody hears that it has ended.
            Task<void> own = std::move(task);
            try {
                co_await std::move(own);
            } catch (...) {
                failure_ = std::current_exception();
            }
        }
        end(weight);
    }
    void end(std::uint64_t weight) {
        weight_ -= weight;
        changed_.wake(Status::ok);
    }

    std::uint64_t limit_;
    std::uint64_t weight_ = 0;
    std::exception_ptr failure_;
    client::Waiters changed_;
};

}  // namespace remofile::cli
