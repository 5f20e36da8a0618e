// SPDX-License-Identifier: MIT
// One connection to a server for the length of a command.
#pragma once

#include <functional>

#include "cli/command.hpp"
#include "client/connect_options.hpp"
#include "client/session.hpp"

namespace remofile::cli {

// Adds SOURCE and the options of a connection (keys, token) to a subcommand; they are parsed into `options`, which
// must outlive it.
void add_connect_options(CLI::App& app, client::ConnectOptions& options);

// Connects, says on standard error who else is there, runs `work` to its end and says good-bye. Blocks the calling
// thread, on which everything happens. An error of the connection or of `work` is reported on standard error.
ExitStatus with_session(const client::ConnectOptions& options,
                        const std::function<Task<Result<>>(client::Session&, const Clock&)>& work);

}  // namespace remofile::cli
