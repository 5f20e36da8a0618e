// SPDX-License-Identifier: MIT
#include "base/clock.hpp"

namespace remofile {

const Clock& Clock::system() {
    struct SystemClock : Clock {
        TimePoint now() const override { return std::chrono::steady_clock::now(); }
    };
    // Never destroyed: threads may ask for the time while the program ends.
    static const Clock& clock = *new SystemClock;
    return clock;
}

}  // namespace remofile
