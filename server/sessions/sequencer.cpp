// SPDX-License-Identifier: MIT
#include "server/sessions/sequencer.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace remofile::server {

void Sequencer::wait_for(Ticket earlier, Ticket later, const Key& key) {
    entries_.at(earlier).followers.push_back({later, key});
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
        entries_.at(ticket).keys.push_back({key, exclusive});
        Uses& uses = uses_[key];
        if (!exclusive) {
            if (uses.exclusive != 0)
                wait_for(uses.exclusive, ticket, key);
            uses.shared.push_back(ticket);
            continue;
        }
        // Shared uses after the latest exclusive one wait for that themselves.
        for (const Ticket earlier : uses.shared)
            wait_for(earlier, ticket, key);
        if (uses.shared.empty() && uses.exclusive != 0)
            wait_for(uses.exclusive, ticket, key);
        uses.shared.clear();
        uses.exclusive = ticket;
    }
    return {ticket, entries_.at(ticket).blockers == 0};
}

void Sequencer::take_out(Ticket ticket, const Key& key) {
    const auto found = uses_.find(key);
    Uses& uses = found->second;
    if (uses.exclusive == ticket)
        uses.exclusive = 0;
    else if (const auto place = std::ranges::find(uses.shared, ticket); place != uses.shared.end())
        uses.shared.erase(place);
    if (uses.exclusive == 0 && uses.shared.empty())
        uses_.erase(found);
}

std::vector<Sequencer::Ticket> Sequencer::set_free(std::span<const Follower> followers) {
    std::vector<Ticket> ready;
    for (const Follower& follower : followers) {
        if (--entries_.at(follower.ticket).blockers == 0)
            ready.push_back(follower.ticket);
    }
    std::ranges::sort(ready);
    return ready;
}

std::vector<Sequencer::Ticket> Sequencer::let_pass(Ticket ticket) {
    Entry& entry = entries_.at(ticket);
    REMOFILE_ASSERT(entry.blockers == 0);
    const auto [shared, end] = std::ranges::partition(entry.keys, &Use::exclusive);
    std::vector<Follower> freed;
    for (const Use& use : std::ranges::subrange(shared, end)) {
        take_out(ticket, use.key);
        std::erase_if(entry.followers, [&](const Follower& follower) {
            if (follower.key != use.key)
                return false;
            freed.push_back(follower);
            return true;
        });
    }
    entry.keys.erase(shared, end);
    return set_free(freed);
}

std::vector<Sequencer::Ticket> Sequencer::finish(Ticket ticket) {
    auto finished = entries_.extract(ticket);
    REMOFILE_ASSERT(!finished.empty() && finished.mapped().blockers == 0);
    for (const Use& use : finished.mapped().keys)
        take_out(ticket, use.key);
    return set_free(finished.mapped().followers);
}

}  // namespace remofile::server
