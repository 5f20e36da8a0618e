// SPDX-License-Identifier: MIT
// How fast a connection carries data in one direction, from what was sent and what is known to have arrived.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.hpp"

namespace remofile::transport {

// Each message gives one sample when it is known to have arrived: the bytes that arrived since it was sent, over the
// time that took (the delivery rate of draft-cheng-iccrg-delivery-rate-estimation, as TCP BBR has it). A sample counts
// only if enough was under way all the time that the link, and not the sender, was what took it; one that is higher
// than the estimate always counts, for nothing arrives faster than the link is. The estimate is the highest of the
// last seconds. One thread.
class LinkSpeed {
public:
    // Under way before and after a message that counts: enough to keep a link of 100 Mbit/s busy for 20 ms.
    static constexpr std::uint64_t min_under_way_bytes = 256U << 10;
    // A sample's bytes, at least: less is a burst that some buffer took in.
    static constexpr std::uint64_t min_sample_bytes = 512U << 10;
    // How long a sample counts: between one and two of these.
    static constexpr Duration epoch = std::chrono::seconds(3);
    // Messages under way that are remembered; those beyond it give no sample.
    static constexpr std::size_t max_messages = 1024;

    // `bytes` more were handed to the connection.
    void note_sent(std::uint64_t bytes, TimePoint now);
    // So many of all bytes sent have arrived; never less than before.
    void note_arrived(std::uint64_t total_bytes, TimePoint now);
    // The connection is another: what was under way is lost. The estimate stays.
    void reset();

    // Bytes a second; none before the first sample that counts.
    std::optional<double> bytes_per_s() const;

private:
    struct Sent {
        std::uint64_t end;  // of all bytes sent, with this message
        TimePoint sent_at;
        std::uint64_t arrived_before;  // of all bytes, when it was sent
        TimePoint arrived_at;          // when those had arrived, or when the connection was last idle
        std::uint64_t under_way;       // before it
    };
    void take_sample(const Sent& message, TimePoint now);

    std::deque<Sent> under_way_;
    std::uint64_t sent_ = 0;
    std::uint64_t arrived_ = 0;
    TimePoint arrived_at_{};
    TimePoint epoch_begun_{};
    std::optional<double> best_;         // of this epoch
    std::optional<double> best_before_;  // of the one before
    std::optional<double> latest_;       // of the latest epoch that had any: stands while nothing better is known
};

}  // namespace remofile::transport
