// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "filesystem/held_locks.hpp"

namespace remofile::filesystem {
namespace {

using wire::LockRange;
using wire::LockType;

constexpr HandleNumber first{1}, second{2};
constexpr InodeNumber file = 5;
constexpr LockOwner one{10}, other{11};

std::string text_of(const HeldLocks& locks) {
    std::string text;
    for (const HeldLocks::Held& held : locks.all()) {
        text += std::to_string(held.through.value) + (held.range.type == LockType::read ? " r" : " w");
        text += held.whole ? "" : std::to_string(held.range.start) + "-" + std::to_string(held.range.end);
        text += held.whole ? ";" : " of " + std::to_string(held.owner.value) + ";";
    }
    return text;
}

}  // namespace

TEST_CASE("held locks: ranges are split, joined and given up as fcntl does") {
    HeldLocks locks;
    locks.set_range(first, file, one, {.type = LockType::write, .start = 0, .end = 99});
    locks.set_range(second, file, one, {.type = LockType::read, .start = 20, .end = 29});
    locks.set_range(second, file, other, {.type = LockType::read, .start = 200, .end = INT64_MAX});
    CHECK(text_of(locks) == "1 w0-19 of 10;1 r20-29 of 10;1 w30-99 of 10;2 r200-9223372036854775807 of 11;");
    locks.set_range(first, file, one, {.type = LockType::unlock, .start = 0, .end = INT64_MAX});
    CHECK(text_of(locks) == "2 r200-9223372036854775807 of 11;");
    // Whoever locks next does so through another handle.
    locks.set_range(second, file, one, {.type = LockType::write, .start = 1, .end = 1});
    CHECK(text_of(locks) == "2 w1-1 of 10;2 r200-9223372036854775807 of 11;");
}

TEST_CASE("held locks: closing a descriptor ends its owner's ranges in the file, and no others") {
    HeldLocks locks;
    for (const LockOwner owner : {one, other})
        for (const InodeNumber inode : {file, file + 1})
            locks.set_range(first, inode, owner, {.type = LockType::read, .start = inode, .end = inode});
    locks.closed_by(file, one);
    CHECK(text_of(locks) == "1 r5-5 of 11;1 r6-6 of 10;1 r6-6 of 11;");
}

TEST_CASE("held locks: closing a handle ends what was locked through it") {
    HeldLocks locks;
    locks.set_whole(first, LockType::write);
    locks.set_whole(second, LockType::read);
    locks.set_range(first, file, one, {.type = LockType::read, .start = 1, .end = 2});
    locks.set_range(second, file, other, {.type = LockType::read, .start = 1, .end = 2});
    locks.closed(first);
    CHECK(text_of(locks) == "2 r;2 r1-2 of 11;");
    locks.set_whole(second, LockType::unlock);
    CHECK(text_of(locks) == "2 r1-2 of 11;");
}

}  // namespace remofile::filesystem
