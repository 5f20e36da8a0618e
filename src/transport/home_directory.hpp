// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>

#include "base/result.hpp"

namespace remofile::transport {

// The account's, as ssh has it; what HOME says only if there is none. Error: bad_usage.
Result<std::filesystem::path> home_directory();

}  // namespace remofile::transport
