// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>
#include <utility>

#include "transport/token_bucket.hpp"

namespace remofile::transport {

// Keeps a host whose keys are not known from being answered, and logged, as often as it connects. One thread at a time.
class HandshakeLimit {
public:
    // Handshakes of one host in the long run, and at once: a machine that starts with a dozen mounts in its fstab,
    // whose key was not added yet, is told what to add for each.
    explicit HandshakeLimit(int per_second) : per_second_(per_second), burst_(5 * per_second) {}
    // Hosts remembered for that. Those that have been quiet the longest are forgotten first, half of them at a time.
    static constexpr std::size_t max_hosts = 8192;

    bool admit(const std::string& host, TimePoint now) {
        const auto known = recent_.find(host);
        if (known != recent_.end())
            return known->second.take(now);
        if (recent_.size() == max_hosts / 2)
            older_ = std::exchange(recent_, {});
        auto node = older_.extract(host);
        const auto place = node.empty() ? recent_.try_emplace(host, burst_, per_second_, now).first
                                        : recent_.insert(std::move(node)).position;
        return place->second.take(now);
    }
    std::size_t hosts() const { return recent_.size() + older_.size(); }

private:
    int per_second_;
    int burst_;
    std::map<std::string, TokenBucket> recent_;  // seen since the halves were last exchanged
    std::map<std::string, TokenBucket> older_;
};

}  // namespace remofile::transport
