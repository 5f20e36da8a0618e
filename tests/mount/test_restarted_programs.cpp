// SPDX-License-Identifier: MIT
// Real programs at work while the server is killed and started again: none of them sees an error, and what they leave
// is what it should be, on the mount and at the server. REMOFS_TEST_TRIES says how often it is killed under each,
// REMOFS_TEST_SEED when. PostgreSQL is tried where it is installed.
#include <glob.h>
#include <pwd.h>
#include <unistd.h>

#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"
#include "mount/killing.hpp"
#include "mount/workloads.hpp"

using namespace remofile::test;

namespace {

// A round with its kills may take so long on a machine under load.
constexpr Milliseconds round_deadline{120'000};

// The directory of PostgreSQL's programs, which Debian keeps out of PATH; of the newest version.
std::optional<std::string> postgres_programs() {
    glob_t found{};
    std::optional<std::string> directory;
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, nullptr, &found) == 0)
        directory = std::string(found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    if (directory)
        directory->erase(directory->rfind('/'));
    return directory;
}

struct Setting {
    std::vector<std::string> server_arguments = {};
    std::vector<std::string> mount_options = {};
    std::vector<std::pair<std::string, std::string>> environment = {};
};

void work_under_kills(const Workload& workload, const Setting& setting = {}) {
    const std::uint32_t kills = number_from("REMOFS_TEST_TRIES", 4);
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO(workload.name << ", seed " << seed);
    std::mt19937 random(seed);
    ServerProcess server({.directory = {},
                          .config_dir = {},
                          .arguments = setting.server_arguments,
                          .lends_inodes = true,
                          .keeps_files = true});
    MountProcess mount(server, setting.mount_options);
    const std::string scratch = Scratch::instance().make_directory("local");
    std::uint32_t killed = 0;
    for (int round = 0; killed < kills; ++round) {
        const std::string directory = "/round" + std::to_string(round);
        REQUIRE(mkdir((mount.path() + directory).c_str(), 0755) == 0);
        Command command{.arguments = {"bash", "-euo", "pipefail", "-c", workload.script},
                        .environment = setting.environment,
                        .directory = mount.path() + directory};
        command.environment.emplace_back("AT_SERVER", server.directory() + directory);
        command.environment.emplace_back("SCRATCH", scratch);
        command.environment.emplace_back("ROUND", std::to_string(round));
        Child program = Child::start(command);
        killed += kill_under(server, program, random, kills - killed);
        const Ended end = program.wait(round_deadline);
        INFO("round " << round << ", killed " << killed << " times\n" << end.to_string());
        INFO("the mount: " << mount.errors());
        REQUIRE(end.exit_status == 0);
    }
    CHECK(mount.unmount());
}

}  // namespace

TEST_CASE("restarted programs: copies, and lines that are appended") {
    work_under_kills(copies);
}

TEST_CASE("restarted programs: an archive that is unpacked, copied and removed") {
    work_under_kills(archives);
}

TEST_CASE("restarted programs: rsync") {
    work_under_kills(mirrors);
}

TEST_CASE("restarted programs: git") {
    work_under_kills(git);
}

TEST_CASE("restarted programs: sqlite") {
    work_under_kills(databases);
}

TEST_CASE("restarted programs: make") {
    work_under_kills(builds);
}

TEST_CASE("restarted programs: PostgreSQL") {
    const auto programs = postgres_programs();
    if (!programs || getuid() != 0 || getpwnam("postgres") == nullptr) {
        WARN("PostgreSQL is not installed, or this is not root: not tried");
        return;
    }
    work_under_kills(postgres, {.server_arguments = {"--identity", "client", "--allow-root"},
                                .mount_options = {"allow_other"},
                                .environment = {{"POSTGRES", *programs}}});
}
