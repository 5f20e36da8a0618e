// SPDX-License-Identifier: MIT
#include "server/sessions/sequencer.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace remofile::server {

void Sequencer::wait_for(Ticket earlier, Ticket later) {
    entries_.at(earlier).followers.push_back(later);
    ++entries_.at(later).blockers;
}

Sequencer::Added Sequencer::add(std::span<const Dependency> dependencies) {
    // One use of each id, the strictest.
    std::map<Key, bool> merged;
    for (const Dependency& dependency : dependencies) {
        bool& exclusive = merged[Key{dependency.kind, dependency.id}];
        exclusive = exclusive || dependency.exclusive;
    }

    const Ticket ticket = ++last_ticket_;
    entries_.try_emplace(ticket);
    for (const auto& [key, exclusive] : merged) {
        entries_.at(ticket).keys.push_back(key);
        Uses& uses = uses_[key];
        if (!exclusive) {
            if (uses.exclusive != 0)
                wait_for(uses.exclusive, ticket);
            uses.shared.push_back(ticket);
            continue;
        }
        // Shared uses after the latest exclusive one wait for that themselves.
        for (const Ticket earlier : uses.shared)
            wait_for(earlier, ticket);
        if (uses.shared.empty() && uses.exclusive != 0)
            wait_for(uses.exclusive, ticket);
        uses.shared.clear();
        uses.exclusive = ticket;
    }
    return {ticket, entries_.at(ticket).blockers == 0};
}

std::vector<Sequencer::Ticket> Sequencer::finish(Ticket ticket) {
    auto finished = entries_.extract(ticket);
    REMOFILE_ASSERT(!finished.empty() && finished.mapped().blockers == 0);
    for (const Key& key : finished.mapped().keys) {
        const auto found = uses_.find(key);
        Uses& uses = found->second;
        if (uses.exclusive == ticket)
            uses.exclusive = 0;
        else if (const auto place = std::ranges::find(uses.shared, ticket); place != uses.shared.end())
            uses.shared.erase(place);
        if (uses.exclusive == 0 && uses.shared.empty())
            uses_.erase(found);
    }
    std::vector<Ticket> ready;
    for (const Ticket follower : finished.mapped().followers) {
        if (--entries_.at(follower).blockers == 0)
            ready.push_back(follower);
    }
    std::ranges::sort(ready);
    return ready;
}

}  // namespace remofile::server
