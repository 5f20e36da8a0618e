// SPDX-License-Identifier: MIT
#include "transport/link_speed.hpp"

#include <algorithm>

namespace remofile::transport {

void LinkSpeed::note_sent(std::uint64_t bytes, TimePoint now) {
    const std::uint64_t under_way = sent_ - arrived_;
    if (under_way == 0)
        arrived_at_ = now;
    sent_ += bytes;
    if (under_way_.size() < max_messages)
        under_way_.push_back({sent_, now, arrived_, arrived_at_, under_way});
}

void LinkSpeed::note_arrived(std::uint64_t total_bytes, TimePoint now) {
    const std::uint64_t arrived = std::min(total_bytes, sent_);
    if (arrived <= arrived_)
        return;
    arrived_ = arrived;
    arrived_at_ = now;
    // What arrives in one go gives one sample, that of the last message: the others were stopped by the same clock.
    std::optional<Sent> last;
    while (!under_way_.empty() && under_way_.front().end <= arrived_) {
        last = under_way_.front();
        under_way_.pop_front();
    }
    if (last)
        take_sample(*last, now);
}

void LinkSpeed::take_sample(const Sent& message, TimePoint now) {
    const std::uint64_t bytes = arrived_ - message.arrived_before;
    const double seconds = std::chrono::duration<double>(now - message.arrived_at).count();
    if (bytes < min_sample_bytes || seconds <= 0)
        return;
    const double rate = static_cast<double>(bytes) / seconds;
    if (now - epoch_begun_ >= epoch) {
        const bool is_next = now - epoch_begun_ < 2 * epoch;
        best_before_ = is_next ? best_ : std::nullopt;
        best_.reset();
        epoch_begun_ = now;
    }
    if (message.under_way < min_under_way_bytes && (!latest_ || rate <= *latest_))
        return;
    best_ = std::max(best_.value_or(0), rate);
    latest_ = std::max(*best_, best_before_.value_or(0));
}

void LinkSpeed::reset() {
    under_way_.clear();
    sent_ = 0;
    arrived_ = 0;
}

std::optional<double> LinkSpeed::bytes_per_s() const {
    return latest_;
}

}  // namespace remofile::transport
