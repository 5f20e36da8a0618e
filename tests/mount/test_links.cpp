// SPDX-License-Identifier: MIT
// Hard links, symlinks, special files, inode numbers, and files that live on without a name.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <map>
#include <string_view>

#include "mount/shared_mount.hpp"

using namespace remofile::test;

TEST_CASE("links: hard links share everything") {
    same_on_both([](Transcript& here) {
        write_file("one", "content");
        CALLED(mkdir("directory", 0755));
        CALLED(symlink("one", "symlink"));
        CALLED(link("one", "two"));
        CALLED(link("one", "two"));
        CALLED(link("missing", "three"));
        CALLED(link("directory", "three"));
        CALLED(link("symlink", "directory/of-symlink"));
        CALLED(linkat(AT_FDCWD, "symlink", AT_FDCWD, "directory/followed", AT_SYMLINK_FOLLOW));
        CALLED(link("one", "missing/three"));
        CALLED(link("one", "one/three"));
        here.attributes("one");
        here.attributes("two");
        here.attributes("symlink");
        CALLED(chmod("two", 0600));
        const int fd = OPENED(open("two", O_WRONLY | O_APPEND));
        CALLED(write(fd, " and more", 9));
        close(fd);
        here.contents("one");
        here.attributes("one");
        struct stat one = {}, two = {}, followed = {};
        CALLED(stat("one", &one));
        CALLED(stat("two", &two));
        CALLED(stat("directory/followed", &followed));
        here.expect("one inode", one.st_ino == two.st_ino && one.st_ino == followed.st_ino);
        CALLED(unlink("one"));
        here.attributes("two");
        here.contents("two");
        CALLED(unlink("two"));
        here.attributes("directory/followed");
        here.attributes("two");
    });
}

TEST_CASE("links: symlinks keep their text") {
    same_on_both([](Transcript& here) {
        const std::string longest(PATH_MAX - 1, 't'), too_long(PATH_MAX, 't');
        int number = 0;
        for (const std::string& target :
             std::vector<std::string>{"file", "../outside", "/etc/passwd", "a//b/./../c", " ", "new\nline", "\xff\xfe",
                                      longest, too_long, ""}) {
            const std::string name = "link" + std::to_string(number++);
            here.called(name, symlink(target.c_str(), name.c_str()));
            here.attributes(name.c_str());
            std::array<char, PATH_MAX + 1> text;
            const ssize_t size = readlink(name.c_str(), text.data(), text.size());
            here.called("size", size);
            if (size > 0)
                here.note("target", abbreviated({text.data(), static_cast<std::size_t>(size)}));
            here.called("short buffer", readlink(name.c_str(), text.data(), 3));
        }
        CALLED(symlink("x", "link0"));
        CALLED(symlink("x", "missing/link"));
        write_file("file", "content");
        char byte;
        CALLED(readlink("file", &byte, 1));
        CALLED(readlink("missing", &byte, 1));
        struct stat attributes = {};
        CALLED(stat("link0", &attributes));
        here.note("followed", describe(attributes));
        CALLED(stat("link1", &attributes));
        CALLED(mkdir("d", 0755));
        CALLED(symlink("d", "to-directory"));
        write_file("to-directory/through", "x");
        here.names("d");
        CALLED(rmdir("to-directory"));
        CALLED(unlink("to-directory/"));
        CALLED(unlink("to-directory"));
        CALLED(symlink("b", "a"));
        CALLED(symlink("a", "b"));
        CALLED(stat("a", &attributes));
        CALLED(open("a", O_RDONLY));
    });
}

TEST_CASE("links: fifos, sockets and devices") {
    same_on_both([](Transcript& here) {
        umask(027);
        CALLED(mknod("fifo", S_IFIFO | 0666, 0));
        CALLED(mknod("socket", S_IFSOCK | 0777, 0));
        CALLED(mknod("file", S_IFREG | 0666, 0));
        CALLED(mknod("zero", 0640, 0));
        CALLED(mknod("directory", S_IFDIR | 0755, 0));
        CALLED(mknod("symlink", S_IFLNK | 0755, 0));
        CALLED(mknod("fifo", S_IFIFO | 0666, 0));
        CALLED(mknod("character", S_IFCHR | 0600, makedev(1, 3)));
        CALLED(mknod("block", S_IFBLK | 0600, makedev(259, 70'000)));
        for (const char* name : {"fifo", "socket", "file", "zero", "directory", "symlink", "character", "block"})
            here.attributes(name);
        CALLED(open("socket", O_RDONLY));
        CALLED(open("fifo", O_WRONLY | O_NONBLOCK));
        CALLED(rename("fifo", "renamed"));
        here.attributes("renamed");
        CALLED(unlink("renamed"));
        here.names(".");
    });
}

TEST_CASE("links: a fifo carries bytes between two processes") {
    same_on_both([](Transcript& here) {
        CALLED(mkfifo("fifo", 0600));
        Child writer = Child::fork([] {
            const int fd = open("fifo", O_WRONLY);
            return write(fd, "through the fifo", 16) == 16 ? 0 : 1;
        });
        here.note("reader", abbreviated([] {
                      const int fd = open("fifo", O_RDONLY);
                      std::array<char, 100> buffer;
                      const ssize_t size = read(fd, buffer.data(), buffer.size());
                      close(fd);
                      return std::string(buffer.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
                  }()));
        here.called("writer", writer.wait(Milliseconds{10'000}).exit_status);
    });
}

TEST_CASE("links: a local socket can be bound on the mount and connected to") {
    same_on_both([](Transcript& here) {
        sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
        const auto* generic = reinterpret_cast<const sockaddr*>(&address);
        const int server = OPENED(socket(AF_UNIX, SOCK_STREAM, 0));
        CALLED(bind(server, generic, sizeof(address)));
        CALLED(listen(server, 1));
        here.attributes("socket");
        const int client = OPENED(socket(AF_UNIX, SOCK_STREAM, 0));
        CALLED(connect(client, generic, sizeof(address)));
        CALLED(bind(client, generic, sizeof(address)));
        close(server);
        close(client);
        CALLED(unlink("socket"));
    });
}

TEST_CASE("links: an unlinked file works on while it is open, and leaves no litter") {
    const auto pair = shared_mount().make_pair();
    const std::string report = shared_mount().compare([](Transcript& here) {
        write_file("file", "0123456789");
        const int fd = OPENED(open("file", O_RDWR));
        const int second = OPENED(open("file", O_RDONLY));
        CALLED(unlink("file"));
        here.names(".");
        here.attributes("unlinked", fd);
        CALLED(pwrite(fd, "abc", 3, 8));
        CALLED(ftruncate(fd, 20));
        CALLED(fchmod(fd, 0600));
        CALLED(fsync(fd));
        here.attributes("unlinked", fd);
        here.attributes("second", second);
        std::array<char, 30> buffer;
        const ssize_t size = pread(second, buffer.data(), buffer.size(), 0);
        here.note("read", abbreviated({buffer.data(), static_cast<std::size_t>(size)}));
        const int fresh = OPENED(open("file", O_RDWR | O_CREAT | O_EXCL, 0644));  // another file of that name
        CALLED(write(fresh, "new", 3));
        CALLED(pread(fd, buffer.data(), 5, 0));
        here.note("old", abbreviated({buffer.data(), 5}));
        here.names(".");
        CALLED(close(fd));
        CALLED(close(second));
        CALLED(close(fresh));
        here.contents("file");
        here.names(".");
    });
    INFO(report);
    CHECK(report.empty());

    // At the server too.
    const std::string path = pair.mounted + "/open";
    write_file(path, "x");
    const int fd = open(path.c_str(), O_RDWR);
    CHECK(unlink(path.c_str()) == 0);
    CHECK(describe_tree(pair.export_) == "");
    CHECK(write(fd, "y", 1) == 1);
    CHECK(close(fd) == 0);
    CHECK(describe_tree(pair.export_) == "");
}

TEST_CASE("links: what is held without having been opened at the server goes on telling its attributes") {
    const auto pair = shared_mount().make_pair();
    for (const char* name : {"fifo", "link", "replaced"}) {
        REQUIRE((std::string_view(name) == "link" ? symlink("target", (pair.export_ + "/link").c_str())
                                                  : mkfifo((pair.export_ + "/" + name).c_str(), 0640)) == 0);
    }
    // Known by the listing alone.
    for (const auto& entry : std::filesystem::directory_iterator(pair.mounted))
        CHECK(std::filesystem::exists(std::filesystem::symlink_status(entry)));
    const auto at = [&](const char* name) { return pair.mounted + "/" + name; };
    const remofile::UniqueFd fifo(open(at("fifo").c_str(), O_RDWR | O_CLOEXEC));
    const remofile::UniqueFd link(open(at("link").c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    const remofile::UniqueFd replaced(open(at("replaced").c_str(), O_RDWR | O_CLOEXEC));
    CHECK(unlink(at("fifo").c_str()) == 0);
    CHECK(unlink(at("link").c_str()) == 0);
    write_file(at("new"), "new");
    CHECK(rename(at("new").c_str(), at("replaced").c_str()) == 0);
    for (const auto* held : {&fifo, &link, &replaced}) {
        struct stat attributes = {};
        REQUIRE(fstat(held->get(), &attributes) == 0);
        CHECK(attributes.st_nlink == 0);
        CHECK(S_ISLNK(attributes.st_mode) == (held == &link));
    }
    CHECK(read_file(at("replaced")) == "new");
}

TEST_CASE("links: an open file that another replaces stays readable") {
    same_on_both([](Transcript& here) {
        write_file("file", "old");
        write_file("next", "new content");
        const int fd = OPENED(open("file", O_RDWR));
        CALLED(rename("next", "file"));
        here.contents("file");
        char bytes[10] = {};
        CALLED(pread(fd, bytes, 10, 0));
        here.note("old", bytes);
        here.attributes("old", fd);
        CALLED(pwrite(fd, "more", 4, 3));
        CALLED(close(fd));
        here.contents("file");
    });
}

TEST_CASE("links: an unlinked file is reopened through /proc") {
    same_on_both([](Transcript& here) {
        write_file("file", "content");
        CALLED(link("file", "second"));
        const int fd = OPENED(open("file", O_RDONLY));
        CALLED(unlink("file"));
        const std::string self = "/proc/self/fd/" + std::to_string(fd);
        const int again = here.opened("again", open(self.c_str(), O_RDWR));
        CALLED(write(again, "C", 1));
        close(again);
        close(fd);
        here.contents("second");
    });
}

TEST_CASE("links: inode numbers are the server's, the same for every name and after a remount") {
    auto& shared = shared_mount();
    const auto pair = shared.make_pair();
    write_file(pair.mounted + "/a", "x");
    REQUIRE(link((pair.mounted + "/a").c_str(), (pair.mounted + "/b").c_str()) == 0);
    REQUIRE(mkdir((pair.mounted + "/d").c_str(), 0755) == 0);
    REQUIRE(symlink("a", (pair.mounted + "/s").c_str()) == 0);
    const auto inodes = [&pair] {
        std::map<std::string, ino_t> found;
        for (const char* name : {"", "/a", "/b", "/d", "/s"}) {
            struct stat attributes = {};
            REQUIRE(lstat((pair.mounted + name).c_str(), &attributes) == 0);
            found[name] = attributes.st_ino;
        }
        return found;
    };
    const auto before = inodes();
    CHECK(before.at("/a") == before.at("/b"));
    CHECK(before.at("/a") != before.at("/d"));

    // A listing says the same as stat.
    DIR* directory = opendir(pair.mounted.c_str());
    REQUIRE(directory);
    while (const dirent* entry = readdir(directory)) {
        const auto found = before.find("/" + std::string(entry->d_name));
        if (found != before.end())
            CHECK(entry->d_ino == found->second);
    }
    closedir(directory);

    shared.remount();
    CHECK(inodes() == before);
    CHECK(rename((pair.mounted + "/a").c_str(), (pair.mounted + "/d/moved").c_str()) == 0);
    struct stat moved = {};
    REQUIRE(lstat((pair.mounted + "/d/moved").c_str(), &moved) == 0);
    CHECK(moved.st_ino == before.at("/a"));
}
