// SPDX-License-Identifier: MIT
// Learns from the reads of one open file which bytes are worth fetching before they are asked for.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace remofile::client {

struct ByteRange {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// One thread. Follows several readers of one file at a time, each forward, backward or in strides; reads that follow no
// pattern cause nothing to be fetched.
class Readahead {
public:
    struct Advice {
        bool follows_pattern = false;   // the bytes around this read will probably be read too
        std::vector<ByteRange> ranges;  // to fetch now, the most urgent first
    };

    // A read of `size` bytes at `offset` of a file of `file_size` bytes. `waited` says that not all of it was in
    // memory: the window was too small for the link, so it grows, up to `window_limit_bytes` (0 turns reading ahead
    // off). Never advises to fetch a range twice for the same stream.
    Advice on_read(std::uint64_t offset, std::uint64_t size, std::uint64_t file_size, bool waited,
                   std::uint64_t window_limit_bytes);

    // How many blocks have been dropped unread, whoever fetched them. If more than last time, the windows are too large
    // for the memory, and shrink.
    void note_wasted(std::uint64_t blocks);

    // The largest window of a stream, in bytes.
    std::uint64_t window_bytes() const;

private:
    // In the order of how much a read that fits the pattern says.
    enum class Pattern : std::uint8_t { undecided, strided, backward, forward };
    struct Stream {
        Pattern pattern = Pattern::undecided;
        std::uint64_t last_offset = 0;  // of the latest read
        std::uint64_t end = 0;          // behind the furthest byte read
        std::int64_t stride = 0;        // between the offsets of the last two reads
        unsigned matches = 0;           // reads that followed the pattern
        std::uint64_t window_bytes = 0;
        // How far has been asked for: the end of it (forward), its beginning (backward), the offset of the last stride.
        std::uint64_t ahead = 0;
    };

    Stream& stream_of(std::uint64_t offset, std::uint64_t size);
    Stream& add_stream(const Stream& stream);
    static Pattern continues(const Stream& stream, std::uint64_t offset, std::uint64_t size);
    static std::vector<ByteRange> fetch_forward(Stream& stream, std::uint64_t file_size);
    static std::vector<ByteRange> fetch_backward(Stream& stream);
    static std::vector<ByteRange> fetch_strides(Stream& stream, std::uint64_t size, std::uint64_t file_size);

    std::deque<Stream> streams_;  // the most recently used in front
    std::uint64_t wasted_blocks_ = 0;
};

}  // namespace remofile::client
