// SPDX-License-Identifier: MIT
// How much may be fetched ahead for one reader.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.hpp"
#include "transport/link_speed.hpp"

namespace remofile::client {

// Bandwidth × delay of the link, as measured from the blocks that arrive, in bytes of files: where data is compressed
// the link carries more of them. One thread.
class FetchWindow {
public:
    // The least, which lets TCP start, and the most, which fills a link of 1 Gbit/s with a delay of 256 ms.
    static constexpr std::uint64_t min_bytes = 8U << 20;
    static constexpr std::uint64_t max_bytes = 32U << 20;

    void note_asked(std::uint64_t bytes, TimePoint now);
    // The answer to a request for so many bytes, made at `asked`, has come and is decompressed.
    void note_arrived(std::uint64_t bytes, TimePoint asked, TimePoint now);
    // No answer will come, or one without data.
    void note_failed(std::uint64_t bytes, TimePoint now);
    // The link may be another one from now on, of another delay.
    void forget_delay() { shortest_delay_.reset(); }

    std::uint64_t bytes() const;

private:
    transport::LinkSpeed speed_;
    std::uint64_t arrived_bytes_ = 0;
    std::optional<Duration> shortest_delay_;
};

}  // namespace remofile::client
