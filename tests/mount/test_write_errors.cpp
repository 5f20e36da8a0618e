// SPDX-License-Identifier: MIT
// What happens to bytes that write() has taken and the server cannot: an error must come at the next write(), fsync()
// or close() of that file, and of no other.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/small_file_system.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

// The first error of writing `data` in pieces, syncing if `sync`, and closing; "ok" if there was none. Goes on after an
// error, as careless programs do: it must have been told once in any case.
std::string write_and_close(int fd, const std::string& data, std::size_t piece, bool sync) {
    std::string first = "ok";
    const auto note = [&first](bool right) {
        if (!right && first == "ok")
            first = errno_name(errno);
    };
    for (std::size_t at = 0; at < data.size();) {
        const std::size_t size = std::min(piece, data.size() - at);
        const ssize_t written = pwrite(fd, data.data() + at, size, static_cast<off_t>(at));
        note(written > 0);
        // A disk that fills up may take a part; the error comes with the next write.
        at += written > 0 ? static_cast<std::size_t>(written) : size;
    }
    if (sync)
        note(fsync(fd) == 0);
    note(close(fd) == 0);
    return first;
}

int open_new(const std::string& path) {
    return open(path.c_str(), O_RDWR | O_CREAT, 0644);
}

// Several processes fill the export, each with files of its own. Whatever file was written, synced or closed without an
// error must be whole on the server.
void fill_up(const std::string& mounted, const std::string& server, const std::string& error) {
    constexpr int writers = 3, files = 8;
    const std::string data = random_bytes(700'000, 5);
    std::vector<Child> processes;
    for (int writer = 0; writer < writers; ++writer) {
        processes.push_back(Child::fork([&, writer] {
            for (int file = 0; file < files; ++file) {
                const std::string name = std::to_string(writer) + "." + std::to_string(file);
                const int fd = open_new(mounted + "/" + name);
                const std::string outcome =
                    fd < 0 ? errno_name(errno) : write_and_close(fd, data, 50'000 + 13'000 * writer, file % 2 == 0);
                std::printf("%s %s\n", name.c_str(), outcome.c_str());
            }
            return 0;
        }));
    }
    int whole = 0, refused = 0;
    for (Child& process : processes) {
        const Ended end = process.wait(Milliseconds{60'000});
        INFO(end.to_string());
        REQUIRE(end.exit_status == 0);
        std::istringstream lines(end.output);
        for (std::string name, outcome; lines >> name >> outcome;) {
            INFO(name << ": " << outcome);
            CHECK((outcome == "ok" || outcome == error));
            ++(outcome == "ok" ? whole : refused);
            if (outcome == "ok")
                CHECK((read_file(server + "/" + name) == data));
        }
    }
    CHECK(whole > 0);
    CHECK(refused > 0);
}

// How a call ended that may hang.
Ended within(Milliseconds deadline, const std::function<int()>& call) {
    Child child = Child::fork(call);
    return child.wait(deadline);
}

}  // namespace

TEST_CASE("write errors: a full disk fails the file that found no room, and nobody else") {
    const SmallFileSystem small = SmallFileSystem::tmpfs("size=6m");
    if (!small.mounted()) {
        WARN("cannot mount a tmpfs");
        return;
    }
    const ServerProcess server({.directory = small.path()});
    MountProcess mount(server);
    const std::string has_room = random_bytes(1 << 20, 1), too_much = random_bytes(8 << 20, 2);
    const int other = open_new(mount.path() + "/other");
    REQUIRE(pwrite(other, has_room.data(), has_room.size(), 0) == 1 << 20);
    REQUIRE(fsync(other) == 0);
    const int full = open_new(mount.path() + "/full");
    const int beside = open((mount.path() + "/full").c_str(), O_RDWR);
    // The other file's room is its own: rewriting it works however full the disk is.
    const std::string rewritten = random_bytes(1 << 20, 3);
    REQUIRE(pwrite(other, rewritten.data(), rewritten.size(), 0) == 1 << 20);
    CHECK(write_and_close(full, too_much, 128 << 10, true) == "ENOSPC");
    CHECK(fsync(other) == 0);
    CHECK(pwrite(other, "x", 1, 0) == 1);
    CHECK(close(other) == 0);
    CHECK((read_file(small.path() + "/other") == "x" + rewritten.substr(1)));
    // The second handle is told no more than once as well, and then works.
    fsync(beside);
    CHECK(ftruncate(beside, 0) == 0);
    CHECK(pwrite(beside, "room again", 10, 0) == 10);
    CHECK(fsync(beside) == 0);
    CHECK(close(beside) == 0);
    CHECK(read_file(mount.path() + "/full") == "room again");
    CHECK(read_file(small.path() + "/full") == "room again");
    CHECK(mount.unmount());
}

TEST_CASE("write errors: what was closed without an error on a disk that fills up is there") {
    const SmallFileSystem small = SmallFileSystem::tmpfs("size=8m");
    if (!small.mounted())
        return;
    const ServerProcess server({.directory = small.path()});
    MountProcess mount(server);
    fill_up(mount.path(), small.path(), "ENOSPC");
    CHECK(mount.unmount());
}

TEST_CASE("write errors: an exceeded quota") {
    const SmallFileSystem small = SmallFileSystem::tmpfs("size=64m,usrquota,usrquota_block_hardlimit=8m,mode=0777");
    if (!small.mounted()) {
        WARN("this kernel has no quota on tmpfs");
        return;
    }
    // Root is above quotas: both ends act as an ordinary user.
    const Credentials user{.uid = 61'234, .gid = 61'234};
    const std::string config = Scratch::instance().make_directory("config");
    REQUIRE(chown(config.c_str(), user.uid, user.gid) == 0);
    const ServerProcess server({.directory = small.path(), .config_dir = config, .as = user});
    MountProcess mount(through(server, server.address()));
    fill_up(mount.path(), small.path(), "EDQUOT");
    CHECK(mount.unmount());
}

TEST_CASE("write errors: beyond the largest file of the server's file system") {
    const ServerProcess server;
    const off_t too_far = off_t{1} << 45;  // ext4 ends at 2^44
    const int local = open_new(server.directory() + "/probe");
    const bool takes_it = pwrite(local, "x", 1, too_far) == 1;
    close(local);
    unlink((server.directory() + "/probe").c_str());
    if (takes_it) {
        WARN("this file system has no limit that could be met");
        return;
    }
    MountProcess mount(server);
    const int other = open_new(mount.path() + "/other");
    REQUIRE(pwrite(other, "other", 5, 0) == 5);
    const int fd = open_new(mount.path() + "/file");
    const int unaware = open((mount.path() + "/file").c_str(), O_RDONLY);
    std::string told = pwrite(fd, "x", 1, too_far) == 1 ? "" : errno_name(errno);
    if (told.empty())
        told = fsync(fd) == 0 ? "" : errno_name(errno);
    CHECK(told == "EFBIG");
    CHECK(fsync(other) == 0);
    CHECK(close(other) == 0);
    close(unaware);
    // Told once, then forgotten: the file is as good as before.
    CHECK(pwrite(fd, "fine", 4, 0) == 4);
    CHECK(fsync(fd) == 0);
    CHECK(close(fd) == 0);
    CHECK(read_file(server.directory() + "/file") == "fine");
    CHECK(mount.unmount());
}

TEST_CASE("write errors: a server killed under data that it has not got") {
    for (const bool sync : {true, false}) {
        ServerProcess server;
        MountProcess mount(server);
        const std::string data = random_bytes(3 << 20, 6);
        write_file(mount.path() + "/before", "before");
        Bell written, go_on;
        Child writer = Child::fork([&] {
            const int fd = open_new(mount.path() + "/file");
            written.ring();
            if (!go_on.await())
                return 99;
            // Some of it may wait for the server; none of it may be lost without a word.
            const std::string outcome = write_and_close(fd, data, 100'000, sync);
            std::puts(outcome.c_str());
            return 0;
        });
        REQUIRE(written.await());
        REQUIRE(kill(server.pid(), SIGSTOP) == 0);
        go_on.ring();
        CHECK(writer.wait(Milliseconds{300}).timed_out());
        server.kill();
        server.start_again();
        const Ended end = writer.wait(Milliseconds{40'000});
        INFO(end.to_string());
        REQUIRE(end.exit_status == 0);
        // Of what the server had not begun not even the name is there.
        const std::string file = server.directory() + "/file";
        const bool intact = std::filesystem::exists(file) && read_file(file) == data;
        CHECK((intact || end.output != "ok\n"));
        // Others are not touched by it.
        const Ended after = within(Milliseconds{20'000}, [&] {
            const int fd = open((mount.path() + "/before").c_str(), O_RDWR);
            return fd >= 0 && write_and_close(fd, "afterwards", 10, true) == "ok" ? 0 : 1;
        });
        CHECK(after.exit_status == 0);
        CHECK(read_file(server.directory() + "/before") == "afterwards");
        CHECK(mount.unmount());
    }
}

TEST_CASE("write errors: a soft mount's server that does not answer") {
    ServerProcess server;
    MountProcess mount(server, {"soft", "timeout=2"});
    const int fd = open_new(mount.path() + "/file");
    REQUIRE(fd >= 0);
    const std::string data = random_bytes(2 << 20, 7);
    REQUIRE(kill(server.pid(), SIGSTOP) == 0);
    const Ended end = within(Milliseconds{40'000}, [&] {
        std::puts(write_and_close(fd, data, 100'000, true).c_str());
        return 0;
    });
    kill(server.pid(), SIGCONT);
    CHECK(end.exit_status == 0);
    CHECK((end.output == "ETIMEDOUT\n" || end.output == "EIO\n"));
    close(fd);
    CHECK(mount.unmount());
}

TEST_CASE("write errors: unmounting and SIGTERM send first what is pending") {
    for (const bool by_signal : {false, true}) {
        const ServerProcess server;
        MountProcess mount(server);
        const std::string data = random_bytes(12 << 20, 8);
        Bell written;
        // Killed before it could sync or close.
        Child writer = Child::fork([&] {
            const int fd = open_new(mount.path() + "/file");
            for (std::size_t at = 0; at < data.size(); at += 1 << 18) {
                if (pwrite(fd, data.data() + at, 1 << 18, static_cast<off_t>(at)) != 1 << 18)
                    return 1;
            }
            written.ring();
            pause();
            return 0;
        });
        REQUIRE(written.await());
        if (by_signal) {
            mount.process().signal(SIGTERM);  // while it is in use
            CHECK(!mount.process().wait(Milliseconds{20'000}).timed_out());
            CHECK(writer.destroy());
        } else {
            CHECK(writer.destroy());
            CHECK(mount.unmount());
        }
        CHECK((read_file(server.directory() + "/file") == data));
    }
}
