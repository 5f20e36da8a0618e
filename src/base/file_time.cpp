// SPDX-License-Identifier: MIT
#include "base/file_time.hpp"

#include <cstdint>

namespace remofile {
namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
// Two ticks of the slowest clock there is (100 a second): one that is under way, and one for a second look at it.
constexpr std::int64_t slack_ns = 20'000'000;

}  // namespace

std::chrono::nanoseconds step_of(const timespec& time) {
    if (time.tv_nsec == 0)
        return std::chrono::seconds(time.tv_sec % 2 == 0 ? 2 : 1);
    std::int64_t step = 1;
    while (time.tv_nsec % (step * 10) == 0)
        step *= 10;
    return std::chrono::nanoseconds(step);
}

bool may_recur(const timespec& change, const timespec& now) {
    const std::int64_t age_s = now.tv_sec - change.tv_sec;
    // The largest step is two seconds; and a difference of any two times fits into nanoseconds below.
    if (age_s > 3)
        return false;
    if (age_s < 0)
        return true;
    return age_s * second_ns + now.tv_nsec - change.tv_nsec < step_of(change).count() + slack_ns;
}

timespec coarse_now() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now;
}

}  // namespace remofile
