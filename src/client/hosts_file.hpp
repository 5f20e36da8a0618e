// SPDX-License-Identifier: MIT
// hosts.toml: what a host in a SOURCE stands for, and what goes with it. Of a user, in the configuration directory, and
// in /etc/remofile for all; remofile-hosts(5) describes it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "client/connect_options.hpp"

namespace remofile::client {

// Options for remofs, as a list behind -o.
struct MountOptions {
    std::string list;
    std::string place;  // "FILE:LINE: ", which leads errors
};

// What is written of one host; what is empty is not.
struct HostSettings {
    std::string address;  // HOST or HOST:PORT
    std::string export_name;
    std::string server_key;  // this and the next two as in ConnectOptions
    std::string identity;
    std::string token_file;
    std::vector<MountOptions> mount_options;  // the later count more
};

// What `text`, the content of `file`, says of that host. All of the file is checked, whatever is asked for. Error:
// bad_usage, in one line that names file and line.
Result<HostSettings> parse_hosts(std::string_view text, const std::string& file, std::string_view host);

// SOURCE with what its host stands for in its place, and what else is written of it.
struct NamedSource {
    std::string source;
    HostSettings settings;
};
// `settings` of the host that `source` names. A port that it has counts more than theirs.
NamedSource apply_address(std::string_view source, HostSettings settings);
// Reads the files of this user and of all, of which the first counts more. What is no SOURCE, or names no host, is left
// as it is. Errors: those of parse_hosts(); access_denied (others may write to a file), and those of reading it.
Result<NamedSource> look_up(const std::string& source);

}  // namespace remofile::client
