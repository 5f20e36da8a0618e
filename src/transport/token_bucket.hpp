// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/clock.hpp"

namespace remofile::transport {

// Lets `capacity` events pass at once and `per_second` in the long run. One thread at a time.
class TokenBucket {
public:
    TokenBucket(double capacity, double per_second, TimePoint now)
        : capacity_(capacity), per_second_(per_second), tokens_(capacity), updated_(now) {}

    bool take(TimePoint now) {
        tokens_ = tokens_at(now);
        updated_ = now;
        if (tokens_ < 1)
            return false;
        tokens_ -= 1;
        return true;
    }
    bool full(TimePoint now) const { return tokens_at(now) >= capacity_; }

    // The other way to use it, for events of different sizes: one of any size passes when nothing is owed, and may
    // leave a debt.
    //
    // How long until nothing is owed; zero: one may pass.
    Duration wait(TimePoint now) const {
        const double owed = -tokens_at(now);
        if (owed <= 0)
            return Duration::zero();
        // Up to the next millisecond, so that none who has waited so long comes too early by a rounding error.
        return std::chrono::floor<std::chrono::milliseconds>(std::chrono::duration<double>(owed / per_second_)) +
               std::chrono::milliseconds(1);
    }
    // One of that size passes; negative: so much is given back.
    void charge(double amount, TimePoint now) {
        tokens_ = std::min(capacity_, tokens_at(now) - amount);
        updated_ = now;
    }

private:
    double tokens_at(TimePoint now) const {
        const double seconds = std::chrono::duration<double>(now - updated_).count();
        return std::min(capacity_, tokens_ + seconds * per_second_);
    }

    double capacity_;
    double per_second_;
    double tokens_;
    TimePoint updated_;
};

// Keeps what peers can cause to be logged within bounds.
class LogLimit {
public:
    explicit LogLimit(TimePoint now) : bucket_(10, 0.2, now) {}  // ten lines at once, then one in five seconds

    // Calls `write` with a note about lines left out before, if this line may be written.
    template <class Write>
    void pass(TimePoint now, Write&& write) {
        if (!bucket_.take(now)) {
            ++left_out_;
            return;
        }
        write(left_out_ == 0 ? std::string() : " (" + std::to_string(left_out_) + " more lines like this left out)");
        left_out_ = 0;
    }

private:
    TokenBucket bucket_;
    std::uint64_t left_out_ = 0;
};

}  // namespace remofile::transport
