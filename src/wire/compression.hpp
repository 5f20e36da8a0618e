// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "base/buffer.hpp"
#include "base/result.hpp"
#include "wire/frame.hpp"

namespace remofile::wire {

// The features that decode_bulk() can serve.
inline constexpr std::uint64_t decodable_features = feature_lz4 | feature_zeros;

// A record's bulk data as it was before it was encoded; raw data is passed on without a copy. `features` are those in
// force. Allocates at most `limit` bytes, whatever the record declares. Errors: malformed for an encoding that is
// unknown or not in force, for a size above `limit`, and for data that does not decode to exactly that size.
Result<Buffer> decode_bulk(const RecordHeader& header, Buffer bulk, std::uint64_t features, std::size_t limit);

}  // namespace remofile::wire
