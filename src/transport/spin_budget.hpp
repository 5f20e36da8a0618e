// SPDX-License-Identifier: MIT
// When a thread that has run out of work should look for more before it sleeps.
#pragma once

#include <algorithm>

#include "base/clock.hpp"

namespace remofile::transport {

// A thread that sleeps makes its core idle, and waking an idle core of a virtual machine takes longer than most
// requests. Looking for work meanwhile takes a core from others, so it is done only while it pays: each success earns
// some more tries, each failure uses one up, and without any left it is tried again once in a while, where work comes
// often. One thread. docs/adr/0013-reactors-look-before-they-sleep.md has the measurements.
class SpinBudget {
public:
    explicit SpinBudget(Duration longest_spin) : longest_(longest_spin) {}

    // How long to look this time; zero: not at all.
    Duration spin_time() const { return tries_ > 0 ? longest_ : Duration::zero(); }

    // Work came while looking for it.
    void found() { tries_ = std::min(tries_ + tries_a_success, max_tries); }
    // Nothing came; work came `waited` after the start of looking, or after the start of the sleep without.
    void slept(Duration waited) {
        if (tries_ > 0)
            --tries_;
        if (waited > longest_ * near_sleeps)
            return;
        if (++near_misses_ >= misses_before_retry) {
            near_misses_ = 0;
            tries_ = std::max(tries_, tries_of_a_retry);
        }
    }

private:
    static constexpr int tries_a_success = 2;
    static constexpr int max_tries = 64;
    // A sleep up to so many spins long may have been so long because cores slept.
    static constexpr int near_sleeps = 10;
    static constexpr int misses_before_retry = 32;
    static constexpr int tries_of_a_retry = 8;

    const Duration longest_;
    int tries_ = tries_of_a_retry;
    int near_misses_ = 0;
};

}  // namespace remofile::transport
