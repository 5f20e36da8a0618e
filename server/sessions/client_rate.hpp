// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/clock.hpp"
#include "transport/token_bucket.hpp"

namespace remofile::server {

// What one client may ask of an export in the long run; 0: as much as it likes.
struct RateLimits {
    std::uint32_t requests_per_s = 0;
    std::uint64_t bytes_per_s = 0;  // of contents, read and written together
    friend bool operator==(const RateLimits&, const RateLimits&) = default;
};

// What requests take of that. What gives back, frees or tells takes nothing.
struct RequestCost {
    double requests = 0;
    double bytes = 0;

    RequestCost& operator+=(const RequestCost& other) {
        requests += other.requests;
        bytes += other.bytes;
        return *this;
    }
    friend RequestCost operator-(const RequestCost& one, const RequestCost& other) {
        return {one.requests - other.requests, one.bytes - other.bytes};
    }
    friend bool operator==(const RequestCost&, const RequestCost&) = default;
};

// How much of its limits a client has used up: those who have the same key share it, or the same address where there
// are no keys. Pure bookkeeping.
//
// A request begins if nothing of what it takes is used up, however much it takes; what that is too much, later ones
// wait for. So none is too large, and small ones do not overtake large ones for ever.
class ClientRate {
public:
    // At once a client may ask for as much as in so long.
    static constexpr Duration burst = std::chrono::milliseconds(250);

    ClientRate(RateLimits limits, TimePoint now) { change(limits, now); }
    void change(RateLimits limits, TimePoint now) {
        requests_ = bucket(limits.requests_per_s, now);
        bytes_ = bucket(static_cast<double>(limits.bytes_per_s), now);
    }

    bool limits() const { return requests_ || bytes_; }
    // How long a request waits that takes so much.
    Duration wait(const RequestCost& cost, TimePoint now) const {
        return std::max(cost.requests > 0 && requests_ ? requests_->wait(now) : Duration::zero(),
                        cost.bytes > 0 && bytes_ ? bytes_->wait(now) : Duration::zero());
    }
    // It begins; or, with what it has taken less than was thought before, it has ended.
    void charge(const RequestCost& cost, TimePoint now) {
        if (requests_)
            requests_->charge(cost.requests, now);
        if (bytes_)
            bytes_->charge(cost.bytes, now);
    }

private:
    static std::optional<transport::TokenBucket> bucket(double per_second, TimePoint now) {
        if (per_second == 0)
            return std::nullopt;
        const double at_once = per_second * std::chrono::duration<double>(burst).count();
        return transport::TokenBucket(std::max(at_once, 1.0), per_second, now);
    }

    std::optional<transport::TokenBucket> requests_;
    std::optional<transport::TokenBucket> bytes_;
};

}  // namespace remofile::server
