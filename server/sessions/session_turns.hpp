// SPDX-License-Identifier: MIT
// Who may have a session: limits on their number, exclusive use, and turns in the order of asking.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"

namespace remofile::server {

// Pure bookkeeping; one thread.
class SessionTurns {
public:
    // One who asks or holds; chosen by the caller, unique.
    using Visitor = std::uint64_t;

    struct Limits {
        bool always_exclusive = false;  // --exclusive
        std::size_t max_sessions = 256;
        // Of one key, or of one address without encryption: a mount or a tool each has a session.
        std::size_t max_sessions_per_owner = 64;
        // Those who wait for their turn hold a connection and a few hundred bytes each.
        std::size_t max_waiting = 256;
    };

    explicit SessionTurns(Limits limits) : limits_(limits) {}
    // Those who hold keep what they have; of those who wait some may have their turn now.
    void change(Limits limits) { limits_ = limits; }

    enum class Verdict : std::uint8_t {
        enter,     // counts as a holder from now on
        wait,      // until next_turns() or expire() names it
        in_use,    // not its turn
        too_many,  // a limit is reached
    };
    // `deadline`: how long it would wait; none: not at all.
    Verdict ask(Visitor visitor, const std::string& owner, bool exclusive, std::optional<TimePoint> deadline);

    // Its session has ended, or it could not be opened, or it gives up waiting.
    void leave(Visitor visitor);

    // Those whose turn it is now; they count as holders.
    std::vector<Visitor> next_turns();

    // Those whose time to wait is over; they are out.
    std::vector<Visitor> expire(TimePoint now);
    std::optional<TimePoint> next_deadline() const;

    std::size_t holders() const { return holders_.size(); }
    std::size_t waiting() const { return waiting_.size(); }

private:
    struct Asked {
        Visitor visitor;
        std::string owner;
        bool exclusive;
        TimePoint deadline;
    };
    struct Holder {
        std::string owner;
        bool exclusive;
    };

    bool can_enter(bool exclusive) const;
    bool owner_full(const std::string& owner) const;

    Limits limits_;
    std::map<Visitor, Holder> holders_;
    std::size_t exclusive_holders_ = 0;
    std::deque<Asked> waiting_;
};

}  // namespace remofile::server
