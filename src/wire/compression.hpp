// SPDX-License-Identifier: MIT
// Bulk data on its way: raw, as an LZ4 block, or as the number of its zeros.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>

#include "base/buffer.hpp"
#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/result.hpp"
#include "wire/frame.hpp"

namespace remofile::wire {

// The features that decode_bulk() can serve and encode_bulk() can use.
inline constexpr std::uint64_t encoding_features = feature_lz4 | feature_zeros;

// A record's bulk data as it was before it was encoded; raw data is passed on without a copy. `features` are those in
// force. Allocates at most `limit` bytes, whatever the record declares. Errors: malformed for an encoding that is
// unknown or not in force, for a size above `limit`, and for data that does not decode to exactly that size.
Result<Buffer> decode_bulk(const RecordHeader& header, Buffer bulk, std::uint64_t features, std::size_t limit);

// Data as it travels.
struct EncodedBulk {
    Buffer data;  // empty for zeros
    BulkEncoding encoding = BulkEncoding::raw;
    std::uint32_t size = 0;  // once decoded

    static EncodedBulk of_zeros(std::uint32_t size) {
        return {.data = {}, .encoding = BulkEncoding::zeros, .size = size};
    }
    static EncodedBulk of_raw(Buffer data) {
        const auto size = static_cast<std::uint32_t>(data.size());
        return {.data = std::move(data), .encoding = BulkEncoding::raw, .size = size};
    }
};

// What one stream of data (an open file) has shown of itself: data that did not shrink is not tried again for some
// time, which doubles each time it still does not. Callable from any thread; threads that race lose a try, no more.
class Compressibility {
public:
    // Whether the next `bytes` of the stream are worth trying; they count as passed.
    bool worth_trying(std::size_t bytes);
    void note_success() { refusals_.store(0, std::memory_order_relaxed); }
    void note_failure();

private:
    std::atomic<std::uint32_t> refusals_ = 0;  // in a row
    std::atomic<std::int64_t> bytes_to_skip_ = 0;
};

// How fast LZ4 is here and now, other work of the machine included, and what came of it. Callable from any thread.
class CompressionMeter {
public:
    // `prefix` leads the names of the counters: PREFIX.bytes_in and bytes_out of blocks that shrank, PREFIX.refused of
    // those that did not, PREFIX.zeros.
    CompressionMeter(Counters& counters, std::string_view prefix);

    // Bytes a second that go into LZ4's fast compression, and into LZ4 HC at its lowest level.
    double fast_bytes_per_s() const { return static_cast<double>(fast_.load(std::memory_order_relaxed)); }
    double thorough_bytes_per_s() const { return static_cast<double>(thorough_.load(std::memory_order_relaxed)); }
    void note_run(std::uint8_t level, std::size_t bytes, Duration took);

    Counters::Counter& bytes_in;
    Counters::Counter& bytes_out;
    Counters::Counter& refused_blocks;
    Counters::Counter& zero_bytes;

private:
    std::atomic<std::uint64_t> fast_;
    std::atomic<std::uint64_t> thorough_;
};

// What may be done to a piece of data.
struct EncodingPlan {
    bool zeros = false;      // tell zeros instead of sending them
    std::uint8_t level = 0;  // LZ4's; 0: do not compress
    bool adaptive = false;   // pass over what does not look as if it shrank
};

// The plan for a stream, from the features in force and HELLO's `compression`; `automatic` is the level to use if that
// is the automatic mode.
EncodingPlan make_plan(std::uint64_t features, std::uint8_t compression, std::uint8_t automatic);

// The level that lets data arrive soonest: 0 (none) where the link is as fast as LZ4, a level of LZ4 HC where it is so
// slow that there is time for it. `link_bytes_per_s` is measured, or none if nothing is known yet; `local`: the other
// end seems to be on this machine.
std::uint8_t automatic_level(std::optional<double> link_bytes_per_s, bool local, const CompressionMeter& meter);

bool is_all_zeros(std::span<const std::byte> bytes);

// Zeros that take no memory: what decode_bulk() gives for zeros. Read-only, whatever Buffer allows.
Buffer shared_zeros(std::size_t size);  // at most max_bulk_bytes
bool is_shared_zeros(const Buffer& buffer);

// Encodes as the plan allows; what does not become at least an eighth shorter stays raw, as the buffer that it is.
// Takes up to milliseconds a megabyte, with LZ4 HC a hundred. `stream` may be null.
EncodedBulk encode_bulk(Buffer data, const EncodingPlan& plan, Compressibility* stream,
                        CompressionMeter& meter) noexcept;

}  // namespace remofile::wire
