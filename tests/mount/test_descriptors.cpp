// SPDX-License-Identifier: MIT
// A server whose limit of open files is lower than what programs on its mounts open.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/transcript.hpp"

using namespace remofile;
using namespace remofile::test;

namespace {

constexpr int server_limit = 128;
constexpr int wanted = 300;  // and no more than a test itself may have open

std::string name_of(int number) {
    return "file" + std::to_string(number);
}

// "0", or the name of the error that the call left.
std::string outcome(long result) {
    return result >= 0 ? "0" : errno_name(errno);
}

std::size_t listed(const std::string& directory) {
    DIR* stream = ::opendir(directory.c_str());
    if (stream == nullptr)
        return 0;
    std::size_t names = 0;
    while (::readdir(stream) != nullptr)
        ++names;
    ::closedir(stream);
    return names;
}

// Every operation that goes by a name, in a directory of its own below `root`.
void check_names(const std::string& root, const std::string& directory_name) {
    const std::string directory = root + "/" + directory_name;
    const auto at = [&](const char* name) { return directory + "/" + name; };
    INFO(directory);
    struct stat stat {};
    struct statvfs about {};
    char target[16] = {};
    const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 2, .tv_nsec = 0}};
    CHECK(outcome(::mkdir(directory.c_str(), 0755)) == "0");
    CHECK(outcome(::mknod(at("made").c_str(), S_IFREG | 0644, 0)) == "0");
    CHECK(outcome(::mkfifo(at("fifo").c_str(), 0644)) == "0");
    CHECK(outcome(::symlink("made", at("link").c_str())) == "0");
    CHECK(outcome(::readlink(at("link").c_str(), target, sizeof target)) == "0");
    CHECK(outcome(::link(at("made").c_str(), at("second").c_str())) == "0");
    CHECK(outcome(::stat(at("link").c_str(), &stat)) == "0");
    CHECK(outcome(::lstat(at("link").c_str(), &stat)) == "0");
    CHECK(outcome(::access(at("made").c_str(), R_OK)) == "0");
    CHECK(outcome(::chmod(at("made").c_str(), 0600)) == "0");
    CHECK(outcome(::lchown(at("made").c_str(), ::getuid(), ::getgid())) == "0");
    CHECK(outcome(::utimensat(AT_FDCWD, at("made").c_str(), times, 0)) == "0");
    CHECK(outcome(::truncate(at("made").c_str(), 10)) == "0");
    CHECK(outcome(::statvfs(at("made").c_str(), &about)) == "0");
    if (::setxattr(at("made").c_str(), "user.a", "b", 1, 0) == 0) {
        CHECK(outcome(::getxattr(at("made").c_str(), "user.a", target, sizeof target)) == "0");
        CHECK(outcome(::listxattr(at("made").c_str(), target, sizeof target)) == "0");
        CHECK(outcome(::removexattr(at("made").c_str(), "user.a")) == "0");
    }
    CHECK(outcome(::rename(at("made").c_str(), at("renamed").c_str())) == "0");
    CHECK(outcome(::rename(at("renamed").c_str(), at("second").c_str())) == "0");
    CHECK(listed(directory) == 6);  // two names of one file: the last rename does nothing
    for (const char* name : {"renamed", "second", "link", "fifo"})
        CHECK(outcome(::unlink(at(name).c_str())) == "0");
    CHECK(outcome(::rmdir(directory.c_str())) == "0");
    CHECK(outcome(::stat(directory.c_str(), &stat)) == "ENOENT");
}

}  // namespace

TEST_CASE("a program has more files open than the server may") {
    const ServerProcess server({.open_files = server_limit});
    const MountProcess mount(server);
    std::vector<UniqueFd> open;
    for (int i = 0; i < wanted; ++i) {
        open.emplace_back(
            ::open((mount.path() + "/" + name_of(i)).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
        REQUIRE(outcome(open.back().get()) == "0");
        CHECK(::write(open.back().get(), "0123456789", 10) == 10);
    }
    check_names(mount.path(), "names");
    for (int i = 0; i < wanted; i += 12)
        CHECK(outcome(::unlink((mount.path() + "/" + name_of(i)).c_str())) == "0");
    for (int i = 0; i < wanted; ++i) {
        const int fd = open[static_cast<std::size_t>(i)].get();
        CHECK(::pwrite(fd, name_of(i).data(), 4, 3) == 4);
        CHECK(outcome(::ftruncate(fd, 8)) == "0");
        struct stat stat {};
        CHECK(outcome(::fstat(fd, &stat)) == "0");
        CHECK(stat.st_size == 8);
        CHECK(stat.st_nlink == (i % 12 == 0 ? 0U : 1U));
        char text[16] = {};
        CHECK(::pread(fd, text, sizeof text, 0) == 8);
        CHECK(std::string(text) == "012file7");
    }
    check_names(mount.path(), "names");
    open.clear();
    CHECK(read_file(mount.path() + "/" + name_of(1)) == "012file7");
    check_names(mount.path(), "names");
}

TEST_CASE("names answer whatever one client keeps open, and others open files") {
    const ServerProcess server({.open_files = server_limit});
    const MountProcess mount(server);
    const MountProcess other(server);
    for (int i = 0; i < wanted; ++i)
        write_file(server.directory() + "/" + name_of(i), "x");
    // None of them can be closed for others.
    std::vector<UniqueFd> open;
    std::string last = "0";
    const auto fill = [&](const char* prefix, const auto& keep_open) {
        for (int i = 0; i < wanted && last == "0"; ++i) {
            const std::string path = mount.path() + "/" + prefix + name_of(i);
            UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
            last = outcome(fd.get());
            if (last == "0")
                last = outcome(keep_open(fd, path));
            if (last == "0")
                open.push_back(std::move(fd));
        }
    };
    SECTION("locked files") {
        fill("", [](const UniqueFd& fd, const std::string&) { return ::flock(fd.get(), LOCK_EX | LOCK_NB); });
        CHECK((last == "ENFILE" || last == "ENOLCK"));
    }
    SECTION("files without a name") {
        fill("removed ", [](const UniqueFd&, const std::string& path) { return ::unlink(path.c_str()); });
        CHECK(last == "ENFILE");
        CHECK(outcome(::open((mount.path() + "/" + name_of(0)).c_str(), O_RDONLY | O_CLOEXEC)) == "ENFILE");
    }
    CHECK(open.size() > 20);
    check_names(mount.path(), "names");
    check_names(other.path(), "others");
    CHECK(listed(mount.path()) == wanted + 2);
    for (const UniqueFd& fd : open)
        CHECK(outcome(::ftruncate(fd.get(), 5)) == "0");
    // The other client may have more open than were left to it.
    std::vector<UniqueFd> theirs;
    for (int i = 0; i < wanted; ++i) {
        theirs.emplace_back(::open((other.path() + "/" + name_of(i)).c_str(), O_RDWR | O_CLOEXEC));
        REQUIRE(outcome(theirs.back().get()) == "0");
    }
    for (const UniqueFd& fd : theirs)
        CHECK(::pwrite(fd.get(), "y", 1, 0) == 1);
    for (const UniqueFd& fd : theirs)
        CHECK(outcome(::fsync(fd.get())) == "0");
    open.clear();
    CHECK(UniqueFd(::open((mount.path() + "/" + name_of(wanted - 1)).c_str(), O_RDONLY | O_CLOEXEC)));
}
