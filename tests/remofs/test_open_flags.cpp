// SPDX-License-Identifier: MIT
#include <fcntl.h>

#include "catch.hpp"
#include "remofs/kernel/open_flags.hpp"
#include "wire/messages.hpp"

using namespace remofile;
using namespace remofile::remofs;

TEST_CASE("open flags are the protocol's") {
    CHECK(to_wire_open_flags(O_RDONLY) == wire::open_read);
    CHECK(to_wire_open_flags(O_WRONLY) == wire::open_write);
    CHECK(to_wire_open_flags(O_RDWR) == (wire::open_read | wire::open_write));
    CHECK(to_wire_open_flags(O_WRONLY | O_APPEND) == (wire::open_write | wire::open_append));
    CHECK(to_wire_open_flags(O_RDWR | O_TRUNC) == (wire::open_read | wire::open_write | wire::open_truncate));
    CHECK(to_wire_open_flags(O_WRONLY | O_CREAT | O_EXCL) == (wire::open_write | wire::open_exclusive));
    CHECK(to_wire_open_flags(O_RDONLY | O_NOATIME) == (wire::open_read | wire::open_noatime));
}

TEST_CASE("a program is opened to be run, not to be read") {
    constexpr int to_be_executed = 0x20;
    CHECK(to_wire_open_flags(O_RDONLY | to_be_executed) == wire::open_execute);
}

TEST_CASE("O_SYNC and O_DSYNC are told apart although one contains the other") {
    CHECK(to_wire_open_flags(O_WRONLY | O_SYNC) == (wire::open_write | wire::open_sync));
    CHECK(to_wire_open_flags(O_WRONLY | O_DSYNC) == (wire::open_write | wire::open_dsync));
}

TEST_CASE("flags that concern only this machine are left out") {
    CHECK(to_wire_open_flags(O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_LARGEFILE | O_DIRECT) ==
          wire::open_read);
}

TEST_CASE("handles that must not trust the page cache bypass it") {
    CHECK(needs_direct_io(O_RDWR | O_DIRECT));
    CHECK(needs_direct_io(O_WRONLY | O_APPEND));
    CHECK_FALSE(needs_direct_io(O_RDWR | O_TRUNC | O_CREAT));
}
