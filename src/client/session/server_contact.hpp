// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "base/clock.hpp"
#include "client/session.hpp"

namespace remofile::client {

// When a session last heard of its server: whether it is silent, or unreachable. Pure bookkeeping.
//
// Invariant: silence is suspected from the server's latest word on, never from before it, and its next word ends the
// suspicion. PINGs that were sent to have it say something are counted until they are answered.
class ServerContact {
public:
    // PINGs unanswered at a time when idle.
    static constexpr std::size_t max_idle_pings = 4;

    // It said something by the metadata lane.
    void heard(TimePoint now) {
        last_heard_ = now;
        suspected_since_.reset();
        given_up_ = false;
    }
    // It has had something to answer since then.
    void suspect(TimePoint since) {
        if (!suspected_since_)
            suspected_since_ = std::max(since, last_heard_);
    }
    // A request has been given up after that time. If the server has said nothing for so long, others need not wait in
    // their turn until it says something.
    void gave_up(TimePoint now, Duration timeout) { given_up_ |= now - last_heard_ >= timeout; }
    bool is_given_up() const { return given_up_; }
    bool silent(TimePoint now) const { return suspected_since_ && now - *suspected_since_ >= silence_after; }

    // A connection was lost or not to be had. True if that is news.
    bool lost(TimePoint now) {
        if (lost_since_)
            return false;
        lost_since_ = lost_at_ = now;
        return true;
    }
    // When that was last; long ago, if never.
    TimePoint lost_at() const { return lost_at_; }
    // There is one. For how long there was none, if that was known.
    std::optional<Duration> back(TimePoint now) {
        const auto since = std::exchange(lost_since_, std::nullopt);
        return since ? std::optional<Duration>(now - *since) : std::nullopt;
    }

    void pinged() { ++idle_pings_; }
    void ping_answered() { idle_pings_ -= std::min<std::size_t>(idle_pings_, 1); }
    bool has_something_to_answer() const { return idle_pings_ > 0; }
    bool may_ping() const { return idle_pings_ < max_idle_pings; }
    // What was asked of the session before is void.
    void begin_epoch() { idle_pings_ = 0; }

private:
    TimePoint last_heard_{};
    std::optional<TimePoint> suspected_since_;
    std::optional<TimePoint> lost_since_;
    TimePoint lost_at_{};
    std::size_t idle_pings_ = 0;
    bool given_up_ = false;
};

}  // namespace remofile::client
