// SPDX-License-Identifier: MIT
#include "base/clock.hpp"

namespace remofile {

const Clock& Clock::system() {
    static const struct : Clock {
        TimePoint now() const override { return std::chrono::steady_clock::now(); }
    } clock;
    return clock;
}

}  // namespace remofile
