// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <algorithm>
#include <catch.hpp>
#include <filesystem>

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
    CHECK(options->slow_requests == std::chrono::seconds(10));
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
    CHECK(options->requests_per_second == 0);
    CHECK(parse({"--requests-per-second", "500", "dir"})->requests_per_second == 500);
    CHECK_FALSE(parse({"--requests-per-second", "0", "dir"}));
    CHECK(options->bytes_per_second == 0);
    CHECK(parse({"--bytes-per-second", "5M", "dir"})->bytes_per_second == 5U << 20);
    for (const std::string wrong : {"0", "63K", "5 M", "-1", "fast", "99999999999999999999"})
        CHECK_FALSE(parse({"--bytes-per-second", wrong, "dir"}));
    CHECK(parse({"--slow-requests", "0", "dir"})->slow_requests == std::chrono::seconds(0));
    CHECK_FALSE(parse({"--slow-requests", "-1", "dir"}));
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

TEST_CASE("a configuration file may have several exports, which take over what is said of all") {
    const test::TemporaryDirectory directory;
    const std::string file = directory / "server.toml";
    test::write_file(file,
                     "session-timeout = 60\n"
                     "max-clients = 7\n"
                     "listen = \"tcp://*:1\"\n"
                     "[export.media-2]\n"
                     "directory = \"/srv/media\"\n"
                     "read-only = true\n"
                     "[export.home]\n"
                     "directory = \"/home\"\n"
                     "max-clients = 3\n"
                     "identity = \"client\"\n"
                     "allow-root = true\n"
                     "authorized-keys = \"/etc/home_keys\"\n");
    const auto options = parse({"--config", file});
    REQUIRE(options);
    CHECK(options->has_names());
    REQUIRE(options->exports.size() == 2);
    const ExportSettings& home = options->exports.at(0);
    CHECK(home.name == "home");
    CHECK(home.directory == "/home");
    CHECK_FALSE(home.read_only);
    CHECK(home.max_clients == 3);
    CHECK(home.session_timeout == std::chrono::seconds(60));
    CHECK(home.identity == IdentityMode::client);
    CHECK(home.allow_root);
    CHECK(home.authorized_keys == "/etc/home_keys");
    CHECK(home.where == file + ":7: export home");
    const ExportSettings& media = options->exports.at(1);
    CHECK(media.name == "media-2");
    CHECK(media.read_only);
    CHECK(media.max_clients == 7);
    CHECK(media.identity == IdentityMode::squash);

    // The command line wins over both.
    const auto over = parse({"--config", file, "--max-clients=9", "--listen=tcp://*:2"});
    REQUIRE(over);
    CHECK(over->exports.at(0).max_clients == 9);
    CHECK(over->exports.at(1).max_clients == 9);
    CHECK(over->listen == std::vector<std::string>{"tcp://*:2"});
    CHECK(over->is_same_process(*over));
    CHECK_FALSE(over->is_same_process(*options));
}

TEST_CASE("one directory is an export without a name") {
    const auto options = parse({"--read-only", "/srv"});
    REQUIRE(options);
    CHECK_FALSE(options->has_names());
    REQUIRE(options->exports.size() == 1);
    CHECK(options->exports.front().directory == "/srv");
    CHECK(options->exports.front().read_only);
    CHECK(options->exports.front().where.empty());
}

TEST_CASE("what is wrong with exports is said with its line") {
    struct Case {
        std::string text;
        std::string complaint;
    };
    const auto with_name = [](const std::string& quoted) { return "\n[export." + quoted + "]\ndirectory = \"/a\"\n"; };
    std::string many;
    for (int i = 0; i < 65; ++i)
        many += "[export.e" + std::to_string(i) + "]\ndirectory = \"/d" + std::to_string(i) + "\"\n";
    const test::TemporaryDirectory directory;
    const std::string file = directory / "server.toml";
    for (const Case& wrong : std::vector<Case>{
             {with_name("a") + with_name("a"), ":5: "},
             {with_name("\"a/b\""), ":2: \"a/b\" is no name for an export"},
             {with_name("\"..\""), ":2: \"..\" is no name"},
             {with_name("\".\""), ":2: \".\" is no name"},
             {with_name("\"\""), ":2: \"\" is no name"},
             {with_name("\"a b\""), ":2: \"a b\" is no name"},
             {with_name("\"a,b\""), "is no name"},
             {with_name("\"-a\""), "is no name"},
             {with_name("\"\\u0001a\\u001b[31m\""), ":2: "},
             {with_name("\"\\u00e9\""), "is no name"},
             {with_name(std::string(65, 'n')), "is no name"},
             {many, ": there may be 64 exports"},
             {"[export.a]\nread-only = true\n", ":1: export a: no directory is given"},
             {with_name("a") + "listen = \"tcp://*:1\"\n", ":4: listen is of the whole server"},
             {with_name("a") + "nonsense = 1\n", ":4: unknown option \"nonsense\""},
             {with_name("a") + "read-only = 1\n", ":4: read-only must be true or false"},
             {with_name("a") + "max-clients = 0\n", ":4: max-clients: \"0\" is not a number"},
             {with_name("a") + "allow-root = true\n", ":2: export a: allow-root means nothing"},
             {"insecure = true\n" + with_name("a") + "authorized-keys = \"/k\"\n", ":3: export a: authorized-keys"},
             {"directory = \"/b\"\n" + with_name("a"), ":1: directory: there are exports with names"},
             {"export = 5\n", ":1: exports are tables"},
             {"[export]\na = \"/b\"\n", ":2: a must be a table"},
             {"[export]\n", ":1: exports are tables"},
             {"[[export]]\nname = \"a\"\n", ":1: exports are tables"}}) {
        test::write_file(file, wrong.text);
        const auto parsed = parse_command_line({"--config", file});
        CAPTURE(wrong.text);
        REQUIRE_FALSE(parsed);
        CHECK(parsed.status() == Status::bad_usage);
        CHECK_THAT(parsed.error().to_string(), ContainsSubstring(file) && ContainsSubstring(wrong.complaint));
        CHECK(parsed.error().to_string().find('\x1b') == std::string::npos);
    }
    test::write_file(file, with_name("a"));
    const auto both = parse_command_line({"--config", file, "/b"});
    REQUIRE_FALSE(both);
    CHECK_THAT(both.error().to_string(), ContainsSubstring("DIRECTORY: there are exports with names"));
}

TEST_CASE("directories of exports are there, and apart from each other") {
    const test::TemporaryDirectory directory;
    const auto at = [&](const std::string& name) { return directory / name; };
    for (const std::string name : {"a", "a/in", "ab"})
        std::filesystem::create_directories(at(name));
    std::filesystem::create_directory_symlink(at("a"), at("link"));
    test::write_file(at("file"), "");
    const auto find = [&](const std::vector<std::string>& names, const std::vector<ServedDirectory>& others = {}) {
        std::vector<ExportSettings> exports;
        for (const std::string& name : names) {
            exports.emplace_back();
            exports.back().name = "e";
            exports.back().directory = at(name);
            exports.back().where = "server.toml:" + std::to_string(exports.size()) + ": export e";
        }
        return find_directories(exports, others);
    };
    const auto apart = find({"a", "ab"});
    REQUIRE(apart);
    CHECK(apart->at(1).path == std::filesystem::canonical(at("ab")));
    CHECK(find({"link"})->front() == apart->front());
    CHECK_FALSE(find({"ab"})->front() == apart->front());

    CHECK_THAT(find({"a", "missing"}).error().to_string(),
               ContainsSubstring("server.toml:2: export e") && ContainsSubstring("missing"));
    CHECK_FALSE(find({"file"}));
    for (const auto& names : std::vector<std::vector<std::string>>{
             {"a", "a"}, {"a", "a/in"}, {"a/in", "a"}, {"link", "a/in"}, {"a", "link"}, {"", "ab"}}) {
        const auto nested = find(names);
        REQUIRE_FALSE(nested);
        CHECK_THAT(nested.error().to_string(), ContainsSubstring("server.toml:2") && ContainsSubstring("lie one in"));
    }
    CHECK(find({"ab"}, *find({"a"})));
    CHECK_FALSE(find({"a/in"}, *find({"a"})));
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
