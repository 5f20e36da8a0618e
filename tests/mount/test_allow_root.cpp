// SPDX-License-Identifier: MIT
// Mounts of ordinary users that let root in, and nobody else.
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <system_error>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

const Credentials stranger = {.uid = 20'003, .gid = 20'003};

// The errno of a call by that user; 0 if it succeeds.
int errno_as(const Credentials& as, const std::function<bool()>& call) {
    return Child::fork([&] { return call() ? 0 : errno; }, as).wait(Milliseconds{10'000}).exit_status;
}

// In a process with a mount table of its own. The exit status says which step failed.
int let_root_in() {
    if (!enter_own_mount_table() || !let_users_mount())
        return 10;
    const passwd* entry = getpwnam("nobody");  // fusermount3 wants a user with a name
    if (entry == nullptr)
        return 11;
    const Credentials user = {.uid = entry->pw_uid, .gid = entry->pw_gid};
    ServerProcess server({.as = user});
    if (chmod(server.directory().c_str(), 0755) != 0)
        return 12;
    const std::string exported = server.directory() + "/";
    write_file(exported + "file", "text");
    if (mkdir((exported + "d").c_str(), 0755) != 0 || chown((exported + "d").c_str(), user.uid, user.gid) != 0 ||
        chown((exported + "file").c_str(), user.uid, user.gid) != 0)
        return 14;
    // With uid= the kernel asks for no ACLs before it decides about others.
    const MountProcess mount({.source = source_of(server.port()),
                              .config_dir = server.config_dir(),
                              .options = {"allow_root", "uid=" + std::to_string(user.uid)},
                              .as = user});
    if (chmod(Scratch::instance().path().c_str(), 0755) != 0)
        return 13;
    const std::string file = mount.path() + "/file";

    // Root: everything.
    struct stat attributes {};
    if (read_file(file) != "text" || stat(mount.path().c_str(), &attributes) != 0)
        return 30;

    // Others: nothing, also of what the kernel knows by now.
    const auto known = [&] {
        std::error_code error;
        for (const auto& found : std::filesystem::directory_iterator(mount.path(), error))
            if (stat(found.path().c_str(), &attributes) != 0)
                return false;
        return !error && stat(mount.path().c_str(), &attributes) == 0;
    };
    if (errno_as(user, known) != 0)
        return 40;
    if (errno_as(stranger, [&] { return stat(file.c_str(), &attributes) == 0; }) != EACCES)
        return 41;
    if (errno_as(stranger, [&] { return open(file.c_str(), O_RDONLY) >= 0; }) != EACCES)
        return 42;
    if (errno_as(stranger, [&] { return open(mount.path().c_str(), O_RDONLY | O_DIRECTORY) >= 0; }) != EACCES)
        return 43;
    if (errno_as(stranger, [&] { return chdir(mount.path().c_str()) == 0; }) != EACCES)
        return 44;
    struct statvfs room {};
    if (errno_as(stranger, [&] { return statvfs(mount.path().c_str(), &room) == 0; }) != EACCES)
        return 45;
    // A directory that the stranger was handed: what is not in the kernel's memory cannot be had.
    const int directory = open((mount.path() + "/d").c_str(), O_RDONLY | O_DIRECTORY);
    if (errno_as(stranger, [&] { return openat(directory, "new", O_CREAT | O_WRONLY, 0666) >= 0; }) != EACCES)
        return 46;

    if (stat(mount.path().c_str(), &attributes) != 0 || attributes.st_uid != user.uid ||
        (attributes.st_mode & 07777U) != 0700)
        return 47;

    // What is open can be used by whoever has been given it.
    const int shared = open(file.c_str(), O_RDWR);
    const auto use = [&] {
        char bytes[4] = {};
        struct flock lock {};
        lock.l_type = F_WRLCK;
        return pread(shared, bytes, 4, 0) == 4 && pwrite(shared, "more", 4, 4) == 4 && fsync(shared) == 0 &&
               fcntl(shared, F_SETLK, &lock) == 0 && close(shared) == 0;
    };
    if (errno_as(stranger, use) != 0)
        return 50;
    close(shared);
    return read_file(server.directory() + "/file") == "textmore" ? 0 : 51;
}

}  // namespace

TEST_CASE("allow_root: root and the user who mounted get in, and nobody else") {
    if (geteuid() != 0)
        return;
    const Ended end = run_in_own_process(let_root_in);
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
}
