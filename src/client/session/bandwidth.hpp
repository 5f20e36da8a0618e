// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/clock.hpp"
#include "client/requests/outgoing_queue.hpp"
#include "transport/token_bucket.hpp"

namespace remofile::client {

// How much of SessionOptions::bandwidth_limit is used up, in each direction. Pure bookkeeping.
//
// All that goes over the link counts, and contents wait until nothing is owed. What is asked for counts from then on,
// as if it had come whole, so that what is under way is no more than was allowed.
class Bandwidth {
public:
    // At once there may go as much as in so long.
    static constexpr Duration burst = std::chrono::milliseconds(250);

    // 0: no limit.
    Bandwidth(std::uint64_t bytes_per_s, TimePoint now) : bytes_per_s_(static_cast<double>(bytes_per_s)) { begin(now); }
    // Nothing is under way.
    void begin(TimePoint now) {
        const double at_once = bytes_per_s_ * std::chrono::duration<double>(burst).count();
        if (bytes_per_s_ > 0)
            sent_ = received_ = transport::TokenBucket(at_once, bytes_per_s_, now);
    }
    bool is_limited() const { return bytes_per_s_ > 0; }

    // Lets contents through one batch at a time, and none while something is owed.
    void restrict(SendingAllowance& allowance, TimePoint now) const {
        if (!is_limited())
            return;
        allowance.contents_sent = {.left = 0, .nothing_unanswered = sent_->wait(now) == Duration::zero()};
        allowance.contents_asked = {.left = 0, .nothing_unanswered = received_->wait(now) == Duration::zero()};
    }
    // How long until contents that now wait may go in one direction; zero: none wait for that.
    Duration wait(TimePoint now) const {
        if (!is_limited())
            return Duration::zero();
        const auto [sooner, later] = std::minmax({sent_->wait(now), received_->wait(now)});
        return sooner > Duration::zero() ? sooner : later;
    }

    void sent(std::size_t bytes, TimePoint now) { charge(sent_, static_cast<double>(bytes), now); }
    void received(std::size_t bytes, TimePoint now) { charge(received_, static_cast<double>(bytes), now); }
    void asked(std::size_t bytes, TimePoint now) { charge(received_, static_cast<double>(bytes), now); }
    // That was so much, and what has come of it has been counted.
    void answered(std::size_t bytes, TimePoint now) { charge(received_, -static_cast<double>(bytes), now); }

private:
    static void charge(std::optional<transport::TokenBucket>& bucket, double bytes, TimePoint now) {
        if (bucket && bytes != 0)
            bucket->charge(bytes, now);
    }

    double bytes_per_s_;
    // Both without a limit: none.
    std::optional<transport::TokenBucket> sent_;
    std::optional<transport::TokenBucket> received_;
};

}  // namespace remofile::client
