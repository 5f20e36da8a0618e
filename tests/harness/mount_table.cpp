// SPDX-License-Identifier: MIT
#include "harness/mount_table.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/unique_fd.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

namespace remofile::test {

namespace {

// mountinfo writes blanks and newlines of names as \040 and the like.
std::string unescape(const std::string& text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size()) {
            plain += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

MountedFileSystem parse(const std::string& line) {
    // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS] - TYPE SOURCE SUPER_OPTIONS
    std::istringstream fields(line);
    std::string id, parent, device, root, mountpoint, options, tag, type, source, super_options;
    fields >> id >> parent >> device >> root >> mountpoint >> options;
    while (fields >> tag && tag != "-") {
    }
    fields >> type >> source >> super_options;
    MountedFileSystem mount;
    mount.mountpoint = unescape(mountpoint);
    mount.type = type;
    mount.source = unescape(source);
    mount.options = options + "," + super_options;
    std::sscanf(device.c_str(), "%*u:%u", &mount.minor);
    return mount;
}

}  // namespace

std::vector<MountedFileSystem> mounts_below(std::string_view directory) {
    std::vector<MountedFileSystem> found;
    std::ifstream table("/proc/self/mountinfo");
    for (std::string line; std::getline(table, line);) {
        MountedFileSystem mount = parse(line);
        const std::string& at = mount.mountpoint;
        if (at.starts_with(directory) && (at.size() == directory.size() || at[directory.size()] == '/'))
            found.push_back(std::move(mount));
    }
    return found;
}

std::optional<MountedFileSystem> mounted_at(std::string_view mountpoint) {
    std::optional<MountedFileSystem> topmost;
    for (MountedFileSystem& mount : mounts_below(mountpoint)) {
        if (mount.mountpoint == mountpoint)
            topmost = std::move(mount);
    }
    return topmost;
}

void force_unmount(const MountedFileSystem& mount) {
    if (mount.type.starts_with("fuse")) {
        const std::string abort_file = "/sys/fs/fuse/connections/" + std::to_string(mount.minor) + "/abort";
        const UniqueFd fd(open(abort_file.c_str(), O_WRONLY | O_CLOEXEC));
        if (fd)
            (void)!write(fd.get(), "1", 1);
    }
    if (umount2(mount.mountpoint.c_str(), MNT_DETACH) == 0)
        return;
    const pid_t pid = fork();
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mount.mountpoint.c_str(), nullptr);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, nullptr, 0);
}

bool enter_own_mount_table() {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
        return false;
    for (const MountedFileSystem& mounted : mounts_below("/"))
        if (mounted.type == "fuse.remofs")
            umount2(mounted.mountpoint.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    return true;
}

Ended run_in_own_process(const std::function<int()>& work) {
    Child child = Child::fork([&] {
        try {
            return work();
        } catch (const std::exception& error) {
            std::fputs(error.what(), stderr);
            return 1;
        }
    });
    return child.wait(Milliseconds{60'000});
}

bool let_users_mount() {
    const std::string directory = Scratch::instance().make_directory("devices");
    const std::string device = directory + "/fuse";
    const std::string settings = directory + "/fuse.conf";
    struct stat real = {};
    if (stat("/dev/fuse", &real) != 0 || mknod(device.c_str(), S_IFCHR | 0666, real.st_rdev) != 0 ||
        chmod(device.c_str(), 0666) != 0 || mount(device.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) != 0)
        return false;
    write_file(settings, "user_allow_other\n");
    return mount(settings.c_str(), "/etc/fuse.conf", nullptr, MS_BIND, nullptr) == 0;
}

}  // namespace remofile::test
