// SPDX-License-Identifier: MIT
// What usual programs cost in requests. On a link with a delay each is a round trip, whatever the machine.
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

TEST_CASE("requests: ls -l asks for the listing, and for nothing of each file") {
    ServerProcess server;
    MountProcess mount(server);
    constexpr std::uint64_t files = 500;
    for (std::uint64_t i = 0; i < files; ++i)
        write_file(server.directory() + "/" + std::to_string(i), "x");
    for (int i = 0; i < 50; ++i)
        REQUIRE(symlink("target", (server.directory() + "/link" + std::to_string(i)).c_str()) == 0);
    const auto counted = [&] {
        std::map<std::string, std::uint64_t> counters;
        for (const char* name : {"client.requests.lookup", "client.requests.getxattr", "client.requests.getattr",
                                 "client.requests.list", "client.requests.readlink", "fuse.lookup", "fuse.getattr"})
            counters[name] = mount.counted(name);
        return counters;
    };
    auto before = counted();
    const Ended listed = run({.arguments = {"ls", "-l", mount.path()}});
    REQUIRE(listed.exit_status == 0);
    auto after = counted();
    const auto asked = [&](const std::string& request) { return after[request] - before[request]; };
    // The listing has brought attributes, where symlinks lead, and that there are no ACLs.
    for (const char* request : {"lookup", "getxattr", "getattr", "readlink"})
        CHECK(asked(std::string("client.requests.") + request) <= 10);
    CHECK(asked("fuse.getattr") <= files / 10);

    // The kernel keeps names and attributes meanwhile.
    before = counted();
    REQUIRE(run({.arguments = {"find", mount.path(), "-ls"}}).exit_status == 0);
    after = counted();
    CHECK(asked("client.requests.lookup") == 0);
    CHECK(asked("client.requests.getattr") == 0);
    CHECK(asked("client.requests.list") == 0);
    CHECK(asked("fuse.lookup") <= 10);
    CHECK(asked("fuse.getattr") <= 10);
}
