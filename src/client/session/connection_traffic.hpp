// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.hpp"
#include "transport/link_speed.hpp"
#include "wire/frame.hpp"

namespace remofile::client {

// A PING is sent to acknowledge this part of a window, so that the rest of it keeps a link busy until the PING arrives;
// on the metadata lane much less, for that is what the server keeps for it while data fills the window.
inline constexpr std::uint64_t acknowledged_window_share = 4;
inline constexpr std::uint64_t acknowledged_metadata_share = 64;

// What has gone over one lane's connection since HELLO or ATTACH was sent on it, and what that says: whether the server
// is owed an acknowledgement, and how fast bulk data gets there. Pure bookkeeping.
//
// Invariant: each message acknowledges all that was received before it, so what is acknowledged is never more than what
// was received. The times of the latest message and answer outlive the connection.
class ConnectionTraffic {
public:
    // One of the above.
    explicit ConnectionTraffic(std::uint64_t acknowledged_share) : acknowledged_share_(acknowledged_share) {}

    // A greeting is about to be sent: both ends count from here, and its answer counts.
    void begin();
    // To be called with each message before it is sent.
    void note_sent(const wire::Message& message, TimePoint now);
    void note_received(std::size_t bytes) { received_bytes_ += bytes; }
    // A request that brought so much bulk data, encoded, was answered.
    void note_bulk_arrived(std::size_t bytes, TimePoint now);
    // A request that somebody waits for was answered.
    void note_awaited_answer(TimePoint now) { last_answer_ = now; }

    // As the next message says.
    std::uint64_t received_bytes() const { return received_bytes_; }
    // So much of a window is not acknowledged that a message must be sent for it alone. `window_bytes`: as the server
    // granted it.
    bool owes_acknowledgement(std::uint64_t window_bytes) const;
    // Of bulk data towards the server; none until that is known.
    std::optional<double> bytes_per_s() const { return speed_.bytes_per_s(); }
    TimePoint last_sent() const { return last_sent_; }
    TimePoint last_answer() const { return last_answer_; }

private:
    const std::uint64_t acknowledged_share_;
    std::uint64_t received_bytes_ = 0;
    std::uint64_t acknowledged_bytes_ = 0;  // the latest that the server was told
    std::uint64_t arrived_bulk_bytes_ = 0;  // in requests that were answered
    transport::LinkSpeed speed_;
    TimePoint last_sent_{};
    TimePoint last_answer_{};
};

}  // namespace remofile::client
