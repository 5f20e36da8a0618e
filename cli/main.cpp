// SPDX-License-Identifier: MIT
// remofile: work with a remote Remofile server from the command line.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/descriptors.hpp"
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
    {"cp", "Copy files and directories within a server", "", prepare_cp},
    {"ln", "Give a file of a server a further name, or make a symbolic link", "", prepare_ln},
    {"chmod", "Change permissions", "", prepare_chmod},
    {"df", "Show how much space there is", "", prepare_df},
    {"status", "Show a server's clients and counters", "", prepare_status},
    {"ping", "Measure round trips to a server", "", prepare_ping},
    {"trust", "Ask a server for its key, and write it down", "", prepare_trust},
    {"generate-keys", "Make a key pair", "", prepare_generate_keys},
    {"generate-token", "Make a token", "", prepare_generate_token},
});

ExitStatus misuse(const std::string& what, const std::string& command = {}) {
    std::fprintf(stderr, "remofile: %s; try: remofile %s--help\n", log::printable(what).c_str(),
                 command.empty() ? "" : (command + " ").c_str());
    return ExitStatus::failure;
}

// The command that a person means, if there is one of that name.
CLI::App* find_command(CLI::App& app, const std::string& word) {
    for (CLI::App* command : app.get_subcommands({})) {
        if (command->check_name(word))
            return command;
    }
    return nullptr;
}

std::string before_equals(const std::string& argument) {
    return argument.substr(0, argument.find('='));
}

// CLI11 would take "--insecure=false" for what turns it on, or off again.
const CLI::Option* flag_with_value(const CLI::App& command, std::span<const std::string> arguments) {
    for (const std::string& argument : arguments) {
        if (argument == "--")
            break;
        if (argument.find('=') == std::string::npos || !argument.starts_with("--"))
            continue;
        const CLI::Option* option = command.get_option_no_throw(before_equals(argument));
        // One that may have a value names its type.
        if (option != nullptr && option->get_expected_max() == 0 && option->get_type_name().empty())
            return option;
    }
    return nullptr;
}

ExitStatus run(const std::vector<std::string>& arguments) {
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
    if (arguments.empty())
        return misuse("a command is missing");
    CLI::App* command = find_command(app, arguments.front());
    if (command == nullptr && !arguments.front().starts_with('-'))
        return misuse(fmt::format("there is no command \"{}\"", arguments.front()));
    if (command == nullptr && app.get_option_no_throw(before_equals(arguments.front())) == nullptr)
        return misuse(fmt::format("there is no option {}", arguments.front()));
    if (const CLI::Option* flag = flag_with_value(command == nullptr ? app : *command, arguments))
        return misuse(fmt::format("{} takes no value", flag->get_name()), command == nullptr ? "" : arguments.front());
    try {
        std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
        app.parse(reversed);
    } catch (const CLI::ParseError& error) {
        // Also how --help and --version end.
        if (error.get_exit_code() == 0)
            return app.exit(error) == 0 ? ExitStatus::success : ExitStatus::failure;
        return misuse(error.what(), command == nullptr ? "" : arguments.front());
    }
    return chosen();
}

// What was written and does not get out is lost: to be told, unless the command has failed anyway.
ExitStatus finish_output(ExitStatus status) {
    const bool lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
    if (!lost || status != ExitStatus::success)
        return status;
    return complain(make_error(Status::io_error, "cannot write to standard output"));
}

}  // namespace

ExitStatus complain(const Error& error) {
    return complain(error, client::exit_status_for(error.status));
}

ExitStatus complain(const Error& error, ExitStatus status) {
    std::fprintf(stderr, "remofile: %s\n", log::printable(error.to_string()).c_str());
    return status;
}

}  // namespace remofile::cli

int main(int argc, char** argv) {
    using namespace remofile;
    open_standard_descriptors();
    log::configure("remofile", log::Level::warn, log::Target::standard_error);
    // Hundreds of small files may be under way.
    if (const auto raised = raise_descriptor_limit(); !raised)
        return static_cast<int>(cli::complain(raised.error()));
    return static_cast<int>(cli::finish_output(cli::run({argv + 1, argv + argc})));
}
