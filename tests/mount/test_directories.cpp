// SPDX-License-Identifier: MIT
// Making, removing, renaming and listing directories, and names of every kind.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <map>
#include <set>

#include "mount/shared_mount.hpp"

using namespace remofile::test;

TEST_CASE("directories: make and remove") {
    same_on_both([](Transcript& here) {
        CALLED(mkdir("a", 0755));
        CALLED(mkdir("a", 0755));
        CALLED(mkdir("missing/b", 0755));
        CALLED(mkdir("a/", 0755));
        CALLED(mkdir("a/b/", 0755));
        CALLED(mkdir("a/..", 0755));
        CALLED(mkdir(".", 0755));
        write_file("a/file", "x");
        CALLED(mkdir("a/file", 0755));
        CALLED(mkdir("a/file/c", 0755));
        CALLED(rmdir("a"));
        CALLED(rmdir("a/file"));
        CALLED(rmdir("a/missing"));
        CALLED(rmdir("a/."));
        CALLED(rmdir("a/b/.."));
        CALLED(unlink("a"));
        CALLED(unlink("a/b"));
        CALLED(unlink("a/missing"));
        here.attributes("a");
        CALLED(rmdir("a/b"));
        here.attributes("a");
        CALLED(unlink("a/file"));
        CALLED(rmdir("a"));
        here.attributes("a");
        CALLED(mkdir("setgid", 02775));
        CALLED(chmod("setgid", 02775));
        CALLED(mkdir("setgid/child", 0755));
        here.attributes("setgid/child");
        here.names(".");
    });
}

TEST_CASE("directories: link counts follow subdirectories") {
    same_on_both([](Transcript& here) {
        CALLED(mkdir("a", 0755));
        CALLED(mkdir("b", 0755));
        for (const char* name : {"a/1", "a/2", "a/3"})
            here.called(name, mkdir(name, 0755));
        here.attributes("a");
        CALLED(rename("a/1", "b/1"));
        CALLED(rmdir("a/2"));
        here.attributes("a");
        here.attributes("b");
    });
}

TEST_CASE("rename: every kind onto every kind") {
    same_on_both([](Transcript& here) {
        const auto build = [](const std::string& kind, const std::string& name) {
            if (kind == "file")
                write_file(name, "content of " + name);
            else if (kind == "empty directory" || kind == "full directory")
                mkdir(name.c_str(), 0755);
            else if (kind == "symlink")
                (void)!symlink("target", name.c_str());
            else if (kind == "fifo")
                mkfifo(name.c_str(), 0644);
            if (kind == "full directory")
                write_file(name + "/inside", "x");
        };
        const char* kinds[] = {"missing", "file", "empty directory", "full directory", "symlink", "fifo"};
        int number = 0;
        for (const std::string from : kinds) {
            for (const std::string to : kinds) {
                for (const unsigned flags : {0U, unsigned{RENAME_NOREPLACE}, unsigned{RENAME_EXCHANGE}, 255U}) {
                    const std::string directory = std::to_string(number++);
                    mkdir(directory.c_str(), 0755);
                    build(from, directory + "/from");
                    build(to, directory + "/to");
                    const std::string what = from + " onto " + to + " flags " + std::to_string(flags);
                    here.called(what, renameat2(AT_FDCWD, (directory + "/from").c_str(), AT_FDCWD,
                                                (directory + "/to").c_str(), flags));
                    here.note("then", describe_tree(directory));
                }
            }
        }
    });
}

TEST_CASE("rename: into itself, to itself, across directories, and of what is open") {
    same_on_both([](Transcript& here) {
        CALLED(mkdir("a", 0755));
        CALLED(mkdir("a/b", 0755));
        CALLED(rename("a", "a/b/c"));
        CALLED(rename("a/b", "a"));
        CALLED(rename("a", "a"));
        CALLED(rename("a/.", "c"));
        CALLED(rename("a/b/..", "c"));
        write_file("a/file", "one");
        CALLED(link("a/file", "a/same"));
        CALLED(rename("a/file", "a/same"));  // the same file: nothing happens
        here.names("a");
        CALLED(rename("a/file", "moved"));
        CALLED(rename("missing", "moved"));
        CALLED(rename("moved", "missing/moved"));
        CALLED(rename("moved", "moved/below"));
        CALLED(rename("moved/", "other"));
        const int fd = OPENED(open("moved", O_RDWR));
        CALLED(rename("moved", "a/b/renamed"));
        CALLED(write(fd, "two", 3));
        write_file("replaces", "three");
        CALLED(rename("replaces", "a/b/renamed"));
        CALLED(pwrite(fd, "four", 4, 3));
        here.attributes("replaced, still open", fd);
        CALLED(close(fd));
        here.contents("a/b/renamed");
        here.contents("a/same");
        CALLED(rename("a/b", "a/c"));
        here.contents("a/c/renamed");
        here.contents("a/b/renamed");
        here.names("a");
    });
}

TEST_CASE("directories: work goes on in a renamed and in a removed working directory") {
    same_on_both([](Transcript& here) {
        CALLED(mkdir("a", 0755));
        CALLED(mkdir("a/b", 0755));
        CALLED(chdir("a/b"));
        CALLED(rename("../../a", "../../z"));
        write_file("file", "x");
        here.names("..");
        CALLED(unlink("file"));
        CALLED(rmdir("../b"));
        CALLED(open("file", O_CREAT | O_WRONLY, 0644));
        CALLED(mkdir("d", 0755));
        here.names(".");
        CALLED(access("..", F_OK));
        struct stat attributes = {};
        CALLED(stat(".", &attributes));
        here.note("removed", describe(attributes));
        CALLED(chdir(".."));
        here.names(".");
    });
}

TEST_CASE("names: every byte and length that the file system takes") {
    same_on_both([](Transcript& here) {
        std::vector<std::string> names = {std::string(255, 'x'),
                                          std::string(256, 'x'),
                                          std::string(5000, 'x'),
                                          "-rf",
                                          "--",
                                          " ",
                                          "  leading and trailing  ",
                                          "new\nline",
                                          "tab\t",
                                          "\x01\x02\x7f",
                                          "\xff\xfe not UTF-8",
                                          "\xc3\x28",
                                          "ünïcödé",
                                          "\xe2\x80\xae",
                                          "*?[]",
                                          "$(true)",
                                          "back\\slash",
                                          "'quoted'",
                                          "\"double\"",
                                          "...",
                                          "..a",
                                          ".hidden",
                                          "CON",
                                          "a:b",
                                          "#",
                                          "%2f",
                                          "~",
                                          std::string(127, '\xc3') + std::string(128, '\xa9')};
        for (int byte = 1; byte < 256; ++byte) {
            if (byte != '/' && byte != '.')
                names.push_back(std::string(1, static_cast<char>(byte)));
        }
        for (const std::string& name : names) {
            const int fd = here.opened("create", open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644));
            close(fd);
            here.attributes(name.c_str());
        }
        here.names(".");
        CALLED(mkdir("moved", 0755));
        for (const std::string& name : names)
            here.called("rename", rename(name.c_str(), ("moved/" + name).c_str()));
        here.names("moved");
        for (const std::string& name : names)
            here.called("remove", unlink(("moved/" + name).c_str()));
        here.names("moved");
    });
}

TEST_CASE("names: deep paths") {
    same_on_both([](Transcript& here) {
        // One component at a time, deeper than PATH_MAX allows to name in one go.
        for (int depth = 0; depth < 60; ++depth) {
            const std::string name = std::to_string(depth) + std::string(100, 'd');
            if (mkdir(name.c_str(), 0755) != 0 || chdir(name.c_str()) != 0) {
                here.called("depth " + std::to_string(depth), -1);
                return;
            }
        }
        write_file("bottom", "deep down");
        here.contents("bottom");
        CALLED(rename("bottom", "../up"));
        here.names("..");
        std::string path;
        for (int i = 0; i < 1500; ++i)
            path += "./";
        here.contents((path + "../up").c_str());
        here.contents((path + path + path + "../up").c_str());
    });
}

TEST_CASE("listing: twenty thousand entries, all once, with their types") {
    const auto pair = shared_mount().make_pair();
    constexpr int count = 20'000;
    for (int i = 0; i < count; ++i) {
        // Made at the server: this is about listing.
        const std::string path = pair.export_ + "/entry-" + std::to_string(i);
        if (i % 100 == 0)
            REQUIRE(mkdir(path.c_str(), 0755) == 0);
        else
            close(creat(path.c_str(), 0644));
    }
    DIR* directory = opendir(pair.mounted.c_str());
    REQUIRE(directory);
    std::map<std::string, unsigned char> found;
    int entries = 0;
    while (const dirent* entry = readdir(directory)) {
        found[entry->d_name] = entry->d_type;
        ++entries;
    }
    CHECK(entries == count + 2);
    CHECK(found.size() == count + 2);
    CHECK(found["entry-100"] == DT_DIR);
    CHECK(found["entry-101"] == DT_REG);
    rewinddir(directory);
    int again = 0;
    while (readdir(directory))
        ++again;
    CHECK(again == entries);
    closedir(directory);
}

TEST_CASE("listing: what stays is listed exactly once while other entries come and go") {
    const auto pair = shared_mount().make_pair();
    constexpr int count = 3'000;
    const auto path = [&](const char* kind, int i) { return pair.mounted + "/" + kind + std::to_string(i); };
    for (int i = 0; i < count; ++i) {
        close(creat((pair.export_ + "/stays" + std::to_string(i)).c_str(), 0644));
        close(creat((pair.export_ + "/goes" + std::to_string(i)).c_str(), 0644));
    }
    DIR* directory = opendir(pair.mounted.c_str());
    REQUIRE(directory);
    std::map<std::string, int> seen;
    int step = 0;
    errno = 0;
    while (const dirent* entry = readdir(directory)) {
        ++seen[entry->d_name];
        if (++step % 10 == 0) {
            unlink(path("goes", step / 10).c_str());
            close(creat(path("comes", step).c_str(), 0644));
        }
        errno = 0;
    }
    CHECK(errno_name(errno) == "0");
    closedir(directory);
    int wrong = 0;
    for (int i = 0; i < count; ++i)
        wrong += seen["stays" + std::to_string(i)] != 1;
    CHECK(wrong == 0);
    for (const auto& [name, times] : seen) {
        if (times > 1)
            FAIL_CHECK(name << " is listed " << times << " times");
    }
}

TEST_CASE("listing: telldir and seekdir come back to the same place") {
    const auto pair = shared_mount().make_pair();
    for (int i = 0; i < 500; ++i)
        close(creat((pair.mounted + "/" + std::to_string(i)).c_str(), 0644));
    DIR* directory = opendir(pair.mounted.c_str());
    REQUIRE(directory);
    std::vector<std::pair<long, std::string>> places;
    while (true) {
        const long place = telldir(directory);
        const dirent* entry = readdir(directory);
        if (!entry)
            break;
        places.emplace_back(place, entry->d_name);
    }
    CHECK(places.size() == 502);
    for (std::size_t i = 0; i < places.size(); i += 37) {
        const auto& [place, name] = places[places.size() - 1 - i];
        seekdir(directory, place);
        const dirent* entry = readdir(directory);
        REQUIRE(entry);
        CHECK(name == entry->d_name);
    }
    // The stream that was rewound sees what is new.
    close(creat((pair.mounted + "/new").c_str(), 0644));
    rewinddir(directory);
    std::set<std::string> names;
    while (const dirent* entry = readdir(directory))
        names.insert(entry->d_name);
    CHECK(names.contains("new"));
    closedir(directory);
}

TEST_CASE("listing: positions are small numbers, for programs of 32 bits") {
    if (testing_locally())
        return;
    const auto pair = shared_mount().make_pair();
    for (int i = 0; i < 500; ++i)
        write_file(pair.export_ + "/" + std::to_string(i), "x");
    const int fd = open(pair.mounted.c_str(), O_RDONLY | O_DIRECTORY);
    std::array<char, 4096> bytes;
    std::vector<std::pair<std::string, off64_t>> entries;
    for (int round = 0; round < 3; ++round) {
        std::set<off64_t> positions;
        entries.clear();
        long size = 0;
        while ((size = syscall(SYS_getdents64, fd, bytes.data(), bytes.size())) > 0) {
            for (long at = 0; at < size;) {
                dirent64 entry;
                std::memcpy(&entry, bytes.data() + at, offsetof(dirent64, d_name));
                entries.emplace_back(bytes.data() + at + offsetof(dirent64, d_name), entry.d_off);
                CHECK(entry.d_off > 0);
                CHECK(entry.d_off <= INT32_MAX);
                positions.insert(entry.d_off);
                at += entry.d_reclen;
            }
        }
        REQUIRE(size == 0);
        CHECK(positions.size() == entries.size());
        // What has come and gone does not send those that stay astray.
        REQUIRE(unlink((pair.export_ + "/" + std::to_string(7 + round)).c_str()) == 0);
        write_file(pair.export_ + "/new" + std::to_string(round), "x");
        REQUIRE(lseek(fd, 0, SEEK_SET) == 0);
    }
    for (std::size_t i = 0; i + 1 < entries.size(); i += 29) {
        REQUIRE(lseek(fd, entries[i].second, SEEK_SET) == entries[i].second);
        REQUIRE(syscall(SYS_getdents64, fd, bytes.data(), bytes.size()) > 0);
        CHECK(std::string(bytes.data() + offsetof(dirent64, d_name)) == entries[i + 1].first);
    }
    // A number that was never given out.
    REQUIRE(lseek(fd, 1'000'000, SEEK_SET) == 1'000'000);
    CHECK(syscall(SYS_getdents64, fd, bytes.data(), bytes.size()) == -1);
    CHECK(errno_name(errno) == "EINVAL");
    close(fd);
}

TEST_CASE("listing: a program of 32 bits without support for large files lists a directory") {
    const auto pair = shared_mount().make_pair();
    const std::string program = Scratch::instance().make_directory("bits") + "/list";
    write_file(program + ".c",
               "#include <dirent.h>\n#include <stdio.h>\n"
               "int main(int n, char **a) { DIR *d = opendir(a[1]); int c = 0; while (readdir(d)) c++; long p = "
               "telldir(d); rewinddir(d); seekdir(d, p); printf(\"%d %d\", c, readdir(d) == 0); return sizeof(long) "
               "!= 4; }\n");
    if (!is_installed("gcc") || run({.arguments = {"gcc", "-m32", "-o", program, program + ".c"}}).exit_status != 0)
        return;  // no compiler for programs of 32 bits
    for (int i = 0; i < 300; ++i)
        write_file(pair.export_ + "/" + std::to_string(i), "x");
    const Ended end = run({.arguments = {program, pair.mounted}});
    CHECK(end.exit_status == 0);
    CHECK(end.output == "302 1");
}

TEST_CASE("listing: removing all entries while they are listed, as rm -r does") {
    same_on_both([](Transcript& here) {
        for (int i = 0; i < 1000; ++i)
            close(creat(std::to_string(i).c_str(), 0644));
        DIR* directory = opendir(".");
        int removed = 0;
        while (const dirent* entry = readdir(directory))
            removed += unlinkat(dirfd(directory), entry->d_name, 0) == 0;
        closedir(directory);
        here.called("removed", removed);
        here.names(".");
    });
}

TEST_CASE("listing: of what is not a directory, or is removed") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        here.names("file");
        here.names("missing");
        CALLED(mkdir("directory", 0755));
        DIR* directory = opendir("directory");
        CALLED(rmdir("directory"));
        int entries = 0;
        while (readdir(directory))
            ++entries;
        here.called("entries of a removed directory", entries);
        CALLED(fsync(dirfd(directory)));
        closedir(directory);
        const int fd = OPENED(open(".", O_RDONLY));
        char byte;
        CALLED(read(fd, &byte, 1));
        CALLED(fsync(fd));
        CALLED(fdatasync(fd));
        CALLED(ftruncate(fd, 0));
        close(fd);
    });
}
