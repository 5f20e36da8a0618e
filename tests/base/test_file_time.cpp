// SPDX-License-Identifier: MIT
#include "base/file_time.hpp"

#include <cstdint>

#include "catch.hpp"

using namespace remofile;
using namespace std::chrono_literals;

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

timespec at(std::int64_t nanoseconds) {
    return {.tv_sec = nanoseconds / second_ns, .tv_nsec = nanoseconds % second_ns};
}

}  // namespace

TEST_CASE("the step of a file system's times is told from what is zero at their end") {
    CHECK(step_of({.tv_sec = 1'700'000'001, .tv_nsec = 0}) == 1s);
    CHECK(step_of({.tv_sec = 1'700'000'000, .tv_nsec = 0}) == 2s);
    CHECK(step_of({.tv_sec = 0, .tv_nsec = 0}) == 2s);
    CHECK(step_of({.tv_sec = -1, .tv_nsec = 0}) == 1s);
    CHECK(step_of({.tv_sec = 5, .tv_nsec = 500'000'000}) == 100ms);
    CHECK(step_of({.tv_sec = 5, .tv_nsec = 510'000'000}) == 10ms);
    CHECK(step_of({.tv_sec = 5, .tv_nsec = 123'456'000}) == 1us);
    CHECK(step_of({.tv_sec = 5, .tv_nsec = 123'456'700}) == 100ns);
    CHECK(step_of({.tv_sec = 5, .tv_nsec = 123'456'789}) == 1ns);
    CHECK(step_of({.tv_sec = 5, .tv_nsec = 1}) == 1ns);
}

// A file system that keeps times in steps of `step`; the kernel's clock ticks every `tick`. Whoever looks when
// may_recur says no must see every change that comes after.
TEST_CASE("no time recurs that is said not to") {
    for (const std::int64_t step : {std::int64_t{1}, std::int64_t{100}, std::int64_t{1'000}, std::int64_t{10'000'000},
                                    second_ns, 2 * second_ns}) {
        for (const std::int64_t tick : {std::int64_t{1'000'000}, std::int64_t{4'000'000}, std::int64_t{10'000'000}}) {
            const auto kept = [&](std::int64_t time) {
                const std::int64_t ticked = time / tick * tick;
                return ticked / step * step;
            };
            constexpr std::int64_t start = 1'700'000'000 * second_ns;
            bool said_no = false;
            // Odd steps, so that every place within a second comes about.
            for (std::int64_t changed = start; changed < start + 3 * second_ns; changed += 37'654'321) {
                for (std::int64_t looked = changed; looked < changed + 4 * second_ns; looked += 7'654'321) {
                    const timespec clock = at(looked / tick * tick);
                    if (may_recur(at(kept(changed)), clock))
                        continue;
                    said_no = true;
                    // Later changes have later times, so the earliest one decides.
                    if (kept(looked) == kept(changed)) {
                        INFO("step " << step << ", tick " << tick << ", " << looked - changed
                                     << " ns after the change");
                        REQUIRE(kept(looked) != kept(changed));
                    }
                }
            }
            CHECK(said_no);
        }
    }
}

TEST_CASE("what was changed long ago does not recur, and what is of the future may") {
    const timespec change{.tv_sec = 1000, .tv_nsec = 123'456'789};
    CHECK(may_recur(change, change));
    CHECK(may_recur(change, {.tv_sec = 1000, .tv_nsec = 143'000'000}));
    CHECK_FALSE(may_recur(change, {.tv_sec = 1000, .tv_nsec = 144'000'000}));
    CHECK_FALSE(may_recur(change, {.tv_sec = 1001, .tv_nsec = 0}));
    CHECK_FALSE(may_recur(change, {.tv_sec = INT64_MAX / 2, .tv_nsec = 0}));
    CHECK(may_recur(change, {.tv_sec = 999, .tv_nsec = 0}));
    CHECK(may_recur({.tv_sec = 1001, .tv_nsec = 0}, {.tv_sec = 1002, .tv_nsec = 0}));
    CHECK_FALSE(may_recur({.tv_sec = 1001, .tv_nsec = 0}, {.tv_sec = 1002, .tv_nsec = 20'000'000}));
    CHECK(may_recur({.tv_sec = 1000, .tv_nsec = 0}, {.tv_sec = 1002, .tv_nsec = 0}));
    CHECK_FALSE(may_recur({.tv_sec = 1000, .tv_nsec = 0}, {.tv_sec = 1002, .tv_nsec = 20'000'000}));
    const timespec now = coarse_now();
    CHECK(now.tv_sec > 1'700'000'000);
}
