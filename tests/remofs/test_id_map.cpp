// SPDX-License-Identifier: MIT
#include <array>
#include <vector>

#include "catch.hpp"
#include "remofs/ids/id_map.hpp"

using namespace remofile;
using namespace remofile::remofs;

TEST_CASE("a single user's map exchanges two accounts and leaves the rest") {
    const IdMap map = IdMap::single_user(1001, 100, 1000, 1000);
    CHECK(map.users.to_local(1001) == 1000);
    CHECK(map.users.to_server(1000) == 1001);
    CHECK(map.users.to_local(0) == 0);
    CHECK(map.users.to_server(77) == 77);
    CHECK(map.groups.to_local(100) == 1000);
    CHECK(map.groups.to_server(1000) == 100);
}

TEST_CASE("a map is read from a file") {
    const auto map = IdMap::parse("# people\nuid 1001 2001\n\n  gid\t50 60\nuid 5000 9000 3\r\n");
    REQUIRE(map);
    CHECK(map->users.to_local(1001) == 2001);
    CHECK(map->users.to_server(2001) == 1001);
    CHECK(map->users.to_local(5002) == 9002);
    CHECK(map->users.to_local(5003) == 5003);
    CHECK(map->users.to_server(9000) == 5000);
    CHECK(map->groups.to_local(50) == 60);
    CHECK(map->users.to_local(50) == 50);
    CHECK(IdMap::parse("")->empty());
}

TEST_CASE("a wrong line is named") {
    const std::vector<std::string> wrong = {"user 1 2",         "uid 1",           "uid 1 x",     "uid -1 2",
                                            "uid 1 2 0",        "uid 1 2 99999",   "uid 1 2 3 4", "uid 1 2\nuid 3 2",
                                            "uid 1 2\nuid 1 3", "gid 4294967295 1"};
    for (const std::string& text : wrong) {
        INFO(text);
        const auto map = IdMap::parse("# first\n" + text);
        REQUIRE_FALSE(map);
        CHECK(map.status() == Status::invalid);
        CHECK_THAT(map.error().message, ContainsSubstring("line "));
    }
}

TEST_CASE("the ids in an ACL are translated, and nothing else") {
    const auto acl = [](std::uint8_t user, std::uint8_t group) {
        // version 2; owner rwx; user:ID rw-; owning group r--; group:ID r-x; mask rwx; other ---
        return std::vector<std::uint8_t>{2,  0, 0, 0,                           //
                                         1,  0, 7, 0, 0xff,  0xff, 0xff, 0xff,  //
                                         2,  0, 6, 0, user,  0,    0,    0,     //
                                         4,  0, 4, 0, 0xff,  0xff, 0xff, 0xff,  //
                                         8,  0, 5, 0, group, 0,    0,    0,     //
                                         16, 0, 7, 0, 0xff,  0xff, 0xff, 0xff,  //
                                         32, 0, 0, 0, 0xff,  0xff, 0xff, 0xff};
    };
    const IdMap map = IdMap::single_user(11, 22, 33, 44);
    auto value = acl(11, 22);
    translate_acl(std::as_writable_bytes(std::span(value)), map, IdDirection::to_local);
    CHECK(value == acl(33, 44));
    translate_acl(std::as_writable_bytes(std::span(value)), map, IdDirection::to_server);
    CHECK(value == acl(11, 22));

    // Not an ACL, or a piece of one: left as it is.
    for (std::vector<std::uint8_t> other : {std::vector<std::uint8_t>{},
                                            {2, 0},
                                            {3, 0, 0, 0, 2, 0, 6, 0, 11, 0, 0, 0},
                                            {2, 0, 0, 0, 2, 0, 6, 0, 11, 0, 0}}) {
        const auto before = other;
        translate_acl(std::as_writable_bytes(std::span(other)), map, IdDirection::to_local);
        CHECK(other == before);
    }
}
