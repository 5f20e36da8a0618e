// SPDX-License-Identifier: MIT
// A server whose file system keeps times in whole seconds: what programs on the server write is seen all the same, also
// where two changes have the same time.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile;
using namespace remofile::test;

namespace {

// ext4 with inodes of 128 bytes, on a loop device.
class CoarseFileSystem {
public:
    CoarseFileSystem() : path_(Scratch::instance().make_directory("coarse")) {
        if (geteuid() != 0 || !is_installed("mkfs.ext4"))
            return;
        const std::string script =
            "truncate -s 16M image && mkfs.ext4 -q -I 128 image 2>/dev/null && mount -o loop image '" + path_ + "'";
        mounted_ = run_script(Scratch::instance().make_directory("image"), script).exit_status == 0;
    }
    ~CoarseFileSystem() {
        if (mounted_)
            umount2(path_.c_str(), MNT_DETACH);
    }
    CoarseFileSystem(const CoarseFileSystem&) = delete;
    CoarseFileSystem& operator=(const CoarseFileSystem&) = delete;

    bool mounted() const { return mounted_; }
    const std::string& path() const { return path_; }

private:
    std::string path_;
    bool mounted_ = false;
};

struct timespec change_time(const std::string& path) {
    struct stat stat {};
    REQUIRE(::lstat(path.c_str(), &stat) == 0);
    return stat.st_ctim;
}

// Writes "one" to the file, has `look` look at it, and writes "two" so that not even its times show it. False if the
// machine never did that within a second.
template <class Look>
bool change_behind_its_times(const std::string& path, Look&& look) {
    for (int attempt = 0; attempt < 50; ++attempt) {
        write_file(path, "one");
        const struct timespec before = change_time(path);
        look();
        write_file(path, "two");
        const struct timespec after = change_time(path);
        if (before.tv_sec == after.tv_sec && before.tv_nsec == after.tv_nsec)
            return true;
    }
    return false;
}

std::string content_of(int fd) {
    std::array<char, 16> text{};
    const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
    return size < 0 ? errno_name(errno) : std::string(text.data(), static_cast<std::size_t>(size));
}

}  // namespace

TEST_CASE("whole seconds hide no change from who opens the file") {
    const CoarseFileSystem files;
    if (!files.mounted()) {
        WARN("cannot mount a file system by a loop device");
        return;
    }
    const ServerProcess server({.directory = files.path()});
    const MountProcess mount(server);
    const std::string path = mount.path() + "/file";
    // Once just made, and once when its inode has been known for long.
    for (int round = 0; round < 2; ++round) {
        const bool hidden = change_behind_its_times(server.directory() + "/file", [&] {
            // The second time it comes from memory, until the server has told.
            CHECK(eventually(Milliseconds{10'000}, [&] { return read_file(path) == "one"; }));
            CHECK(read_file(path) == "one");
        });
        REQUIRE(hidden);
        CHECK(eventually(Milliseconds{10'000}, [&] { return read_file(path) == "two"; }));
    }
}

TEST_CASE("whole seconds hide no change for long from who has the file open") {
    const CoarseFileSystem files;
    if (!files.mounted()) {
        WARN("cannot mount a file system by a loop device");
        return;
    }
    const ServerProcess server({.directory = files.path()});
    const MountProcess mount(server);
    write_file(server.directory() + "/file", "one");
    const UniqueFd reader(::open((mount.path() + "/file").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(reader);
    const auto look = [&] {
        struct stat stat {};
        REQUIRE(::fstat(reader.get(), &stat) == 0);
        return content_of(reader.get());
    };
    REQUIRE(change_behind_its_times(server.directory() + "/file", look));
    CHECK(eventually(Milliseconds{10'000}, [&] { return look() == "two"; }));
}
