// SPDX-License-Identifier: MIT
// The program remofile, as a person runs it.
#include <sys/stat.h>

#include <catch.hpp>
#include <filesystem>
#include <fstream>

#include "harness/child.hpp"
#include "harness/scratch.hpp"
#include "harness/server_process.hpp"

namespace remofile::test {
namespace {

Ended remofile(const std::string& config_dir, std::vector<std::string> arguments) {
    Command command{.arguments = {program_from_environment("REMOFILE")},
                    .environment = {{"REMOFILE_CONFIG_DIR", config_dir}}};
    command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
    return run(command);
}

std::string source_of(const ServerProcess& server, const std::string& path = "/") {
    return "127.0.0.1:" + std::to_string(server.port()) + ":" + path;
}

std::size_t lines_in(const std::string& text) {
    return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

std::string first_line_of(const std::string& file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    return line;
}

}  // namespace

TEST_CASE("remofile says how it is used") {
    const std::string config_dir = Scratch::instance().make_directory("config");
    CHECK(remofile(config_dir, {"--version"}).output.starts_with("remofile "));
    const Ended help = remofile(config_dir, {"--help"});
    CHECK(help.exit_status == 0);
    for (const std::string command : {"ls", "stat", "cat", "put", "get", "touch", "mkdir", "mv", "rm", "status", "ping",
                                      "trust", "generate-keys", "generate-token"}) {
        CHECK_THAT(help.output, ContainsSubstring(command));
        CHECK(remofile(config_dir, {command, "--help"}).exit_status == 0);
    }
    CHECK(remofile(config_dir, {}).exit_status == 1);
    CHECK(remofile(config_dir, {"frobnicate"}).exit_status == 1);
    CHECK(remofile(config_dir, {"ping"}).exit_status == 1);
    CHECK(remofile(config_dir, {"ping", "nonsense"}).exit_status == 1);
}

TEST_CASE("remofile asks a server") {
    const ServerProcess server;
    const Ended ping = remofile(server.config_dir(), {"ping", source_of(server), "-c", "20"});
    INFO(ping.to_string());
    CHECK(ping.exit_status == 0);
    CHECK_THAT(ping.output, ContainsSubstring("20 round trips: min "));
    CHECK(ping.errors.empty());

    const Ended status = remofile(server.config_dir(), {"status", source_of(server)});
    CHECK(status.exit_status == 0);
    CHECK_THAT(status.output, ContainsSubstring("1 client:"));
    CHECK_THAT(status.output, ContainsSubstring("server.messages"));

    const Ended json = remofile(server.config_dir(), {"status", "--json", source_of(server)});
    CHECK(json.exit_status == 0);
    const std::string directory = Scratch::instance().make_directory("json");
    std::ofstream(directory + "/status.json") << json.output;
    const Ended parsed = run_script(
        directory, "python3 -c 'import json; s = json.load(open(\"status.json\")); print(len(s[\"clients\"]))'");
    INFO(parsed.to_string());
    CHECK(parsed.output == "1\n");
}

TEST_CASE("each failure to connect is one line and its own exit status") {
    ServerProcess server;
    const std::string own = server.config_dir();
    const std::string stranger = Scratch::instance().make_directory("stranger");
    const std::string server_key = "--server-key=" + own + "/server.pub";
    const auto fails = [](const Ended& ended, int exit_status, const std::string& text) {
        INFO(ended.to_string());
        CHECK(ended.exit_status == exit_status);
        CHECK(lines_in(ended.errors) == 1);
        CHECK_THAT(ended.errors, ContainsSubstring(text));
        CHECK(ended.output.empty());
    };
    fails(remofile(own, {"ping", source_of(server, "/missing")}), 7, "/missing");
    fails(remofile(stranger, {"ping", source_of(server)}), 3, "--server-key=");
    fails(remofile(stranger, {"ping", source_of(server), server_key}), 4, "authorized_keys");
    CHECK(remofile(stranger, {"generate-keys", stranger + "/wrong.key"}).exit_status == 0);
    fails(remofile(own, {"ping", source_of(server), "--server-key=" + stranger + "/wrong.pub"}), 3, "key");
    fails(remofile(own, {"ping", "--insecure", source_of(server)}), 4, "encryption");
    server.stop();
    fails(remofile(own, {"ping", source_of(server)}), 2, "refused");
}

TEST_CASE("a server with a token, and one in exclusive use") {
    const std::string directory = Scratch::instance().make_directory("token");
    const std::string token = directory + "/token";
    CHECK(remofile(directory, {"generate-token", token}).exit_status == 0);
    struct stat status {};
    REQUIRE(stat(token.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(first_line_of(token).size() == 64);
    CHECK(remofile(directory, {"generate-token", token}).exit_status == 1);
    const std::string before = first_line_of(token);
    CHECK(remofile(directory, {"generate-token", "--force", token}).exit_status == 0);
    CHECK(first_line_of(token) != before);
    CHECK(remofile(directory, {"generate-token"}).output.size() == 65);

    const ServerProcess server(ServerProcess::Options{.arguments = {"--token-file", token, "--exclusive"}});
    CHECK(remofile(server.config_dir(), {"ping", source_of(server)}).exit_status == 5);
    CHECK(remofile(server.config_dir(), {"ping", "--token-file=" + token, source_of(server)}).exit_status == 0);
    Command long_ping{.arguments = {program_from_environment("REMOFILE"), "ping", "--token-file=" + token, "-c1000000",
                                    source_of(server)},
                      .environment = {{"REMOFILE_CONFIG_DIR", server.config_dir()}}};
    const Child holder = Child::start(long_ping);
    // Whoever asks before the holder is in would keep it out.
    REQUIRE(eventually(Milliseconds{10'000}, [&] {
        const std::string log = server.errors();
        return log.rfind("session opened") != std::string::npos &&
               log.rfind("session opened") > log.rfind("session closed");
    }));
    Ended refused;
    CHECK(eventually(Milliseconds{10'000}, [&] {
        refused = remofile(server.config_dir(), {"ping", "--token-file=" + token, source_of(server)});
        return refused.exit_status == 6;
    }));
    CHECK_THAT(refused.errors, ContainsSubstring("since"));
}

}  // namespace remofile::test
