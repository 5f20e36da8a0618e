// SPDX-License-Identifier: MIT
// Owners, groups and permission bits that the mount shows in place of what files have: uid=, gid=, umask= and the like.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

const Credentials shown = {.uid = 20'001, .gid = 20'001};
const Credentials stranger = {.uid = 20'003, .gid = 20'003};

struct stat stat_of(const std::string& path) {
    struct stat attributes {};
    REQUIRE(lstat(path.c_str(), &attributes) == 0);
    return attributes;
}

mode_t permissions_of(const std::string& path) {
    return stat_of(path).st_mode & 07777U;
}

// The errno of opening it as that user; 0 if it can be.
int open_as(const Credentials& as, const std::string& path, int flags = O_RDONLY) {
    return Child::fork([&] { return open(path.c_str(), flags | O_CREAT, 0666) < 0 ? errno : 0; }, as)
        .wait(Milliseconds{10'000})
        .exit_status;
}

}  // namespace

TEST_CASE("shown ids: all files are the user's and the group's that were named, without the masked bits") {
    ServerProcess server;
    MountProcess mount(server, {"uid=" + std::to_string(shown.uid), "gid=20100", "umask=027", "fmask=0137"});
    const auto at = [&](const std::string& name) { return mount.path() + "/" + name; };
    REQUIRE(mkdir((server.directory() + "/there").c_str(), 0777) == 0);
    REQUIRE(mkdir(at("directory").c_str(), 0777) == 0);
    write_file(at("file"), "content");
    REQUIRE(symlink("file", at("link").c_str()) == 0);
    for (const char* name : {"", "there", "directory", "file", "link"}) {
        INFO(name);
        CHECK(stat_of(at(name)).st_uid == shown.uid);
        CHECK(stat_of(at(name)).st_gid == 20'100);
    }
    CHECK(permissions_of(at("directory")) == 0750);
    CHECK(permissions_of(at("file")) == 0640);
    CHECK(permissions_of(at("link")) == 0777);
    const Ended listed = run({.arguments = {"ls", "-ln", mount.path()}});
    CHECK(listed.output.find("20001 20100") != std::string::npos);

    // At the server nothing is different.
    carried_out(mount.path());
    const struct stat there = stat_of(server.directory() + "/file");
    CHECK(there.st_uid == geteuid());
    CHECK((there.st_mode & 0777U) == 0644);
}

TEST_CASE("shown ids: what is shown cannot be given away, and modes go to the server as they are") {
    ServerProcess server;
    MountProcess mount(server, {"uid=20001", "gid=20100", "umask=077"});
    const std::string path = mount.path() + "/file";
    write_file(path, "content");
    CHECK(chown(path.c_str(), 20'001, 20'100) == 0);
    CHECK(chown(path.c_str(), 20'001, static_cast<gid_t>(-1)) == 0);
    CHECK(chown(path.c_str(), 20'003, static_cast<gid_t>(-1)) == -1);
    CHECK(errno_name(errno) == "EPERM");
    CHECK(chown(path.c_str(), static_cast<uid_t>(-1), 20'003) == -1);
    CHECK(errno_name(errno) == "EPERM");
    CHECK(chmod(path.c_str(), 0664) == 0);
    CHECK(permissions_of(path) == 0600);
    carried_out(mount.path());
    const struct stat there = stat_of(server.directory() + "/file");
    CHECK((there.st_mode & 07777U) == 0664);
    CHECK(there.st_uid == geteuid());
    CHECK(there.st_gid == getegid());
}

TEST_CASE("shown ids: cp -p keeps mode and times of the files of the user who is shown") {
    if (geteuid() != 0)
        return;
    ServerProcess server;
    MountProcess mount(server, {"uid=20001", "gid=20001"});
    const std::string original = Scratch::instance().make_directory("original") + "/file";
    write_file(original, "content");
    REQUIRE(chmod(original.c_str(), 0751) == 0);
    REQUIRE(chown(original.c_str(), shown.uid, shown.gid) == 0);
    const timespec times[2] = {{1'000, 0}, {2'000, 0}};
    REQUIRE(utimensat(AT_FDCWD, original.c_str(), times, 0) == 0);
    const auto copied = [&](const std::string& name) {
        return run({.arguments = {"cp", "-p", original, mount.path() + "/" + name}});
    };
    const Ended end = copied("copy");
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(permissions_of(mount.path() + "/copy") == 0751);
    CHECK(stat_of(mount.path() + "/copy").st_mtim.tv_sec == 2'000);
    carried_out(mount.path());
    CHECK(stat_of(server.directory() + "/copy").st_uid == 0);
    // Of another's file the owner cannot be kept, and cp says so.
    REQUIRE(chown(original.c_str(), stranger.uid, stranger.gid) == 0);
    CHECK(copied("other").errors.find("failed to preserve ownership") != std::string::npos);
}

TEST_CASE("shown ids: with allow_other the kernel goes by what is shown") {
    if (geteuid() != 0)
        return;
    ServerProcess server;
    REQUIRE(chmod(server.directory().c_str(), 0777) == 0);
    write_file(server.directory() + "/file", "content");
    REQUIRE(chmod((server.directory() + "/file").c_str(), 0644) == 0);
    if (is_installed("setfacl"))
        run_script(server.directory(), "setfacl -m u:20003:rw file");  // which would let the stranger in
    MountProcess mount(server, {"allow_other", "uid=20001", "gid=20001", "fmask=007"});
    const std::string path = mount.path() + "/file";
    CHECK(open_as(shown, path, O_RDWR) == 0);
    CHECK(open_as(shown, mount.path() + "/made", O_RDWR) == 0);
    CHECK(open_as(stranger, path) == EACCES);
    CHECK(stat_of(mount.path() + "/made").st_uid == shown.uid);
    CHECK(Child::fork([&] { return chmod(path.c_str(), 0600) == 0 ? 0 : errno; }, shown)
              .wait(Milliseconds{10'000})
              .exit_status == 0);

    MountProcess open_mount(server, {"allow_other", "uid=20001"});
    write_file(server.directory() + "/public", "content");
    CHECK(open_as(stranger, open_mount.path() + "/public") == 0);
    CHECK(open_as(stranger, open_mount.path() + "/public", O_RDWR) == EACCES);
    CHECK(open_as(shown, open_mount.path() + "/public", O_RDWR) == 0);
}
