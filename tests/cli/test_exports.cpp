// SPDX-License-Identifier: MIT
// remofile's commands on the exports of a server that has several.
#include <sys/stat.h>

#include <catch.hpp>
#include <filesystem>

#include "harness/scratch.hpp"
#include "harness/transcript.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

using Catch::Matchers::Contains;

struct World {
    std::string config_dir = Scratch::instance().make_directory("config");
    std::string media = Scratch::instance().make_directory("media");
    std::string home = Scratch::instance().make_directory("home");
    std::string local = Scratch::instance().make_directory("local");
    std::optional<ServerProcess> server;

    World() {
        const std::string file = config_dir + "/server.toml";
        write_file(file, "[export.media]\ndirectory = \"" + media +
                             "\"\nread-only = true\n[export.home]\ndirectory = \"" + home + "\"\n");
        write_file(media + "/film", "moving pictures\n");
        server.emplace(ServerProcess::Options{.config_dir = config_dir, .config_file = file});
    }
    std::string at(const std::string& path) const { return source_of(*server, path); }
    Ended does(const std::vector<std::string>& arguments) const { return succeeds(*server, arguments); }
    Ended fails(const std::vector<std::string>& arguments, int exit_status) const {
        Ended ended = remofile(*server, arguments);
        INFO(ended.to_string());
        CHECK(ended.exit_status == exit_status);
        return ended;
    }
};

TEST_CASE("each command works below /NAME") {
    const World world;
    CHECK(world.does({"ls", world.at("/media")}).output == "film\n");
    CHECK(world.does({"cat", world.at("/media/film")}).output == "moving pictures\n");
    CHECK_THAT(world.does({"stat", world.at("/media/film")}).output, Contains("16"));
    world.does({"mkdir", world.at("/home/a")});
    world.does({"touch", world.at("/home/a/x"), world.at("/home/y")});
    world.does({"mv", world.at("/home/a/x"), world.at("/home/z")});
    CHECK(world.does({"ls", world.at("/home")}).output == "a\ny\nz\n");
    world.does({"rm", world.at("/home/y")});
    CHECK(std::filesystem::exists(world.home + "/z"));
    CHECK_FALSE(std::filesystem::exists(world.home + "/y"));

    write_file(world.local + "/put", "to be put\n");
    world.does({"put", world.local + "/put", world.at("/home/a/put")});
    CHECK(read_file(world.home + "/a/put") == "to be put\n");
    world.does({"get", world.at("/home/a/put"), world.local + "/got"});
    CHECK(read_file(world.local + "/got") == "to be put\n");
    std::filesystem::create_directory(world.local + "/tree");
    write_file(world.local + "/tree/leaf", "green\n");
    world.does({"sync", world.local + "/tree", world.at("/home/tree")});
    CHECK(read_file(world.home + "/tree/leaf") == "green\n");
    world.does({"ping", "--count", "1", world.at("/home")});
}

TEST_CASE("what goes wrong is said of the whole path") {
    const World world;
    CHECK_THAT(world.fails({"cat", world.at("/media/none")}, 7).errors, Contains("/media/none"));
    std::filesystem::create_symlink("/etc/passwd", world.home + "/absolute");
    CHECK_THAT(remofile(*world.server, {"cat", world.at("/home/absolute")}).errors, Contains("/home/absolute"));
    std::filesystem::create_symlink("../../media/film", world.home + "/out");
    CHECK_THAT(remofile(*world.server, {"cat", world.at("/home/out")}).errors, Contains("/home/media/film"));
    // ".." is taken out by name, and so may lead to another export.
    CHECK(world.does({"cat", world.at("/home/../media/film")}).output == "moving pictures\n");
    CHECK_THAT(world.fails({"touch", world.at("/media/new")}, 1).errors, Contains("read-only"));
    CHECK_THAT(world.fails({"rm", world.at("/media")}, 1).errors, Contains("the root of the export"));
}

TEST_CASE("without the name of an export one is told which there are") {
    const World world;
    CHECK_THAT(world.fails({"ls", world.at("/")}, 7).errors,
               Contains("several exports: name one of them") && Contains("it has home, media"));
    CHECK_THAT(world.fails({"status", world.at("/")}, 7).errors, Contains("it has home, media"));
    CHECK_THAT(world.fails({"mv", world.at("/media/film"), world.at("/home/film")}, 7).errors,
               Contains("all files must be of the same"));
    CHECK_THAT(world.fails({"ls", world.at("/nowhere/x")}, 7).errors, Contains("no directory /nowhere"));
}

TEST_CASE("status tells the export of each client") {
    const World world;
    const Ended text = world.does({"status", world.at("/home")});
    CHECK_THAT(text.output, Contains("1 client:") && Contains("; export home"));
    const Ended json = world.does({"status", "--json", world.at("/media")});
    CHECK_THAT(json.output, Contains("\"export\": \"media\""));
    const ServerProcess unnamed;
    const Ended of_unnamed = succeeds(unnamed, {"status", "--json", source_of(unnamed, "/")});
    CHECK_THAT(of_unnamed.output, Contains("\"clients\": [{") && !Contains("\"export\""));
}

}  // namespace
}  // namespace remofile::test
