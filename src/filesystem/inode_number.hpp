// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace remofile::filesystem {

// The number of a file between us and whoever we answer: never used twice in the life of a file system. 0 is none.
using InodeNumber = std::uint64_t;
inline constexpr InodeNumber root_inode = 1;

}  // namespace remofile::filesystem
