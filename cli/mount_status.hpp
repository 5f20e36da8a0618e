// SPDX-License-Identifier: MIT
// What a mount of remofs on this machine says of itself.
#pragma once

#include <filesystem>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace remofile::cli {

struct MountStatus {
    std::filesystem::path mountpoint;
    std::string json;  // of numbers and booleans
};

// Of the mount that `path` is in. Errors: bad_usage (no mount of remofs), timed_out (its remofs does not answer within
// `patience`; a thread is left that waits on), those of the path.
Result<MountStatus> read_mount_status(const std::string& path, Duration patience);

}  // namespace remofile::cli
