// SPDX-License-Identifier: MIT
#include "filesystem/unsynced_writes.hpp"

#include "catch.hpp"

namespace remofile::filesystem {
namespace {

using namespace std::chrono_literals;
using Files = std::vector<InodeNumber>;

constexpr TimePoint start{1h};

}  // namespace

TEST_CASE("what the server has and was not asked to make durable is lost with its machine") {
    UnsyncedWrites writes;
    for (const InodeNumber file : {1U, 2U, 3U, 4U})
        writes.accepted(file);
    for (const InodeNumber file : {1U, 2U, 4U})  // it has nothing of 3 yet
        writes.answered(file, start);
    writes.synced(2, writes.accepted_so_far(2));
    SECTION("it is told of once") {
        CHECK(writes.take_lost(start + 1s) == Files{1, 4});
        CHECK(writes.take_lost(start + 1s).empty());
        // It is sent again.
        writes.answered(3, start + 2s);
        CHECK(writes.take_lost(start + 3s) == Files{3});
    }
    SECTION("what was accepted after it was asked for is not durable") {
        const std::uint64_t accepted = writes.accepted_so_far(1);
        writes.accepted(1);
        writes.synced(1, accepted);
        CHECK(writes.take_lost(start) == Files{1, 4});
    }
    SECTION("but what is old has been written") {
        writes.answered(4, start + 60s);
        CHECK(writes.take_lost(start + UnsyncedWrites::written_back_after) == Files{4});
    }
    SECTION("of which nothing is kept where there are many") {
        const TimePoint later = start + 2 * UnsyncedWrites::written_back_after;
        for (InodeNumber file = 10; file < 5'000; ++file) {
            writes.accepted(file);
            writes.answered(file, later);
        }
        CHECK(writes.take_lost(later).size() == 4'990);
        CHECK(writes.accepted_so_far(1) == 0);
        CHECK(writes.accepted_so_far(3) == 1);
    }
}

}  // namespace remofile::filesystem
