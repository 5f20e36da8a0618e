// SPDX-License-Identifier: MIT
// Keeps peers from filling the log.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.hpp"

namespace remofile::server {

// One thread.
class LogLimiter {
public:
    static constexpr std::uint32_t max_lines = 20;  // within `period`
    static constexpr Duration period = std::chrono::minutes(1);

    // Whether one more line may be written.
    bool allow(TimePoint now) {
        if (now - begun_ >= period) {
            begun_ = now;
            lines_ = 0;
        }
        return ++lines_ <= max_lines;
    }
    // The line is the last of its period: say so in it.
    bool last() const { return lines_ == max_lines; }

private:
    TimePoint begun_{};
    std::uint32_t lines_ = 0;
};

}  // namespace remofile::server
