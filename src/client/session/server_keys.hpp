// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "transport/keys.hpp"

namespace remofile::client {

// The keys by which a session's server is known, and which of them it has. Pure bookkeeping.
//
// A round of attempts begins with the key that the server had last and takes each key once. There are none without
// encryption.
class ServerKeys {
public:
    explicit ServerKeys(std::vector<transport::PublicKey> keys) : keys_(std::move(keys)) {}

    // By which the next attempt to connect is made. Precondition: there are keys.
    const transport::PublicKey& current() const { return keys_[(first_ + tried_) % keys_.size()]; }
    // The server does not have the current key. False if it was the round's last; the next one begins.
    bool try_next() {
        const bool is_last = tried_ + 1 >= keys_.size();
        tried_ = is_last ? 0 : tried_ + 1;
        return !is_last;
    }
    // The server has the current key.
    void proved() {
        if (keys_.empty())
            return;
        first_ = (first_ + tried_) % keys_.size();
        tried_ = 0;
    }
    // The server, which has the current key, is to have these: they count after it, and no others. False if that is so
    // already.
    bool announced(std::span<const transport::PublicKey> next) {
        std::vector<transport::PublicKey> keys{current()};
        for (const transport::PublicKey& key : next) {
            if (std::ranges::find(keys, key) == keys.end())
                keys.push_back(key);
        }
        first_ = 0;
        if (keys == keys_)
            return false;
        keys_ = std::move(keys);
        return true;
    }

    const std::vector<transport::PublicKey>& all() const { return keys_; }

private:
    std::vector<transport::PublicKey> keys_;
    std::size_t first_ = 0;  // of a round
    std::size_t tried_ = 0;  // before the current one
};

}  // namespace remofile::client
