// SPDX-License-Identifier: MIT
// remofile put and get: trees arrive as they were, and interrupted transfers go on where they stopped.
// REMOFILE_TEST_INTERRUPTIONS=100 interrupts them so often.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch.hpp>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <set>

#include "base/log.hpp"
#include "harness/mount_process.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

void make_tree(const std::string& directory) {
    fs::create_directories(directory + "/sub/deep");
    fs::create_directories(directory + "/empty");
    write_file(directory + "/small", "small");
    write_file(directory + "/none", "");
    write_file(directory + "/sub/large", random_bytes(3 * mebibyte + 12'345));
    for (int i = 0; i < 150; ++i)
        write_file(fmt::format("{}/sub/deep/f{}", directory, i), std::string(static_cast<std::size_t>(i) * 37, 'y'));
    write_file(directory + "/sub/\xff\n odd \x01name", "odd");
    fs::create_symlink("../small", directory + "/sub/link");
    fs::create_symlink("/nowhere", directory + "/dangling");
    REQUIRE(::chmod((directory + "/small").c_str(), 0751) == 0);
    REQUIRE(::chmod((directory + "/sub/large").c_str(), 0400) == 0);
    set_mtime(directory + "/small", 1'000'000'000, 123'456'789);
    set_mtime(directory + "/sub/deep/f7", 86'400, 1);
    set_mtime(directory + "/sub/deep", 1'234'567'890, 42);
    REQUIRE(::chmod((directory + "/empty").c_str(), 0500) == 0);
    set_mtime(directory + "/empty", 500'000'000, 0);
}

std::vector<std::string> partials_in(const std::string& directory) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(directory)) {
        if (entry.path().native().ends_with(".remofile-partial"))
            found.push_back(entry.path());
    }
    return found;
}

std::uint64_t size_of_partial(const std::string& directory) {
    const auto partials = partials_in(directory);
    std::error_code gone;
    const auto size = partials.empty() ? 0 : fs::file_size(partials.front(), gone);
    return gone ? 0 : size;
}

}  // namespace

TEST_CASE("a tree is sent and fetched as it is") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("tree");
    make_tree(home + "/tree");
    const std::string tree = described(home + "/tree");

    const Ended sent = succeeds(server, {"put", home + "/tree", source_of(server, "/")});
    CHECK_THAT(sent.output, ContainsSubstring("files sent"));
    CHECK(described(server.directory() + "/tree") == tree);
    succeeds(server, {"get", source_of(server, "/tree"), home + "/back"});
    CHECK(described(home + "/back") == tree);

    // Again: nothing but directories and links is touched.
    const Ended again = succeeds(server, {"put", "--json", home + "/tree", source_of(server, "/")});
    CHECK_THAT(again.output, ContainsSubstring("\"unchanged\": 154"));
    CHECK_THAT(again.output, ContainsSubstring("\"bytes_sent\": 0"));
    const Ended back = succeeds(server, {"get", "--json", source_of(server, "/tree"), home});
    CHECK_THAT(back.output, ContainsSubstring("\"bytes_fetched\": 0"));
    CHECK(described(home + "/tree") == tree);

    // One file differs on either side.
    write_file(home + "/tree/small", "other");
    CHECK_THAT(succeeds(server, {"put", "--json", home + "/tree", source_of(server, "/")}).output,
               ContainsSubstring("\"bytes_sent\": 5"));
    CHECK(read_file(server.directory() + "/tree/small") == "other");
    CHECK_THAT(succeeds(server, {"get", "--json", source_of(server, "/tree"), home + "/back"}).output,
               ContainsSubstring("\"bytes\": "));
    CHECK(read_file(home + "/back/tree/small") == "other");
}

TEST_CASE("a tree may have more directories than a process may have open files") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("many");
    for (int i = 0; i < 200; ++i) {
        fs::create_directories(fmt::format("{}/tree/d{}/e", home, i));
        write_file(fmt::format("{}/tree/d{}/f", home, i), "x");
        set_mtime(fmt::format("{}/tree/d{}", home, i), 1'000'000'000 + i, 0);
    }
    const std::string limited = fmt::format("ulimit -n 100; export REMOFILE_CONFIG_DIR={}; exec {} ",
                                            server.config_dir(), program_from_environment("REMOFILE"));
    const Ended sent = run_script(home, limited + "put tree " + source_of(server, "/"));
    INFO(sent.to_string());
    CHECK(sent.exit_status == 0);
    const Ended fetched = run_script(home, limited + "get " + source_of(server, "/tree") + " back");
    INFO(fetched.to_string());
    CHECK(fetched.exit_status == 0);
    CHECK(described(home + "/back") == described(home + "/tree"));
}

TEST_CASE("files go where a person expects them") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("where");
    write_file(home + "/a", "A");
    write_file(home + "/b", "B");
    fs::create_directory(server.directory() + "/d");
    succeeds(server, {"upload", home + "/a", source_of(server, "/d")});
    CHECK(read_file(server.directory() + "/d/a") == "A");
    succeeds(server, {"put", home + "/a", source_of(server, "/d/other")});
    CHECK(read_file(server.directory() + "/d/other") == "A");
    succeeds(server, {"put", home + "/a", home + "/b", source_of(server, "/d/")});
    CHECK(read_file(server.directory() + "/d/b") == "B");
    succeeds(server, {"put", home + "/b", source_of(server, "/d/other")});
    CHECK(read_file(server.directory() + "/d/other") == "B");

    fs::create_directory(home + "/here");
    succeeds(server, {"download", source_of(server, "/d/a"), source_of(server, "/d/b"), home + "/here"});
    CHECK(read_file(home + "/here/b") == "B");
    succeeds(server, {"get", source_of(server, "/"), home + "/here"});
    CHECK(read_file(home + "/here/d/other") == "B");

    CHECK(remofile(server, {"put", home + "/a", home + "/b", source_of(server, "/none")}).exit_status == 7);
    CHECK(remofile(server, {"put", home + "/a", source_of(server, "/none/x")}).exit_status == 7);
    CHECK(remofile(server, {"put", home + "/none", source_of(server, "/d")}).exit_status == 7);
    CHECK(remofile(server, {"get", source_of(server, "/d/a"), home + "/none/x"}).exit_status == 7);
    CHECK(remofile(server, {"get", source_of(server, "/d/none"), home + "/here"}).exit_status == 7);
    CHECK(remofile(server, {"put", home + "/a"}).exit_status == 1);
    // A directory where a file is to go, and the other way round.
    CHECK(remofile(server, {"get", source_of(server, "/d/a"), home + "/here/d/a/"}).exit_status == 7);
    write_file(home + "/d", "a file");
    CHECK(remofile(server, {"get", source_of(server, "/d"), home}).exit_status != 0);
    CHECK(read_file(home + "/d") == "a file");
    CHECK(partials_in(home + "/here").empty());
    CHECK(partials_in(server.directory() + "/d").empty());
}

TEST_CASE("holes stay holes in both directions") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("sparse");
    const std::string file = home + "/sparse";
    write_file(file, random_bytes(mebibyte));
    REQUIRE(::truncate(file.c_str(), 200 * mebibyte) == 0);
    {
        const UniqueFd fd(::open(file.c_str(), O_WRONLY));
        REQUIRE(::pwrite(fd.get(), "end of data", 11, 100 * mebibyte) == 11);
    }
    struct stat original {};
    REQUIRE(::stat(file.c_str(), &original) == 0);
    if (original.st_blocks > 8192)
        return;  // a file system without holes
    const auto is_alike = [&](const std::string& copy) {
        struct stat status {};
        REQUIRE(::stat(copy.c_str(), &status) == 0);
        CHECK(status.st_size == original.st_size);
        CHECK(status.st_blocks <= original.st_blocks + 4096);
        const Ended compared = run({.arguments = {"cmp", file, copy}});
        CHECK(compared.exit_status == 0);
    };
    succeeds(server, {"put", file, source_of(server, "/")});
    is_alike(server.directory() + "/sparse");
    succeeds(server, {"get", source_of(server, "/sparse"), home + "/back"});
    is_alike(home + "/back");
}

TEST_CASE("owners, set-id bits and extended attributes go along with -a only") {
    if (::geteuid() != 0)
        return;
    const ServerProcess server(ServerProcess::Options{.arguments = {"--identity=client", "--allow-root"}});
    const std::string home = Scratch::instance().make_directory("archive");
    write_file(home + "/f", "content");
    REQUIRE(::chown((home + "/f").c_str(), 1234, 5678) == 0);
    REQUIRE(::chmod((home + "/f").c_str(), 06755) == 0);
    const bool has_xattrs = ::setxattr((home + "/f").c_str(), "user.colour", "blue", 4, 0) == 0;
    const auto status_of = [](const std::string& path) {
        struct stat status {};
        REQUIRE(::stat(path.c_str(), &status) == 0);
        return status;
    };
    succeeds(server, {"put", home + "/f", source_of(server, "/plain")});
    CHECK((status_of(server.directory() + "/plain").st_mode & 07777) == 0755);
    succeeds(server, {"put", "-a", home + "/f", source_of(server, "/archived")});
    struct stat there = status_of(server.directory() + "/archived");
    CHECK(there.st_uid == 1234);
    CHECK(there.st_gid == 5678);
    CHECK((there.st_mode & 07777) == 06755);
    succeeds(server, {"get", "-a", source_of(server, "/archived"), home + "/back"});
    there = status_of(home + "/back");
    CHECK(there.st_uid == 1234);
    CHECK((there.st_mode & 07777) == 06755);
    if (!has_xattrs)
        return;
    std::string value(16, '\0');
    CHECK(::getxattr((server.directory() + "/archived").c_str(), "user.colour", value.data(), value.size()) == 4);
    CHECK(::getxattr((home + "/back").c_str(), "user.colour", value.data(), value.size()) == 4);
    CHECK(value.starts_with("blue"));
}

// Directories, links and files with everything that --archive keeps. False if the file system cannot hold it.
bool make_archive(const std::string& directory) {
    fs::create_directories(directory + "/d/sub");
    write_file(directory + "/d/f", "content");
    write_file(directory + "/d/plain", "content");
    fs::create_symlink("f", directory + "/d/link");
    const auto own = [](const std::string& path, uid_t user, gid_t group) {
        REQUIRE(::lchown(path.c_str(), user, group) == 0);
    };
    own(directory, 1002, 1003);
    own(directory + "/d", 1234, 5678);
    own(directory + "/d/f", 1234, 5678);
    own(directory + "/d/link", 4321, 8765);
    REQUIRE(::chmod((directory + "/d").c_str(), 02751) == 0);
    // The default ACL user::rwx,user:77:rwx,group::r-x,mask::rwx,other::---, as the kernel has it.
    const std::uint8_t acl[] = {2, 0,  0,    0,    1,    0,    7,    0, 0xff, 0xff, 0xff, 0xff, 2,    0,    7,
                                0, 77, 0,    0,    0,    4,    0,    5, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
                                7, 0,  0xff, 0xff, 0xff, 0xff, 0x20, 0, 0,    0,    0xff, 0xff, 0xff, 0xff};
    for (const std::string name : {"system.posix_acl_default", "system.posix_acl_access"}) {
        if (::setxattr((directory + "/d").c_str(), name.c_str(), acl, sizeof(acl), 0) != 0)
            return false;
    }
    if (::setxattr((directory + "/d").c_str(), "user.colour", "blue", 4, 0) != 0 ||
        ::setxattr((directory + "/d/f").c_str(), "user.colour", "red", 3, 0) != 0 ||
        ::setxattr((directory + "/d/f").c_str(), "system.posix_acl_access", acl, sizeof(acl), 0) != 0 ||
        ::lsetxattr((directory + "/d/link").c_str(), "trusted.colour", "green", 5, 0) != 0)
        return false;
    set_mtime(directory + "/d/link", 981'158'400, 7);
    set_mtime(directory + "/d", 981'158'401, 8);
    REQUIRE(::chmod(directory.c_str(), 0710) == 0);
    set_mtime(directory, 981'158'402, 9);
    return true;
}

TEST_CASE("all of directories and links goes along with -a too") {
    if (::geteuid() != 0)
        return;
    const ServerProcess server(ServerProcess::Options{.arguments = {"--identity=client", "--allow-root"}});
    const std::string home = Scratch::instance().make_directory("archive");
    fs::create_directory(home + "/tree");
    if (!make_archive(home + "/tree"))
        return;
    const std::string expected = attributes_below(home + "/tree");
    succeeds(server, {"put", "-a", home + "/tree", source_of(server, "/")});
    CHECK(attributes_below(server.directory() + "/tree") == expected);
    fs::create_directory(home + "/back");
    succeeds(server, {"get", "-a", source_of(server, "/tree"), home + "/back"});
    CHECK(attributes_below(home + "/back/tree") == expected);
    succeeds(server, {"sync", "-a", home + "/tree", source_of(server, "/synchronised")});
    CHECK(attributes_below(server.directory() + "/synchronised") == expected);
    succeeds(server, {"sync", "-a", source_of(server, "/synchronised"), home + "/other"});
    CHECK(attributes_below(home + "/other") == expected);
    // What a directory does not have any more goes; what a file has inherited is not kept.
    ::removexattr((home + "/tree/d").c_str(), "user.colour");
    ::removexattr((home + "/tree/d").c_str(), "system.posix_acl_default");
    write_file(home + "/tree/d/plain", "other");
    succeeds(server, {"put", "-a", home + "/tree", source_of(server, "/")});
    CHECK(attributes_below(server.directory() + "/tree") == attributes_below(home + "/tree"));
    succeeds(server, {"get", "-a", source_of(server, "/tree"), home + "/back"});
    CHECK(attributes_below(home + "/back/tree") == attributes_below(home + "/tree"));
}

TEST_CASE("links keep their times") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("links");
    fs::create_directory(home + "/tree");
    fs::create_symlink("nowhere", home + "/tree/link");
    set_mtime(home + "/tree/link", 981'158'400, 7);
    succeeds(server, {"put", home + "/tree", source_of(server, "/")});
    succeeds(server, {"get", source_of(server, "/tree"), home + "/back"});
    for (const std::string& copy : {server.directory() + "/tree/link", home + "/back/link"}) {
        struct stat status {};
        REQUIRE(::lstat(copy.c_str(), &status) == 0);
        CHECK(status.st_mtim.tv_sec == 981'158'400);
        CHECK(status.st_mtim.tv_nsec == 7);
    }
}

TEST_CASE("read-only directories can be brought up to date") {
    // Root may write to them anyway.
    const Credentials user = ::geteuid() == 0 ? Credentials{.uid = 20'001, .gid = 20'001}
                                              : Credentials{.uid = ::geteuid(), .gid = ::getegid()};
    const ServerProcess server(::geteuid() == 0 ? ServerProcess::Options{.as = user} : ServerProcess::Options{});
    const std::string home = Scratch::instance().make_directory("readonly");
    const auto give_away = [&] {
        for (const auto& entry : fs::recursive_directory_iterator(home))
            (void)::lchown(entry.path().c_str(), user.uid, user.gid);
        (void)::chown(home.c_str(), user.uid, user.gid);
    };
    const auto close = [&](bool closed) {
        for (const std::string directory : {"/tree/d", "/tree/d/deep"})
            REQUIRE(::chmod((home + directory).c_str(), closed ? 0555 : 0755) == 0);
    };
    const auto runs = [&](std::vector<std::string> arguments) {
        const Ended ended = ::geteuid() == 0 ? remofile_as(user, server, arguments) : remofile(server, arguments);
        INFO(ended.to_string());
        CHECK(ended.exit_status == 0);
    };
    const auto all = [&] {
        close(true);
        give_away();
        runs({"put", "-q", home + "/tree", source_of(server, "/")});
        CHECK(described(server.directory() + "/tree") == described(home + "/tree"));
        runs({"get", "-q", source_of(server, "/tree"), home + "/back"});
        CHECK(described(home + "/back/tree") == described(home + "/tree"));
        runs({"sync", "-q", "--delete", home + "/tree", source_of(server, "/one-way")});
        CHECK(described(server.directory() + "/one-way") == described(home + "/tree"));
        runs({"sync", "-q", "--delete", source_of(server, "/one-way"), home + "/fetched"});
        CHECK(described(home + "/fetched") == described(home + "/tree"));
        runs({"sync", "-q", "--both", "--delete", home + "/tree", source_of(server, "/both")});
        runs({"sync", "-q", "--both", "--delete", home + "/third", source_of(server, "/both")});
        for (const std::string& copy : {server.directory() + "/both", home + "/third"}) {
            CHECK(read_file(copy + "/d/changed") == read_file(home + "/tree/d/changed"));
            CHECK(fs::exists(copy + "/d/deep/new") == fs::exists(home + "/tree/d/deep/new"));
            CHECK(fs::exists(copy + "/d/gone") == fs::exists(home + "/tree/d/gone"));
            CHECK(fs::status(copy + "/d").permissions() == fs::perms{0555});
            CHECK(fs::status(copy + "/d/deep").permissions() == fs::perms{0555});
        }
        close(false);
    };
    fs::create_directories(home + "/tree/d/deep");
    fs::create_directory(home + "/back");
    write_file(home + "/tree/d/changed", "once");
    write_file(home + "/tree/d/gone", "x");
    all();
    fs::remove(server.directory() + "/tree/d/gone");
    fs::remove(home + "/back/tree/d/gone");
    fs::remove(home + "/tree/d/gone");
    write_file(home + "/tree/d/changed", "twice");
    write_file(home + "/tree/d/deep/new", "x");
    all();
}

// Names below a directory.
std::set<std::string> names_below(const std::string& directory) {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(directory))
        names.insert(fs::relative(entry.path(), directory));
    return names;
}

TEST_CASE("a directory is not copied into itself") {
    const bool mounted = GENERATE(false, true);
    INFO("by way of a mount: " << mounted);
    const ServerProcess server;
    const std::string& files = server.directory();
    std::optional<MountProcess> mount;
    if (mounted)
        mount.emplace(
            MountProcess::Options{.source = source_of(server, "/"), .config_dir = server.config_dir(), .options = {}});
    const std::string local = mounted ? mount->path() : files;
    const auto refused = [&](const std::vector<std::string>& arguments) {
        const Ended ended = remofile(server, arguments);
        INFO(ended.to_string());
        CHECK(ended.exit_status == 1);
        CHECK_THAT(ended.errors, ContainsSubstring("into itself"));
    };
    fs::create_directories(files + "/d/sub");
    write_file(files + "/d/f", "content");
    write_file(files + "/d/sub/g", "content");
    const std::set<std::string> whole = {"d",       "d/f",       "d/sub",       "d/sub/g",
                                         "d/sub/d", "d/sub/d/f", "d/sub/d/sub", "d/sub/d/sub/g"};
    // Twice: the destination may be there already.
    for (int i = 0; i < 2; ++i) {
        refused({"put", local + "/d", source_of(server, "/d/sub")});
        CHECK(names_below(files) == whole);
    }
    fs::remove_all(files + "/d/sub/d");
    for (int i = 0; i < 2; ++i) {
        refused({"get", source_of(server, "/d"), local + "/d/sub"});
        CHECK(names_below(files) == whole);
    }
    fs::remove_all(files + "/d/sub/d");
    refused({"get", source_of(server, "/"), local + "/d/sub"});
    CHECK(names_below(files + "/d/sub") == std::set<std::string>{"g", "d", "d/f"});
    fs::remove_all(files + "/d/sub/d");
    // Onto itself.
    refused({"put", local + "/d", source_of(server, "/")});
    refused({"get", source_of(server, "/d"), local});
    refused({"get", source_of(server, "/"), local});
    // And made alike with what lies in it, in any direction.
    for (const std::string options : {"-q", "--both"}) {
        refused({"sync", options, local + "/d", source_of(server, "/d/sub")});
        refused({"sync", options, source_of(server, "/d"), local + "/d/sub"});
    }
    CHECK(names_below(files + "/d/sub") == std::set<std::string>{"f", "g"});
    const Ended same = remofile(server, {"sync", local + "/d", source_of(server, "/d")});
    INFO(same.to_string());
    CHECK(same.exit_status == 1);
    CHECK_THAT(same.errors, ContainsSubstring("itself"));
    CHECK(partials_in(files + "/d").empty());
}

TEST_CASE("what is fetched stays below the destination") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("below");
    fs::create_directories(server.directory() + "/d/sub");
    write_file(server.directory() + "/d/sub/f", "evil");
    fs::create_directory(home + "/outside");
    fs::create_directory(home + "/d");
    fs::create_directory_symlink("../outside", home + "/d/sub");
    const Ended ended = remofile(server, {"get", source_of(server, "/d"), home});
    INFO(ended.to_string());
    CHECK(ended.exit_status != 0);
    CHECK_THAT(ended.errors, ContainsSubstring("/d/sub"));
    CHECK(fs::is_empty(home + "/outside"));
}

// How a transfer is ended before its time.
enum class Interruption { kill, cut };

TEST_CASE("an interrupted transfer goes on where it stopped") {
    constexpr std::uint64_t size = 64 * mebibyte;
    constexpr std::uint64_t chunk = mebibyte;
    const bool sending = GENERATE(true, false);
    const auto interruption = GENERATE(Interruption::kill, Interruption::cut);
    INFO("sending " << sending << ", cut " << (interruption == Interruption::cut));
    const ServerProcess server;
    TcpProxy proxy(server.ports());
    const std::string home = Scratch::instance().make_directory("interrupted");
    const std::string source = sending ? home : server.directory();
    const std::string target = sending ? server.directory() : home + "/to";
    fs::create_directories(target);
    write_file(source + "/f", random_bytes(size));
    std::vector<std::string> arguments = {"put", "-q", "--server-key=" + server.config_dir() + "/server.pub"};
    if (sending) {
        arguments.insert(arguments.end(), {source + "/f", source_at(proxy.address(), "/")});
    } else {
        arguments.front() = "get";
        arguments.insert(arguments.end(), {source_at(proxy.address(), "/f"), target});
    }

    const char* given = std::getenv("REMOFILE_TEST_INTERRUPTIONS");
    const std::uint64_t interruptions = given != nullptr ? std::strtoul(given, nullptr, 10) : 6;
    std::mt19937 random(std::random_device{}());
    for (std::uint64_t i = 1; i <= interruptions; ++i) {
        Child transfer = Child::start(remofile_command(server, arguments));
        // Somewhere in the next part.
        const std::uint64_t part = size / (interruptions + 2);
        const std::uint64_t wanted = part * i - random() % part;
        const bool got_there = eventually(
            Milliseconds{30'000}, [&] { return size_of_partial(target) >= wanted || fs::exists(target + "/f"); });
        CHECK(got_there);
        if (interruption == Interruption::kill) {
            transfer.signal(SIGKILL);
        } else {
            proxy.cut();
            transfer.signal(SIGTERM);
        }
        CHECK(transfer.wait(Milliseconds{30'000}).exit_status != -1);
        proxy.pass();
    }
    const Ended last = run(remofile_command(server, arguments));
    INFO(last.to_string());
    CHECK(last.exit_status == 0);
    CHECK(read_file(target + "/f") == read_file(source + "/f"));
    CHECK(partials_in(target).empty());
    // Two chunks at most go twice each time, and some KiB belong to each connection.
    CHECK(proxy.bytes() <= size + size / 100 + interruptions * (2 * chunk + 64 * 1024) + 64 * 1024);
}

TEST_CASE("a source that has changed starts over, and says so") {
    const bool sending = GENERATE(true, false);
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("changed");
    const std::string source = sending ? home : server.directory();
    const std::string target = sending ? server.directory() : home + "/to";
    fs::create_directories(target);
    write_file(source + "/f", random_bytes(64 * mebibyte));
    const std::vector<std::string> arguments =
        sending ? std::vector<std::string>{"put", source + "/f", source_of(server, "/")}
                : std::vector<std::string>{"get", source_of(server, "/f"), target};
    Child transfer = Child::start(remofile_command(server, arguments));
    REQUIRE(eventually(Milliseconds{30'000}, [&] { return size_of_partial(target) > 0; }));
    transfer.signal(SIGKILL);
    transfer.wait(Milliseconds{10'000});
    REQUIRE(partials_in(target).size() == 1);

    if (sending) {
        const std::string partial = fs::path(partials_in(target).front()).filename();
        CHECK_THAT(succeeds(server, {"status", source_of(server, "/")}).output, ContainsSubstring("  " + partial));
        CHECK_THAT(succeeds(server, {"status", "--json", source_of(server, "/")}).output,
                   ContainsSubstring("{\"name\": \"" + partial));
    }
    write_file(source + "/f", random_bytes(5 * mebibyte));
    const Ended again = run(remofile_command(server, arguments));
    INFO(again.to_string());
    CHECK(again.exit_status == 0);
    CHECK_THAT(again.errors, ContainsSubstring("starts over"));
    CHECK(read_file(target + "/f") == read_file(source + "/f"));
    CHECK(partials_in(target).empty());
}

TEST_CASE("where a source has got a hole since its transfer was interrupted, so has its copy") {
    const bool sending = GENERATE(true, false);
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("hole");
    const std::string source = sending ? home : server.directory();
    const std::string target = sending ? server.directory() : home + "/to";
    fs::create_directories(target);
    write_file(source + "/f", random_bytes(64 * mebibyte));
    set_mtime(source + "/f", 1'000'000'000, 0);
    const std::vector<std::string> arguments =
        sending ? std::vector<std::string>{"put", source + "/f", source_of(server, "/")}
                : std::vector<std::string>{"get", source_of(server, "/f"), target};
    Child transfer = Child::start(remofile_command(server, arguments));
    REQUIRE(eventually(Milliseconds{30'000}, [&] { return size_of_partial(target) > 4 * mebibyte; }));
    transfer.signal(SIGKILL);
    transfer.wait(Milliseconds{10'000});
    const int fd = ::open((source + "/f").c_str(), O_WRONLY | O_CLOEXEC);
    REQUIRE(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, mebibyte, 2 * mebibyte) == 0);
    ::close(fd);
    set_mtime(source + "/f", 1'000'000'000, 0);
    succeeds(server, arguments);
    CHECK((read_file(target + "/f") == read_file(source + "/f")));
}

TEST_CASE("a transfer outlives a restart of the server") {
    const bool sending = GENERATE(true, false);
    ServerProcess server;
    const std::string home = Scratch::instance().make_directory("restart");
    const std::string source = sending ? home : server.directory();
    const std::string target = sending ? server.directory() : home + "/to";
    fs::create_directories(target);
    write_file(source + "/f", random_bytes(128 * mebibyte));
    const std::vector<std::string> arguments =
        sending ? std::vector<std::string>{"put", source + "/f", source_of(server, "/")}
                : std::vector<std::string>{"get", source_of(server, "/f"), target};
    Child transfer = Child::start(remofile_command(server, arguments));
    REQUIRE(eventually(Milliseconds{30'000}, [&] { return size_of_partial(target) > 0; }));
    server.kill();
    server.start_again();
    const Ended ended = transfer.wait(Milliseconds{60'000});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK_THAT(ended.errors, ContainsSubstring("going on in a new one"));
    CHECK(read_file(target + "/f") == read_file(source + "/f"));
    CHECK(partials_in(target).empty());
}

TEST_CASE("what has no room is told, and leaves nothing behind") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--read-only"}});
    const std::string home = Scratch::instance().make_directory("refused");
    write_file(home + "/small", "x");
    write_file(home + "/large", random_bytes(mebibyte));
    for (const std::string name : {"/small", "/large"}) {
        const Ended ended = remofile(server, {"put", home + name, source_of(server, "/")});
        INFO(ended.to_string());
        CHECK(ended.exit_status == 1);
        CHECK_THAT(ended.errors, ContainsSubstring("read-only"));
        CHECK(std::ranges::count(ended.errors, '\n') == 1);
    }
    CHECK(fs::is_empty(server.directory()));
    // The local disk.
    write_file(server.directory() + "/f", random_bytes(mebibyte));
    const Ended full = run_script(
        home,
        fmt::format("mkdir full; REMOFILE_CONFIG_DIR={} {} get {} full/; ls -A full; ulimit -f 100; trap '' XFSZ; "
                    "REMOFILE_CONFIG_DIR={} {} get {} full/other",
                    server.config_dir(), program_from_environment("REMOFILE"), source_of(server, "/f"),
                    server.config_dir(), program_from_environment("REMOFILE"), source_of(server, "/f")));
    INFO(full.to_string());
    CHECK(full.exit_status == 1);
    CHECK_THAT(full.errors, ContainsSubstring("too large"));
    CHECK_FALSE(fs::exists(home + "/full/other"));
}

TEST_CASE("standard input is sent as a file of the name that it is given") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("input");
    const std::string content = random_bytes(12 * mebibyte + 123);
    write_file(home + "/data", content);
    const std::string program = fmt::format("umask 027; export REMOFILE_CONFIG_DIR={}; {} put ", server.config_dir(),
                                            program_from_environment("REMOFILE"));
    const auto put = [&](const std::string& before, const std::string& path, const std::string& after = "") {
        const Ended ended =
            run_script(home, fmt::format("{} {} - {} {}", before, program, source_of(server, path), after));
        INFO(ended.to_string());
        return ended;
    };
    const auto partials = [&] { return partials_in(server.directory()); };
    // A pipe that comes in small pieces and with a pause, a file, and nothing at all.
    CHECK(put("umask 0; (head -c 5000000 data; sleep 0.2; tail -c +5000001 data) | (", "/piped", ")").exit_status == 0);
    CHECK((read_file(server.directory() + "/piped") == content));
    struct stat status {};
    REQUIRE(::stat((server.directory() + "/piped").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0640);
    CHECK(put("", "/file", "-v <data").output.starts_with("send: -\n"));
    CHECK((read_file(server.directory() + "/file") == content));
    CHECK(put("", "/file", "--fsync </dev/null").exit_status == 0);
    CHECK(read_file(server.directory() + "/file").empty());
    CHECK(put("", "/dry", "-n <data").output == "would send: -\n");
    CHECK_FALSE(fs::exists(server.directory() + "/dry"));

    fs::create_directory(server.directory() + "/d");
    for (const char* path : {"/d", "/d/", "/none/"})
        CHECK_THAT(put("", path, "<data").errors, ContainsSubstring("standard input needs the name of a file"));
    CHECK(put("", "/none/x", "<data").exit_status == 7);
    CHECK_THAT(put("", "/d", "<.").errors, ContainsSubstring("standard input"));
    const Ended unreadable = put("", "/x", "<.");
    CHECK(unreadable.exit_status == 1);
    CHECK_THAT(unreadable.errors, ContainsSubstring("standard input: here: is a directory"));
    CHECK(remofile(server, {"put", "-", home + "/data", source_of(server, "/d")}).exit_status == 1);
    CHECK(partials().empty());
    CHECK_FALSE(fs::exists(server.directory() + "/x"));
}

TEST_CASE("the session is served while standard input says nothing") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--exclusive"}});
    const std::string pipe = Scratch::instance().make_directory("input") + "/pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    const UniqueFd writer(::open(pipe.c_str(), O_RDWR | O_CLOEXEC));
    Command command = remofile_command(server, {"put", "-", source_of(server, "/f")});
    command.arguments.insert(command.arguments.begin(), {"sh", "-c", "exec \"$@\" <\"$0\"", pipe});
    Child child = Child::start(command);
    REQUIRE(eventually(Milliseconds{30'000}, [&] { return !partials_in(server.directory()).empty(); }));
    // Only who is not held up says good-bye, without which nobody else would be let in.
    child.signal(SIGINT);
    CHECK(child.wait(Milliseconds{10'000}).exit_status == 128 + SIGINT);
    succeeds(server, {"rm", "--partial", source_of(server, "/")});
    CHECK(partials_in(server.directory()).empty());
}

}  // namespace remofile::test
