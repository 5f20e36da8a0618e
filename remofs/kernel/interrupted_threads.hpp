// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>

#include "base/clock.hpp"

namespace remofile::remofs {

// Threads whose calls have ended with EINTR, because of a signal that stops programs, a moment ago. One thread's: the
// session's.
class InterruptedThreads {
public:
    explicit InterruptedThreads(const Clock& clock) : clock_(clock) {}

    void add(pid_t thread) {
        if (threads_.size() == max_threads)
            threads_.pop_front();
        threads_.push_back({thread, clock_.now() + life});
    }
    bool contains(pid_t thread) const {
        return std::ranges::any_of(
            threads_, [&](const Thread& known) { return known.id == thread && known.until > clock_.now(); });
    }

private:
    // A program that is told to stop tidies up at once.
    static constexpr auto life = std::chrono::seconds(5);
    static constexpr std::size_t max_threads = 64;

    struct Thread {
        pid_t id;
        TimePoint until;
    };
    const Clock& clock_;
    std::deque<Thread> threads_;
};

}  // namespace remofile::remofs
