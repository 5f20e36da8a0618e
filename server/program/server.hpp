// SPDX-License-Identifier: MIT
// The server as a whole: puts the parts together, and takes them apart in the right order.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "server/program/daemon.hpp"
#include "server/program/server_options.hpp"

namespace remofile::server {

// The program's exit status; remofile-server(8).
inline constexpr int exit_clean = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_unfinished = 3;

// The words that the program was started with, to be understood anew on SIGHUP.
struct Words {
    std::vector<std::string> arguments;
    std::filesystem::path working_directory;
};

// Serves until SIGTERM or SIGINT; the exit status. `options` are those of `words`. Takes over the process: its signals,
// and its main thread as the reactor's.
int serve(const ServerOptions& options, const Words& words, StartReport& report);

}  // namespace remofile::server
