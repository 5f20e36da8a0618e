// SPDX-License-Identifier: MIT
// Mounts that go when their remofs is killed.
#include <pwd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

bool goes_when_killed(const ServerProcess& server, const std::optional<Credentials>& as) {
    MountProcess mount(
        {.source = source_of(server.port()), .config_dir = server.config_dir(), .options = {"auto_unmount"}, .as = as});
    const std::string path = mount.path();
    kill(mount.pid(), SIGKILL);
    return eventually(Milliseconds{20'000}, [&] { return !mounted_at(path); });
}

}  // namespace

TEST_CASE("auto_unmount: a mount whose remofs is killed goes") {
    ServerProcess server;
    CHECK(goes_when_killed(server, {}));
}

TEST_CASE("auto_unmount: so does an ordinary user's") {
    if (geteuid() != 0)
        return;
    const Ended end = run_in_own_process([] {
        if (!enter_own_mount_table() || !let_users_mount())
            return 10;
        const passwd* entry = getpwnam("nobody");  // fusermount3 wants a user with a name
        if (entry == nullptr)
            return 11;
        const Credentials user = {.uid = entry->pw_uid, .gid = entry->pw_gid};
        ServerProcess server({.as = user});
        return goes_when_killed(server, user) ? 0 : 20;
    });
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
}

// Whoever waits for the command's output to end waits for the command alone.
TEST_CASE("auto_unmount: what watches holds no output, and ends with an ordinary unmounting") {
    ServerProcess server;
    const std::string mountpoint = Scratch::instance().make_directory("mount");
    MountProcess mount({.source = source_of(server.port()),
                        .config_dir = server.config_dir(),
                        .options = {"auto_unmount"},
                        .mountpoint = mountpoint,
                        .foreground = false});
    CHECK(mounted_at(mountpoint));
    const Ended output = run_script("/",
                                    "out=$(umount " + mountpoint + " && REMOFILE_CONFIG_DIR=" + server.config_dir() +
                                        " " + program_from_environment("REMOFS") + " " + source_of(server.port()) +
                                        " " + mountpoint + " -o auto_unmount 2>&1); echo \"got $out\"",
                                    Milliseconds{20'000});
    INFO(output.to_string());
    CHECK(output.exit_status == 0);
    CHECK(output.output == "got \n");
    CHECK(run({.arguments = {"umount", mountpoint}}).exit_status == 0);
}
