// SPDX-License-Identifier: MIT
// A server changes its key: clients that have heard of it go on by themselves, and others say what is wrong.
#include <sys/stat.h>

#include <filesystem>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile;
using namespace remofile::test;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

Ended remofile_with(const std::string& config, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program_from_environment("REMOFILE"));
    return run({.arguments = std::move(arguments), .environment = {{"REMOFILE_CONFIG_DIR", config}}});
}

std::string make_keys(const std::string& file) {
    const Ended made = run({.arguments = {program_from_environment("REMOFILE"), "generate-keys", "--force", file}});
    INFO(made.to_string());
    REQUIRE(made.exit_status == 0);
    std::string key = read_file(fs::path(file).replace_extension(".pub"));
    key.pop_back();
    return key;
}

// A server that has one key, and is to have another.
struct World {
    std::string config_dir = Scratch::instance().make_directory("config");
    std::string first = make_keys(config_dir + "/server.key");
    std::string second = make_keys(config_dir + "/next.key");
    ServerProcess server{{.config_dir = config_dir, .arguments = {"--next-server-key", config_dir + "/next.key"}}};

    // Of another account, by the line of the first key.
    std::string make_client() const {
        const std::string config = Scratch::instance().make_directory("client");
        const std::string key = make_keys(config + "/identity.key");
        const std::string authorized = config_dir + "/authorized_keys";
        write_file(authorized, (fs::exists(authorized) ? read_file(authorized) : std::string()) + key + "\n");
        write_file(config + "/known_servers", line(first));
        return config;
    }
    std::string line(const std::string& key) const { return server.address() + " " + key + "\n"; }
    std::string source() const { return server.address() + ":/"; }
    // Starts the server again with that secret key.
    void change_to(const std::string& key_file) {
        REQUIRE(server.stop().exit_status == 0);
        write_file(config_dir + "/server.key", read_file(key_file));
        REQUIRE(::chmod((config_dir + "/server.key").c_str(), 0600) == 0);
        server.start_again();
    }
};

void lists(const std::string& config, const std::string& source) {
    const Ended listed = remofile_with(config, {"ls", source});
    INFO(listed.to_string());
    CHECK(listed.exit_status == 0);
    CHECK_THAT(listed.output, Contains("file"));
}

}  // namespace

TEST_CASE("clients that were there before a server changed its key go on, and trust the old one no more") {
    World world;
    write_file(world.server.directory() + "/file", "content");
    CHECK_THAT(world.server.errors(), Contains("the key that the server will have next: " + world.second));
    const std::string listing = world.make_client();
    const std::string mounting = world.make_client();
    const std::string away = world.make_client();

    const Ended told = remofile_with(listing, {"ls", world.source()});
    INFO(told.to_string());
    CHECK(told.exit_status == 0);
    CHECK_THAT(told.errors, Contains("as its next ones by " + world.second));
    CHECK(read_file(listing + "/known_servers") == world.line(world.first) + world.line(world.second));
    const Ended again = remofile_with(listing, {"ls", world.source()});
    CHECK(again.errors.empty());
    MountProcess mount({.source = world.source(), .config_dir = mounting});
    CHECK(read_file(mount.path() + "/file") == "content");
    CHECK(read_file(mounting + "/known_servers") == world.line(world.first) + world.line(world.second));
    const Ended trusted = remofile_with(listing, {"trust", world.server.address()});
    INFO(trusted.to_string());
    CHECK(trusted.exit_status == 0);
    CHECK_THAT(trusted.output, Contains(world.first) && Contains(world.second));

    const std::string before = world.config_dir + "/before.key";
    fs::copy(world.config_dir + "/server.key", before);
    make_keys(world.config_dir + "/third.key");
    world.change_to(world.config_dir + "/next.key");
    CHECK_THAT(world.server.errors(), Contains("next.key is the key that the server has already"));
    lists(listing, world.source());
    write_file(mount.path() + "/another", "by the new key");
    carried_out(mount.path());
    CHECK(read_file(world.server.directory() + "/another") == "by the new key");
    for (const std::string& config : {listing, mounting})
        CHECK(read_file(config + "/known_servers") == world.line(world.second));
    // Whoever has not heard of it has the message that there was before, and what they know stays as it is.
    const Ended refused = remofile_with(away, {"ls", world.source()});
    INFO(refused.to_string());
    CHECK(refused.exit_status == 3);
    CHECK_THAT(refused.errors, Contains("does not hold the key " + world.first + " that is expected of it"));
    CHECK(read_file(away + "/known_servers") == world.line(world.first));

    // A server with any other key is none that they know, and the first one is such a key now.
    for (const std::string& key : {world.config_dir + "/third.key", before}) {
        world.change_to(key);
        const Ended ended = remofile_with(listing, {"ls", world.source()});
        INFO(ended.to_string());
        CHECK(ended.exit_status == 3);
        CHECK_THAT(ended.errors, Contains("does not hold the key " + world.second));
        CHECK(read_file(listing + "/known_servers") == world.line(world.second));
    }
}

TEST_CASE("a client that was given the server's key writes none down, and takes no other") {
    World world;
    const std::string config = world.make_client();
    fs::remove(config + "/known_servers");
    const std::vector<std::string> listing{"ls", "--server-key", world.first, world.source()};
    CHECK(remofile_with(config, listing).exit_status == 0);
    CHECK_FALSE(fs::exists(config + "/known_servers"));
    world.change_to(world.config_dir + "/next.key");
    CHECK(remofile_with(config, listing).exit_status == 3);
}

TEST_CASE("a next key that cannot be had is said before the server listens") {
    const std::string config_dir = Scratch::instance().make_directory("config");
    const auto refusal = [&](const std::string& key) {
        const Ended ended = run({.arguments = {program_from_environment("REMOFILE_SERVER"), "--listen",
                                               "tcp://127.0.0.1:0", "--next-server-key", key, config_dir},
                                 .environment = {{"REMOFILE_CONFIG_DIR", config_dir}}});
        CHECK(ended.exit_status == 1);
        return ended.errors;
    };
    CHECK_THAT(refusal(config_dir + "/none.key"), Contains("none.key"));
    write_file(config_dir + "/open.key", "oops\n");
    REQUIRE(::chmod((config_dir + "/open.key").c_str(), 0644) == 0);
    CHECK_THAT(refusal(config_dir + "/open.key"), Contains("chmod 600"));
}
