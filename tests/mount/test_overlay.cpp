// SPDX-License-Identifier: MIT
// The mount as the upper layer of an overlay, as containers and live systems use it: compared with one whose upper
// layer is a local directory.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "harness/mount_table.hpp"
#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

// Where overlays are mounted: below the test's own directory, and only in the process that does it.
struct Layers {
    std::string lower;
    std::string upper;
    std::string work;
    std::string merged;
};

Layers make_layers(const std::string& directory_for_upper) {
    Scratch& scratch = Scratch::instance();
    Layers layers{.lower = scratch.make_directory("lower"),
                  .upper = directory_for_upper + "/upper",
                  .work = directory_for_upper + "/work",
                  .merged = scratch.make_directory("merged")};
    REQUIRE(mkdir(layers.upper.c_str(), 0755) == 0);
    REQUIRE(mkdir(layers.work.c_str(), 0755) == 0);
    return layers;
}

void fill_lower(const std::string& lower) {
    std::filesystem::create_directories(lower + "/kept/deep");
    std::filesystem::create_directories(lower + "/removed");
    std::filesystem::create_directories(lower + "/moved/inner");
    for (const char* name : {"/appended", "/changed", "/cut", "/removed/one", "/removed/two", "/kept/deep/file",
                             "/kept/gone", "/moved/inner/file", "/renamed", "/linked", "/replaced", "/read"})
        write_file(lower + name, std::string("lower ") + name);
    std::filesystem::create_symlink("read", lower + "/symlink");
}

// Status of mount(2).
int mount_overlay(const Layers& layers, const std::string& options) {
    const std::string data =
        "lowerdir=" + layers.lower + ",upperdir=" + layers.upper + ",workdir=" + layers.work + "," + options;
    return mount("overlay", layers.merged.c_str(), "overlay", 0, data.c_str()) == 0 ? 0 : errno;
}

void change_everything(Transcript& here) {
    umask(022);
    const int appended = OPENED(open("appended", O_WRONLY | O_APPEND));
    CALLED(write(appended, " and upper", 10));
    CALLED(close(appended));
    here.contents("appended");
    CALLED(chmod("changed", 0600));
    CALLED(chown("changed", 1234, 4321));
    CALLED(setxattr("changed", "user.colour", "blue", 4, 0));
    here.attributes("changed");
    CALLED(truncate("cut", 3));
    here.contents("cut");
    // Whiteouts, and a directory that hides the one below it.
    CALLED(unlink("removed/one"));
    CALLED(unlink("removed/two"));
    here.names("removed");
    CALLED(rmdir("removed"));
    here.attributes("removed");
    CALLED(mkdir("removed", 0755));
    here.names("removed");
    CALLED(unlink("kept/gone"));
    CALLED(rmdir("kept"));
    here.names("kept");
    // Renaming leaves a whiteout; a directory of the lower layer may refuse (EXDEV).
    CALLED(rename("renamed", "new-name"));
    here.contents("new-name");
    here.attributes("renamed");
    CALLED(rename("moved", "moved-away"));
    here.contents("moved-away/inner/file");
    here.names("moved-away");
    CALLED(mkdir("upper-only", 0755));
    write_file("upper-only/file", "x");
    CALLED(rename("upper-only", "upper-renamed"));
    here.contents("upper-renamed/file");
    write_file("replacing", "upper");
    CALLED(rename("replacing", "replaced"));
    here.contents("replaced");
    CALLED(renameat2(AT_FDCWD, "replaced", AT_FDCWD, "read", RENAME_EXCHANGE));
    here.contents("read");
    CALLED(link("linked", "second-name"));
    here.attributes("linked");
    CALLED(symlink("appended", "new-symlink"));
    CALLED(unlink("symlink"));
    CALLED(mkfifo("fifo", 0644));
    const int nameless = OPENED(open(".", O_TMPFILE | O_RDWR, 0644));
    CALLED(write(nameless, "nameless", 8));
    const std::string self = "/proc/self/fd/" + std::to_string(nameless);
    here.called("link", linkat(AT_FDCWD, self.c_str(), AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    CALLED(close(nameless));
    here.contents("named");
    here.names(".");
}

// What overlayfs notes in attributes of the upper layer's directories. Its note of where a copy came from names an
// inode of the lower layer, which differs.
std::string notes_in(const std::string& upper) {
    std::vector<std::string> lines;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(upper))
        for (const char* name : {"trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"}) {
            std::array<char, 256> value{};
            const ssize_t size = lgetxattr(entry.path().c_str(), name, value.data(), value.size());
            if (size >= 0)
                lines.push_back(std::filesystem::relative(entry.path(), upper).string() + " " + name + " " +
                                std::string(value.data(), static_cast<std::size_t>(size)));
        }
    std::sort(lines.begin(), lines.end());
    std::string text;
    for (const std::string& line : lines)
        text += line + "\n";
    return text;
}

// The same of every file, if it is in user.*, where describe_tree() finds it.
std::string without_origins(const std::string& tree) {
    static const std::regex origin(R"( user\.overlay\.origin="[^\n]*")");
    return std::regex_replace(tree, origin, "");
}

constexpr int no_overlays = 99;

// The whole of it, in a process whose mounts nobody else sees and which go with it.
int work_in_overlay(const Layers& layers, const std::string& options) {
    if (!enter_own_mount_table())
        return no_overlays;
    Transcript here;
    const int failure = mount_overlay(layers, options);
    if (failure == ENODEV)
        return no_overlays;
    here.note("mount", errno_name(failure));
    if (failure != 0)
        return 0;
    if (chdir(layers.merged.c_str()) != 0)
        return 1;
    change_everything(here);
    here.called("chdir", chdir("/"));
    here.called("umount", umount(layers.merged.c_str()));
    // What was made is there the next time.
    here.note("mount again", errno_name(mount_overlay(layers, options)));
    here.note("merged", describe_tree(layers.merged));
    here.called("umount again", umount(layers.merged.c_str()));
    return 0;
}

// The transcript, and what the upper layer holds at the end; `upper_at_server` is where it can be seen without the
// mount.
std::string run_overlay(const Layers& layers, const std::string& upper_at_server, const std::string& options,
                        int& status) {
    fill_lower(layers.lower);
    Child child = Child::fork([&] { return work_in_overlay(layers, options); });
    const Ended end = child.wait(Milliseconds{60'000});
    status = end.exit_status;
    return end.output + end.errors + "--- upper\n" + without_origins(describe_tree(upper_at_server)) + "--- notes\n" +
           notes_in(upper_at_server);
}

}  // namespace

TEST_CASE("overlay: the mount as the upper layer") {
    if (geteuid() != 0) {
        WARN("not root: cannot mount overlays");
        return;
    }
    for (const char* options : {"index=off", "index=off,redirect_dir=on", "index=off,userxattr"}) {
        INFO(options);
        const auto pair = shared_mount().make_pair();
        const Layers local = make_layers(pair.local);
        const Layers mounted = make_layers(pair.mounted);
        int status = 0;
        const std::string expected = run_overlay(local, local.upper, options, status);
        if (status == no_overlays) {
            WARN("this kernel has no overlayfs, or does not let us mount it");
            return;
        }
        REQUIRE(status == 0);
        REQUIRE(expected.find("mount again") != std::string::npos);
        const std::string actual = run_overlay(mounted, pair.export_ + "/upper", options, status);
        CHECK(status == 0);
        CHECK(first_difference(expected, actual) == "");
    }
}
