// SPDX-License-Identifier: MIT
// Metrics of a real server and a real mount, as Prometheus would get them.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <regex>
#include <sstream>

#include "catch.hpp"
#include "harness/http_get.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

// Where a program says that its metrics are.
std::string url_in(const std::string& log) {
    const std::string before = "metrics at ";
    const auto at = log.find(before);
    return at == std::string::npos ? "" : log.substr(at + before.size(), log.find('\n', at) - at - before.size());
}

// Samples by name and labels. Each line must be what the format allows, and each metric have been described before.
std::map<std::string, double> samples_of(const std::string& text) {
    static const std::regex help("# HELP [a-z_]+ .+");
    static const std::regex type("# TYPE ([a-z_]+) (counter|gauge|histogram)");
    static const std::regex sample(R"(([a-z_]+)(\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})? ([0-9.e+-]+))");
    std::map<std::string, double> samples;
    std::map<std::string, std::string> types;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        INFO(line);
        std::smatch match;
        if (std::regex_match(line, help))
            continue;
        if (std::regex_match(line, match, type)) {
            CHECK(types.emplace(match[1], match[2]).second);
            continue;
        }
        REQUIRE(std::regex_match(line, match, sample));
        std::string metric = match[1];
        for (const std::string suffix : {"_bucket", "_sum", "_count"}) {
            const std::string base = metric.substr(0, metric.size() - std::min(metric.size(), suffix.size()));
            if (metric.ends_with(suffix) && types.contains(base))
                metric = base;
        }
        REQUIRE(types.contains(metric));
        CHECK((types[metric] == "counter") == metric.ends_with("_total"));
        CHECK(samples.emplace(match[1].str() + match[2].str(), std::stod(match[3])).second);
    }
    return samples;
}

}  // namespace

TEST_CASE("a server tells what it does") {
    const ServerProcess server({.arguments = {"--metrics", "0"}});
    const std::string url = url_in(server.errors());
    REQUIRE(url.starts_with("http://127.0.0.1:"));
    auto samples = samples_of(http_get(url));
    CHECK(samples.at("remofile_server_sessions") == 0);
    CHECK(samples.at("remofile_server_requests_total") == 0);
    CHECK(samples.at("remofile_server_sessions_closed_total") == 0);
    {
        const MountProcess mount(server);
        write_file(mount.path() + "/f", std::string(1U << 20, 'x'));
        carried_out(mount.path());
        CHECK(read_file(server.directory() + "/f").size() == 1U << 20);
        const auto has_session = [&] {
            samples = samples_of(http_get(url));
            return samples.at("remofile_server_sessions") == 1 &&
                   samples.at("remofile_server_received_bytes_total") > 1U << 20;
        };
        CHECK(eventually(Milliseconds{10'000}, has_session));
        CHECK(samples.at("remofile_server_requests_total") > 0);
        CHECK(samples.at("remofile_server_sent_bytes_total") > 0);
        CHECK(samples.contains("remofile_server_leases_held"));
        const double writes = samples.at("remofile_server_operations_total{opcode=\"WRITE\"}");
        CHECK(writes > 0);
        const std::string times = "remofile_server_request_duration_seconds";
        CHECK(samples.at(times + "_count{opcode=\"WRITE\"}") == writes);
        CHECK(samples.at(times + "_bucket{opcode=\"WRITE\",le=\"+Inf\"}") == writes);
        CHECK(samples.at(times + "_bucket{opcode=\"WRITE\",le=\"0.1\"}") <= writes);
        CHECK(samples.at(times + "_sum{opcode=\"WRITE\"}") > 0);
    }
    CHECK(eventually(Milliseconds{10'000}, [&] {
        samples = samples_of(http_get(url));
        return samples.at("remofile_server_sessions") == 0 && samples.at("remofile_server_sessions_closed_total") == 1;
    }));
}

TEST_CASE("a mount tells what it does, and what the server does not have") {
    const ServerProcess server;
    write_file(server.directory() + "/f", "content");
    const MountProcess mount(server, {"metrics=0"});
    const std::string url = url_in(mount.errors());
    REQUIRE(url.starts_with("http://127.0.0.1:"));
    CHECK(read_file(mount.path() + "/f") == "content");
    const auto has_read = [&] {
        const auto samples = samples_of(http_get(url));
        return samples.at("remofs_connected") == 1 && samples.at("remofs_server_silent") == 0 &&
               samples.at("remofs_cached_bytes") > 0 && samples.at("remofs_received_bytes_total") > 0 &&
               samples.contains("remofs_kernel_requests_total{operation=\"open\"}");
    };
    CHECK(eventually(Milliseconds{10'000}, has_read));
    const int fd = ::open((mount.path() + "/f").c_str(), O_WRONLY | O_CLOEXEC);
    kill(server.pid(), SIGSTOP);
    const bool written = fd >= 0 && ::write(fd, "x", 1) == 1;
    const bool pending = eventually(Milliseconds{10'000},
                                    [&] { return samples_of(http_get(url)).at("remofs_pending_write_bytes") > 0; });
    kill(server.pid(), SIGCONT);
    ::close(fd);
    CHECK(written);
    CHECK(pending);
    CHECK(eventually(Milliseconds{10'000},
                     [&] { return samples_of(http_get(url)).at("remofs_pending_write_bytes") == 0; }));
}

TEST_CASE("a port that cannot be had is said, and ends the start") {
    const ServerProcess server({.arguments = {"--metrics", "0"}});
    const std::string url = url_in(server.errors());
    const std::string taken = url.substr(7, url.rfind('/') - 7);
    const std::string directory = Scratch::instance().make_directory("export");
    const Ended second =
        run({.arguments = {program_from_environment("REMOFILE_SERVER"), directory, "--listen",
                           "ipc://" + Scratch::instance().make_directory("socket") + "/s", "--metrics", taken},
             .environment = {{"REMOFILE_CONFIG_DIR", server.config_dir()}}});
    INFO(second.to_string());
    CHECK(second.exit_status == 1);
    CHECK(second.errors.find("cannot offer metrics at " + taken) != std::string::npos);
    const Ended mount = run(remofs_command({.source = source_of(server.port()),
                                            .config_dir = server.config_dir(),
                                            .options = {"metrics=" + taken},
                                            .mountpoint = Scratch::instance().make_directory("mount"),
                                            .foreground = false}));
    INFO(mount.to_string());
    CHECK(mount.exit_status == 1);
    CHECK(mount.errors.find("cannot offer metrics at " + taken) != std::string::npos);
}
