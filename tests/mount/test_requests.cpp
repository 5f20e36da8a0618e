// SPDX-License-Identifier: MIT
// What usual programs cost in requests. On a link with a delay each is a round trip, whatever the machine.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/patience.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

using OpenDirectory = std::unique_ptr<DIR, int (*)(DIR*)>;

OpenDirectory open_directory(const std::string& path) {
    OpenDirectory directory(opendir(path.c_str()), closedir);
    REQUIRE(directory != nullptr);
    return directory;
}

// The names that are left in an open directory.
std::vector<std::string> rest_of(DIR* directory) {
    std::vector<std::string> names;
    while (const dirent* entry = readdir(directory))
        if (std::string_view(entry->d_name) != "." && std::string_view(entry->d_name) != "..")
            names.emplace_back(entry->d_name);
    return names;
}

}  // namespace

TEST_CASE("requests: the names of a directory are read from the kernel's memory, and stay true") {
    ServerProcess server;
    MountProcess mount(server);
    constexpr int files = 500;
    // So long that one answer to the kernel does not hold all.
    const auto name_of = [](int i) { return std::string(80, 'n') + std::to_string(i); };
    for (int i = 0; i < files; ++i)
        write_file(server.directory() + "/" + name_of(i), "x");
    const auto names = [&] { return rest_of(open_directory(mount.path()).get()).size(); };
    const auto listed = [&] { return mount.counted("fuse.readdir") + mount.counted("fuse.readdirplus"); };
    CHECK(names() == files);
    auto before = listed();
    CHECK(names() == files);
    CHECK(listed() == before);
    // The kernel asks for the access time of what it had read: it comes with what there is to know of the neighbours.
    const std::string large(100'000, 'x');
    write_file(mount.path() + "/" + name_of(0), large);
    CHECK(read_file(mount.path() + "/" + name_of(0)) == large);
    before = listed();
    CHECK(names() == files);
    CHECK(listed() > before);
    // Changed from here, by a program on the server, and by another mount.
    write_file(mount.path() + "/here", "x");
    CHECK(names() == files + 1);
    write_file(server.directory() + "/there", "x");
    CHECK(eventually(Milliseconds{5000}, [&] { return names() == files + 2; }));
    MountProcess other(server);
    write_file(other.path() + "/elsewhere", "x");
    CHECK(names() == files + 3);
    std::filesystem::remove(other.path() + "/there");
    CHECK(names() == files + 2);

    // Who has it open, and reads it anew, or has read a part of it before the change.
    const OpenDirectory open = open_directory(mount.path());
    const OpenDirectory half = open_directory(mount.path());
    CHECK(rest_of(open.get()).size() == files + 2);
    std::set<std::string> read;
    while (read.size() < files / 2)
        read.insert(readdir(half.get())->d_name);
    for (int i = 0; i < files / 10; ++i) {
        const std::string name = "more" + std::to_string(i);
        write_file(other.path() + "/" + name, "x");
        std::filesystem::remove(other.path() + "/" + name_of(i * 10));
    }
    rewinddir(open.get());
    CHECK(rest_of(open.get()).size() == files + 2);
    CHECK(names() == files + 2);
    for (const std::string& name : rest_of(half.get()))
        CHECK(read.insert(name).second);
    for (int i = 0; i < files; ++i)
        if (i % 10 != 0)
            CHECK(read.contains(name_of(i)));
}

TEST_CASE("requests: ls -l asks for the listing, and for nothing of each file") {
    ServerProcess server;
    MountProcess mount(server);
    constexpr std::uint64_t files = 500;
    for (std::uint64_t i = 0; i < files; ++i)
        write_file(server.directory() + "/" + std::to_string(i), "x");
    for (int i = 0; i < 50; ++i)
        REQUIRE(symlink("target", (server.directory() + "/link" + std::to_string(i)).c_str()) == 0);
    const auto counted = [&] {
        std::map<std::string, std::uint64_t> counters;
        for (const char* name : {"client.requests.lookup", "client.requests.getxattr", "client.requests.getattr",
                                 "client.requests.list", "client.requests.readlink", "fuse.lookup", "fuse.getattr"})
            counters[name] = mount.counted(name);
        return counters;
    };
    auto before = counted();
    const Ended listed = run({.arguments = {"ls", "-l", mount.path()}});
    REQUIRE(listed.exit_status == 0);
    auto after = counted();
    const auto asked = [&](const std::string& request) { return after[request] - before[request]; };
    // The listing has brought attributes, where symlinks lead, and that there are no ACLs.
    for (const char* request : {"lookup", "getxattr", "getattr", "readlink"})
        CHECK(asked(std::string("client.requests.") + request) <= 10);
    CHECK(asked("fuse.getattr") <= files / 10);

    // The kernel keeps names and attributes meanwhile.
    before = counted();
    REQUIRE(run({.arguments = {"find", mount.path(), "-ls"}}).exit_status == 0);
    after = counted();
    CHECK(asked("client.requests.lookup") == 0);
    CHECK(asked("client.requests.getattr") == 0);
    CHECK(asked("client.requests.list") == 0);
    CHECK(asked("fuse.lookup") <= 10);
    CHECK(asked("fuse.getattr") <= 10);
}

TEST_CASE("requests: a directory of many files costs what few do") {
    ServerProcess server;
    MountProcess mount(server);
    constexpr int files = 3'000;  // three times what one answer holds
    for (int i = 0; i < files; ++i)
        write_file(server.directory() + "/a file of many " + std::to_string(i), "x");
    const auto round_trips_of = [&](std::vector<std::string> arguments) {
        const std::uint64_t before = mount.counted("client.round_trips");
        REQUIRE(run({.arguments = std::move(arguments)}).exit_status == 0);
        return mount.counted("client.round_trips") - before;
    };
    CHECK(round_trips_of({"ls", "-l", mount.path()}) <= 20);
    CHECK(round_trips_of({"ls", "-l", mount.path()}) <= 5);
    CHECK(round_trips_of({"find", mount.path(), "-size", "+1"}) <= 5);
    CHECK(run({.arguments = {"ls", mount.path()}}).output == run({.arguments = {"ls", server.directory()}}).output);
    // Nobody waits for a removal: that takes names that are known.
    const std::uint64_t behind = mount.counted("changes.behind");
    CHECK(run({.arguments = {"sh", "-c", "rm -f '" + mount.path() + "'/a*"}}).exit_status == 0);
    CHECK(mount.counted("changes.behind") - behind >= files * 9 / 10);
    carried_out(mount.path());
    CHECK(std::filesystem::is_empty(server.directory()));
}

TEST_CASE("requests: a small file is read by the request that opens it") {
    ServerProcess server;
    MountProcess mount(server);
    constexpr int files = 200;
    const auto name_of = [](const std::string& directory, int i) { return directory + "/" + std::to_string(i); };
    // Of no, one and several pages, and whole ones.
    const auto content_of = [](int i) {
        return std::string(static_cast<std::size_t>(i % 5) * 2048, static_cast<char>('a' + i % 26));
    };
    for (int i = 0; i < files; ++i)
        write_file(name_of(server.directory(), i), content_of(i));
    const auto read_all = [&] {
        for (int i = 0; i < files; ++i)
            CHECK(read_file(name_of(mount.path(), i)) == content_of(i));
    };
    read_all();
    CHECK(mount.counted("fuse.read") <= files / 10);
    const auto asked = mount.counted("fuse.getattr");
    read_all();
    CHECK(mount.counted("fuse.read") <= files / 10);
    CHECK(mount.counted("fuse.getattr") <= asked + files / 10);
    // Of a file that is open already, and of one that others have changed, too, what is read is true.
    const std::string path = name_of(mount.path(), 3);
    const remofile::UniqueFd open(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(open);
    REQUIRE(::pwrite(open.get(), "changed", 7, 4096) == 7);
    std::string changed = content_of(3);
    changed.replace(4096, 7, "changed");
    CHECK(read_file(path) == changed);
    MountProcess other(server);
    for (const std::string& content : {std::string("shorter"), content_of(3), content_of(4)}) {
        write_file(name_of(other.path(), 3), content);
        CHECK(read_file(path) == content);
    }
}
