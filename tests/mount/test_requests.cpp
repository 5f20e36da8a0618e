// SPDX-License-Identifier: MIT
// What usual programs cost in requests. On a link with a delay each is a round trip, whatever the machine.
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

TEST_CASE("requests: ls -l asks for security.* once, not for each file") {
    ServerProcess server;
    MountProcess mount(server);
    constexpr std::uint64_t files = 500;
    for (std::uint64_t i = 0; i < files; ++i)
        write_file(server.directory() + "/" + std::to_string(i), "x");
    const auto counted = [&] {
        std::map<std::string, std::uint64_t> counters;
        for (const char* name : {"client.requests.lookup", "client.requests.getxattr", "client.requests.getattr",
                                 "client.requests.list", "fuse.lookup", "fuse.getattr"})
            counters[name] = mount.counted(name);
        return counters;
    };
    auto before = counted();
    const Ended listed = run({.arguments = {"ls", "-l", mount.path()}});
    REQUIRE(listed.exit_status == 0);
    auto after = counted();
    const auto asked = [&](const std::string& request) { return after[request] - before[request]; };
    // Of each file a look-up, for its access ACL; the listing has brought its attributes.
    CHECK(asked("client.requests.lookup") <= files + 10);
    CHECK(asked("client.requests.getxattr") <= files + 10);
    CHECK(asked("client.requests.getattr") <= 10);
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
