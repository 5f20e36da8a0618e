// SPDX-License-Identifier: MIT
#include "server/sessions/session_turns.hpp"

#include <algorithm>

namespace remofile::server {

bool SessionTurns::can_enter(bool exclusive) const {
    return holders_.size() < limits_.max_sessions && exclusive_holders_ == 0 && (!exclusive || holders_.empty());
}

bool SessionTurns::owner_full(const std::string& owner) const {
    const auto same = [&](const std::string& other) { return other == owner; };
    const auto holding = std::ranges::count_if(holders_, [&](const auto& entry) { return same(entry.second.owner); });
    const auto asking = std::ranges::count_if(waiting_, [&](const Asked& asked) { return same(asked.owner); });
    return static_cast<std::size_t>(holding + asking) >= limits_.max_sessions_per_owner;
}

SessionTurns::Verdict SessionTurns::ask(Visitor visitor, const std::string& owner, bool exclusive,
                                        std::optional<TimePoint> deadline) {
    if (owner_full(owner))
        return Verdict::too_many;
    exclusive = exclusive || limits_.always_exclusive;
    // Nobody overtakes those who wait.
    if (waiting_.empty() && can_enter(exclusive)) {
        holders_.emplace(visitor, Holder{owner, exclusive});
        exclusive_holders_ += exclusive ? 1 : 0;
        return Verdict::enter;
    }
    if (exclusive_holders_ == 0 && holders_.size() >= limits_.max_sessions)
        return Verdict::too_many;
    if (!deadline)
        return Verdict::in_use;
    if (waiting_.size() >= limits_.max_waiting)
        return Verdict::too_many;
    waiting_.push_back({visitor, owner, exclusive, *deadline});
    return Verdict::wait;
}

void SessionTurns::leave(Visitor visitor) {
    if (const auto holder = holders_.find(visitor); holder != holders_.end()) {
        exclusive_holders_ -= holder->second.exclusive ? 1 : 0;
        holders_.erase(holder);
        return;
    }
    std::erase_if(waiting_, [&](const Asked& asked) { return asked.visitor == visitor; });
}

std::vector<SessionTurns::Visitor> SessionTurns::next_turns() {
    std::vector<Visitor> entered;
    while (!waiting_.empty() && can_enter(waiting_.front().exclusive)) {
        const Asked& next = waiting_.front();
        holders_.emplace(next.visitor, Holder{next.owner, next.exclusive});
        exclusive_holders_ += next.exclusive ? 1 : 0;
        entered.push_back(next.visitor);
        waiting_.pop_front();
    }
    return entered;
}

std::vector<SessionTurns::Visitor> SessionTurns::expire(TimePoint now) {
    std::vector<Visitor> expired;
    for (const Asked& asked : waiting_) {
        if (asked.deadline <= now)
            expired.push_back(asked.visitor);
    }
    std::erase_if(waiting_, [&](const Asked& asked) { return asked.deadline <= now; });
    return expired;
}

std::optional<TimePoint> SessionTurns::next_deadline() const {
    const auto soonest = std::ranges::min_element(waiting_, {}, &Asked::deadline);
    if (soonest == waiting_.end())
        return std::nullopt;
    return soonest->deadline;
}

}  // namespace remofile::server
