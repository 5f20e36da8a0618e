// SPDX-License-Identifier: MIT
// What chmod makes of its modes, and how sizes are shown.
#include "cli/mode_change.hpp"

#include <catch.hpp>

#include "cli/short_size.hpp"

namespace remofile::cli {
namespace {

std::uint32_t changed(std::string_view text, std::uint32_t mode, bool is_directory = false) {
    const auto change = ModeChange::parse(text, 022);
    INFO(text);
    REQUIRE(change);
    return change->apply(mode, is_directory);
}

}  // namespace

TEST_CASE("modes are those of chmod") {
    CHECK(changed("644", 0777) == 0644);
    CHECK(changed("0", 0777) == 0);
    CHECK(changed("4755", 0) == 04755);
    CHECK(changed("u+x", 0644) == 0744);
    CHECK(changed("go-r", 0644) == 0600);
    CHECK(changed("u+x,go=", 0644) == 0700);
    CHECK(changed("a=r", 0777) == 0444);
    CHECK(changed("+w", 0444) == 0644);
    CHECK(changed("a+w", 0444) == 0666);
    CHECK(changed("u=rw+x", 0) == 0700);
    CHECK(changed("g=u", 0704) == 0774);
    CHECK(changed("o=g-w", 0760) == 0764);
    CHECK(changed("a+X", 0644) == 0644);
    CHECK(changed("a+X", 0744) == 0755);
    CHECK(changed("a=rX", 0600, true) == 0555);
    CHECK(changed("u+s,g+s,+t", 0755) == 07755);
    CHECK(changed("u-s", 06755) == 02755);
    CHECK(changed("g=", 02775) == 0705);
    for (const char* wrong : {"", "888", "17777", "u", "u+q", "x+r", "u+r,", ",u+r", "u+rg", "777777", "rwx"})
        CHECK(ModeChange::parse(wrong, 0).status() == Status::bad_usage);
}

TEST_CASE("sizes are shown as GNU shows them") {
    CHECK(short_size(0) == "0");
    CHECK(short_size(1023) == "1023");
    CHECK(short_size(1024) == "1.0K");
    CHECK(short_size(1025) == "1.1K");
    CHECK(short_size(1536) == "1.5K");
    CHECK(short_size(10 * 1024 - 1) == "10K");
    CHECK(short_size(10 * 1024 + 1) == "11K");
    CHECK(short_size(1023 * 1024) == "1023K");
    CHECK(short_size(1023 * 1024 + 1) == "1.0M");
    CHECK(short_size(3ULL << 30) == "3.0G");
    CHECK(short_size(~0ULL) == "16E");
}

}  // namespace remofile::cli
