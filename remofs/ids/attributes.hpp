// SPDX-License-Identifier: MIT
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>

#include "remofs/ids/id_map.hpp"
#include "remofs/kernel/kernel_abi.hpp"
#include "wire/messages.hpp"

namespace remofile::remofs {

// The inode number that programs see: the server's own for files of the export's device; for files of other devices
// below it one mixed from device and number, so that two files do not share one by accident. Never 0.
std::uint64_t visible_inode(const wire::FileIdentity& identity, std::uint64_t export_device);

// What stat(2) says of a file. st_dev is the kernel's to set.
struct stat to_stat(const wire::Attributes& attributes, const IdMap& map, std::uint64_t export_device);

// What the mount shows of every file in place of what the file has.
struct Overrides {
    std::optional<std::uint32_t> uid;  // this machine's numbers
    std::optional<std::uint32_t> gid;
    mode_t file_mask = 0;  // permission bits that are not shown: of all but directories and symlinks
    mode_t directory_mask = 0;

    bool operator==(const Overrides&) const = default;
    void apply(struct stat& stat) const;
};

// What statx(2) says of it: the same, and when it was made, if the server's file system records that.
StatxReply to_statx(const struct stat& stat, const wire::Timestamp& birth, double valid_s);

}  // namespace remofile::remofs
