// SPDX-License-Identifier: MIT
// remofile: work with a remote Remofile server from the command line.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>
#include <string>

#include "base/log.hpp"
#include "cli/command.hpp"

namespace remofile::cli {
namespace {

constexpr auto table = std::to_array<Command>({
    {"ls", "List directories", "list", prepare_ls},
    {"stat", "Show what is known of files", "", prepare_stat},
    {"cat", "Write files to standard output", "", prepare_cat},
    {"put", "Send files and directories to a server", "upload", prepare_put},
    {"get", "Fetch files and directories from a server", "download", prepare_get},
    {"sync", "Make a directory here and one of a server alike", "", prepare_sync},
    {"touch", "Make empty files, or set the times of files to now", "file", prepare_touch},
    {"mkdir", "Make directories", "folder", prepare_mkdir},
    {"mv", "Rename a file, or move it into a directory of the same server", "", prepare_mv},
    {"rm", "Remove files", "remove", prepare_rm},
    {"status", "Show a server's clients and counters", "", prepare_status},
    {"ping", "Measure round trips to a server", "", prepare_ping},
    {"generate-keys", "Make a key pair", "", prepare_generate_keys},
    {"generate-token", "Make a token", "", prepare_generate_token},
});

ExitStatus run(int argc, char** argv) {
    CLI::App app("Work with a remote Remofile server.", "remofile");
    app.set_version_flag("--version", "remofile " REMOFILE_VERSION);
    app.require_subcommand(1);
    std::function<ExitStatus()> chosen;
    for (const Command& command : table) {
        CLI::App* subcommand = app.add_subcommand(std::string(command.name), std::string(command.summary));
        if (!command.alias.empty())
            subcommand->alias(std::string(command.alias));
        subcommand->callback([&chosen, action = command.prepare(*subcommand)] { chosen = action; });
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        // Also how --help and --version end.
        return app.exit(error) == 0 ? ExitStatus::success : ExitStatus::failure;
    }
    return chosen();
}

}  // namespace

ExitStatus complain(const Error& error) {
    std::fprintf(stderr, "remofile: %s\n", log::printable(error.to_string()).c_str());
    return client::exit_status_for(error.status);
}

}  // namespace remofile::cli

// Hundreds of small files may be under way, and the usual limit is as low as select(2) wants it.
void allow_many_files() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char** argv) {
    allow_many_files();
    remofile::log::configure("remofile", remofile::log::Level::warn, remofile::log::Target::standard_error);
    return static_cast<int>(remofile::cli::run(argc, argv));
}
