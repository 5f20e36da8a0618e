// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "remofs/kernel/mountpoint.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

constexpr std::string_view mountinfo =
    "22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    "28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "61 28 0:52 / /mnt/a\\040b rw,nosuid shared:30 master:2 - fuse.remofs host:/x\\040y rw,user_id=0\n"
    "62 28 0:53 / /mnt/twice rw - ext4 /dev/vdb rw\n"
    "63 62 0:54 / /mnt/twice rw - fuse.remofs host:/ rw\n";

}  // namespace

TEST_CASE("what is mounted at a path is found in mountinfo") {
    const auto found = find_mount(mountinfo, "/mnt/a b");
    REQUIRE(found);
    CHECK(found->device == "0:52");
    CHECK(found->type == "fuse.remofs");
    CHECK(found->source == "host:/x y");
    CHECK(found->options == "rw,nosuid,rw,user_id=0");
    CHECK(find_mount(mountinfo, "/")->type == "ext4");
    CHECK_FALSE(find_mount(mountinfo, "/mnt"));
    CHECK_FALSE(find_mount("", "/"));
}

TEST_CASE("of two mounts on one directory the upper one counts") {
    CHECK(find_mount(mountinfo, "/mnt/twice")->type == "fuse.remofs");
}

TEST_CASE("a mountpoint that is missing, or no directory, is refused with its name") {
    const auto missing = prepare_mountpoint("/nonexistent/mountpoint");
    CHECK(missing.status() == Status::no_entry);
    CHECK_THAT(missing.error().message, ContainsSubstring("/nonexistent/mountpoint"));
    CHECK(prepare_mountpoint("/proc/self/status").status() == Status::not_directory);
    CHECK(*prepare_mountpoint("/tmp/../tmp/.") == "/tmp");
}
