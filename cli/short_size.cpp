// SPDX-License-Identifier: MIT
#include "cli/short_size.hpp"

#include <string_view>

#include "base/log.hpp"

namespace remofile::cli {

std::string short_size(std::uint64_t bytes) {
    constexpr std::string_view units = "KMGTPE";
    constexpr std::uint64_t step = 1024;
    if (bytes < step)
        return std::to_string(bytes);
    std::size_t unit = 0;
    std::uint64_t divisor = step;
    // 1023.5 of one unit is shown as 1.0 of the next.
    while (unit + 1 < units.size() && bytes > (step - 1) * divisor) {
        ++unit;
        divisor *= step;
    }
    const std::uint64_t whole = bytes / divisor;
    const std::uint64_t rest = bytes % divisor;
    // Tenths, rounded up: a divisor has 60 bits at most.
    const std::uint64_t tenths = whole * 10 + (rest * 10 + divisor - 1) / divisor;
    if (tenths < 100)
        return fmt::format("{}.{}{}", tenths / 10, tenths % 10, units[unit]);
    return fmt::format("{}{}", whole + (rest > 0 ? 1 : 0), units[unit]);
}

}  // namespace remofile::cli
