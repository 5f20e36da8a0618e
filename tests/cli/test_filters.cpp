// SPDX-License-Identifier: MIT
// What --exclude, --include and --exclude-from leave out of transfers with a real server.
#include <catch.hpp>
#include <set>

#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

using Names = std::set<std::string>;

Names below(const std::string& directory) {
    Names names;
    for (const auto& entry : fs::recursive_directory_iterator(directory))
        names.insert(fs::relative(entry.path(), directory));
    return names;
}

void make_tree(const std::string& tree) {
    for (const char* directory : {"/src/build", "/build/deep", "/cache"})
        fs::create_directories(tree + directory);
    for (const char* file :
         {"/a.c", "/a.o", "/keep.o", "/src/b.c", "/src/b.o", "/src/build/x", "/build/deep/y", "/cache/z"})
        write_file(tree + file, file);
}

std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

}  // namespace

TEST_CASE("put and get leave out what is excluded, by the first rule that matches") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("filters");
    make_tree(home + "/tree");
    write_file(home + "/patterns", "# of no use\n*.o\nsrc/build/\n");
    const std::vector<std::string> rules = {"--include",        "keep.o",          "--exclude-from",
                                            home + "/patterns", "--include=cache", "--exclude=/tree/cache"};
    const Names expected = {"a.c",        "keep.o",       "src",   "src/b.c", "build",
                            "build/deep", "build/deep/y", "cache", "cache/z"};

    succeeds(server, with(with({"put"}, rules), {home + "/tree", source_of(server, "/")}));
    CHECK(below(server.directory() + "/tree") == expected);
    // The root is where the name begins that a copy is asked for by, whatever it becomes.
    succeeds(server,
             {"put", "--exclude=/tree/build", "--exclude=cache/*", home + "/tree", source_of(server, "/other")});
    CHECK(below(server.directory() + "/other") ==
          Names{"a.c", "a.o", "keep.o", "src", "src/b.c", "src/b.o", "src/build", "src/build/x", "cache"});

    fs::remove_all(server.directory() + "/tree");
    fs::rename(home + "/tree", server.directory() + "/tree");
    fs::create_directory(home + "/back");
    succeeds(server, with(with({"get"}, rules), {source_of(server, "/tree"), home + "/back"}));
    CHECK(below(home + "/back/tree") == expected);
    // Of the whole export, the root is the export's own.
    succeeds(server, {"get", "--exclude=/other", "--exclude=tree/***", source_of(server, "/"), home + "/back"});
    CHECK(below(home + "/back").contains("tree/a.o") == false);
    CHECK_FALSE(fs::exists(home + "/back/other"));
    // What is named can be left out too, as a shell names many.
    succeeds(server, {"get", "--exclude=*.o", source_of(server, "/tree/a.c"), source_of(server, "/tree/a.o"), home});
    CHECK(fs::exists(home + "/a.c"));
    CHECK_FALSE(fs::exists(home + "/a.o"));
}

TEST_CASE("sync copies nothing that is excluded, and deletes nothing of it") {
    const bool sending = GENERATE(true, false);
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("filters");
    const std::string from = sending ? home + "/tree" : server.directory() + "/tree";
    const std::string to = sending ? server.directory() + "/copy" : home + "/copy";
    make_tree(from);
    make_tree(to);
    write_file(from + "/a.o", "newer");
    write_file(to + "/extra", "goes");
    write_file(to + "/a.o", "stays");
    fs::create_directories(to + "/gone/sub");
    write_file(to + "/gone/sub/x.o", "stays, and so do its directories");
    write_file(to + "/gone/y", "goes");
    fs::remove_all(from + "/build");
    const std::vector<std::string> options = {"sync", "--delete", "--exclude=*.o", "--exclude=/build/"};
    const std::vector<std::string> places =
        sending ? std::vector{from, source_of(server, "/copy")} : std::vector{source_of(server, "/tree"), to};
    const Ended done = succeeds(server, with(options, places));
    CHECK(done.errors.find("left alone") == std::string::npos);
    CHECK(read_file(to + "/a.o") == "stays");
    CHECK(below(to) == Names{"a.c", "a.o", "keep.o", "src", "src/b.c", "src/b.o", "src/build", "src/build/x", "build",
                             "build/deep", "build/deep/y", "cache", "cache/z", "gone", "gone/sub", "gone/sub/x.o"});
}

TEST_CASE("sync both ways forgets nothing of what is excluded for once") {
    const ServerProcess server;
    const std::string here = Scratch::instance().make_directory("filters") + "/here";
    const std::string there = server.directory() + "/there";
    make_tree(here);
    for (int i = 0; i < 20; ++i)
        write_file(fmt::format("{}/build/{}", here, i), "built");
    const std::vector<std::string> places = {here, source_of(server, "/there")};
    succeeds(server, with({"sync", "--both"}, places));
    fs::remove(there + "/build/deep/y");
    fs::remove(there + "/cache/z");
    fs::remove(here + "/src/b.o");
    // More than half of all files would be gone, were those that are left out counted.
    succeeds(server, with({"sync", "--both", "--exclude=src", "--exclude=build"}, places));
    CHECK_FALSE(fs::exists(here + "/cache/z"));
    CHECK(fs::exists(here + "/build/deep/y"));
    CHECK(fs::exists(there + "/src/b.o"));
    // The deletions are known as such still.
    succeeds(server, with({"sync", "--both"}, places));
    CHECK_FALSE(fs::exists(here + "/build/deep/y"));
    CHECK_FALSE(fs::exists(there + "/src/b.o"));
    CHECK(read_file(there + "/a.c") == "/a.c");
}

TEST_CASE("a pattern that cannot be meant is told of before anything is done") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("filters");
    write_file(home + "/f", "content");
    const auto says = [&](const std::string& option) {
        const Ended ended = remofile(server, {"put", option, home + "/f", source_of(server, "/")});
        CHECK(ended.exit_status == 1);
        CHECK(std::ranges::count(ended.errors, '\n') == 1);
        return ended.errors;
    };
    CHECK_THAT(says("--exclude=[a"), ContainsSubstring("--exclude: pattern \"[a\""));
    CHECK_THAT(says("--include=/"), ContainsSubstring("--include: pattern \"/\": it matches nothing"));
    CHECK_THAT(says("--exclude-from=" + home + "/none"), ContainsSubstring("/none: no such file"));
    CHECK_FALSE(fs::exists(server.directory() + "/f"));
}

}  // namespace remofile::test
