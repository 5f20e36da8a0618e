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
        for (const char* name :
             {"client.requests.lookup", "client.requests.getxattr", "client.requests.getattr", "fuse.getattr"})
            counters[name] = mount.counted(name);
        return counters;
    };
    auto before = counted();
    const Ended listed = run({.arguments = {"ls", "-l", mount.path()}});
    REQUIRE(listed.exit_status == 0);
    auto after = counted();
    const auto asked = [&](const std::string& request) { return after[request] - before[request]; };
    // Of each file two look-ups, for its attributes and for its access ACL.
    CHECK(asked("client.requests.lookup") <= 2 * files + 10);
    CHECK(asked("client.requests.getxattr") <= files + 10);
    // Its look-up has brought the attributes, unless the kernel took long to ask for them.
    CHECK(asked("fuse.getattr") >= files);
    CHECK(asked("client.requests.getattr") < files);
}
