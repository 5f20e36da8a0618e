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

#include "base/log.hpp"
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

}  // namespace remofile::test
