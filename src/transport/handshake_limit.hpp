// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>
#include <utility>

#include "transport/token_bucket.hpp"

namespace remofile::transport {

// Keeps one host from occupying the ZAP handler's thread and the log. One thread at a time.
class HandshakeLimit {
public:
    // Handshakes of one host: at once, and a second in the long run. A mount opens at most 8 lanes; 100 are a dozen
    // mounts of one machine that reconnect together after an outage.
    static constexpr int burst = 100;
    static constexpr int per_second = 20;
    // Hosts remembered for that. Those that have been quiet the longest are forgotten first, half of them at a time.
    static constexpr std::size_t max_hosts = 8192;

    bool admit(const std::string& host, TimePoint now) {
        const auto known = recent_.find(host);
        if (known != recent_.end())
            return known->second.take(now);
        if (recent_.size() == max_hosts / 2)
            older_ = std::exchange(recent_, {});
        auto node = older_.extract(host);
        const auto place = node.empty() ? recent_.try_emplace(host, burst, per_second, now).first
                                        : recent_.insert(std::move(node)).position;
        return place->second.take(now);
    }
    std::size_t hosts() const { return recent_.size() + older_.size(); }

private:
    std::map<std::string, TokenBucket> recent_;  // seen since the halves were last exchanged
    std::map<std::string, TokenBucket> older_;
};

}  // namespace remofile::transport
