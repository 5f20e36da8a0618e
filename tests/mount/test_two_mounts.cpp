// SPDX-License-Identifier: MIT
// Two mounts of one server, as two machines would have: what one has closed, the other sees.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"
#include "mount/random_operations.hpp"

using namespace remofile::test;

namespace {

// How long a change that nobody announced, one made at the server itself, may take to be seen.
constexpr Milliseconds unannounced_change_deadline{3'000};

struct TwoMounts {
    ServerProcess server;
    MountProcess first{server};
    MountProcess second{server};
    int directories = 0;
};

// A fresh directory as the two mounts and the server see it.
struct Views {
    std::string a;
    std::string b;
    std::string server;
};

Views fresh_views() {
    if (testing_locally()) {
        const std::string directory = Scratch::instance().make_directory("stands-in");
        return {directory, directory, directory};
    }
    static TwoMounts& mounts = Scratch::instance().keep(std::make_unique<TwoMounts>());
    const std::string name = "/" + std::to_string(++mounts.directories);
    REQUIRE(mounts.first.alive());
    REQUIRE(mounts.second.alive());
    REQUIRE(mkdir((mounts.first.path() + name).c_str(), 0755) == 0);
    return {mounts.first.path() + name, mounts.second.path() + name, mounts.server.directory() + name};
}

bool exists(const std::string& path) {
    return access(path.c_str(), F_OK) == 0;
}

struct stat stat_of(const std::string& path) {
    struct stat attributes = {};
    REQUIRE(lstat(path.c_str(), &attributes) == 0);
    return attributes;
}

std::string names_in(const std::string& path) {
    std::string all;
    DIR* directory = opendir(path.c_str());
    REQUIRE(directory);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(directory))
        names.emplace_back(entry->d_name);
    closedir(directory);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names)
        all += name + " ";
    return all;
}

// Whether a process that maps the file can read all its bytes, which `expected` says.
bool maps_as(int fd, const std::string& expected) {
    Child child = Child::fork([&] {
        void* mapped = mmap(nullptr, expected.size(), PROT_READ, MAP_SHARED, fd, 0);
        if (mapped == MAP_FAILED)
            return 1;
        return std::string_view(static_cast<const char*>(mapped), expected.size()) == expected ? 0 : 2;
    });
    return child.wait(Milliseconds{10'000}).exit_status == 0;
}

}  // namespace

TEST_CASE("two mounts: what one has written and closed, the other reads at once") {
    const Views views = fresh_views();
    for (int round = 0; round < 40; ++round) {
        const std::string& writer = round % 2 ? views.a : views.b;
        const std::string& reader = round % 2 ? views.b : views.a;
        // Longer, shorter, and of the same length as before.
        const std::string content = random_bytes(static_cast<std::size_t>(10'000 + (round % 3) * 70'000), round);
        write_file(writer + "/file", content);
        CHECK(stat_of(reader + "/file").st_size == static_cast<off_t>(content.size()));
        CHECK(abbreviated(read_file(reader + "/file")) == abbreviated(content));
    }
}

TEST_CASE("two mounts: writing in the middle, without a change of size, is seen after close and after fsync") {
    const Views views = fresh_views();
    std::string expected = random_bytes(500'000, 1);
    write_file(views.a + "/file", expected);
    CHECK(read_file(views.b + "/file") == expected);
    const int fd = open((views.a + "/file").c_str(), O_RDWR);
    for (int round = 0; round < 20; ++round) {
        const std::string piece = random_bytes(5'000, round);
        const auto at = static_cast<std::size_t>(round) * 20'000;
        expected.replace(at, piece.size(), piece);
        REQUIRE(pwrite(fd, piece.data(), piece.size(), static_cast<off_t>(at)) == 5'000);
        REQUIRE(fsync(fd) == 0);
        CHECK((read_file(views.b + "/file") == expected));
    }
    REQUIRE(pwrite(fd, "last", 4, 0) == 4);
    REQUIRE(close(fd) == 0);
    expected.replace(0, 4, "last");
    CHECK((read_file(views.b + "/file") == expected));
}

TEST_CASE("two mounts: names come and go, after having been looked up in vain") {
    const Views views = fresh_views();
    for (int round = 0; round < 20; ++round) {
        const std::string name = "/name" + std::to_string(round % 3);
        REQUIRE(!exists(views.b + name));
        REQUIRE(!exists(views.a + name));
        write_file(views.a + name, "x");
        CHECK(exists(views.b + name));
        CHECK(names_in(views.b) == ". .. " + name.substr(1) + " ");
        CHECK(unlink((views.b + name).c_str()) == 0);
        CHECK(!exists(views.a + name));
        CHECK(open((views.a + name).c_str(), O_RDONLY) == -1);
        CHECK(names_in(views.a) == ". .. ");
    }
}

TEST_CASE("two mounts: a file renamed over another is seen as the new one") {
    const Views views = fresh_views();
    write_file(views.a + "/file", "0");
    CHECK(read_file(views.b + "/file") == "0");
    for (int round = 1; round < 20; ++round) {
        const std::string content(static_cast<std::size_t>(round), 'x');
        write_file(views.a + "/file.new", content);
        REQUIRE(rename((views.a + "/file.new").c_str(), (views.a + "/file").c_str()) == 0);
        CHECK(stat_of(views.b + "/file").st_ino == stat_of(views.a + "/file").st_ino);
        CHECK(read_file(views.b + "/file") == content);
        CHECK(!exists(views.b + "/file.new"));
    }
}

TEST_CASE("two mounts: a file moved to another directory on one and removed on the other is gone on both") {
    const Views views = fresh_views();
    const auto in = [](const std::string& view, const char* name) { return view + "/" + name; };
    for (const char* directory : {"from", "to"})
        REQUIRE(mkdir(in(views.b, directory).c_str(), 0755) == 0);
    write_file(in(views.b, "from/f"), "text");
    // The first mount knows both directories, and has been asked for names of one alone.
    CHECK(names_in(in(views.a, "from")) == ". .. f ");
    CHECK(stat_of(in(views.a, "from/f")).st_size == 4);
    SECTION("to one of which the names are known") {
        CHECK(names_in(in(views.a, "to")) == ". .. ");
    }
    SECTION("to one of which nothing is known") {}
    REQUIRE(rename(in(views.a, "from/f").c_str(), in(views.a, "to/f").c_str()) == 0);
    SECTION("and removed") {
        REQUIRE(unlink(in(views.b, "to/f").c_str()) == 0);
        CHECK_FALSE(exists(in(views.a, "to/f")));
    }
    SECTION("and changed") {
        REQUIRE(chmod(in(views.b, "to/f").c_str(), 0600) == 0);
        CHECK((stat_of(in(views.a, "to/f")).st_mode & 0777) == 0600);
    }
    SECTION("and replaced") {
        write_file(in(views.b, "g"), "another text");
        REQUIRE(rename(in(views.b, "g").c_str(), in(views.b, "to/f").c_str()) == 0);
        CHECK(stat_of(in(views.a, "to/f")).st_size == 12);
    }
}

TEST_CASE("two mounts: directories made, renamed and removed") {
    const Views views = fresh_views();
    REQUIRE(mkdir((views.a + "/d").c_str(), 0755) == 0);
    write_file(views.b + "/d/file", "x");
    CHECK(names_in(views.a + "/d") == ". .. file ");
    REQUIRE(rename((views.b + "/d").c_str(), (views.b + "/e").c_str()) == 0);
    CHECK(!exists(views.a + "/d"));
    CHECK(read_file(views.a + "/e/file") == "x");
    CHECK(stat_of(views.a).st_nlink == stat_of(views.b).st_nlink);
    REQUIRE(unlink((views.a + "/e/file").c_str()) == 0);
    REQUIRE(rmdir((views.a + "/e").c_str()) == 0);
    CHECK(!exists(views.b + "/e"));
    CHECK(mkdir((views.b + "/e/below").c_str(), 0755) == -1);
    CHECK(names_in(views.b) == ". .. ");
}

TEST_CASE("two mounts: attributes, links, symlinks and extended attributes") {
    const Views views = fresh_views();
    write_file(views.a + "/file", "content");
    const auto same = [&] {
        for (const std::string name : {"/file", "/link", "/symlink"}) {
            struct stat in_a = {}, in_b = {};
            const int a = lstat((views.a + name).c_str(), &in_a), b = lstat((views.b + name).c_str(), &in_b);
            CHECK(a == b);
            CHECK(describe(in_a) == describe(in_b));
            CHECK(in_a.st_mtim.tv_nsec == in_b.st_mtim.tv_nsec);
            CHECK(in_a.st_ctim.tv_nsec == in_b.st_ctim.tv_nsec);
        }
    };
    same();
    CHECK(chmod((views.a + "/file").c_str(), 0600) == 0);
    same();
    CHECK(link((views.b + "/file").c_str(), (views.b + "/link").c_str()) == 0);
    same();
    const timespec times[2] = {{1, 2}, {3, 4}};
    CHECK(utimensat(AT_FDCWD, (views.a + "/link").c_str(), times, 0) == 0);
    same();
    CHECK(symlink("file", (views.a + "/symlink").c_str()) == 0);
    same();
    CHECK(truncate((views.b + "/file").c_str(), 3) == 0);
    same();
    CHECK(read_file(views.a + "/link") == "con");
    CHECK(unlink((views.a + "/link").c_str()) == 0);
    same();
    char value[10] = {};
    CHECK(getxattr((views.b + "/file").c_str(), "user.x", value, 10) == -1);
    CHECK(setxattr((views.a + "/file").c_str(), "user.x", "one", 3, 0) == 0);
    CHECK(getxattr((views.b + "/file").c_str(), "user.x", value, 10) == 3);
    CHECK(setxattr((views.b + "/file").c_str(), "user.x", "three", 5, 0) == 0);
    CHECK(getxattr((views.a + "/file").c_str(), "user.x", value, 10) == 5);
}

TEST_CASE("two mounts: what one removes, the other may go on using while it has it open") {
    const Views views = fresh_views();
    write_file(views.a + "/file", "content");
    const int fd = open((views.b + "/file").c_str(), O_RDWR);
    REQUIRE(fd >= 0);
    REQUIRE(unlink((views.a + "/file").c_str()) == 0);
    char bytes[8] = {};
    CHECK(pread(fd, bytes, 7, 0) == 7);
    CHECK(std::string(bytes) == "content");
    CHECK(pwrite(fd, "more", 4, 7) == 4);
    CHECK(fsync(fd) == 0);
    CHECK(names_in(views.a) == ". .. ");
    CHECK(names_in(views.server) == ". .. ");
    CHECK(close(fd) == 0);
}

TEST_CASE("two mounts: a file that is open on one is truncated and rewritten on the other") {
    const Views views = fresh_views();
    write_file(views.a + "/file", std::string(100'000, 'o'));
    const int reader = open((views.b + "/file").c_str(), O_RDONLY);
    char byte = 0;
    CHECK(pread(reader, &byte, 1, 50'000) == 1);
    write_file(views.a + "/file", std::string(60'000, 'n'));
    // A new open sees it at once; the old one at the latest when its cache has been called back.
    CHECK(read_file(views.b + "/file") == std::string(60'000, 'n'));
    CHECK(eventually(Milliseconds{3'000}, [&] { return pread(reader, &byte, 1, 50'000) == 1 && byte == 'n'; }));
    CHECK(eventually(Milliseconds{3'000}, [&] { return pread(reader, &byte, 1, 70'000) == 0; }));
    close(reader);
}

// The kernel's own idea of the size is what a mapping, and copying, go by.
TEST_CASE(
    "two mounts: a file that is open here grows elsewhere, and whoever has asked for its size may map all of it") {
    const Views views = fresh_views();
    const bool is_read_before = GENERATE(false, true);
    // Not the paths themselves: of a generator's values all are those of its first run, which had other directories.
    const bool is_at_server = GENERATE(false, true);
    const std::string& writer = is_at_server ? views.server : views.a;
    INFO((is_at_server ? "written at the server" : "written by the other mount")
         << (is_read_before ? ", read here before" : ""));
    for (int round = 0; round < 50; ++round) {
        INFO("round " << round);
        const std::string name = "/grows" + std::to_string(round);
        write_file(writer + name, std::string(100, 'o'));
        // Another mount's file is there at once; of programs on the server the server hears a little later.
        int fd = -1;
        const auto is_opened = [&] {
            fd = open((views.b + name).c_str(), O_RDWR);
            return fd >= 0;
        };
        if (is_at_server)
            REQUIRE(eventually(unannounced_change_deadline, is_opened));
        else
            REQUIRE(is_opened());
        char text[200];
        if (is_read_before)
            REQUIRE(pread(fd, text, sizeof text, 0) == 100);
        const std::string content(32'768, static_cast<char>('a' + round % 26));
        write_file(writer + name, content);
        struct stat attributes = {};
        const auto is_grown = [&] {
            return fstat(fd, &attributes) == 0 && attributes.st_size == static_cast<off_t>(content.size());
        };
        if (is_at_server)
            REQUIRE(eventually(unannounced_change_deadline, is_grown));
        else
            REQUIRE(is_grown());
        CHECK(maps_as(fd, content));
        const int copy = open((views.b + "/copy").c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
        CHECK(copy_file_range(fd, nullptr, copy, nullptr, content.size(), 0) == static_cast<ssize_t>(content.size()));
        close(copy);
        close(fd);
    }
}

// What was changed here brings a new version of the file, as what was changed elsewhere does.
TEST_CASE("two mounts: a change made at the server is noticed although one made here has followed it") {
    const Views views = fresh_views();
    const std::vector<std::pair<std::string, std::function<int(int)>>> changes = {
        {"pwrite", [](int fd) { return pwrite(fd, "h", 1, 0) == 1 ? 0 : -1; }},
        {"fchmod", [](int fd) { return fchmod(fd, 0640); }},
        {"futimens", [](int fd) { return futimens(fd, nullptr); }},
        {"ftruncate to the same size", [](int fd) { return ftruncate(fd, 20'000); }},
        {"fallocate", [](int fd) { return posix_fallocate(fd, 0, 20'000); }},
    };
    for (const auto& [name, change] : changes) {
        INFO(name);
        const std::string file = "/" + name;
        write_file(views.b + file, std::string(20'000, 'o'));
        const int fd = open((views.b + file).c_str(), O_RDWR);
        struct stat attributes = {};
        REQUIRE(fstat(fd, &attributes) == 0);
        char byte = 0;
        REQUIRE(pread(fd, &byte, 1, 10'000) == 1);
        const int at_server = open((views.server + file).c_str(), O_WRONLY);
        REQUIRE(pwrite(at_server, std::string(20'000, 'n').data(), 20'000, 0) == 20'000);
        // Whatever the server's clock says: a time of its own.
        const timespec times[2] = {{1, 2}, {3, 4}};
        REQUIRE(futimens(at_server, times) == 0);
        close(at_server);
        CHECK(change(fd) == 0);
        CHECK(fsync(fd) == 0);
        REQUIRE(fstat(fd, &attributes) == 0);
        CHECK(pread(fd, &byte, 1, 10'000) == 1);
        CHECK(byte == 'n');
        close(fd);
    }
}

// Between the look-up of a name and what follows it, the file may be gone: the kernel walks the path anew, once.
TEST_CASE("two mounts: a name that is always there is never stale, however often it is replaced elsewhere") {
    const Views views = fresh_views();
    REQUIRE(mkdir((views.server + "/A").c_str(), 0755) == 0);
    write_file(views.server + "/A/app", "x");
    write_file(views.server + "/v", "x");
    REQUIRE(symlink("A", (views.server + "/current").c_str()) == 0);
    Bell stop;
    Child replacing = Child::fork([&] {
        while (!stop.await(Milliseconds{1})) {
            write_file(views.server + "/t", "x");
            if (rename((views.server + "/t").c_str(), (views.server + "/v").c_str()) != 0 ||
                symlink("A", (views.server + "/c").c_str()) != 0 ||
                rename((views.server + "/c").c_str(), (views.server + "/current").c_str()) != 0)
                return errno;
        }
        return 0;
    });
    const std::string v = views.a + "/v", link = views.a + "/current";
    struct stat attributes = {};
    char text[64];
    const std::vector<std::pair<std::string, std::function<long()>>> calls = {
        {"open", [&] { return close(open(v.c_str(), O_RDONLY)); }},
        {"stat", [&] { return stat(v.c_str(), &attributes); }},
        {"chmod", [&] { return chmod(v.c_str(), 0644); }},
        {"access", [&] { return access(v.c_str(), R_OK); }},
        {"listxattr", [&] { return listxattr(v.c_str(), text, sizeof text); }},
        {"readlink", [&] { return readlink(link.c_str(), text, sizeof text); }},
        {"open through a link", [&] { return close(open((link + "/app").c_str(), O_RDONLY)); }},
    };
    std::map<std::string, int> failed;
    for (int round = 0; round < 300; ++round) {
        for (const auto& [name, call] : calls) {
            if (call() < 0)
                ++failed[name + ": " + errno_name(errno)];
        }
    }
    stop.ring();
    CHECK(replacing.wait(Milliseconds{10'000}).exit_status == 0);
    for (const auto& [what, times] : failed)
        FAIL_CHECK(what << ", " << times << " times");
}

TEST_CASE("two mounts: locks hold between them") {
    const Views views = fresh_views();
    write_file(views.a + "/file", "x");
    const auto posix = [](int fd, short type, int command) {
        struct flock lock = {};
        lock.l_type = type;
        lock.l_whence = SEEK_SET;
        return fcntl(fd, command, &lock);
    };
    const int a = open((views.a + "/file").c_str(), O_RDWR), b = open((views.b + "/file").c_str(), O_RDWR);
    CHECK(flock(a, LOCK_EX | LOCK_NB) == 0);
    CHECK(flock(b, LOCK_SH | LOCK_NB) == -1);
    CHECK(errno_name(errno) == "EAGAIN");
    CHECK(flock(a, LOCK_UN) == 0);
    CHECK(flock(b, LOCK_SH | LOCK_NB) == 0);
    CHECK(flock(a, LOCK_SH | LOCK_NB) == 0);
    CHECK(flock(a, LOCK_EX | LOCK_NB) == -1);

    // POSIX locks belong to processes.
    CHECK(posix(a, F_WRLCK, F_SETLK) == 0);
    Bell waiting, have;
    Child other = Child::fork([&] {
        const int fd = open((views.b + "/file").c_str(), O_RDWR);
        if (posix(fd, F_RDLCK, F_SETLK) == 0 || errno != EAGAIN)
            return 1;
        waiting.ring();
        const int result = posix(fd, F_WRLCK, F_SETLKW);
        have.ring();
        return result == 0 ? 0 : 2;
    });
    CHECK(waiting.await());
    CHECK(!have.await(Milliseconds{200}));
    CHECK(posix(a, F_UNLCK, F_SETLK) == 0);
    CHECK(have.await());
    CHECK(other.wait(Milliseconds{10'000}).exit_status == 0);
    close(a);
    close(b);
}

// The kernel asks nobody for it. Should that change, SEMANTICS.md has to.
TEST_CASE("two mounts: flock of a directory holds on one mount alone") {
    if (testing_locally())
        return;
    const Views views = fresh_views();
    const int a = open(views.a.c_str(), O_RDONLY), beside = open(views.a.c_str(), O_RDONLY);
    const int b = open(views.b.c_str(), O_RDONLY);
    CHECK(flock(a, LOCK_EX | LOCK_NB) == 0);
    CHECK(flock(beside, LOCK_EX | LOCK_NB) == -1);
    CHECK(flock(b, LOCK_EX | LOCK_NB) == 0);
    for (const int fd : {a, beside, b})
        close(fd);
}

TEST_CASE("two mounts: work goes on in a directory that was moved elsewhere") {
    if (testing_locally())
        return;
    const Views views = fresh_views();
    for (const char* name : {"/from", "/from/d", "/to"})
        REQUIRE(mkdir((views.server + name).c_str(), 0755) == 0);
    Bell inside, moved;
    Child worker = Child::fork([&] {
        if (chdir((views.a + "/from/d").c_str()) != 0)
            return 1;
        inside.ring();
        moved.await();
        write_file("file", "x");
        if (std::filesystem::current_path() != views.a + "/from/d" || exists("../d"))
            return 2;
        // Looking it up where it is now tells the kernel.
        if (!exists(views.a + "/to/d/file"))
            return 3;
        return std::filesystem::current_path() == views.a + "/to/d" && exists("../d") ? 0 : 4;
    });
    REQUIRE(inside.await());
    REQUIRE(rename((views.server + "/from/d").c_str(), (views.server + "/to/d").c_str()) == 0);
    moved.ring();
    CHECK(worker.wait(Milliseconds{10'000}).exit_status == 0);
    CHECK(read_file(views.server + "/to/d/file") == "x");
}

TEST_CASE("two mounts: a counter under a lock loses nothing") {
    const Views views = fresh_views();
    write_file(views.a + "/counter", "0");
    constexpr int rounds = 40;
    std::vector<Child> workers;
    for (const std::string& root : {views.a, views.b, views.a, views.b}) {
        workers.push_back(Child::fork([root] {
            for (int round = 0; round < rounds; ++round) {
                const int lock = open((root + "/lock").c_str(), O_RDWR | O_CREAT, 0644);
                if (flock(lock, LOCK_EX) != 0)
                    return 1;
                write_file(root + "/counter", std::to_string(std::stoi(read_file(root + "/counter")) + 1));
                close(lock);
            }
            return 0;
        }));
    }
    for (Child& worker : workers)
        CHECK(worker.wait(Milliseconds{60'000}).to_string().starts_with("exit status 0"));
    CHECK(read_file(views.a + "/counter") == std::to_string(4 * rounds));
    CHECK(read_file(views.b + "/counter") == std::to_string(4 * rounds));
}

TEST_CASE("two mounts: both append and no line is lost") {
    const Views views = fresh_views();
    constexpr int lines = 200;
    std::vector<Child> writers;
    for (const auto& [root, who] : {std::pair{views.a, 'a'}, {views.b, 'b'}}) {
        writers.push_back(Child::fork([root = root, who = who] {
            const int fd = open((root + "/log").c_str(), O_WRONLY | O_APPEND | O_CREAT, 0644);
            const std::string line = std::string(99, who) + "\n";
            for (int i = 0; i < lines; ++i) {
                if (write(fd, line.data(), line.size()) != 100)
                    return 1;
            }
            return close(fd);
        }));
    }
    for (Child& writer : writers)
        CHECK(writer.wait(Milliseconds{60'000}).exit_status == 0);
    for (const std::string& root : {views.a, views.b}) {
        const std::string log = read_file(root + "/log");
        CHECK(log.size() == 2 * lines * 100);
        CHECK(std::count(log.begin(), log.end(), 'a') == lines * 99);
        CHECK(std::count(log.begin(), log.end(), 'b') == lines * 99);
        CHECK(log.find("ab") == std::string::npos);
        CHECK(log.find("ba") == std::string::npos);
    }
}

TEST_CASE("two mounts: O_EXCL has one winner among both") {
    const Views views = fresh_views();
    for (int round = 0; round < 10; ++round) {
        const std::string name = "/" + std::to_string(round);
        const auto contend = [&name](const std::string& root) {
            return Child::fork(
                [path = root + name] { return open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644) >= 0 ? 1 : 0; });
        };
        Child a = contend(views.a), b = contend(views.b);
        CHECK(a.wait(Milliseconds{10'000}).exit_status + b.wait(Milliseconds{10'000}).exit_status == 1);
    }
}

TEST_CASE("two mounts: random operations on both are those of one directory") {
    const Views views = fresh_views();
    const RandomRun run = {.model = Scratch::instance().make_directory("model"),
                           .mounted = {views.a, views.b},
                           .keep_open = false,
                           .seed = seed_for_tests(),
                           .operations = operations_for_tests(1'000)};
    Child child = Child::fork([&run] {
        const std::string report = run_randomly(run);
        std::fputs(report.c_str(), stdout);
        return report.empty() ? 0 : 1;
    });
    const Ended end = child.wait(Milliseconds{120'000});
    INFO("REMOFS_TEST_SEED=" << run.seed << "\n" << end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(describe_tree(run.model) == describe_tree(views.server));
}

TEST_CASE("two mounts: changes made at the server itself are seen on both") {
    const Views views = fresh_views();
    write_file(views.a + "/file", "old");
    CHECK(read_file(views.b + "/file") == "old");
    CHECK(!exists(views.b + "/new"));
    CHECK(names_in(views.a) == ". .. file ");
    write_file(views.server + "/file", "changed at the server");
    write_file(views.server + "/new", "new");
    for (const std::string& root : {views.a, views.b}) {
        CHECK(eventually(unannounced_change_deadline,
                         [&] { return read_file(root + "/file") == "changed at the server"; }));
        CHECK(eventually(unannounced_change_deadline, [&] { return exists(root + "/new"); }));
        CHECK(eventually(unannounced_change_deadline, [&] { return names_in(root) == ". .. file new "; }));
    }
    REQUIRE(unlink((views.server + "/file").c_str()) == 0);
    REQUIRE(chmod((views.server + "/new").c_str(), 0600) == 0);
    for (const std::string& root : {views.a, views.b}) {
        CHECK(eventually(unannounced_change_deadline, [&] { return !exists(root + "/file"); }));
        CHECK(eventually(unannounced_change_deadline, [&] { return (stat_of(root + "/new").st_mode & 0777) == 0600; }));
    }
}

// What is kept from one open to the next is known by its version, which the server's clock alone would not tell apart:
// its ticks are longer than a round trip.
TEST_CASE("two mounts: a file that is changed at the server in no time is read anew once the server has told") {
    const Views views = fresh_views();
    for (int i = 0; i < 300; ++i) {
        const std::string content = std::string(5000, static_cast<char>('a' + i % 26)) + std::to_string(i);
        write_file(views.server + "/file", content);
        INFO("round " << i);
        for (const std::string& view : {views.a, views.b})
            REQUIRE(eventually(Milliseconds{10'000}, [&] { return read_file(view + "/file") == content; }));
    }
}

TEST_CASE("two mounts: a reader at the end sees what is appended at the server, without asking for attributes") {
    const Views views = fresh_views();
    write_file(views.a + "/log", "one\n");
    const int fd = open((views.a + "/log").c_str(), O_RDONLY);
    char text[16];
    REQUIRE(read(fd, text, sizeof text) == 4);
    REQUIRE(read(fd, text, sizeof text) == 0);
    const int at_server = open((views.server + "/log").c_str(), O_WRONLY | O_APPEND);
    REQUIRE(::write(at_server, "two\n", 4) == 4);
    CHECK(eventually(unannounced_change_deadline, [&] { return read(fd, text, sizeof text) == 4; }));
    CHECK(std::string(text, 4) == "two\n");
    close(at_server);
    close(fd);
}
