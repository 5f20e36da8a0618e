// SPDX-License-Identifier: MIT
// What remofile says of what it does, and of what it would do: --verbose, --dry-run and --log-file.
#include <unistd.h>

#include <catch.hpp>
#include <regex>
#include <set>

#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

using Lines = std::multiset<std::string>;

// Those that tell of files: not the last one, which has times in it.
Lines lines_of(const std::string& text) {
    Lines lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        if (line.find(" in ") == line.npos)
            lines.insert(line);
    }
    return lines;
}

Lines without_would(const Lines& lines) {
    Lines all;
    for (const std::string& line : lines) {
        CHECK(line.starts_with("would "));
        all.insert(line.substr(std::min(line.size(), std::string("would ").size())));
    }
    return all;
}

// A dry run of these, which changes nothing below the directories, and then the run itself.
Lines told(const ServerProcess& server, std::vector<std::string> arguments, const std::vector<std::string>& unchanged) {
    std::string before;
    for (const std::string& directory : unchanged)
        before += described(directory);
    std::vector<std::string> dry = arguments;
    dry.insert(dry.begin() + 1, "-n");
    const Ended would = succeeds(server, dry);
    std::string after;
    for (const std::string& directory : unchanged)
        after += described(directory);
    CHECK(after == before);
    arguments.insert(arguments.begin() + 1, "-v");
    const Ended done = succeeds(server, arguments);
    INFO(would.output + done.output);
    CHECK(without_would(lines_of(would.output)) == lines_of(done.output));
    return lines_of(done.output);
}

void make_tree(const std::string& tree) {
    fs::create_directories(tree + "/sub/deep");
    write_file(tree + "/f", "f");
    write_file(tree + "/same", "same");
    write_file(tree + "/sub/large", random_bytes(mebibyte));
    fs::create_symlink("f", tree + "/link");
}

}  // namespace

TEST_CASE("put, get and sync tell the same before they do something and when they have done it") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("activity");
    make_tree(home + "/tree");
    fs::create_directory(server.directory() + "/tree");
    fs::copy(home + "/tree/same", server.directory() + "/tree/same");
    set_mtime(home + "/tree/same", 1'000'000'000, 1);
    set_mtime(server.directory() + "/tree/same", 1'000'000'000, 1);
    CHECK(told(server, {"put", home + "/tree", source_of(server, "/")}, {home, server.directory()}) ==
          Lines{"make directory on the server: tree/sub", "make directory on the server: tree/sub/deep", "send: tree/f",
                "send: tree/link", "send: tree/sub/large"});
    CHECK(told(server, {"get", source_of(server, "/tree"), home + "/back"}, {home, server.directory()}) ==
          Lines{"make directory here: tree", "make directory here: tree/sub", "make directory here: tree/sub/deep",
                "fetch: tree/f", "fetch: tree/same", "fetch: tree/link", "fetch: tree/sub/large"});
    // Into what is there already.
    write_file(home + "/back/f", "other");
    CHECK(told(server, {"get", source_of(server, "/tree/f"), source_of(server, "/tree/sub"), home + "/back"},
               {home, server.directory()}) == Lines{"fetch: f"});
    fs::remove_all(home + "/tree/sub");
    write_file(home + "/tree/new", "new");
    const Lines synced =
        told(server, {"sync", "--delete", home + "/tree", source_of(server, "/tree")}, {home, server.directory()});
    CHECK(synced.contains("delete directory on the server: sub/deep"));
    CHECK(synced.contains("delete on the server: sub/large"));
    CHECK(synced.contains("send: new"));
    CHECK_FALSE(fs::exists(server.directory() + "/tree/sub"));
}

TEST_CASE("a dry run of a tree onto itself says so, and makes nothing") {
    const ServerProcess server;
    make_tree(server.directory() + "/tree");
    const std::string before = described(server.directory());
    const Ended ended = remofile(server, {"put", "-n", server.directory() + "/tree", source_of(server, "/")});
    CHECK(ended.exit_status == 1);
    CHECK_THAT(ended.errors, ContainsSubstring("not copied into itself"));
    CHECK(described(server.directory()) == before);
}

TEST_CASE("rm tells what it removes") {
    const ServerProcess server;
    make_tree(server.directory() + "/tree");
    write_file(server.directory() + "/tree/.f.0123456789abcdef.remofile-partial", "left");
    CHECK(told(server, {"rm", "-r", "--partial", source_of(server, "/")}, {server.directory()}) ==
          Lines{"delete on the server: /tree/.f.0123456789abcdef.remofile-partial"});
    CHECK(told(server, {"rm", source_of(server, "/tree/f")}, {server.directory()}) ==
          Lines{"delete on the server: /tree/f"});
    CHECK(told(server, {"rm", "-r", source_of(server, "/tree")}, {server.directory()}) ==
          Lines{"delete on the server: /tree/same", "delete on the server: /tree/link",
                "delete on the server: /tree/sub/large", "delete directory on the server: /tree/sub/deep",
                "delete directory on the server: /tree/sub", "delete directory on the server: /tree"});
    CHECK(fs::is_empty(server.directory()));
    CHECK(remofile(server, {"rm", "-n", source_of(server, "/none")}).exit_status == 7);
}

TEST_CASE("a transfer that is taken up says so") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("activity");
    const std::string content = random_bytes(3 * mebibyte);
    write_file(home + "/f", content);
    succeeds(server, {"put", home + "/f", source_of(server, "/")});
    fs::create_directory(home + "/back");
    // It may not write more than a part.
    run_script(home, fmt::format("ulimit -f 2048; trap '' XFSZ; REMOFILE_CONFIG_DIR={} {} get {} back",
                                 server.config_dir(), program_from_environment("REMOFILE"), source_of(server, "/f")));
    const Ended fetched = succeeds(server, {"get", "-v", source_of(server, "/f"), home + "/back"});
    CHECK_THAT(fetched.output, ContainsSubstring("take up where it was interrupted: f, of which "));
    CHECK_THAT(fetched.output, ContainsSubstring("fetch: f\n"));
    CHECK(read_file(home + "/back/f") == content);
}

TEST_CASE("what is done is added to a file, with the time") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("activity");
    make_tree(home + "/tree");
    write_file(home + "/log", "before\n");
    const std::string option = "--log-file=" + home + "/log";
    const Ended sent = succeeds(server, {"put", option, home + "/tree", source_of(server, "/")});
    CHECK(lines_of(sent.output).empty());
    succeeds(server, {"sync", "-q", option, source_of(server, "/tree"), home + "/copy"});
    succeeds(server, {"rm", option, source_of(server, "/tree/f")});
    CHECK(remofile(server, {"get", option, source_of(server, "/none"), home}).exit_status == 7);
    const std::string text = read_file(home + "/log");
    INFO(text);
    CHECK(text.starts_with("before\n"));
    for (const char* line : {"send: tree/f", "send: tree/sub/large", "4 files sent, .*", "fetch: sub/large",
                             "0 sent, 4 fetched, .*", "delete on the server: /tree/f", "/none: no such file.*"}) {
        INFO(line);
        CHECK(
            std::regex_search(text, std::regex("\n[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} " + std::string(line) + "\n")));
    }
}

TEST_CASE("a log that cannot be written to is told of") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("activity");
    write_file(home + "/f", "f");
    const Ended none = remofile(server, {"put", "--log-file=" + home, home + "/f", source_of(server, "/")});
    CHECK(none.exit_status == 1);
    CHECK_THAT(none.errors, ContainsSubstring(home + ": is a directory"));
    CHECK_FALSE(fs::exists(server.directory() + "/f"));
    const Ended full = remofile(server, {"put", "--log-file=/dev/full", home + "/f", source_of(server, "/")});
    CHECK(full.exit_status == 1);
    CHECK_THAT(full.errors, ContainsSubstring("/dev/full: "));
    CHECK(read_file(server.directory() + "/f") == "f");
}

}  // namespace remofile::test
