// SPDX-License-Identifier: MIT
// A session's two connections, by number.
#pragma once

#include <cstddef>

#include "client/session.hpp"

namespace remofile::client {

inline constexpr std::size_t metadata_lane = 0;
inline constexpr std::size_t data_lane = 1;
inline constexpr std::size_t lane_count = 2;
constexpr LaneKind kind_of(std::size_t lane) {
    return lane == data_lane ? LaneKind::data : LaneKind::metadata;
}

}  // namespace remofile::client
