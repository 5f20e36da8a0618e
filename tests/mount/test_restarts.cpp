// SPDX-License-Identifier: MIT
// Programs at work while the server is killed and started again: none of them sees an error, and everything is there
// once. REMOFS_TEST_TRIES says how often it is killed, REMOFS_TEST_SEED when.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <random>
#include <string>
#include <thread>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "harness/transcript.hpp"
#include "mount/killing.hpp"

using namespace remofile::test;

namespace {

// A program's own account of what went wrong; it ends there.
[[noreturn]] void give_up(const std::string& what) {
    std::cerr << what << ": " << strerror(errno) << '\n';
    _exit(1);
}
void must(bool succeeds, const std::string& what) {
    if (!succeeds)
        give_up(what);
}

std::string content_of(std::uint32_t number) {
    return std::string(number * 37 % 6000, static_cast<char>('a' + number % 26)) + std::to_string(number);
}

// What a program that unpacks, and one that saves the way editors do, ask for.
void make_tree(const std::string& top, std::uint32_t number) {
    const std::string tree = top + "/tree" + std::to_string(number);
    must(mkdir(tree.c_str(), 0755) == 0, "making " + tree);
    for (std::uint32_t d = 0; d < 3; ++d) {
        const std::string directory = tree + "/d" + std::to_string(d);
        must(mkdir(directory.c_str(), 0750) == 0, "making " + directory);
        for (std::uint32_t f = 0; f < 10; ++f) {
            const std::string path = directory + "/f" + std::to_string(f);
            const std::string content = content_of(number * 100 + d * 10 + f);
            const int fd = open((path + "~").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
            must(fd >= 0, "making " + path + "~");
            must(write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()), "writing " + path);
            must(fchmod(fd, 0640) == 0, "changing the mode of " + path);
            const timespec times[2] = {{1'700'000'000, 0}, {1'700'000'000 + number, 0}};
            must(futimens(fd, times) == 0, "changing the times of " + path);
            must(close(fd) == 0, "closing " + path);
            must(rename((path + "~").c_str(), path.c_str()) == 0, "renaming " + path);
        }
        const std::string link = directory + "/link";
        must(symlink("f1", link.c_str()) == 0, "making " + link);
        must(unlink((directory + "/f0").c_str()) == 0, "removing f0 in " + directory);
    }
}

void check_tree(const std::string& top, std::uint32_t number) {
    const std::string tree = top + "/tree" + std::to_string(number);
    for (std::uint32_t d = 0; d < 3; ++d) {
        const std::string directory = tree + "/d" + std::to_string(d);
        INFO(directory);
        std::size_t names = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory))
            ++names;
        CHECK(names == 10);
        struct stat attributes {};
        REQUIRE(stat(directory.c_str(), &attributes) == 0);
        CHECK((attributes.st_mode & 07777) == 0750);
        CHECK(std::filesystem::read_symlink(directory + "/link") == "f1");
        for (std::uint32_t f = 1; f < 10; ++f) {
            const std::string path = directory + "/f" + std::to_string(f);
            INFO(path);
            REQUIRE(lstat(path.c_str(), &attributes) == 0);
            CHECK((attributes.st_mode & 07777) == 0640);
            CHECK(attributes.st_mtime == static_cast<time_t>(1'700'000'000 + number));
            CHECK(attributes.st_nlink == 1);
            CHECK((read_file(path) == content_of(number * 100 + d * 10 + f)));
        }
    }
}

// Links by which the server keeps files that were removed while they are open.
std::size_t kept_at(const ServerProcess& server) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(server.directory())) {
        if (entry.path().filename().string().starts_with(".remofile-kept-"))
            for ([[maybe_unused]] const auto& link : std::filesystem::directory_iterator(entry.path()))
                ++count;
    }
    return count;
}

void must_have_no_name(int fd) {
    struct stat attributes {};
    must(fstat(fd, &attributes) == 0, "fstat");
    must(attributes.st_nlink == 0, "a file that was removed has a name");
}

// As programs use temporary files, and as they save what others have open.
void use_removed_files(const std::string& top, std::uint32_t number) {
    const std::string path = top + "/temporary" + std::to_string(number);
    const std::string saved = top + "/saved" + std::to_string(number);
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    must(fd >= 0 && unlink(path.c_str()) == 0, "making and removing " + path);
    const int old = open(saved.c_str(), O_RDWR | O_CREAT | O_APPEND, 0600);
    must(old >= 0 && write(old, "old", 3) == 3, "making " + saved);
    const int fresh = open((saved + "~").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    must(fresh >= 0 && write(fresh, "new", 3) == 3 && close(fresh) == 0, "making " + saved + "~");
    must(rename((saved + "~").c_str(), saved.c_str()) == 0, "replacing " + saved);
    for (std::uint32_t i = 0; i < 10; ++i) {
        const std::string content = content_of(number + i);
        must(pwrite(fd, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()), "pwrite");
        must(write(old, "+", 1) == 1 && fsync(old) == 0, "appending");
        std::string back(content.size(), 0);
        must(pread(fd, back.data(), back.size(), 0) == static_cast<ssize_t>(back.size()) && back == content, "pread");
        must_have_no_name(fd);
        must_have_no_name(old);
    }
    std::string back(20, 0);
    must(pread(old, back.data(), back.size(), 0) == 13, "reading what was replaced");
    back.resize(13);
    must(back == "old++++++++++", "what was replaced is another");
    must(close(fd) == 0 && close(old) == 0, "close");
    must(unlink(saved.c_str()) == 0, "removing " + saved);
}

}  // namespace

TEST_CASE("restarts: trees that are made while the server is killed are there, once, and no program sees an error") {
    const bool lends = GENERATE(false, true);
    const std::uint32_t kills = number_from("REMOFS_TEST_TRIES", 12) / 2;
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO("seed " << seed << (lends ? ", with inodes that are lent" : ""));
    std::mt19937 random(seed);
    ServerProcess server({.lends_inodes = lends});
    MountProcess mount(server);
    std::uint32_t killed = 0;
    std::uint32_t trees = 0;
    while (killed < kills) {
        constexpr std::uint32_t trees_at_a_time = 8;
        Child program = Child::fork([&] {
            for (std::uint32_t i = 0; i < trees_at_a_time; ++i)
                make_tree(mount.path(), trees + i);
            const int top = open(mount.path().c_str(), O_RDONLY | O_DIRECTORY);
            must(top >= 0 && fsync(top) == 0, "fsync");
            return 0;
        });
        killed += kill_under(server, program, random, kills - killed);
        const Ended end = program.wait(Milliseconds{60'000});
        INFO(end.to_string());
        INFO("the mount: " << mount.errors());
        REQUIRE(end.exit_status == 0);
        for (std::uint32_t i = 0; i < trees_at_a_time; ++i) {
            check_tree(server.directory(), trees + i);
            check_tree(mount.path(), trees + i);
        }
        for (std::uint32_t i = 0; i < trees_at_a_time; ++i)
            std::filesystem::remove_all(mount.path() + "/tree" + std::to_string(trees + i));
        trees += trees_at_a_time;
    }
    CHECK(mount.unmount());
    CHECK(mount.errors().find("error") == std::string::npos);
}

TEST_CASE("restarts: what is open is read and written on, whatever becomes of the server") {
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO("seed " << seed);
    std::mt19937 random(seed);
    ServerProcess server;
    MountProcess mount(server);
    const std::string data = random_bytes(24 << 20, seed);
    for (int round = 0; round < 2; ++round) {
        const std::string path = mount.path() + "/file" + std::to_string(round);
        Child program = Child::fork([&] {
            const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0644);
            must(fd >= 0, "open");
            constexpr std::size_t piece = 1 << 20;
            for (std::size_t at = 0; at < data.size(); at += piece)
                must(pwrite(fd, data.data() + at, piece, static_cast<off_t>(at)) == piece, "pwrite");
            must(fsync(fd) == 0, "fsync");
            std::string back(data.size(), '\0');
            for (std::size_t at = 0; at < data.size(); at += piece)
                must(pread(fd, back.data() + at, piece, static_cast<off_t>(at)) == piece, "pread");
            must(back == data, "what is read is not what was written");
            must(close(fd) == 0, "close");
            return 0;
        });
        kill_under(server, program, random, 6);
        const Ended end = program.wait(Milliseconds{60'000});
        INFO(end.to_string());
        REQUIRE(end.exit_status == 0);
        CHECK((read_file(server.directory() + "/file" + std::to_string(round)) == data));
    }
    CHECK(mount.unmount());
}

TEST_CASE("restarts: a file that was removed while it is open is read and written on, and gone once it is closed") {
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO("seed " << seed);
    std::mt19937 random(seed);
    ServerProcess server({.keeps_files = true});
    MountProcess mount(server);
    Bell removed;
    Bell killed;
    Child program = Child::fork([&] {
        const std::string path = mount.path() + "/file";
        const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0600);
        const int appending = open(path.c_str(), O_WRONLY | O_APPEND);
        must(fd >= 0 && appending >= 0 && write(fd, "content", 7) == 7, "making the file");
        must(unlink(path.c_str()) == 0 && fsync(fd) == 0, "unlink");
        must(write(appending, "+", 1) == 1 && pwrite(fd, "C", 1, 0) == 1, "writing");
        removed.ring();
        must(killed.await(Milliseconds{60'000}), "waiting for the restarts");
        std::string back(20, 0);
        must(pread(fd, back.data(), back.size(), 0) == 8, "pread");
        back.resize(8);
        must(back == "Content+", "it has another content");
        must_have_no_name(fd);
        must(write(appending, "more", 4) == 4 && write(fd, "!", 1) == 1 && fsync(fd) == 0, "writing on");
        back.resize(20);
        must(pread(fd, back.data(), back.size(), 0) == 12, "pread");
        back.resize(12);
        must(back == "Content!more", "it has another content in the end");
        must(access(path.c_str(), F_OK) != 0 && errno == ENOENT, "the name is there again");
        must(close(fd) == 0 && close(appending) == 0, "close");
        return 0;
    });
    REQUIRE(removed.await());
    const std::uint32_t kills = number_from("REMOFS_TEST_TRIES", 4);
    for (std::uint32_t kill = 0; kill < kills; ++kill) {
        std::this_thread::sleep_for(Milliseconds{random() % 200});
        if (kill % 2 == 0)
            server.kill();
        else
            CHECK(server.stop().exit_status == 0);
        CHECK(kept_at(server) > 0);
        server.start_again();
    }
    killed.ring();
    const Ended end = program.wait(Milliseconds{60'000});
    INFO(end.to_string());
    INFO("the mount: " << mount.errors());
    REQUIRE(end.exit_status == 0);
    // What was left for a session in between goes in its time.
    CHECK(eventually(Milliseconds{90'000}, [&] { return kept_at(server) == 0; }));
    CHECK(mount.unmount());
    CHECK(server.stop().exit_status == 0);
    CHECK(std::filesystem::is_empty(server.directory()));
}

TEST_CASE("restarts: temporary files without names, and what is replaced while it is open, survive all of them") {
    const std::uint32_t kills = number_from("REMOFS_TEST_TRIES", 20);
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO("seed " << seed);
    std::mt19937 random(seed);
    ServerProcess server({.lends_inodes = true, .keeps_files = true});
    MountProcess mount(server);
    std::uint32_t number = 0;
    for (std::uint32_t killed = 0; killed < kills;) {
        constexpr std::uint32_t at_a_time = 20;
        Child program = Child::fork([&] {
            for (std::uint32_t i = 0; i < at_a_time; ++i)
                use_removed_files(mount.path(), number + i);
            return 0;
        });
        number += at_a_time;
        killed += kill_under(server, program, random, kills - killed);
        const Ended end = program.wait(Milliseconds{60'000});
        INFO("killed " << killed << " times: " << end.to_string());
        INFO("the mount: " << mount.errors());
        REQUIRE(end.exit_status == 0);
    }
    CHECK(eventually(Milliseconds{10'000}, [&] { return std::filesystem::is_empty(mount.path()); }));
    CHECK(mount.unmount());
}

// Whoever starts the server must not have files of the mount open: what closes them on the way waits for the server.
TEST_CASE("restarts: locks are held on, and exclude others, however often the server is killed or ended") {
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO("seed " << seed);
    std::mt19937 random(seed);
    ServerProcess server;
    MountProcess mount(server);
    MountProcess other(server);
    write_file(mount.path() + "/file", "content");
    Bell locked;
    Bell killed;
    Bell looked;
    const auto range_lock = [](int fd) {
        struct flock range {};
        range.l_type = F_WRLCK;
        range.l_start = 2;
        range.l_len = 3;
        return fcntl(fd, F_SETLK, &range) == 0;
    };
    Child holder = Child::fork([&] {
        const int fd = open((mount.path() + "/file").c_str(), O_RDWR);
        must(fd >= 0 && range_lock(fd) && flock(fd, LOCK_EX) == 0, "locking");
        locked.ring();
        must(killed.await(Milliseconds{60'000}), "waiting for the restarts");
        must(pwrite(fd, "C", 1, 0) == 1 && fsync(fd) == 0, "writing under the lock");
        must(looked.await(Milliseconds{60'000}), "waiting for the other");
        must(close(fd) == 0, "close");
        return 0;
    });
    REQUIRE(locked.await());
    const std::uint32_t kills = number_from("REMOFS_TEST_TRIES", 6);
    for (std::uint32_t kill = 0; kill < kills; ++kill) {
        std::this_thread::sleep_for(Milliseconds{random() % 200});
        if (kill % 2 == 0)
            server.kill();
        else
            CHECK(server.stop().exit_status == 0);
        server.start_again();
    }
    killed.ring();
    Child looker = Child::fork([&] {
        const int fd = open((other.path() + "/file").c_str(), O_RDWR);
        must(fd >= 0, "open");
        must(!range_lock(fd) && flock(fd, LOCK_EX | LOCK_NB) != 0, "a lock that another mount has was granted");
        looked.ring();
        must(flock(fd, LOCK_EX) == 0, "waiting for the lock");
        must(eventually(Milliseconds{10'000}, [&] { return range_lock(fd); }), "locking what was let go of");
        return 0;
    });
    for (Child* program : {&looker, &holder}) {
        const Ended end = program->wait(Milliseconds{60'000});
        INFO(end.to_string() << mount.errors());
        CHECK(end.exit_status == 0);
    }
    CHECK(read_file(server.directory() + "/file") == "Content");
    CHECK(mount.unmount());
}

TEST_CASE("restarts: who waits for a lock of another does not get it because the server was killed") {
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO("seed " << seed);
    std::mt19937 random(seed);
    ServerProcess server;
    TcpProxy link(server.ports(), Milliseconds{10});
    MountProcess far(through(server, link.address()));  // who comes back later
    MountProcess near(server);
    write_file(near.path() + "/file", "0");
    const std::uint32_t rounds = number_from("REMOFS_TEST_TRIES", 4);
    for (std::uint32_t round = 0; round < rounds; ++round) {
        Bell locked;
        Bell killed;
        // Each reads, waits and writes under the lock: what is lost shows.
        const auto add_one = [&](const std::string& top, bool holds) {
            const int fd = open((top + "/file").c_str(), O_RDWR);
            must(fd >= 0, "open");
            must(flock(fd, LOCK_EX) == 0, "flock");
            char text[16] = {};
            must(pread(fd, text, sizeof text - 1, 0) > 0, "pread");
            if (holds) {
                locked.ring();
                must(killed.await(Milliseconds{60'000}), "waiting for the restart");
                std::this_thread::sleep_for(Milliseconds{300});
            }
            const std::string next = std::to_string(std::stoi(text) + 1);
            must(pwrite(fd, next.data(), next.size(), 0) == static_cast<ssize_t>(next.size()), "pwrite");
            must(close(fd) == 0, "close");
            return 0;
        };
        Child holder = Child::fork([&] { return add_one(far.path(), true); });
        REQUIRE(locked.await());
        Child waiter = Child::fork([&] { return add_one(near.path(), false); });
        std::this_thread::sleep_for(Milliseconds{50 + random() % 100});
        server.kill();
        server.start_again();
        killed.ring();
        for (Child* program : {&holder, &waiter}) {
            const Ended end = program->wait(Milliseconds{60'000});
            INFO("round " << round << ": " << end.to_string() << far.errors());
            REQUIRE(end.exit_status == 0);
        }
        CHECK(read_file(server.directory() + "/file") == std::to_string(2 * (round + 1)));
    }
    CHECK(far.unmount());
    CHECK(near.unmount());
}

TEST_CASE("restarts: a lock that somebody else had before its holder came back is lost, and says so") {
    ServerProcess server;
    TcpProxy link(server.ports(), Milliseconds{0});
    MountProcess mount(through(server, link.address()));
    MountProcess other(server);
    write_file(mount.path() + "/file", "content");
    Bell locked;
    Bell back;
    const auto lock = [](int fd) {
        struct flock range {};
        range.l_type = F_WRLCK;
        return fcntl(fd, F_SETLK, &range) == 0;
    };
    Child holder = Child::fork([&] {
        const int plain = open((mount.path() + "/file").c_str(), O_RDWR);
        const int with_lock = open((mount.path() + "/file").c_str(), O_RDWR);
        must(plain >= 0 && with_lock >= 0 && lock(with_lock), "locking");
        locked.ring();
        must(back.await(Milliseconds{60'000}), "waiting for the link");
        char byte = 0;
        must(pread(plain, &byte, 1, 0) == 1, "reading without a lock");
        errno = 0;
        must(!(pwrite(with_lock, "C", 1, 0) == 1 && fsync(with_lock) == 0), "what was written is not told as lost");
        return 0;
    });
    REQUIRE(locked.await());
    link.cut();
    server.kill();
    server.start_again();
    Child taker = Child::fork([&] {
        const int fd = open((other.path() + "/file").c_str(), O_RDWR);
        must(fd >= 0 && lock(fd) && close(fd) == 0, "locking");
        return 0;
    });
    const Ended taken = taker.wait(Milliseconds{60'000});
    INFO(taken.to_string());
    REQUIRE(taken.exit_status == 0);
    link.pass();
    back.ring();
    const Ended end = holder.wait(Milliseconds{60'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(read_file(server.directory() + "/file") == "content");
    CHECK(mount.unmount());
}
