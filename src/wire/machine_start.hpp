// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace remofile::wire {

// The half of HelloReply::boot that all starts of a server have in common until its machine starts anew; 0: not known.
constexpr std::uint64_t machine_start(std::uint64_t boot) {
    return boot >> 32U;
}
constexpr std::uint64_t make_boot(std::uint32_t machine_start, std::uint32_t server_start) {
    return std::uint64_t{machine_start} << 32U | server_start;
}

}  // namespace remofile::wire
