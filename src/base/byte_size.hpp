// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.hpp"

namespace remofile {

// Bytes from text as a person writes it: "65536", "64K", "256M", "1.5G" is refused; K, M, G, T (optionally followed by
// B or iB) are powers of 1024. Errors: invalid for anything else, out_of_range for what does not fit.
Result<std::uint64_t> parse_byte_size(std::string_view text);

}  // namespace remofile
