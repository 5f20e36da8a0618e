// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

namespace remofile::cli {

// As ls -h and df -h of GNU show a size: "1023", "1.5K", "12M", rounded up.
std::string short_size(std::uint64_t bytes);

}  // namespace remofile::cli
