// SPDX-License-Identifier: MIT
#include "transport/spin_budget.hpp"

#include "fixture.hpp"

using namespace remofile;
using namespace remofile::transport;
using namespace std::chrono_literals;

namespace {

constexpr Duration longest = 200us;
constexpr TimePoint start{1h};

// How many of `sleeps` in a row, each of which ends after `waited`, are begun with a look for work.
int spins_of(SpinBudget& budget, int sleeps, Duration waited) {
    int spins = 0;
    TimePoint now = start;
    for (int i = 0; i < sleeps; ++i) {
        spins += budget.spin_time(now) > Duration::zero() ? 1 : 0;
        budget.slept(now, waited);
        now += waited;
    }
    return spins;
}

}  // namespace

TEST_CASE("a thread that finds work while it looks for it goes on looking") {
    SpinBudget budget(longest);
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(budget.spin_time(start) == longest);
        budget.found();
    }
}

TEST_CASE("one success in two pays") {
    SpinBudget budget(longest);
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(budget.spin_time(start) == longest);
        budget.found();
        budget.slept(start, 1ms);
    }
}

TEST_CASE("a thread whose work comes seldom soon sleeps at once") {
    SpinBudget budget(longest);
    REQUIRE(spins_of(budget, 10'000, 20ms) < 10);
    REQUIRE(budget.spin_time(start) == Duration::zero());
}

TEST_CASE("success in the past is used up") {
    SpinBudget budget(longest);
    for (int i = 0; i < 10'000; ++i)
        budget.found();
    REQUIRE(spins_of(budget, 10'000, 20ms) < 100);
}

TEST_CASE("where work comes often it is tried again once in a while") {
    SpinBudget budget(longest);
    const int spins = spins_of(budget, 3200, 1ms);
    REQUIRE(spins > 100);
    REQUIRE(spins <= 3200 / 4 + 8);
}

TEST_CASE("while large messages move there is no look for work, and nothing is learnt from that") {
    SpinBudget budget(longest);
    budget.moved(SpinBudget::bulk_bytes - 1, start);
    REQUIRE(budget.spin_time(start) == longest);
    TimePoint now = start;
    for (int i = 0; i < 1000; ++i) {
        now += 100us;
        budget.moved(256U << 10, now);
        REQUIRE(budget.spin_time(now + 50us) == Duration::zero());
        budget.slept(now + 50us, 50us);
    }
    REQUIRE(budget.spin_time(now + 10ms) == longest);
}
