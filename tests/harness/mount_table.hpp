// SPDX-License-Identifier: MIT
// What is mounted where, and how to get rid of it even if its daemon hangs.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/child.hpp"

namespace remofile::test {

struct MountedFileSystem {
    std::string mountpoint;
    std::string type;     // such as "fuse.remofs"
    std::string source;   // such as "localhost:/"
    std::string options;  // per mount and per file system, with a comma between
    unsigned minor = 0;   // of a FUSE file system: its number in /sys/fs/fuse/connections
};

// Everything mounted at or below `directory`, the innermost last.
std::vector<MountedFileSystem> mounts_below(std::string_view directory);

// What is mounted at `mountpoint` itself, the topmost.
std::optional<MountedFileSystem> mounted_at(std::string_view mountpoint);

// Ends a mount whatever state its daemon is in: aborts the FUSE connection, so that every process blocked on it wakes
// with an error, then detaches it. Works for root and for the user who mounted.
void force_unmount(const MountedFileSystem& mount);

// Gives the calling process a mount table of its own, whose changes nobody else sees. Mounts of remofs that others have
// are left out of it: they would live on in it after they are taken down. Whether it can be had.
bool enter_own_mount_table();

// Runs what enters such a table in a process of its own, for a minute at most. What it returns is the exit status; 1,
// with the reason on standard error, if it throws.
Ended run_in_own_process(const std::function<int()>& work);

// In such a table: ordinary users may use /dev/fuse, whatever its permissions are on the machine of this test, and let
// others into what they mount, whatever /etc/fuse.conf says. Needs root. Whether it can be had.
bool let_users_mount();

}  // namespace remofile::test
