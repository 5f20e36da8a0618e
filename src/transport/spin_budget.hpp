// SPDX-License-Identifier: MIT
// When a thread that has run out of work should look for more before it sleeps.
#pragma once

#include <algorithm>
#include <cstddef>

#include "base/clock.hpp"

namespace remofile::transport {

// A thread that sleeps makes its core idle, and waking an idle core of a virtual machine takes longer than most
// requests. Looking for work meanwhile takes a core from others, so it is done only while it pays: each success earns
// some more tries, each failure uses one up, and without any left it is tried again once in a while, where work comes
// often. One thread. docs/adr/0013-reactors-look-before-they-sleep.md has the measurements.
class SpinBudget {
public:
    explicit SpinBudget(Duration longest_spin) : longest_(longest_spin) {}

    // How long to look from `now` on; zero: not at all.
    Duration spin_time(TimePoint now) const { return tries_ > 0 && now >= bulk_until_ ? longest_ : Duration::zero(); }

    // Work came while looking for it.
    void found() { tries_ = std::min(tries_ + tries_a_success, max_tries); }
    // Nothing came; work came `waited` after `start`, when looking began, or the sleep without.
    void slept(TimePoint start, Duration waited) {
        if (start < bulk_until_)
            return;
        if (tries_ > 0)
            --tries_;
        if (waited > longest_ * near_sleeps)
            return;
        if (++near_misses_ >= misses_before_retry) {
            near_misses_ = 0;
            tries_ = std::max(tries_, tries_of_a_retry);
        }
    }

    // A message was sent or received. Large ones take long compared to the waking of a core, and whoever moves the next
    // needs this one.
    void moved(std::size_t bytes, TimePoint now) {
        if (bytes >= bulk_bytes)
            bulk_until_ = now + bulk_pause;
    }

    static constexpr std::size_t bulk_bytes = 128U << 10;

private:
    // More than lies between the messages of a stream on a network for which looking pays at all.
    static constexpr Duration bulk_pause = std::chrono::milliseconds(5);
    static constexpr int tries_a_success = 2;
    static constexpr int max_tries = 64;
    // A sleep up to so many spins long may have been so long because cores slept.
    static constexpr int near_sleeps = 10;
    static constexpr int misses_before_retry = 32;
    static constexpr int tries_of_a_retry = 8;

    const Duration longest_;
    int tries_ = tries_of_a_retry;
    int near_misses_ = 0;
    TimePoint bulk_until_{};
};

}  // namespace remofile::transport
