// SPDX-License-Identifier: MIT
// A command that has its session and does not go on: its listing of a local directory waits.
#pragma once

#include <sys/stat.h>

#include <catch.hpp>
#include <filesystem>
#include <optional>

#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "remofile.hpp"

namespace remofile::test {

class WaitingCommand {
public:
    // Returns once the server has made its session and the directory /waiting for it, which must not be there before
    // and stays. Another user has a configuration directory of his own.
    explicit WaitingCommand(const ServerProcess& server, const std::optional<Credentials>& as = {},
                            const std::string& config_dir = {})
        : child_(Child::start(command(server, as, config_dir))) {
        const std::string made = server.directory() + "/waiting";
        const bool there =
            eventually(Milliseconds{30'000}, [&] { return std::filesystem::exists(made) || !child_.running(); });
        INFO(child_.errors());
        REQUIRE(there);
        REQUIRE(child_.running());
    }
    Child& child() { return child_; }

private:
    static Command command(const ServerProcess& server, const std::optional<Credentials>& as,
                           const std::string& config_dir) {
        const std::string here = Scratch::instance().make_directory("waiting");
        Command command = remofile_command(server, {"sync", here, source_of(server, "/waiting")});
        if (!config_dir.empty())
            command.environment = {{"REMOFILE_CONFIG_DIR", config_dir}};
        command.environment.insert(command.environment.end(),
                                   {{"LD_PRELOAD", program_from_environment("WAIT_BEFORE_LISTING_MODULE")},
                                    {"ASAN_OPTIONS", "verify_asan_link_order=0"},
                                    {"LISTING_OF", here},
                                    {"LISTING_ALLOWED", here + "/never"}});
        command.as = as;
        return command;
    }

    Child child_;
};

}  // namespace remofile::test
