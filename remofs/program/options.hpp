// SPDX-License-Identifier: MIT
// The command line of remofs and its mount options: what a person writes, and what mount(8), fstab, systemd and
// mount.fuse pass along.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "base/result.hpp"
#include "remofs/ids/attributes.hpp"
#include "transport/congestion_control.hpp"
#include "transport/metrics_port.hpp"
#include "wire/protocol.hpp"

namespace remofile::remofs {

enum class SymlinkPolicy : std::uint8_t { keep, contain };

struct Options {
    enum class Action : std::uint8_t { mount, show_help, show_version, check_only };
    Action action = Action::mount;

    std::string source;
    std::string mountpoint;
    bool foreground = false;
    bool debug = false;
    log::Format log_format = log::Format::automatic;
    bool remount = false;  // change a mount that is there: as `kernel_options` say

    std::string server_key;
    std::string identity;
    std::string token_file;
    bool insecure = false;
    bool read_only = false;
    bool exclusive = false;
    std::optional<Duration> wait;  // Duration::max(): as long as it takes
    bool soft = false;
    Duration timeout = std::chrono::seconds(30);  // with soft
    std::uint8_t compress = wire::compression_automatic;
    transport::CongestionControl congestion_control;
    std::optional<std::uint64_t> cache_size_bytes;
    std::uint64_t bandwidth_limit = 0;  // bytes a second in each direction; 0: none
    std::string spool;                  // empty: nothing is kept when the mount ends
    std::string idmap;                  // empty: "user" for an ordinary user, "none" for root
    Overrides overrides;
    SymlinkPolicy symlinks = SymlinkPolicy::keep;
    bool allow_other = false;
    bool allow_root = false;
    bool default_permissions = false;
    bool auto_unmount = false;
    bool sync_names = false;  // whoever makes, removes or renames something waits for the server
    std::optional<transport::MetricsAddress> metrics;  // none: they are not offered
    std::string file_system_name;                      // fsname=; empty: the source
    std::vector<std::string> kernel_options;           // "nodev", "noatime", ...: passed on as they came
    // The others, as they came (users and groups by number), but for those that are ignored: a mount that is there
    // keeps them.
    std::vector<std::string> lasting_options;
};

// A row of the table of mount options (-o).
struct OptionRow {
    enum class Kind : std::uint8_t {
        flag,            // NAME
        value,           // NAME=VALUE
        optional_value,  // NAME or NAME=VALUE
        kernel,          // NAME, passed on to mount(2)
        changeable,      // the same, of those that it can change of a mount that is there
        ignored,         // NAME or NAME=VALUE, for others to act on: mount(8), systemd
    };
    std::string_view name;  // one that ends in "*" stands for all names that begin so
    Kind kind = Kind::flag;
    std::string_view argument;  // as the help shows it
    std::string_view help;      // empty: not shown
    // Takes in the value, empty for a flag. Error: bad_usage.
    Result<> (*apply)(Options&, std::string_view value) = nullptr;
};
std::span<const OptionRow> option_table();

// Parses a command line, without the program's name. What it does not say is as in `others`. Errors: bad_usage, in one
// line that names the word.
Result<Options> parse_command_line(std::span<const std::string> arguments, Options others = {});

// The same for what mount(8) hands to the helper of a type, mount.TYPE: SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t
// TYPE], in which -f means something else. It is what the program is called as that tells which it is.
bool is_mount_helper(std::string_view program);
Result<Options> parse_helper_command_line(std::span<const std::string> arguments, Options others = {});

// Takes in a list of mount options from elsewhere than the command line. Errors: bad_usage.
Result<> add_mount_options(Options& options, std::string_view list);

// What --help prints.
std::string help_text();

// Splits a list at its commas; "\," stands for a comma within a part and "\\" for a backslash.
std::vector<std::string> split_options(std::string_view list);
// The reverse.
std::string join_options(std::span<const std::string> options);

}  // namespace remofile::remofs
