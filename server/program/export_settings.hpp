// SPDX-License-Identifier: MIT
// What a person may say of one export.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace remofile::server {

enum class IdentityMode : std::uint8_t { squash, client };

struct ExportSettings {
    std::string name;       // empty: it has none, and is the only one
    std::string directory;  // absolute
    bool read_only = false;
    bool exclusive = false;
    bool no_lent_inodes = false;
    bool no_kept_files = false;
    std::string token_file;
    std::string authorized_keys;  // empty: in the configuration directory
    IdentityMode identity = IdentityMode::squash;
    bool allow_root = false;
    std::chrono::seconds session_timeout{30};
    bool watch = true;                    // for changes by programs on this machine, where it can be done
    std::chrono::seconds lease_term{10};  // 0: no leases; at most session_timeout counts
    std::uint32_t max_clients = 256;
    std::uint32_t max_clients_per_key = 64;
    std::uint32_t requests_per_second = 0;  // of each client; 0: any number
    std::uint64_t bytes_per_second = 0;     // likewise

    std::string where;  // it is said: file, line and export; empty for one without a name
    // Leads an error.
    std::string place() const { return where.empty() ? where : where + ": "; }
};

// A directory as it is now.
struct ServedDirectory {
    std::string path;  // without symlinks
    dev_t device = 0;
    ino_t inode = 0;

    // Errors: no_entry, not_directory, access_denied and so on, naming the directory.
    static Result<ServedDirectory> find(const std::string& path);
    friend bool operator==(const ServedDirectory&, const ServedDirectory&) = default;
    // One of them is the other, or lies in it.
    bool overlaps(const ServedDirectory& other) const;
};

// The directories of exports with names, in their order, and that none of them overlaps another, nor one of `others`,
// which are served already: what is done in one would not be told to the clients of the other, nor would their locks be
// known there. Error: bad_usage, with the export's place in its file.
Result<std::vector<ServedDirectory>> find_directories(std::span<const ExportSettings> exports,
                                                      std::span<const ServedDirectory> others);

}  // namespace remofile::server
