// SPDX-License-Identifier: MIT
#include <cstdio>
#include <string>
#include <vector>

#include "base/allocator.hpp"
#include "base/descriptors.hpp"
#include "base/log.hpp"
#include "server/program/check_config.hpp"
#include "server/program/server.hpp"

using namespace remofile;
using namespace remofile::server;

namespace {

// Freed memory that is kept for the next data: what one client may have under way.
constexpr std::size_t kept_memory_bytes = 16U << 20;

// remofile-server check-config [FILE]
int check(const std::vector<std::string>& arguments) {
    if (arguments.size() > 2 || (arguments.size() == 2 && arguments.back().starts_with('-'))) {
        std::fputs("remofile-server: check-config takes the name of one file; try: remofile-server --help\n", stderr);
        return exit_usage;
    }
    // Only what is wrong with the file is to be said.
    log::configure("remofile-server", log::Level::off, log::Target::standard_error);
    const ConfigCheck checked = check_config(arguments.size() == 2 ? arguments.back() : std::string());
    for (const std::string& problem : checked.problems)
        std::fprintf(stderr, "remofile-server: %s\n", problem.c_str());
    if (!checked.problems.empty())
        return exit_usage;
    return std::fputs(checked.text.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? exit_failed : exit_clean;
}

}  // namespace

int main(int argc, char** argv) {
    open_standard_descriptors();
    keep_freed_memory(kept_memory_bytes);
    const Words words{.arguments = {argv + 1, argv + argc}, .working_directory = working_directory()};
    if (!words.arguments.empty() && words.arguments.front() == "check-config")
        return check(words.arguments);
    const auto command_line = parse_command_line(words.arguments, words.working_directory);
    if (!command_line) {
        std::fprintf(stderr, "remofile-server: %s\n", command_line.error().to_string().c_str());
        return exit_usage;
    }
    if (!command_line->options) {
        return std::fputs(command_line->text.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? exit_failed
                                                                                              : exit_clean;
    }
    if (const auto raised = raise_descriptor_limit(); !raised) {
        std::fprintf(stderr, "remofile-server: %s\n", raised.error().to_string().c_str());
        return exit_failed;
    }
    auto report = command_line->options->daemon ? StartReport::become_daemon()
                                                : Result<StartReport>(StartReport::in_foreground());
    if (!report) {
        std::fprintf(stderr, "remofile-server: %s\n", report.error().to_string().c_str());
        return exit_failed;
    }
    return serve(*command_line->options, words, *report);
}
