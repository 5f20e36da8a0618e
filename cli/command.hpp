// SPDX-License-Identifier: MIT
// What a subcommand of remofile is. The table of them stands in main.cpp.
#pragma once

#include <functional>
#include <string_view>

#include "base/result.hpp"
#include "client/exit_status.hpp"

namespace CLI {
class App;
}

namespace remofile::cli {

using client::ExitStatus;

struct Command {
    std::string_view name;
    std::string_view summary;
    std::string_view alias;  // Remofile's word for it; may be empty
    // Adds the command's options to `app` and returns what carries it out once they are parsed.
    std::function<ExitStatus()> (*prepare)(CLI::App& app);
};

std::function<ExitStatus()> prepare_ls(CLI::App& app);
std::function<ExitStatus()> prepare_stat(CLI::App& app);
std::function<ExitStatus()> prepare_cat(CLI::App& app);
std::function<ExitStatus()> prepare_touch(CLI::App& app);
std::function<ExitStatus()> prepare_mkdir(CLI::App& app);
std::function<ExitStatus()> prepare_rm(CLI::App& app);
std::function<ExitStatus()> prepare_mv(CLI::App& app);
std::function<ExitStatus()> prepare_cp(CLI::App& app);
std::function<ExitStatus()> prepare_chmod(CLI::App& app);
std::function<ExitStatus()> prepare_ln(CLI::App& app);
std::function<ExitStatus()> prepare_df(CLI::App& app);
std::function<ExitStatus()> prepare_put(CLI::App& app);
std::function<ExitStatus()> prepare_get(CLI::App& app);
std::function<ExitStatus()> prepare_sync(CLI::App& app);
std::function<ExitStatus()> prepare_status(CLI::App& app);
std::function<ExitStatus()> prepare_ping(CLI::App& app);
std::function<ExitStatus()> prepare_trust(CLI::App& app);
std::function<ExitStatus()> prepare_generate_keys(CLI::App& app);
std::function<ExitStatus()> prepare_generate_token(CLI::App& app);

// Writes "remofile: MESSAGE" to standard error; the exit status that belongs to the error, or that was given.
ExitStatus complain(const Error& error);
ExitStatus complain(const Error& error, ExitStatus status);

}  // namespace remofile::cli
