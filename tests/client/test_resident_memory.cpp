// SPDX-License-Identifier: MIT
// When freed memory goes back to the kernel. What that does to a real process: tests/mount/test_memory.cpp.
#include <vector>

#include "base/allocator.hpp"
#include "catch.hpp"
#include "client/resident_memory.hpp"
#include "transport/fixture.hpp"

using namespace remofile;
using namespace remofile::client;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t mib = 1U << 20;

// A process whose free memory stays with malloc until it is given back, but for what cannot be.
struct Process {
    std::size_t accounted = 0;
    std::size_t freed = 0;
    std::size_t other = 10 * mib;
    int given_back = 0;
    std::size_t resident() const { return accounted + freed + other; }
    ResidentMemory::System system() {
        return {.resident_bytes = [this] { return resident(); },
                .give_back =
                    [this] {
                        freed = 0;
                        ++given_back;
                    }};
    }
};

// Passes in steps of a second, in each of which the reactor does what is due.
void pass(transport::FakeClock& clock, transport::Reactor& reactor, int seconds) {
    for (int i = 0; i < seconds; ++i) {
        clock.advance(1s);
        reactor.post([&] { reactor.stop(); });
        reactor.run();
    }
}

}  // namespace

TEST_CASE("freed memory is kept up to an allowance, and given back beyond it") {
    TrimPolicy policy;
    CHECK_FALSE(policy.should_give_back(100 * mib, 100 * mib));
    CHECK_FALSE(policy.should_give_back(100 * mib + TrimPolicy::allowance_bytes, 100 * mib));
    CHECK(policy.should_give_back(101 * mib + TrimPolicy::allowance_bytes, 100 * mib));
    CHECK_FALSE(policy.should_give_back(50 * mib, 100 * mib));
    // Where that does not help it is not done all the time.
    policy.gave_back(150 * mib, 100 * mib);
    CHECK_FALSE(policy.should_give_back(150 * mib, 100 * mib));
    CHECK(policy.should_give_back(151 * mib + TrimPolicy::step_bytes, 100 * mib));
    policy.gave_back(110 * mib, 100 * mib);
    CHECK(policy.should_give_back(133 * mib, 100 * mib));
}

TEST_CASE("a process stays near what it accounts for, whatever turns over") {
    MemoryBudget budget(128 * mib);
    transport::Reactor reactor;
    Process process;
    const ResidentMemory memory(budget, reactor, process.system());
    std::vector<MemoryBudget::Charge> held;
    for (int i = 0; i < 10'000; ++i) {
        if (budget.used_bytes() + mib > budget.limit_bytes()) {
            process.freed += mib;  // into an arena from which the next does not come
            held.erase(held.begin());
        }
        MemoryBudget::Charge charge;
        REQUIRE(budget.charge(mib, charge));
        held.push_back(std::move(charge));
        process.accounted = budget.used_bytes();
        CHECK(process.resident() <= budget.used_bytes() + 64 * mib);
    }
    CHECK(process.given_back > 10);
    CHECK(process.given_back < 1'000);
}

TEST_CASE("an idle process gives back what is free, once") {
    MemoryBudget budget(128 * mib);
    transport::FakeClock clock;
    transport::Reactor reactor(clock);
    Process process;
    process.freed = 20 * mib;
    ResidentMemory memory(budget, reactor, process.system());
    memory.busy();
    memory.busy();
    pass(clock, reactor, 20);
    CHECK(process.given_back == 1);
    CHECK(process.freed == 0);
    // Until it is at work again.
    memory.busy();
    pass(clock, reactor, 20);
    CHECK(process.given_back == 2);
}

TEST_CASE("freed memory is given back for real") {
    std::vector<std::vector<char>> blocks;
    for (int i = 0; i < 512; ++i)
        blocks.emplace_back(100'000, 'x');
    // Something at the end, which keeps the heap from shrinking.
    const std::vector<char> last(1'000, 'x');
    const std::size_t full = resident_bytes();
    REQUIRE(full > 512 * 100'000);
    blocks.clear();
    give_back_freed_memory();
    CHECK(resident_bytes() + 40 * mib < full);
}
