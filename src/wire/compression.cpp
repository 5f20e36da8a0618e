// SPDX-License-Identifier: MIT
#include "wire/compression.hpp"

#include <lz4.h>
#include <lz4hc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "base/assert.hpp"
#include "base/clock.hpp"

namespace remofile::wire {
namespace {

// Less gains nothing: a packet carries 1,448 bytes, and headers take a hundred.
constexpr std::size_t min_compressed_bytes = 512;
// In automatic mode, longer data is judged by a part of this length first. LZ4 looks back 64 KiB, but what 16 KiB do
// not show is seldom worth the time.
constexpr std::size_t sample_bytes = 16U << 10;
// Levels below are LZ4's fast compression.
constexpr std::uint8_t first_hc_level = 3;

// The pause after data that did not shrink, doubled up to the second each time it does not again. A file that changes
// its nature is noticed after as much; trying 16 KiB in 64 MiB costs nothing.
constexpr std::int64_t first_pause_bytes = 256 << 10;
constexpr std::int64_t max_pause_bytes = 64 << 20;

// LZ4 on one core of a current machine, before it has been measured.
constexpr std::uint64_t assumed_fast_bytes_per_s = 500'000'000;
constexpr std::uint64_t assumed_thorough_bytes_per_s = 70'000'000;
// Shorter runs say more about the clock than about LZ4.
constexpr std::size_t min_measured_bytes = 64U << 10;

// Compressing has to be this much faster than the link, for it takes the core from encryption and the file system.
constexpr double margin = 3;
// LZ4 HC must take in what the link carries of text that shrinks to a quarter.
constexpr double thorough_margin = 4;
// The same where the other end is on this machine: it will be a link only if somebody has put a tunnel there.
constexpr double local_margin = 12;

std::size_t longest_worthwhile(std::size_t size) {
    return size - size / 8;
}

// Compresses into `target`; 0 if it does not fit.
std::size_t compress(std::span<const std::byte> data, std::span<std::byte> target, int level) {
    const auto* from = reinterpret_cast<const char*>(data.data());
    auto* to = reinterpret_cast<char*>(target.data());
    const auto size = static_cast<int>(data.size());
    const auto room = static_cast<int>(target.size());
    const int written = level < first_hc_level ? LZ4_compress_default(from, to, size, room)
                                               : LZ4_compress_HC(from, to, size, room, level);
    return static_cast<std::size_t>(std::max(written, 0));
}

bool sample_shrinks(std::span<const std::byte> data) {
    std::byte target[sample_bytes];
    const auto sample = data.first(sample_bytes);
    return compress(sample, std::span(target).first(longest_worthwhile(sample_bytes)), 1) > 0;
}

// Also none if there is no memory for it.
std::optional<Buffer> compress_measured(const Buffer& data, const EncodingPlan& plan, CompressionMeter& meter) try {
    if (plan.adaptive && data.size() >= 2 * sample_bytes && !sample_shrinks(data.bytes()))
        return std::nullopt;
    Buffer target = Buffer::allocate(longest_worthwhile(data.size()));
    const TimePoint begun = Clock::system().now();
    const std::size_t written = compress(data.bytes(), target.bytes(), plan.level);
    if (data.size() >= min_measured_bytes && written > 0)
        meter.note_run(plan.level, data.size(), Clock::system().now() - begun);
    if (written == 0)
        return std::nullopt;
    // A block that shrank much does not keep the memory of what it was.
    if (written < target.size() / 2)
        return Buffer::copy_of(target.bytes().first(written));
    target.shrink(written);
    return target;
} catch (const std::bad_alloc&) {
    return std::nullopt;
}

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

namespace {

// Pages that nobody can write to are all the kernel's one page of zeros.
std::byte* zero_pages() {
    static std::byte* const pages = [] {
        void* mapped = ::mmap(nullptr, max_bulk_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REMOFILE_ASSERT(mapped != MAP_FAILED);
        return static_cast<std::byte*>(mapped);
    }();
    return pages;
}

}  // namespace

Buffer shared_zeros(std::size_t size) {
    REMOFILE_ASSERT(size <= max_bulk_bytes);
    return {zero_pages(), size, [](void*) noexcept {}, nullptr};
}

bool is_shared_zeros(const Buffer& buffer) {
    return buffer.data() == zero_pages();
}

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
            return shared_zeros(header.bulk_size);
        }
    }
    return make_error(Status::malformed, "an encoding of bulk data that is not in force");
}

bool Compressibility::worth_trying(std::size_t bytes) {
    if (refusals_.load(std::memory_order_relaxed) == 0)
        return true;
    return bytes_to_skip_.fetch_sub(static_cast<std::int64_t>(bytes), std::memory_order_relaxed) <= 0;
}

void Compressibility::note_failure() {
    const std::uint32_t before = refusals_.fetch_add(1, std::memory_order_relaxed);
    const std::int64_t pause = first_pause_bytes << std::min<std::uint32_t>(before, 16);
    bytes_to_skip_.store(std::min(pause, max_pause_bytes), std::memory_order_relaxed);
}

CompressionMeter::CompressionMeter(Counters& counters, std::string_view prefix)
    : bytes_in(counters.at(std::string(prefix) + ".bytes_in")),
      bytes_out(counters.at(std::string(prefix) + ".bytes_out")),
      refused_blocks(counters.at(std::string(prefix) + ".refused")),
      zero_bytes(counters.at(std::string(prefix) + ".zeros")),
      fast_(assumed_fast_bytes_per_s),
      thorough_(assumed_thorough_bytes_per_s) {}

void CompressionMeter::note_run(std::uint8_t level, std::size_t bytes, Duration took) {
    if (level > first_hc_level)
        return;
    std::atomic<std::uint64_t>& speed = level < first_hc_level ? fast_ : thorough_;
    const double seconds = std::max(std::chrono::duration<double>(took).count(), 1e-9);
    const double now = static_cast<double>(bytes) / seconds;
    // An eighth of each run: one that was interrupted by others counts little. Runs that race lose one.
    const auto before = static_cast<double>(speed.load(std::memory_order_relaxed));
    speed.store(static_cast<std::uint64_t>(before + (now - before) / 8), std::memory_order_relaxed);
}

EncodingPlan make_plan(std::uint64_t features, std::uint8_t compression, std::uint8_t automatic) {
    EncodingPlan plan{.zeros = (features & feature_zeros) != 0};
    if ((features & feature_lz4) == 0 || compression == compression_off)
        return plan;
    plan.adaptive = compression == compression_automatic;
    plan.level = plan.adaptive ? automatic : compression;
    return plan;
}

std::uint8_t automatic_level(std::optional<double> link_bytes_per_s, bool local, const CompressionMeter& meter) {
    if (!link_bytes_per_s)
        return local ? 0 : 1;
    if (*link_bytes_per_s * (local ? local_margin : margin) >= meter.fast_bytes_per_s())
        return 0;
    return *link_bytes_per_s * thorough_margin < meter.thorough_bytes_per_s() ? first_hc_level : 1;
}

bool is_all_zeros(std::span<const std::byte> bytes) {
    // The first bytes are looked at; each other is equal to the one a few places before.
    constexpr std::size_t stride = 16;
    const std::size_t first = std::min(stride, bytes.size());
    for (std::size_t i = 0; i < first; ++i) {
        if (bytes[i] != std::byte{0})
            return false;
    }
    return bytes.size() <= stride || std::memcmp(bytes.data(), bytes.data() + stride, bytes.size() - stride) == 0;
}

EncodedBulk encode_bulk(Buffer data, const EncodingPlan& plan, Compressibility* stream,
                        CompressionMeter& meter) noexcept {
    REMOFILE_ASSERT(data.size() <= max_bulk_bytes);
    if (plan.zeros && !data.empty() && is_all_zeros(data.bytes())) {
        meter.zero_bytes.add(data.size());
        return EncodedBulk::of_zeros(static_cast<std::uint32_t>(data.size()));
    }
    if (plan.level == 0 || data.size() < min_compressed_bytes ||
        (plan.adaptive && stream != nullptr && !stream->worth_trying(data.size())))
        return EncodedBulk::of_raw(std::move(data));
    std::optional<Buffer> shorter = compress_measured(data, plan, meter);
    if (!shorter) {
        meter.refused_blocks.add();
        if (stream != nullptr)
            stream->note_failure();
        return EncodedBulk::of_raw(std::move(data));
    }
    if (stream != nullptr)
        stream->note_success();
    meter.bytes_in.add(data.size());
    meter.bytes_out.add(shorter->size());
    const auto size = static_cast<std::uint32_t>(data.size());
    return {.data = std::move(*shorter), .encoding = BulkEncoding::lz4, .size = size};
}

}  // namespace remofile::wire
