// SPDX-License-Identifier: MIT
// remofile sync between a local directory and one of a real server.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch.hpp>
#include <csignal>
#include <map>
#include <set>

#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

// A server that exports "there", and a directory beside it.
struct Pair {
    ServerProcess server;
    std::string home = Scratch::instance().make_directory("sync");
    std::string here = home + "/here";
    std::string there = server.directory() + "/there";
    std::string source = source_of(server, "/there");

    Pair() : Pair(ServerProcess::Options{}) {}
    explicit Pair(ServerProcess::Options options) : server(std::move(options)) { fs::create_directory(here); }
    Ended both(std::vector<std::string> options = {}) const {
        options.insert(options.begin(), {"sync", "--both", "--json"});
        options.insert(options.end(), {here, source});
        return succeeds(server, options);
    }
};

// described(), but for the times of directories: these are each side's own.
std::string content_of(const std::string& directory) {
    std::string text;
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
        if (entry.is_directory() && !entry.is_symlink())
            set_mtime(entry.path(), 0, 0);
    }
    return described(directory);
}

std::set<std::string> contents(const std::string& directory) {
    std::set<std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
        if (entry.is_regular_file() && !entry.is_symlink())
            all.insert(read_file(entry.path()));
    }
    return all;
}

// Environment of a program on a file system that refuses to rename, with this errno, what must not replace anything.
std::vector<std::pair<std::string, std::string>> refusing_renames(int error, bool links) {
    std::vector<std::pair<std::string, std::string>> environment = {
        {"LD_PRELOAD", program_from_environment("REFUSE_RENAME_MODULE")},
        {"ASAN_OPTIONS", "verify_asan_link_order=0"},
        {"REFUSE_RENAME", std::to_string(error)}};
    if (!links)
        environment.emplace_back("REFUSE_LINK", "1");
    return environment;
}

// What another run has to do.
void check_nothing_to_do(const Pair& pair, const std::vector<std::string>& options = {}) {
    const Ended again = pair.both(options);
    INFO(again.to_string());
    CHECK_THAT(again.output, ContainsSubstring("\"sent\": 0, \"fetched\": 0, \"deleted_here\": 0, "
                                               "\"deleted_on_server\": 0"));
    CHECK_THAT(again.output, ContainsSubstring("\"bytes_transferred\": 0"));
}

std::vector<std::string> names_like(const std::string& directory, const std::string& part) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(directory)) {
        if (entry.path().filename().native().find(part) != std::string::npos)
            found.push_back(entry.path().filename());
    }
    return found;
}

}  // namespace

TEST_CASE("one way, a directory becomes as another, in either direction") {
    const bool sending = GENERATE(true, false);
    const Pair pair;
    const std::string from = sending ? pair.here : pair.there;
    const std::string to = sending ? pair.there : pair.home + "/copy";
    std::vector<std::string> arguments = {"sync", "--json", sending ? pair.here : pair.source,
                                          sending ? pair.source : to};
    fs::create_directories(from + "/sub/deep");
    fs::create_directories(from + "/empty");
    write_file(from + "/f", "one");
    write_file(from + "/sub/deep/large", random_bytes(3 * mebibyte + 77));
    write_file(from + "/sub/\xff odd\n\tname\\", "odd");
    fs::create_symlink("sub", from + "/link");
    REQUIRE(::chmod((from + "/f").c_str(), 0751) == 0);
    set_mtime(from + "/sub/deep", 1'000'000'000, 5);
    set_mtime(from + "/f", 1'000'000'000, 123'456'789);
    CHECK_THAT(succeeds(pair.server, arguments).output, ContainsSubstring(sending ? "\"sent\": 4" : "\"fetched\": 4"));
    CHECK(described(to) == described(from));
    const auto nothing_to_do = [&] {
        const Ended again = succeeds(pair.server, arguments);
        CHECK_THAT(again.output, ContainsSubstring("\"sent\": 0, \"fetched\": 0, \"deleted_here\": 0, "
                                                   "\"deleted_on_server\": 0"));
        CHECK_THAT(again.output, ContainsSubstring("\"bytes_transferred\": 0"));
    };
    nothing_to_do();

    // Changes of every kind. What is extra stays unless it is said.
    write_file(from + "/f", "other, and longer");
    write_file(to + "/extra", "extra");
    fs::create_directories(to + "/extra-directory/sub");
    fs::remove_all(from + "/empty");
    fs::rename(from + "/sub/deep/large", from + "/large");
    fs::remove(from + "/link");
    fs::create_symlink("large", from + "/link");
    REQUIRE(::chmod((from + "/sub").c_str(), 0700) == 0);
    succeeds(pair.server, arguments);
    CHECK(read_file(to + "/f") == "other, and longer");
    CHECK(fs::read_symlink(to + "/link") == "large");
    CHECK(fs::exists(to + "/extra"));
    CHECK(fs::exists(to + "/sub/deep/large"));
    arguments.insert(arguments.begin() + 1, "--delete");
    const std::string before = described(to);
    std::vector<std::string> dry = arguments;
    dry.insert(dry.begin() + 1, "--dry-run");
    CHECK_THAT(succeeds(pair.server, dry).output, ContainsSubstring("would delete "));
    CHECK(described(to) == before);
    succeeds(pair.server, arguments);
    CHECK(described(to) == described(from));
    nothing_to_do();

    // The same content with another time costs no transfer; with --checksum, another content with the same time shows.
    set_mtime(from + "/large", 1'111'111'111, 0);
    nothing_to_do();
    CHECK(described(to) == described(from));
    write_file(from + "/f", "AND LONGER, other");
    set_mtime(from + "/f", 1'000'000'000, 123'456'789);
    set_mtime(to + "/f", 1'000'000'000, 123'456'789);
    nothing_to_do();
    arguments.insert(arguments.begin() + 1, "--checksum");
    succeeds(pair.server, arguments);
    CHECK(read_file(to + "/f") == "AND LONGER, other");
}

TEST_CASE("a directory is not replaced by a file unless deletions are wanted") {
    const Pair pair;
    fs::create_directories(pair.there + "/x/y");
    write_file(pair.there + "/x/y/z", "z");
    write_file(pair.here + "/x", "file");
    const Ended left = succeeds(pair.server, {"sync", pair.here, pair.source});
    CHECK_THAT(left.errors, ContainsSubstring("x: left alone"));
    CHECK(read_file(pair.there + "/x/y/z") == "z");
    succeeds(pair.server, {"sync", "--delete", pair.here, pair.source});
    CHECK(read_file(pair.there + "/x") == "file");
}

TEST_CASE("both ways: random edits on both sides") {
    const Pair pair;
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    int number = 0;
    const auto random_path = [&](const std::string& root) {
        std::string path = root;
        for (unsigned depth = 1 + random() % 3; depth > 0; --depth)
            path += "/" + std::string(1, static_cast<char>('a' + random() % 4));
        return path;
    };
    const auto edit = [&](const std::string& root) {
        const std::string path = random_path(root);
        std::error_code ignored;
        switch (random() % 6) {
            case 0:
                fs::remove_all(path, ignored);
                break;
            case 1:
                fs::rename(path, random_path(root), ignored);
                break;
            case 2:
                if (fs::is_regular_file(fs::symlink_status(path, ignored)))
                    ::chmod(path.c_str(), random() % 2 == 0 ? 0600 : 0755);
                break;
            default:
                for (fs::path parent = fs::path(path).parent_path(); parent != root; parent = parent.parent_path()) {
                    if (!fs::is_directory(fs::symlink_status(parent, ignored)))
                        fs::remove(parent, ignored);
                }
                fs::create_directories(fs::path(path).parent_path(), ignored);
                fs::remove_all(path, ignored);
                if (random() % 6 == 0)
                    fs::create_symlink("target" + std::to_string(++number), path, ignored);
                else {
                    write_file(path, fmt::format("content {} {}", ++number,
                                                 std::string(random() % 8 == 0 ? 600'000 : random() % 2, '.')));
                    // The kernel's clock goes in steps of milliseconds: two files of one size and time are the same.
                    fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
                }
        }
    };
    fs::create_directory(pair.there);
    std::set<std::string> before;
    for (int round = 0; round < 25; ++round) {
        INFO("round " << round);
        for (unsigned edits = random() % 12; edits > 0; --edits)
            edit(pair.here);
        for (unsigned edits = random() % 12; edits > 0; --edits)
            edit(pair.there);
        std::set<std::string> changed;
        for (const std::string& root : {pair.here, pair.there}) {
            for (const std::string& content : contents(root)) {
                if (!before.contains(content))
                    changed.insert(content);
            }
        }
        pair.both({"--delete"});
        REQUIRE(content_of(pair.here) == content_of(pair.there));
        before = contents(pair.here);
        REQUIRE(std::ranges::includes(before, changed));
        check_nothing_to_do(pair, {"--delete"});
    }
}

TEST_CASE("both ways: deletions are told from creations, and conflicts are kept") {
    const Pair pair;
    fs::create_directory(pair.there);
    for (const char* name : {"deleted-here", "deleted-there", "changed-here", "changed-there", "both", "kept.txt"})
        write_file(pair.here + "/" + name, std::string("first ") + name);
    fs::create_directory(pair.here + "/directory");
    write_file(pair.here + "/directory/f", "f");
    write_file(pair.there + "/new-there", "new");
    pair.both();
    CHECK(read_file(pair.here + "/new-there") == "new");
    CHECK(content_of(pair.here) == content_of(pair.there));

    fs::remove(pair.here + "/deleted-here");
    fs::remove(pair.there + "/deleted-there");
    fs::remove_all(pair.there + "/directory");
    write_file(pair.here + "/changed-here", "second");
    write_file(pair.there + "/changed-there", "second there");
    write_file(pair.here + "/kept.txt", "changed here");
    set_mtime(pair.here + "/kept.txt", 1'000'000'000, 0);
    write_file(pair.there + "/kept.txt", "changed there");
    write_file(pair.here + "/both", "the same on both sides");
    write_file(pair.there + "/both", "the same on both sides");
    const Ended second = pair.both();
    INFO(second.to_string());
    CHECK_THAT(second.errors, ContainsSubstring("conflict: kept.txt"));
    CHECK(std::ranges::count(second.errors, '\n') == 1);
    CHECK_FALSE(fs::exists(pair.there + "/deleted-here"));
    CHECK_FALSE(fs::exists(pair.here + "/deleted-there"));
    CHECK_FALSE(fs::exists(pair.here + "/directory"));
    CHECK(read_file(pair.there + "/changed-here") == "second");
    CHECK(read_file(pair.here + "/changed-there") == "second there");
    CHECK(read_file(pair.here + "/kept.txt") == "changed there");
    const auto conflicts = names_like(pair.there, "kept.conflict-local-");
    REQUIRE(conflicts.size() == 1);
    CHECK(conflicts.front().ends_with(".txt"));
    CHECK(read_file(pair.there + "/" + conflicts.front()) == "changed here");
    CHECK(content_of(pair.here) == content_of(pair.there));
    check_nothing_to_do(pair);

    // A deletion yields to a change.
    fs::remove(pair.here + "/both");
    write_file(pair.there + "/both", "changed");
    CHECK_THAT(pair.both().errors, ContainsSubstring("both: deleted here and changed on the server"));
    CHECK(read_file(pair.here + "/both") == "changed");
}

TEST_CASE("both ways: a file whose conflict cannot be renamed is not replaced") {
    const Pair pair;
    fs::create_directory(pair.there);
    write_file(pair.here + "/f", "first");
    pair.both();
    write_file(pair.here + "/f", "changed here");
    set_mtime(pair.here + "/f", 1'000'000'000, 0);
    write_file(pair.there + "/f", "changed there");
    Command command = remofile_command(pair.server, {"sync", "--both", pair.here, pair.source});
    const auto refusing = refusing_renames(EIO, true);
    command.environment.insert(command.environment.end(), refusing.begin(), refusing.end());
    const Ended failed = run(command);
    INFO(failed.to_string());
    CHECK(failed.exit_status == 1);
    CHECK(read_file(pair.here + "/f") == "changed here");
    CHECK(read_file(pair.there + "/f") == "changed there");
    pair.both();
    CHECK(contents(pair.here) == std::set<std::string>{"changed here", "changed there"});
    CHECK(content_of(pair.here) == content_of(pair.there));
}

TEST_CASE("both ways: between file systems whose renames cannot look first") {
    const bool links = GENERATE(true, false);
    // Without links the server has no way left, and says so.
    const Pair pair({.environment = refusing_renames(EINVAL, true)});
    fs::create_directory(pair.there);
    const auto run_both = [&] {
        Command command = remofile_command(pair.server, {"sync", "--both", pair.here, pair.source});
        const auto refusing = refusing_renames(EINVAL, links);
        command.environment.insert(command.environment.end(), refusing.begin(), refusing.end());
        const Ended ended = run(command);
        INFO(ended.to_string());
        CHECK(ended.exit_status == 0);
        CHECK(content_of(pair.here) == content_of(pair.there));
    };
    write_file(pair.here + "/sent", "sent");
    write_file(pair.there + "/fetched", "fetched");
    fs::create_symlink("sent", pair.here + "/link");
    fs::create_symlink("sent", pair.there + "/other-link");
    run_both();
    CHECK(contents(pair.here) == std::set<std::string>{"sent", "fetched"});
    for (const bool loser_is_here : {true, false}) {
        write_file(pair.here + "/sent", "changed here");
        write_file(pair.there + "/sent", "changed there");
        set_mtime((loser_is_here ? pair.here : pair.there) + "/sent", 1'000'000'000, 0);
        run_both();
        CHECK(contents(pair.here) == std::set<std::string>{"changed here", "changed there", "fetched"});
        for (const auto& name : names_like(pair.here, ".conflict-")) {
            fs::remove(pair.here + "/" + name);
            fs::remove(pair.there + "/" + name);
        }
        run_both();
    }
}

TEST_CASE("both ways: what the server cannot look at is not taken for deleted") {
    if (::geteuid() != 0)
        return;
    const Pair pair({.as = Credentials{.uid = 20'001, .gid = 20'001}});
    fs::create_directory(pair.there);
    fs::create_directory(pair.here + "/closed");
    write_file(pair.here + "/closed/f", "content");
    write_file(pair.here + "/other", "other");
    REQUIRE(::chown(pair.there.c_str(), 20'001, 20'001) == 0);
    pair.both();
    REQUIRE(::chmod((pair.there + "/closed").c_str(), 0444) == 0);
    const Ended ended = remofile(pair.server, {"sync", "--both", pair.here, pair.source});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 1);
    CHECK_THAT(ended.errors, ContainsSubstring("closed/f: permission denied"));
    CHECK(read_file(pair.here + "/closed/f") == "content");
    CHECK(remofile(pair.server, {"sync", "--delete", pair.source, pair.here}).exit_status == 1);
    CHECK(read_file(pair.here + "/closed/f") == "content");

    const Ended fetched = remofile(pair.server, {"get", pair.source, pair.home + "/copy"});
    CHECK(fetched.exit_status == 1);
    CHECK_THAT(fetched.errors, ContainsSubstring("closed/f: permission denied"));
    CHECK(read_file(pair.home + "/copy/other") == "other");
    const Ended listed = remofile(pair.server, {"ls", pair.source + "/closed"});
    CHECK(listed.exit_status == 1);
    CHECK_THAT(listed.errors, ContainsSubstring("closed/f: permission denied"));

    REQUIRE(::chmod((pair.there + "/closed").c_str(), 0755) == 0);
    pair.both();
    CHECK(content_of(pair.here) == content_of(pair.there));
}

TEST_CASE("both ways: a side that is suddenly empty does not empty the other, whatever was edited there") {
    const Pair pair;
    fs::create_directory(pair.there);
    for (int i = 0; i < 20; ++i)
        write_file(fmt::format("{}/f{}", pair.here, i), "content");
    pair.both();
    for (int i = 0; i < 20; ++i) {
        fs::remove(fmt::format("{}/f{}", pair.here, i));
        if (i < 12)
            write_file(fmt::format("{}/f{}", pair.there, i), "edited");
    }
    const Ended ended = remofile(pair.server, {"sync", "--both", pair.here, pair.source});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 1);
    CHECK_THAT(ended.errors, ContainsSubstring("of 20 files known, 20 are gone here: pass --delete"));
    CHECK(names_like(pair.there, "f").size() == 20);
}

TEST_CASE("both ways: what is remembered belongs to the directory, however and whenever it is named") {
    const Pair pair;
    fs::create_directory(pair.there);
    write_file(pair.there + "/a", "a");
    write_file(pair.there + "/b", "b");
    // At first there is none of that name.
    const auto run_in_home = [&](const std::string& local) {
        Command command = remofile_command(pair.server, {"sync", "--both", local, pair.source});
        command.directory = pair.home;
        const Ended ended = run(command);
        INFO(ended.to_string());
        CHECK(ended.exit_status == 0);
    };
    run_in_home("notes");
    CHECK(contents(pair.home + "/notes") == std::set<std::string>{"a", "b"});
    fs::remove(pair.home + "/notes/a");
    run_in_home(pair.home + "/notes/");
    CHECK_FALSE(fs::exists(pair.there + "/a"));
    run_in_home("./notes");
    CHECK(contents(pair.home + "/notes") == std::set<std::string>{"b"});
}

TEST_CASE("both ways: a side that is suddenly empty does not empty the other") {
    const Pair pair;
    fs::create_directory(pair.there);
    for (int i = 0; i < 5; ++i)
        write_file(fmt::format("{}/f{}", pair.here, i), "content");
    pair.both();
    fs::remove_all(pair.there);
    const std::vector<std::string> arguments = {"sync", "--both", pair.here, pair.source};
    Ended ended = remofile(pair.server, arguments);
    INFO(ended.to_string());
    CHECK(ended.exit_status == 7);
    fs::create_directory(pair.there);
    ended = remofile(pair.server, arguments);
    CHECK(ended.exit_status == 1);
    CHECK_THAT(ended.errors, ContainsSubstring("pass --delete"));
    CHECK(contents(pair.here).size() == 1);
    pair.both({"--delete"});
    CHECK(fs::is_empty(pair.here));
}

TEST_CASE("both ways: what is remembered is checked, and used by one at a time") {
    const Pair pair;
    fs::create_directory(pair.there);
    write_file(pair.here + "/f", "content");
    pair.both();
    std::string memory;
    for (const auto& entry : fs::directory_iterator(pair.server.config_dir() + "/sync")) {
        if (entry.path().extension().empty())
            memory = entry.path();
    }
    REQUIRE_FALSE(memory.empty());
    const std::vector<std::string> arguments = {"sync", "--both", pair.here, pair.source};
    {
        const UniqueFd lock(::open((memory + ".lock").c_str(), O_RDWR | O_CLOEXEC));
        REQUIRE(::flock(lock.get(), LOCK_EX) == 0);
        const Ended refused = remofile(pair.server, arguments);
        CHECK(refused.exit_status == 1);
        CHECK_THAT(refused.errors, ContainsSubstring("another process"));
    }
    const std::string good = read_file(memory);
    for (const std::string& bad : {good.substr(0, good.size() / 2), std::string(), good + "x", "x" + good}) {
        write_file(memory, bad);
        const Ended refused = remofile(pair.server, arguments);
        INFO(refused.to_string());
        CHECK(refused.exit_status == 1);
        CHECK_THAT(refused.errors, ContainsSubstring("damaged"));
    }
    // However the two directories are written, they are the same.
    write_file(memory, good);
    fs::create_directory_symlink("here", pair.home + "/link");
    succeeds(pair.server, {"sync", "--both", pair.home + "/link/./", source_of(pair.server, "/./there//")});
    CHECK(names_like(pair.server.config_dir() + "/sync", "").size() == 2);

    fs::remove(memory);
    fs::remove(pair.here + "/f");
    pair.both();
    CHECK(read_file(pair.here + "/f") == "content");
}

TEST_CASE("the session is served while a local tree is being looked at") {
    const Pair pair;
    fs::create_directory(pair.there);
    fs::create_symlink("nowhere", pair.there + "/link");
    write_file(pair.here + "/f", "content");
    const std::string allowed = pair.home + "/allowed";
    Command command = remofile_command(pair.server, {"sync", "-q", pair.here, pair.source});
    command.environment = {{"REMOFILE_CONFIG_DIR", pair.server.config_dir()},
                           {"LD_PRELOAD", program_from_environment("WAIT_BEFORE_LISTING_MODULE")},
                           {"ASAN_OPTIONS", "verify_asan_link_order=0"},
                           {"LISTING_OF", pair.here},
                           {"LISTING_ALLOWED", allowed}};
    Child child = Child::start(command);
    // The server's tree is looked at meanwhile, of which a link is the last.
    CHECK(eventually(Milliseconds{30'000}, [&] {
        const Ended status = remofile(pair.server, {"status", "--json", source_of(pair.server, "/")});
        return status.output.find("\"files.READLINK\": 1") != std::string::npos;
    }));
    CHECK(child.running());
    write_file(allowed, "");
    const Ended ended = child.wait(Milliseconds{30'000});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK(read_file(pair.there + "/f") == "content");
}

TEST_CASE("of a file that has changed only the changed parts are sent") {
    constexpr std::size_t size = 64 * mebibyte;
    const bool sending = GENERATE(true, false);
    const Pair pair;
    TcpProxy proxy(pair.server.ports());
    const std::string from = sending ? pair.here : pair.there;
    const std::string to = sending ? pair.there : pair.here;
    fs::create_directory(pair.there);
    const std::string source = source_at(proxy.address(), "/there");
    const std::vector<std::string> arguments = {"sync", "-q",
                                                "--server-key=" + pair.server.config_dir() + "/server.pub",
                                                sending ? pair.here : source, sending ? source : pair.here};
    write_file(from + "/f", random_bytes(size));
    write_file(to + "/f", "");
    succeeds(pair.server, arguments);
    const std::uint64_t before = proxy.bytes();
    {
        const UniqueFd fd(::open((from + "/f").c_str(), O_WRONLY));
        REQUIRE(::pwrite(fd.get(), "changed", 7, size / 3) == 7);
    }
    succeeds(pair.server, arguments);
    CHECK(read_file(to + "/f") == read_file(from + "/f"));
    CHECK(proxy.bytes() - before < mebibyte / 4);
    CHECK(names_like(to, ".remofile-partial").empty());

    // Shorter, and longer.
    fs::resize_file(from + "/f", size / 2 + 1);
    succeeds(pair.server, arguments);
    CHECK(fs::file_size(to + "/f") == size / 2 + 1);
    fs::resize_file(from + "/f", size);
    succeeds(pair.server, arguments);
    CHECK(read_file(to + "/f") == read_file(from + "/f"));
    CHECK(proxy.bytes() - before < 2 * mebibyte);
}

TEST_CASE("an interrupted synchronisation is gone on with") {
    Pair pair;
    fs::create_directory(pair.there);
    write_file(pair.here + "/large", random_bytes(96 * mebibyte));
    write_file(pair.there + "/other", random_bytes(mebibyte));
    for (int i = 0; i < 20; ++i)
        write_file(fmt::format("{}/f{}", pair.here, i), fmt::format("content {}", i));
    const std::vector<std::string> arguments = {"sync", "--both", "-q", pair.here, pair.source};
    Child child = Child::start(remofile_command(pair.server, arguments));
    REQUIRE(eventually(Milliseconds{30'000}, [&] { return !names_like(pair.there, ".remofile-partial").empty(); }));
    child.signal(SIGKILL);
    child.wait(Milliseconds{10'000});
    // The next one lives through a restart of the server.
    child = Child::start(remofile_command(pair.server, arguments));
    pair.server.kill();
    pair.server.start_again();
    const Ended ended = child.wait(Milliseconds{60'000});
    INFO(ended.to_string());
    if (ended.exit_status != 0)
        CHECK(ended.exit_status == 2);  // it had not connected yet
    pair.both();
    CHECK(content_of(pair.here) == content_of(pair.there));
    CHECK(names_like(pair.there, ".remofile-partial").empty());
    check_nothing_to_do(pair);
}

TEST_CASE("directories that cannot be synchronised are refused with a line") {
    const Pair pair;
    const auto refused = [&](std::vector<std::string> arguments, int exit_status, const std::string& why) {
        arguments.insert(arguments.begin(), "sync");
        const Ended ended = remofile(pair.server, arguments);
        INFO(ended.to_string());
        CHECK(ended.exit_status == exit_status);
        CHECK_THAT(ended.errors, ContainsSubstring(why));
        CHECK(std::ranges::count(ended.errors, '\n') == 1);
    };
    refused({pair.here, pair.home}, 1, "the other a SOURCE");
    refused({pair.source, pair.source}, 1, "the other a SOURCE");
    refused({pair.home + "/none", pair.source}, 7, "none");
    refused({source_of(pair.server, "/none"), pair.here}, 7, "none");
    refused({pair.here, source_of(pair.server, "/none/below")}, 7, "none");
    write_file(pair.server.directory() + "/file", "x");
    refused({pair.here, source_of(pair.server, "/file")}, 7, "no directory");
    write_file(pair.home + "/file", "x");
    refused({pair.home + "/file", pair.source}, 7, "file");
}

TEST_CASE("no more is deleted than is allowed") {
    const Pair pair;
    fs::create_directories(pair.there + "/d");
    write_file(pair.there + "/d/f", "f");
    write_file(pair.here + "/new", "new");
    const auto sync = [&](std::vector<std::string> options) {
        options.insert(options.begin(), {"sync", "--delete"});
        options.insert(options.end(), {pair.here, pair.source});
        return remofile(pair.server, options);
    };
    const Ended refused = sync({"--max-delete=1"});
    CHECK(refused.exit_status == 1);
    CHECK_THAT(refused.errors, ContainsSubstring("2 deletions are more than --max-delete=1 allows: nothing is done"));
    CHECK(fs::exists(pair.there + "/d/f"));
    CHECK_FALSE(fs::exists(pair.there + "/new"));
    // A dry run says both what it would be, and that it would not be done.
    const Ended dry = sync({"-n", "--max-delete=1"});
    CHECK(dry.exit_status == 1);
    CHECK_THAT(dry.output, ContainsSubstring("would delete on the server: d/f\n"));
    CHECK(sync({"--max-delete=x"}).exit_status == 1);
    CHECK(sync({"--max-delete=-1"}).exit_status == 1);
    CHECK(sync({"--max-delete=2"}).exit_status == 0);
    CHECK_FALSE(fs::exists(pair.there + "/d"));
    CHECK(fs::exists(pair.there + "/new"));
    CHECK(sync({"--max-delete=0"}).exit_status == 0);
}

}  // namespace remofile::test
