// SPDX-License-Identifier: MIT
// What a person may say to remofile-server, on the command line or in a TOML file: one table for both.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "base/result.hpp"
#include "server/program/export_settings.hpp"
#include "transport/congestion_control.hpp"
#include "transport/metrics_port.hpp"

namespace remofile::server {

// Whether the server's process may reach more of its machine's files than it needs (sandbox.hpp).
enum class Sandbox : std::uint8_t {
    automatic,  // where the kernel cannot keep it from that, or exports may be added
    on,         // never: without such a kernel it does not start
    none,
};

// What it inherits is said of all exports that do not say otherwise themselves.
struct ServerOptions : ExportSettings {
    // By name, or the only one, without a name, which is as said of all. Never empty once parsed.
    std::vector<ExportSettings> exports;

    std::vector<std::string> listen;  // never empty once parsed
    // The port of sealed lanes. Not set: beside the first of `listen`; 0: none.
    std::optional<std::uint16_t> data_port;
    std::string server_key;       // empty: in the configuration directory, made on first use
    std::string next_server_key;  // empty: there is none
    bool insecure = false;
    transport::CongestionControl congestion_control;
    std::uint32_t strangers_per_second = 20;
    std::chrono::seconds slow_requests{10};  // from which on one is logged; 0: none
    bool tell_key = true;                    // to whoever asks
    bool daemon = false;
    std::string pid_file;
    Sandbox sandbox = Sandbox::automatic;
    std::string config_file;                           // from which some of this is; empty: none
    std::optional<transport::MetricsAddress> metrics;  // none: they are not offered
    log::Level log_level = log::Level::info;
    log::Format log_format = log::Format::automatic;

    bool has_names() const { return !exports.front().name.empty(); }
    // What they say that counts at the start only, but for exports.
    bool is_same_process(const ServerOptions& other) const;
};

// What came of a command line: options to serve with, or a text that was asked for (--help, --version).
struct CommandLine {
    std::optional<ServerOptions> options;
    std::string text;
};

// Where a person's relative paths begin. Empty where the working directory is gone.
std::filesystem::path working_directory();

// Parses the arguments after the program's name and the file that --config names; the command line wins. Without a
// directory and --config the file is server.toml in the configuration directory, if it is there. Relative paths begin
// at `directory`, for a daemon changes its own, and come back absolute. Error: bad_usage, with a message that names the
// option, or the file and line.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments,
                                       const std::filesystem::path& directory = working_directory());

}  // namespace remofile::server
