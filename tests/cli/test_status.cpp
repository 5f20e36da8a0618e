// SPDX-License-Identifier: MIT
// remofile status of servers and mounts: once, and again and again.
#include <catch.hpp>
#include <csignal>
#include <sstream>

#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

using Catch::Matchers::Contains;

constexpr Milliseconds patience{20'000};

std::vector<std::string> lines_of(const std::string& text) {
    std::istringstream stream(text);
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);)
        lines.push_back(line);
    return lines;
}

// Whether python takes each line for a JSON object that has these members.
bool are_documents(const std::string& text, const std::string& members) {
    const std::string file = Scratch::instance().make_directory("documents") + "/lines";
    write_file(file, text);
    const std::string script =
        "import json, sys\n"
        "for line in open(sys.argv[1]):\n"
        "    missing = set(sys.argv[2].split()) - set(json.loads(line))\n"
        "    assert not missing, missing\n";
    const Ended ended = run({.arguments = {"python3", "-c", script, file, members}});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    return ended.exit_status == 0;
}

// The greatest number after `name` in what was written so far.
double greatest(const std::string& text, const std::string& name) {
    double most = 0;
    const std::string key = "\"" + name + "\": ";
    for (auto at = text.find(key); at != std::string::npos; at = text.find(key, at + 1))
        most = std::max(most, std::strtod(text.c_str() + at + key.size(), nullptr));
    return most;
}

// Waits for what `shown` looks for, then for the end that Ctrl-C brings; what was written.
template <class Shown>
std::string watched_until(Child& watch, const Shown& shown) {
    const bool seen = eventually(patience, [&] { return shown(watch.output()) || !watch.running(); });
    INFO(watch.output() << watch.errors());
    CHECK(shown(watch.output()));
    REQUIRE(seen);
    watch.signal(SIGINT);
    Ended ended = watch.wait(patience);
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK(ended.errors.empty());
    CHECK(ended.output.ends_with("\n"));
    return ended.output;
}

}  // namespace

TEST_CASE("the status of a server and of a mount are single JSON documents with stable members") {
    const ServerProcess server;
    const MountProcess mount(server);
    const Ended of_server = succeeds(server, {"status", "--json", source_of(server, "/")});
    CHECK(lines_of(of_server.output).size() == 1);
    CHECK(are_documents(of_server.output, "kind version started clients incomplete counters"));
    for (const char* counter : {"server.requests", "server.bytes_received", "server.bytes_sent", "server.sessions",
                                "server.requests_open", "workers.waiting", "workers.busy"})
        CHECK_THAT(of_server.output, Contains("\"" + std::string(counter) + "\": "));
    CHECK_THAT(of_server.output, Contains("\"server.sessions\": 2"));

    const Ended of_mount = succeeds(server, {"status", "--json", mount.path()});
    CHECK(lines_of(of_mount.output).size() == 1);
    CHECK(are_documents(of_mount.output,
                        "kind mountpoint connected silent pending_changes pending_write_bytes known_files open_files "
                        "open_directories cached_bytes cache_limit_bytes counters"));
    CHECK_THAT(of_mount.output, Contains("\"mountpoint\": \"" + mount.path() + "\""));
}

TEST_CASE("a server is watched, a document a line, with what it does a second, until Ctrl-C") {
    const ServerProcess server;
    constexpr std::size_t size = 4U << 20;
    write_file(server.directory() + "/f", std::string(size, 'x'));
    Child watch = Child::start(remofile_command(server, {"status", "--json", "--watch=0.2", source_of(server, "/")}));
    REQUIRE(eventually(patience, [&] { return lines_of(watch.output()).size() >= 2; }));
    CHECK(greatest(watch.output(), "bytes_in") < size / 10);
    succeeds(server, {"put", server.directory() + "/f", source_of(server, "/g")});
    const std::string output =
        watched_until(watch, [](const std::string& text) { return greatest(text, "bytes_in") > size; });
    CHECK(are_documents(output, "time rates kind version started clients incomplete counters"));
    CHECK_THAT(lines_of(output).front(), Contains("\"rates\": null"));
    // It has said good-bye.
    CHECK_THAT(succeeds(server, {"status", "--json", source_of(server, "/")}).output,
               Contains("\"server.sessions\": 1"));
}

TEST_CASE("a mount is watched, with what its cache does, until Ctrl-C") {
    const ServerProcess server;
    write_file(server.directory() + "/f", std::string(1U << 20, 'x'));
    const MountProcess mount(server);
    Child watch = Child::start(remofile_command(server, {"status", "--json", "--watch=0.2", mount.path()}));
    REQUIRE(eventually(patience, [&] { return lines_of(watch.output()).size() >= 2; }));
    CHECK(run({.arguments = {"cat", mount.path() + "/f"}}).output.size() == 1U << 20);
    const std::string output = watched_until(watch, [](const std::string& text) {
        return greatest(text, "cache_hits") + greatest(text, "cache_misses") > 0 && greatest(text, "bytes_in") > 0;
    });
    CHECK(are_documents(output, "time rates kind mountpoint connected counters"));
}

TEST_CASE("for a person, each sample begins with the rates") {
    const ServerProcess server;
    const MountProcess mount(server);
    for (const std::string& source : {source_of(server, "/"), mount.path()}) {
        Child watch = Child::start(remofile_command(server, {"status", "--watch=0.2", source}));
        const std::string output = watched_until(
            watch, [](const std::string& text) { return text.find("requests/s, ") != std::string::npos; });
        CHECK_THAT(output, Contains("/s in, ") && Contains("/s out\n"));
        CHECK(output.find('\x1b') == std::string::npos);  // no terminal
    }
}

TEST_CASE("a mount whose remofs is stopped is not waited for") {
    const ServerProcess server;
    const MountProcess mount(server);
    ::kill(mount.pid(), SIGSTOP);
    const Ended ended = remofile(server, {"status", mount.path()});
    ::kill(mount.pid(), SIGCONT);
    INFO(ended.to_string());
    CHECK(ended.exit_status != 0);
    CHECK_FALSE(ended.timed_out());
    CHECK_THAT(ended.errors, Contains("the mount does not answer"));
}

TEST_CASE("the pause of a watch is a number of seconds") {
    const ServerProcess server;
    for (const char* wrong : {"--watch=x", "--watch=0", "--watch=-1", "--watch=nan", "--watch=100000", "--watch=1s"}) {
        const Ended ended = remofile(server, {"status", wrong, source_of(server, "/")});
        INFO(wrong << ended.to_string());
        CHECK(ended.exit_status != 0);
        CHECK_THAT(ended.errors, Contains("expected seconds, from 0.1 to 86400"));
    }
}

}  // namespace remofile::test
