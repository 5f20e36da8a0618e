// SPDX-License-Identifier: MIT
// The program remofile as a person runs it against a server.
#pragma once

#include <catch.hpp>
#include <string>
#include <vector>

#include "harness/child.hpp"
#include "harness/server_process.hpp"

namespace remofile::test {

inline Command remofile_command(const ServerProcess& server, const std::vector<std::string>& arguments) {
    Command command{.arguments = {program_from_environment("REMOFILE")},
                    .environment = {{"REMOFILE_CONFIG_DIR", server.config_dir()}}};
    command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
    return command;
}

// As another user, to whom the server's configuration directory belongs.
inline Ended remofile_as(const Credentials& user, const ServerProcess& server,
                         const std::vector<std::string>& arguments) {
    Command command = remofile_command(server, arguments);
    command.as = user;
    return run(command);
}

inline Ended remofile(const ServerProcess& server, const std::vector<std::string>& arguments) {
    return run(remofile_command(server, arguments));
}

inline Ended succeeds(const ServerProcess& server, const std::vector<std::string>& arguments) {
    Ended ended = remofile(server, arguments);
    INFO(ended.to_string());
    REQUIRE(ended.exit_status == 0);
    return ended;
}

inline std::string source_at(const std::string& address, const std::string& path) {
    return address + ":" + path;
}

inline std::string source_of(const ServerProcess& server, const std::string& path) {
    return source_at(server.address(), path);
}

}  // namespace remofile::test
