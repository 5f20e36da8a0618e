// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

namespace remofile {

using Duration = std::chrono::steady_clock::duration;
using TimePoint = std::chrono::steady_clock::time_point;

// The only source of time in the program, so that a test can replace it. Callable from any thread.
class Clock {
public:
    virtual ~Clock() = default;
    virtual TimePoint now() const = 0;

    // The system's monotonic clock.
    static const Clock& system();
    // The same, but going on while the machine sleeps.
    static const Clock& with_sleep();
};

}  // namespace remofile
