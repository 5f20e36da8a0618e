// SPDX-License-Identifier: MIT
#include "client/session/connection_traffic.hpp"

#include <algorithm>

namespace remofile::client {
namespace {

// A server that grants a tiny window shall not make us answer each of its answers.
constexpr std::uint64_t min_acknowledged_bytes = 64U << 10;

}  // namespace

void ConnectionTraffic::begin() {
    received_bytes_ = 0;
    acknowledged_bytes_ = 0;
    arrived_bulk_bytes_ = 0;
    speed_.reset();
}

void ConnectionTraffic::note_sent(const wire::Message& message, TimePoint now) {
    last_sent_ = now;
    acknowledged_bytes_ = received_bytes_;
    std::size_t bulk_bytes = 0;
    for (const Buffer& bulk : message.bulk)
        bulk_bytes += bulk.size();
    if (bulk_bytes > 0)
        speed_.note_sent(bulk_bytes, now);
}

void ConnectionTraffic::note_bulk_arrived(std::size_t bytes, TimePoint now) {
    arrived_bulk_bytes_ += bytes;
    speed_.note_arrived(arrived_bulk_bytes_, now);
}

bool ConnectionTraffic::owes_acknowledgement(std::uint64_t window_bytes) const {
    const std::uint64_t worth_telling = std::max(window_bytes / acknowledged_share_, min_acknowledged_bytes);
    return received_bytes_ - acknowledged_bytes_ >= worth_telling;
}

}  // namespace remofile::client
