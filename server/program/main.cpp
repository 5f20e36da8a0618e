// SPDX-License-Identifier: MIT
#include <cstdio>
#include <string>
#include <vector>

#include "base/allocator.hpp"
#include "base/descriptors.hpp"
#include "server/program/server.hpp"

using namespace remofile;
using namespace remofile::server;

namespace {

// Freed memory that is kept for the next data: what one client may have under way.
constexpr std::size_t kept_memory_bytes = 16U << 20;

}  // namespace

int main(int argc, char** argv) {
    open_standard_descriptors();
    keep_freed_memory(kept_memory_bytes);
    const auto command_line = parse_command_line(std::vector<std::string>(argv + 1, argv + argc));
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
    return serve(*command_line->options, *report);
}
