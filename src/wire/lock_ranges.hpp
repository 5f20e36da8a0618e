// SPDX-License-Identifier: MIT
// Byte ranges that one owner has locked, as fcntl(2) has them.
#pragma once

#include <vector>

#include "wire/messages.hpp"

namespace remofile::wire {

// The last byte that can be locked; a range that ends there goes to the end of the file, wherever that is.
inline constexpr std::uint64_t last_locked_byte = INT64_MAX;

bool overlap(const LockRange& a, const LockRange& b);
// Whether `wanted` cannot be had while somebody else has `held`.
bool conflict(const LockRange& held, const LockRange& wanted);
bool is_valid(const LockRange& range);

// Replaces whatever is held between start and end by `range`, or by nothing if it unlocks. `held` is by start, none
// overlapping.
void apply(std::vector<LockRange>& held, const LockRange& range);

}  // namespace remofile::wire
