// SPDX-License-Identifier: MIT
// Mounts of servers that hosts.toml has names for.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

void write_hosts(const ServerProcess& server, const std::string& options) {
    const std::string file = server.config_dir() + "/hosts.toml";
    write_file(file, "[host.work]\naddress = \"" + server.address() + "\"\nexport = \"team\"\noptions = \"" + options +
                         "\"\n");
    REQUIRE(chmod(file.c_str(), 0600) == 0);
}

MountProcess::Options mount_of(const ServerProcess& server, std::vector<std::string> options = {}) {
    return {.source = "work:/dir", .config_dir = server.config_dir(), .options = std::move(options)};
}

}  // namespace

TEST_CASE("hosts: a name stands for a server, an export and mount options") {
    const std::string config = Scratch::instance().make_directory("hosts-config");
    const std::string exported = Scratch::instance().make_directory("hosts-export");
    REQUIRE(mkdir((exported + "/dir").c_str(), 0755) == 0);
    write_file(config + "/exports.toml", "[export.team]\ndirectory = \"" + exported + "\"\n");
    ServerProcess server({.config_dir = config, .config_file = config + "/exports.toml"});
    write_file(exported + "/dir/file", "content");

    write_hosts(server, "ro,uid=20001");
    {
        const MountProcess mount(mount_of(server));
        CHECK(read_file(mount.path() + "/file") == "content");
        struct stat attributes {};
        REQUIRE(stat((mount.path() + "/file").c_str(), &attributes) == 0);
        CHECK(attributes.st_uid == 20'001);
        CHECK(mounted_at(mount.path())->source == "work:/dir");
        CHECK(mkdir((mount.path() + "/new").c_str(), 0755) == -1);
        CHECK(errno_name(errno) == "EROFS");
    }
    // The command line goes before.
    {
        const MountProcess mount(mount_of(server, {"rw"}));
        CHECK(mkdir((mount.path() + "/new").c_str(), 0755) == 0);
    }
    for (const std::string wrong : {"nonsense", "cache_size=1", "remount"}) {
        write_hosts(server, wrong);
        MountProcess::Options options = mount_of(server);
        options.mountpoint = Scratch::instance().make_directory("mount");
        const Ended ended = run(remofs_command(options));
        INFO(ended.to_string());
        CHECK(ended.exit_status == 1);
        CHECK(ended.errors.find("/hosts.toml:4: options: ") != std::string::npos);
        CHECK(ended.errors.find(wrong) != std::string::npos);
    }
}

namespace {

// In a mount table with an /etc of its own. The exit status says which step failed.
int mount_by_the_file_of_all() {
    const std::string etc = Scratch::instance().make_directory("etc");
    for (const char* name : {"passwd", "group", "hosts", "nsswitch.conf"})
        if (std::filesystem::exists(std::string("/etc/") + name))
            std::filesystem::copy_file(std::string("/etc/") + name, etc + "/" + name);
    ServerProcess server;
    if (!enter_own_mount_table() || mkdir((etc + "/remofile").c_str(), 0755) != 0 ||
        mount(etc.c_str(), "/etc", nullptr, MS_BIND, nullptr) != 0)
        return 10;
    const std::string of_all = "/etc/remofile/hosts.toml";
    const std::string of_user = server.config_dir() + "/hosts.toml";
    write_file(of_all, "[host.work]\naddress = \"" + server.address() + "\"\noptions = \"uid=1,gid=2\"\n");
    write_file(of_user, "[host.work]\noptions = \"uid=3\"\n");
    if (chmod(of_all.c_str(), 0644) != 0 || chmod(of_user.c_str(), 0600) != 0)
        return 11;
    {
        const MountProcess mounted({.source = "work:/", .config_dir = server.config_dir()});
        struct stat attributes {};
        if (stat(mounted.path().c_str(), &attributes) != 0 || attributes.st_uid != 3 || attributes.st_gid != 2)
            return 20;
    }
    write_file(of_user, "[host.work]\naddress = \"127.0.0.1:1\"\n");
    MountProcess::Options elsewhere{.source = "work:/", .config_dir = server.config_dir()};
    elsewhere.mountpoint = Scratch::instance().make_directory("mount");
    return run(remofs_command(elsewhere)).exit_status == 2 ? 0 : 21;
}

}  // namespace

TEST_CASE("hosts: the file of all users counts where the user's says nothing") {
    if (geteuid() != 0)
        return;
    const Ended end = run_in_own_process(mount_by_the_file_of_all);
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
}
