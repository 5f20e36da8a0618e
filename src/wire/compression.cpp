// SPDX-License-Identifier: MIT
#include "wire/compression.hpp"

#include <lz4.h>

#include <cstring>

namespace remofile::wire {
namespace {

Result<Buffer> decompress_lz4(const Buffer& bulk, std::size_t size) {
    Buffer data = Buffer::allocate(size);
    // Sizes are bounded by max_frame_bytes and max_bulk_bytes: they fit an int.
    const int written =
        LZ4_decompress_safe(reinterpret_cast<const char*>(bulk.data()), reinterpret_cast<char*>(data.data()),
                            static_cast<int>(bulk.size()), static_cast<int>(size));
    if (written < 0 || static_cast<std::size_t>(written) != size)
        return make_error(Status::malformed, "compressed data does not decompress to the size that was declared");
    return data;
}

}  // namespace

Result<Buffer> decode_bulk(const RecordHeader& header, Buffer bulk, std::uint64_t features, std::size_t limit) {
    if (header.bulk_size > limit || header.bulk_size > max_bulk_bytes || bulk.size() > max_frame_bytes)
        return make_error(Status::malformed, "more bulk data than was asked for");
    switch (header.bulk_encoding) {
        case BulkEncoding::raw:
            if (bulk.size() != header.bulk_size)
                return make_error(Status::malformed, "a bulk frame's length is not what its record says");
            return bulk;
        case BulkEncoding::lz4:
            if ((features & feature_lz4) == 0)
                break;
            return decompress_lz4(bulk, header.bulk_size);
        case BulkEncoding::zeros: {
            if ((features & feature_zeros) == 0)
                break;
            if (!bulk.empty())
                return make_error(Status::malformed, "a frame of zeros that is not empty");
            Buffer data = Buffer::allocate(header.bulk_size);
            if (!data.empty())
                std::memset(data.data(), 0, data.size());
            return data;
        }
    }
    return make_error(Status::malformed, "an encoding of bulk data that is not in force");
}

}  // namespace remofile::wire
