// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <algorithm>
#include <catch.hpp>

#include "export_fixture.hpp"
#include "server/program/server_options.hpp"
#include "server/program/server_security.hpp"

using namespace remofile;
using namespace remofile::server;

namespace {

Result<ServerOptions> parse(std::vector<std::string> arguments) {
    auto parsed = parse_command_line(arguments);
    if (!parsed)
        return std::move(parsed).error();
    REQUIRE(parsed->options.has_value());
    return std::move(*parsed->options);
}

}  // namespace

TEST_CASE("a directory is all that is needed") {
    const auto options = parse({"/srv"});
    REQUIRE(options);
    CHECK(options->directory == "/srv");
    CHECK(options->listen == std::vector<std::string>{"tcp://127.0.0.1:6768"});
    CHECK(options->identity == IdentityMode::squash);
    CHECK(options->session_timeout == std::chrono::seconds(30));
    CHECK(options->lease_term == std::chrono::seconds(10));
    CHECK(options->watch);
    CHECK(options->congestion_control == transport::CongestionControl());
    CHECK_FALSE(options->insecure);
    CHECK_FALSE(options->daemon);
}

TEST_CASE("options are taken from the command line") {
    const auto options = parse({"--listen",    "tcp://*:1",     "--listen=ipc:///s",
                                "--read-only", "--exclusive",   "--identity",
                                "client",      "--allow-root",  "--session-timeout",
                                "60",          "--max-clients", "5",
                                "--daemon",    "--pid-file",    "/run/x.pid",
                                "--log-level", "debug",         "--token-file",
                                "/t",          "--lease-term",  "5",
                                "--watch",     "none",          "dir"});
    REQUIRE(options);
    CHECK(options->listen == std::vector<std::string>{"tcp://*:1", "ipc:///s"});
    CHECK(options->read_only);
    CHECK(options->exclusive);
    CHECK(options->identity == IdentityMode::client);
    CHECK(options->allow_root);
    CHECK(options->session_timeout == std::chrono::seconds(60));
    CHECK(options->lease_term == std::chrono::seconds(5));
    CHECK_FALSE(options->watch);
    CHECK(options->max_clients == 5);
    CHECK(options->log_format == log::Format::automatic);
    CHECK(parse({"--log-format", "json", "dir"})->log_format == log::Format::json);
    CHECK_FALSE(parse({"--log-format", "xml", "dir"}));
    CHECK_FALSE(options->metrics);
    CHECK(parse({"--metrics", "9100", "dir"})->metrics->port == 9100);
    CHECK_FALSE(parse({"--metrics", "9100", "dir"})->metrics->beyond_loopback);
    CHECK(parse({"--metrics", "*:9100", "dir"})->metrics->beyond_loopback);
    CHECK_FALSE(parse({"--metrics", "host:9100", "dir"}));
    CHECK(parse({"--congestion-control", "bbr", "dir"})->congestion_control ==
          *transport::CongestionControl::parse("bbr"));
    CHECK(options->daemon);
    CHECK(options->pid_file == "/run/x.pid");
    CHECK(options->log_level == log::Level::debug);
    CHECK(options->directory == (std::filesystem::current_path() / "dir").native());  // a daemon changes its directory
}

TEST_CASE("the port of data lanes is chosen, given or none") {
    CHECK_FALSE(parse({"/srv"})->data_port.has_value());
    CHECK(parse({"--data-port=7000", "/srv"})->data_port == 7000);
    CHECK(parse({"--data-port", "none", "/srv"})->data_port == 0);
}

TEST_CASE("--help and --version are answered with a text") {
    for (const char* option : {"--help", "--version"}) {
        const auto parsed = parse_command_line({option});
        REQUIRE(parsed);
        CHECK_FALSE(parsed->options.has_value());
        CHECK(parsed->text.find("remofile-server") != std::string::npos);
    }
}

TEST_CASE("wrong options are refused by name") {
    struct Case {
        std::vector<std::string> arguments;
        std::string complaint;
    };
    for (const Case& wrong :
         std::vector<Case>{{{}, "no directory"},
                           {{"/a", "/b"}, "/b"},
                           {{"--nonsense", "/a"}, "--nonsense"},
                           {{"--identity", "root", "/a"}, "--identity: \"root\" is none of: squash, client"},
                           {{"--session-timeout", "1", "/a"}, "--session-timeout: \"1\" is not a number from 3"},
                           {{"--session-timeout", "30s", "/a"}, "--session-timeout"},
                           {{"--lease-term", "301", "/a"}, "--lease-term: \"301\" is not a number from 0 to 300"},
                           {{"--max-clients", "0", "/a"}, "--max-clients"},
                           {{"--congestion-control", "b b r", "/a"}, "--congestion-control: \"b b r\""},
                           {{"--congestion-control", "", "/a"}, "--congestion-control"},
                           {{"--data-port", "0", "/a"}, "--data-port: \"0\" is not a number from 1 to 65535"},
                           {{"--data-port", "65536", "/a"}, "--data-port"},
                           {{"--log-level", "loud", "/a"}, "--log-level"},
                           {{"--allow-root", "/a"}, "--identity=client"},
                           {{"--listen"}, "--listen"},
                           {{"--config", "/nowhere/at/all", "/a"}, "/nowhere/at/all"}}) {
        const auto parsed = parse_command_line(wrong.arguments);
        INFO(wrong.complaint);
        REQUIRE_FALSE(parsed);
        CHECK(parsed.status() == Status::bad_usage);
        CHECK_THAT(parsed.error().to_string(), ContainsSubstring(wrong.complaint));
    }
}

TEST_CASE("a configuration file has the same names, and the command line wins") {
    const test::TemporaryDirectory directory;
    const std::string file = directory / "server.toml";
    test::write_file(file,
                     "directory = \"/srv\"\n"
                     "listen = [\"tcp://*:1\", \"ipc:///s\"]\n"
                     "read-only = true\n"
                     "exclusive = false\n"
                     "session-timeout = 60\n"
                     "congestion-control = \"system\"\n"
                     "identity = \"squash\"\n");
    auto options = parse({"--config", file});
    REQUIRE(options);
    CHECK(options->directory == "/srv");
    CHECK(options->listen == std::vector<std::string>{"tcp://*:1", "ipc:///s"});
    CHECK(options->read_only);
    CHECK_FALSE(options->exclusive);
    CHECK(options->congestion_control == *transport::CongestionControl::parse("system"));
    CHECK(options->session_timeout == std::chrono::seconds(60));

    options = parse({"--config", file, "--listen", "tcp://127.0.0.1:2", "--session-timeout", "10", "/other"});
    REQUIRE(options);
    CHECK(options->directory == "/other");
    CHECK(options->listen == std::vector<std::string>{"tcp://127.0.0.1:2"});
    CHECK(options->session_timeout == std::chrono::seconds(10));
    CHECK(options->read_only);
}

TEST_CASE("a wrong configuration file is refused with its line") {
    struct Case {
        std::string text;
        std::string complaint;
    };
    const test::TemporaryDirectory directory;
    const std::string file = directory / "server.toml";
    for (const Case& wrong : std::vector<Case>{
             {"directory = \"/a\"\nlisten = \"tcp://*:1\"\nnonsense = 1\n", ":3: unknown option \"nonsense\""},
             {"read-only = \"yes\"\n", ":1: read-only must be true or false"},
             {"\nsession-timeout = true\n", ":2: session-timeout must be a text or a number"},
             {"listen = { a = 1 }\n", ":1: listen must be"},
             {"session-timeout = 1\n", ":1: session-timeout: \"1\" is not a number"},
             {"config = \"other\"\n", "unknown option \"config\""},
             {"directory = \"/a\n", ":1: "},
             {"= 5\n", ":1: "}}) {
        test::write_file(file, wrong.text);
        const auto parsed = parse_command_line({"--config", file, "/a"});
        INFO(wrong.text);
        REQUIRE_FALSE(parsed);
        CHECK_THAT(parsed.error().to_string(), ContainsSubstring(file) && ContainsSubstring(wrong.complaint));
    }
}

TEST_CASE("an insecure server that acts as its clients' users says how far that goes") {
    if (::geteuid() != 0)
        return;
    for (const bool allow_root : {false, true}) {
        std::vector<std::string> arguments{"--insecure", "--identity=client", "/srv"};
        if (allow_root)
            arguments.insert(arguments.begin(), "--allow-root");
        const auto options = parse(arguments);
        REQUIRE(options);
        const auto security = prepare_security(*options);
        REQUIRE(security);
        const auto says = [&](const std::string& text) {
            return std::ranges::any_of(security->warnings, [&](const std::string& warning) {
                return warning.find(text) != std::string::npos;
            });
        };
        CHECK(says("any user but root") == !allow_root);
        CHECK(says("any user, root included") == allow_root);
    }
}
