// SPDX-License-Identifier: MIT
// mount -o remount: what can be changed of a mount that is there, and what cannot.
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
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

// By remofs itself, as whoever writes "-o remount" does.
Ended remount(const ServerProcess& server, const MountProcess& mount, const std::string& options) {
    return run({.arguments = {program_from_environment("REMOFS"), source_of(server.port()), mount.path(), "-o",
                              "remount," + options}});
}

// By mount(8), which repeats what the mount table says.
Ended remount_by_mount(const MountProcess& mount, const std::string& options) {
    return run({.arguments = {"mount", "-o", "remount," + options, mount.path()}});
}

void check_done(const Ended& ended) {
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
}

void check_refused(const Ended& ended, const std::string& reason) {
    INFO(ended.to_string());
    CHECK(ended.exit_status == 9);
    CHECK(ended.errors.find(reason) != std::string::npos);
}

bool has(const MountProcess& mount, const std::string& option) {
    return ("," + mounted_at(mount.path())->options + ",").find("," + option + ",") != std::string::npos;
}

int errno_of_writing(const MountProcess& mount) {
    const int fd = open((mount.path() + "/file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    const int error = fd < 0 ? errno : 0;
    close(fd);
    return error;
}

}  // namespace

TEST_CASE("remount: read-only and back, and nothing else changes") {
    if (geteuid() != 0)
        return;
    ServerProcess server;
    MountProcess mount(server, {"nosuid", "nodev"});
    REQUIRE(errno_of_writing(mount) == 0);
    check_done(remount(server, mount, "ro"));
    CHECK(errno_of_writing(mount) == EROFS);
    CHECK(has(mount, "nosuid"));
    CHECK(has(mount, "nodev"));
    check_done(remount(server, mount, "noexec,noatime,suid"));
    CHECK(errno_of_writing(mount) == EROFS);  // still
    CHECK(has(mount, "noexec"));
    CHECK(has(mount, "noatime"));
    CHECK_FALSE(has(mount, "nosuid"));
    CHECK(has(mount, "nodev"));
    check_done(remount(server, mount, "rw,exec,atime"));
    CHECK(errno_of_writing(mount) == 0);
    CHECK_FALSE(has(mount, "noexec"));
    CHECK_FALSE(has(mount, "noatime"));
}

TEST_CASE("remount: a file that is open for writing keeps the mount from becoming read-only") {
    if (geteuid() != 0)
        return;
    ServerProcess server;
    MountProcess mount(server);
    const int fd = open((mount.path() + "/file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    REQUIRE(fd >= 0);
    check_refused(remount(server, mount, "ro"), "files are open for writing there");
    CHECK(write(fd, "text", 4) == 4);
    close(fd);
    check_done(remount(server, mount, "ro"));
    CHECK(read_file(server.directory() + "/file") == "text");
}

TEST_CASE("remount: options of remofs itself stay, and whoever gives others is told") {
    if (geteuid() != 0)
        return;
    ServerProcess server;
    MountProcess mount(server, {"allow_root", "cache_size=8M", "fsname=a\\,b"});
    // Those of fstab are repeated, and so are those that the mount table shows.
    check_done(remount(server, mount, "ro,cache_size=8M,allow_root,fsname=a\\,b,allow_other,default_permissions"));
    CHECK(has(mount, "ro"));
    check_refused(remount(server, mount, "rw,cache_size=16M"), "remount cannot change cache_size=16M");
    check_refused(remount(server, mount, "rw,uid=5"), "remount cannot change uid=5");
    CHECK(has(mount, "ro"));
    check_done(remount(server, mount, "rw"));

    MountProcess reader(server, {"ro"});
    check_refused(remount(server, reader, "rw"), "remount cannot change ro, as which it was mounted");
    check_done(remount(server, reader, "nodev"));
    CHECK(has(reader, "ro"));
}

// In a mount table in which mount(8) finds remofs as its helper. The exit status says which step failed.
int remount_both_ways_by_mount() {
    const std::string helpers = Scratch::instance().make_directory("sbin");
    if (!enter_own_mount_table() ||
        symlink(program_from_environment("REMOFS").c_str(), (helpers + "/mount.fuse.remofs").c_str()) != 0 ||
        ::mount(helpers.c_str(), "/sbin", nullptr, MS_BIND, nullptr) != 0)
        return 10;
    ServerProcess server;
    MountProcess mount(server, {"nosuid", "allow_other"});
    if (const Ended ended = remount_by_mount(mount, "ro"); ended.exit_status != 0)
        throw std::runtime_error(ended.to_string());
    if (errno_of_writing(mount) != EROFS || !has(mount, "nosuid"))
        return 20;
    if (const Ended ended = remount_by_mount(mount, "rw,nodev"); ended.exit_status != 0)
        throw std::runtime_error(ended.to_string());
    if (errno_of_writing(mount) != 0 || !has(mount, "nosuid") || !has(mount, "nodev"))
        return 21;
    return remount_by_mount(mount, "rw,uid=5").exit_status == 9 ? 0 : 22;
}

TEST_CASE("remount: mount(8) does the same") {
    if (geteuid() != 0)
        return;
    const Ended end = run_in_own_process(remount_both_ways_by_mount);
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
}
