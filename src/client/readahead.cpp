// SPDX-License-Identifier: MIT
#include "client/readahead.hpp"

#include <algorithm>
#include <utility>

#include "client/block_cache.hpp"

namespace remofile::client {
namespace {

// Readers of one open file that are told apart. Programs that read one file in more places at once than this are
// databases, whose reads are random anyway.
constexpr std::size_t max_streams = 8;

// The kernel sends reads of one reader side by side, so that they arrive out of order by as much as it keeps under
// way; a gap smaller than a block costs nothing, for the block is fetched anyway.
constexpr std::uint64_t slack_bytes = block_bytes;

// The first window: what a small file needs. It grows at once if the reader turns out to be fast, by more than TCP's
// while it starts, which would pause for want of something to send.
constexpr std::uint64_t first_window_bytes = 2 * block_bytes;
constexpr std::uint64_t window_growth = 4;

// Reads that must follow a stride before it is believed: two may be chance.
constexpr unsigned stride_evidence = 2;

// Strides fetched ahead at most: each is a request of its own.
constexpr std::uint64_t max_strides_ahead = 16;

std::uint64_t block_floor(std::uint64_t offset) {
    return offset / block_bytes * block_bytes;
}

std::uint64_t block_ceiling(std::uint64_t offset) {
    return block_floor(offset + block_bytes - 1);
}

std::uint64_t distance(std::uint64_t a, std::uint64_t b) {
    return a < b ? b - a : a - b;
}

}  // namespace

Readahead::Pattern Readahead::continues(const Stream& stream, std::uint64_t offset, std::uint64_t size) {
    const bool near_the_end = distance(offset, stream.end) <= slack_bytes;
    // Side by side, the later half of a read may come first; until a stream is known to go forward, a read before the
    // latest one counts for going backward.
    if (near_the_end && (stream.pattern == Pattern::forward || offset + size > stream.last_offset))
        return Pattern::forward;
    const bool may_be_backward = stream.pattern == Pattern::backward || stream.pattern == Pattern::undecided;
    if (may_be_backward && offset < stream.last_offset && distance(offset + size, stream.last_offset) <= slack_bytes)
        return Pattern::backward;
    if (stream.stride != 0 && static_cast<std::int64_t>(offset - stream.last_offset) == stream.stride)
        return Pattern::strided;
    return Pattern::undecided;
}

// The stream that this read continues, moved to the front; a new one if it continues none.
Readahead::Stream& Readahead::stream_of(std::uint64_t offset, std::uint64_t size) {
    auto continued = streams_.end();
    Pattern pattern = Pattern::undecided;
    for (auto stream = streams_.begin(); stream != streams_.end() && pattern <= Pattern::strided; ++stream) {
        // Neighbourhood is better evidence than a distance: readers of equal parts of a file look like one with a
        // stride.
        if (const Pattern candidate = continues(*stream, offset, size); candidate > pattern) {
            pattern = candidate;
            continued = stream;
        }
    }
    const std::uint64_t previous_offset = streams_.empty() ? offset : streams_.front().last_offset;
    if (continued != streams_.end()) {
        Stream stream = *continued;
        streams_.erase(continued);
        if (stream.pattern != pattern) {
            stream.ahead = pattern == Pattern::backward ? block_floor(stream.last_offset) : 0;
            stream.matches = 0;
        }
        stream.pattern = pattern;
        ++stream.matches;
        if (pattern == Pattern::strided)
            add_stream({.last_offset = offset, .end = offset + size, .window_bytes = first_window_bytes});
        return add_stream(stream);
    }

    // The first two reads of a strided reader are two streams: the second one remembers how far it is from the first.
    Stream fresh{.stride = static_cast<std::int64_t>(offset - previous_offset), .window_bytes = first_window_bytes};
    // Whoever begins at the beginning mostly goes on.
    if (offset == 0) {
        fresh.pattern = Pattern::forward;
        fresh.matches = 1;
    }
    return add_stream(fresh);
}

Readahead::Stream& Readahead::add_stream(const Stream& stream) {
    if (streams_.size() == max_streams)
        streams_.pop_back();
    return streams_.emplace_front(stream);
}

Readahead::Advice Readahead::on_read(std::uint64_t offset, std::uint64_t size, std::uint64_t file_size, bool waited,
                                     std::uint64_t window_limit_bytes) {
    Stream& stream = stream_of(offset, size);
    stream.last_offset = offset;
    stream.end = std::max(stream.end, offset + size);
    if (stream.matches == 0 || window_limit_bytes == 0)
        return {};

    // Only a reader that has used its window up and still had to wait needs a larger one.
    if (waited && stream.matches > 1)
        stream.window_bytes *= window_growth;
    stream.window_bytes = std::min(stream.window_bytes, window_limit_bytes);
    switch (stream.pattern) {
        case Pattern::forward:
            return {true, fetch_forward(stream, file_size)};
        case Pattern::backward:
            return {true, fetch_backward(stream)};
        case Pattern::strided:
            return {false, fetch_strides(stream, size, file_size)};
        case Pattern::undecided:
            break;
    }
    return {};
}

std::vector<ByteRange> Readahead::fetch_forward(Stream& stream, std::uint64_t file_size) {
    const std::uint64_t from = std::max(stream.ahead, block_ceiling(stream.end));
    const std::uint64_t to = std::min(block_ceiling(stream.end + stream.window_bytes), block_ceiling(file_size));
    // In pieces of half a window, so that requests are few and the link never runs dry.
    const std::uint64_t worthwhile = std::min(stream.window_bytes / 2, to - std::min(to, stream.end));
    if (from >= to || (to < block_ceiling(file_size) && to - from < worthwhile))
        return {};
    stream.ahead = to;
    return {{from, std::min(to, file_size) - from}};
}

std::vector<ByteRange> Readahead::fetch_backward(Stream& stream) {
    const std::uint64_t to = std::min(stream.ahead, block_floor(stream.last_offset));
    const std::uint64_t reach = stream.last_offset - std::min(stream.last_offset, stream.window_bytes);
    const std::uint64_t from = block_floor(reach);
    if (from >= to || (from > 0 && to - from < stream.window_bytes / 2))
        return {};
    stream.ahead = from;
    return {{from, to - from}};
}

std::vector<ByteRange> Readahead::fetch_strides(Stream& stream, std::uint64_t size, std::uint64_t file_size) {
    if (stream.matches < stride_evidence)
        return {};
    const auto step = static_cast<std::uint64_t>(stream.stride);  // wraps around for backward strides, as intended
    const std::uint64_t strides =
        std::clamp<std::uint64_t>(stream.window_bytes / std::max(size, block_bytes), 1, max_strides_ahead);
    std::vector<ByteRange> ranges;
    std::uint64_t next = stream.last_offset;
    for (std::uint64_t i = 0; i < strides; ++i) {
        next += step;
        if (next >= file_size)  // also when it has wrapped around below 0
            break;
        const bool asked_for = stream.ahead != 0 && (stream.stride > 0 ? next <= stream.ahead : next >= stream.ahead);
        if (asked_for)
            continue;
        ranges.push_back({next, std::min(size, file_size - next)});
        stream.ahead = next;
    }
    return ranges;
}

void Readahead::note_wasted(std::uint64_t blocks) {
    if (std::exchange(wasted_blocks_, blocks) >= blocks)
        return;
    for (Stream& stream : streams_)
        stream.window_bytes = std::max<std::uint64_t>(stream.window_bytes / 2, first_window_bytes);
}

std::uint64_t Readahead::window_bytes() const {
    std::uint64_t largest = 0;
    for (const Stream& stream : streams_)
        largest = std::max(largest, stream.window_bytes);
    return largest;
}

}  // namespace remofile::client
