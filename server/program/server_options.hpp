// SPDX-License-Identifier: MIT
// What a person may say to remofile-server, on the command line or in a TOML file: one table for both.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "base/result.hpp"
#include "transport/congestion_control.hpp"
#include "transport/metrics_port.hpp"

namespace remofile::server {

enum class IdentityMode : std::uint8_t { squash, client };

struct ServerOptions {
    std::string directory;
    std::vector<std::string> listen;  // never empty once parsed
    // The port of sealed lanes. Not set: beside the first of `listen`; 0: none.
    std::optional<std::uint16_t> data_port;
    bool read_only = false;
    bool exclusive = false;
    bool no_lent_inodes = false;
    std::string token_file;
    std::string authorized_keys;  // empty: in the configuration directory
    std::string server_key;       // empty: in the configuration directory, made on first use
    bool insecure = false;
    IdentityMode identity = IdentityMode::squash;
    bool allow_root = false;
    std::chrono::seconds session_timeout{30};
    bool watch = true;                    // for changes by programs on this machine, where it can be done
    std::chrono::seconds lease_term{10};  // 0: no leases; at most session_timeout counts
    transport::CongestionControl congestion_control;
    std::uint32_t max_clients = 256;
    std::uint32_t max_clients_per_key = 64;
    std::uint32_t strangers_per_second = 20;
    bool daemon = false;
    std::string pid_file;
    std::optional<transport::MetricsAddress> metrics;  // none: they are not offered
    log::Level log_level = log::Level::info;
    log::Format log_format = log::Format::automatic;
};

// What came of a command line: options to serve with, or a text that was asked for (--help, --version).
struct CommandLine {
    std::optional<ServerOptions> options;
    std::string text;
};

// Parses the arguments after the program's name and the file that --config names; the command line wins. Paths come
// back absolute, for a daemon changes its directory. Error: bad_usage, with a message that names the option, or the
// file and line.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments);

}  // namespace remofile::server
