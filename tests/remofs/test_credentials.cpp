// SPDX-License-Identifier: MIT
#include <catch.hpp>
#include <string>

#include "remofs/ids/credentials.hpp"
#include "wire/protocol.hpp"

using namespace remofile;
using namespace remofile::remofs;

TEST_CASE("supplementary groups are taken from the text of /proc/PID/status") {
    using Groups = std::vector<std::uint32_t>;
    CHECK(groups_in("Name:\tsh\nGid:\t1\t1\t1\t1\nGroups:\t4 24 1000 \nNStgid:\t7\n") == Groups{4, 24, 1000});
    CHECK(groups_in("Name:\tsh\nGroups:\t4294967294 \n") == Groups{4294967294});
    CHECK(groups_in("Name:\tsh\nGroups:\t \nNStgid:\t7\n").empty());
    CHECK(groups_in("Name:\tGroups:\t1\nGroups: \n").empty());
    CHECK(groups_in("Name:\tsh\n").empty());
    CHECK(groups_in("").empty());
}

TEST_CASE("effective capabilities are taken from the same text") {
    CHECK(capabilities_in("Name:\tsh\nCapPrm:\tffff\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n") == 0x1ffffffffff);
    CHECK(capabilities_in("Name:\tsh\nCapEff:\t0000000000000010\n") == 0x10);
    CHECK_FALSE(capabilities_in("Name:\tsh\nCapEff:\t00000000000"));
    CHECK_FALSE(capabilities_in("Name:\tsh\nCapEff:\tx\n"));
    CHECK_FALSE(capabilities_in("Name:\tCapEff:\t1\n"));
    CHECK_FALSE(capabilities_in(""));
}

TEST_CASE("a list of groups that breaks off is taken as far as it is certain, and one too long up to the limit") {
    CHECK(groups_in("Name:\tsh\nGroups:\t4 24 10") == std::vector<std::uint32_t>{4, 24});
    CHECK(groups_in("Name:\tsh\nGroups:").empty());
    CHECK(groups_in("Name:\tsh\nGroups:\t4 99999999999 5 \n") == std::vector<std::uint32_t>{4});
    std::string text = "Name:\tsh\nGroups:\t";
    for (std::size_t group = 0; group < 2 * wire::max_groups; ++group)
        text += std::to_string(group) + " ";
    CHECK(groups_in(text).size() == wire::max_groups);
}
