// SPDX-License-Identifier: MIT
#pragma once

#include <sodium.h>

#include <cstdint>
#include <deque>
#include <optional>

#include "server/sessions/session.hpp"

namespace remofile::server {

// Sessions that this server has ended, for their clients that come back later: after a suspend, or a long way without a
// network. Pure bookkeeping; one thread.
class EndedSessions {
public:
    // Beyond it the longest gone are forgotten.
    static constexpr std::size_t max_remembered = 1024;

    // `locks_lost_at`: FileService::locks_lost_at() before its locks are given up.
    void remember(const SessionTerms& terms, std::uint64_t locks_lost_at) {
        ended_.push_back({terms.id, terms.secret, terms.key, locks_lost_at});
        if (ended_.size() > max_remembered)
            ended_.pop_front();
    }

    // For a client that proves that the session was its own: when that lost its locks.
    std::optional<std::uint64_t> locks_lost_at(SessionId id, const SessionSecret& secret,
                                               const std::optional<transport::PublicKey>& key) const {
        for (const Ended& each : ended_) {
            if (each.id == id && each.key == key &&
                sodium_memcmp(each.secret.data(), secret.data(), secret.size()) == 0)
                return each.locks_lost_at;
        }
        return std::nullopt;
    }

private:
    struct Ended {
        SessionId id;
        SessionSecret secret;
        std::optional<transport::PublicKey> key;
        std::uint64_t locks_lost_at = 0;
    };
    std::deque<Ended> ended_;  // by when they ended
};

}  // namespace remofile::server
