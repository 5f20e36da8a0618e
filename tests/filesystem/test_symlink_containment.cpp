// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "filesystem/symlink_containment.hpp"

using remofile::filesystem::stays_within;

TEST_CASE("relative targets below the root stay within") {
    CHECK(stays_within("name", 0));
    CHECK(stays_within("a/b/c", 0));
    CHECK(stays_within("./a//b/.", 0));
    CHECK(stays_within("..", 1));
    CHECK(stays_within("../..", 2));
    CHECK(stays_within("../.././../x/y", 3));
    CHECK(stays_within("..name/x", 0));
    CHECK(stays_within("...", 0));
}

TEST_CASE("targets that lead out are refused") {
    CHECK_FALSE(stays_within("/", 9));
    CHECK_FALSE(stays_within("/etc/passwd", 9));
    CHECK_FALSE(stays_within("..", 0));
    CHECK_FALSE(stays_within("../../..", 2));
    CHECK_FALSE(stays_within("./../x", 0));
    CHECK_FALSE(stays_within("", 3));
}

TEST_CASE("a name before \"..\" may be a symlink itself, so it is refused") {
    CHECK_FALSE(stays_within("a/..", 5));
    CHECK_FALSE(stays_within("../a/../b", 5));
    CHECK_FALSE(stays_within("a/b/../c", 5));
}
