// SPDX-License-Identifier: MIT
// Names for servers, from hosts.toml: remofile by them.
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "catch.hpp"
#include "harness/transcript.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

void write_hosts(const ServerProcess& server, const std::string& text, mode_t mode = 0600) {
    const std::string file = server.config_dir() + "/hosts.toml";
    write_file(file, text);
    REQUIRE(chmod(file.c_str(), mode) == 0);
}

std::string alias_of(const ServerProcess& server) {
    return "[host.office]\naddress = \"" + server.address() + "\"\n";
}

}  // namespace

TEST_CASE("a name in hosts.toml is the server that it stands for, for every command") {
    ServerProcess server;
    write_file(server.directory() + "/file", "content");
    write_hosts(server, alias_of(server));
    CHECK(succeeds(server, {"ls", "office:/"}).output == "file\n");
    CHECK(succeeds(server, {"cat", "office:/file"}).output == "content");
    CHECK(succeeds(server, {"cp", "office:/file", source_of(server, "/copy")}).exit_status == 0);
    CHECK(std::filesystem::exists(server.directory() + "/copy"));
    succeeds(server, {"ping", "remofile://office/"});
    const std::string local = server.config_dir() + "/local";
    REQUIRE(mkdir(local.c_str(), 0755) == 0);
    succeeds(server, {"sync", "office:/", local});
    CHECK(read_file(local + "/file") == "content");
}

TEST_CASE("what is written of a host goes with it, and the command line goes before") {
    ServerProcess server;
    write_file(server.directory() + "/file", "content");
    // A key that is not the server's.
    const std::string alias = alias_of(server) + "server_key = \"" + std::string(40, '1') + "\"\n";
    write_hosts(server, alias);
    CHECK(remofile(server, {"ls", "office:/"}).exit_status == 3);
    succeeds(server, {"ls", "office:/", "--server-key", server.config_dir() + "/server.pub"});
    write_hosts(server, alias_of(server) + "server_key = \"server.pub\"\n");
    succeeds(server, {"ls", "office:/"});
    // The port of SOURCE, at which nobody listens.
    CHECK(remofile(server, {"ls", "office:1:/"}).exit_status == 2);
}

TEST_CASE("a hosts.toml that is wrong, or that others may write to, is refused in one line") {
    ServerProcess server;
    const auto refused = [&](const std::string& reason) {
        const Ended ended = remofile(server, {"ls", source_of(server, "/")});
        INFO(ended.to_string());
        CHECK(ended.exit_status == 1);
        CHECK(ended.errors.find(reason) != std::string::npos);
        CHECK(std::count(ended.errors.begin(), ended.errors.end(), '\n') == 1);
    };
    write_hosts(server, "[host.office]\nadress = \"x\"\n");
    refused("/hosts.toml:2: unknown key \"adress\"");
    write_hosts(server, "[host.office]\naddress = 5\n");
    refused("/hosts.toml:2: address must be a text");
    write_hosts(server, alias_of(server), 0666);
    refused("others may write to " + server.config_dir() + "/hosts.toml: run chmod go-w on it");
}

}  // namespace remofile::test
