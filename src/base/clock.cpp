// SPDX-License-Identifier: MIT
#include "base/clock.hpp"

#include <ctime>

namespace remofile {

const Clock& Clock::system() {
    struct SystemClock : Clock {
        TimePoint now() const override { return std::chrono::steady_clock::now(); }
    };
    // Never destroyed: threads may ask for the time while the program ends.
    static const Clock& clock = *new SystemClock;
    return clock;
}

const Clock& Clock::with_sleep() {
    struct BootClock : Clock {
        TimePoint now() const override {
            timespec time{};
            clock_gettime(CLOCK_BOOTTIME, &time);
            return TimePoint(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
        }
    };
    static const Clock& clock = *new BootClock;
    return clock;
}

}  // namespace remofile
