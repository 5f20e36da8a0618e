// SPDX-License-Identifier: MIT
// The part of LeaseTable that knows of exclusive leases: docs/adr/0020-exclusive-leases.md.
#include <algorithm>
#include <iterator>
#include <utility>

#include "server/leases/lease_table.hpp"

namespace remofile::server {
namespace {

using What = wire::LeaseChange::What;

}  // namespace

ChangeUnderWay::~ChangeUnderWay() {
    if (table_ != nullptr)
        table_->change_is_done(number_);
}

// ---------------------------------------------------------------- taking and sharing

// Somebody else has waited for it just now, or is changing what the taker would answer for.
bool LeaseTable::is_kept_from(State& state, LeaseHolder taker, const Inode& directory, const Inode* above) const {
    while (!state.held_off.empty() && state.held_off.front().until <= clock_.now())
        state.held_off.pop_front();
    if (std::ranges::find(state.held_off, &directory, &State::HeldOff::directory) != state.held_off.end())
        return true;
    return std::ranges::any_of(state.changes, [&](const State::Change& change) {
        const auto concerns = [&](const InodePtr& each) { return each.get() == &directory || each.get() == above; };
        return change.author != taker &&
               (change.concerned.everywhere || std::ranges::any_of(change.concerned.directories, concerns));
    });
}

// True if there were any, or there is one whose end has not been confirmed.
bool LeaseTable::end_others(State& state, LeaseHolder taker, const Inode& directory) {
    bool there_are = false;
    const auto [begin, end_of_range] = state.by_directory.equal_range(&directory);
    for (auto entry = begin; entry != end_of_range; ++entry) {
        Lease& lease = *entry->second;
        if (lease.holder->key == taker)
            continue;
        there_are = true;
        if (lease.ended == 0)
            end(state, lease);
    }
    return there_are;
}

LeaseTable::Taking LeaseTable::take(LeaseHolder key, const InodePtr& directory, const Inode* above, NodeId node) {
    LetGo let_go;
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    if (state->closed || found == state->holders.end() || !found->second.may_take || is_refused(found->second) ||
        is_kept_from(*state, key, *directory, above))
        return {};
    Lease* lease = find(*state, key, *directory);
    if (lease != nullptr && lease->recalled)
        return {};
    const bool is_new = lease == nullptr || lease->ended != 0;
    if (end_others(*state, key, *directory) || !grant(*state, key, directory, node, let_go))
        return {};
    lease = find(*state, key, *directory);
    go_by(*lease, node);
    if (!lease->exclusive) {
        lease->exclusive = true;
        state->exclusive.emplace(directory.get(), lease);
        ++lease->holder->exclusive;
        exclusive_total_.fetch_add(1);
        exclusive_.add();
    }
    return {.taken = true, .is_new = is_new};
}

void LeaseTable::share(LeaseHolder key, const Inode& directory) {
    LetGo let_go;
    auto state = state_.lock();
    const Lease* lease = find(*state, key, directory);
    if (lease == nullptr)
        return;
    Holder& holder = *lease->holder;
    const LeasePosition shared = holder.by_node.at(lease->node);
    end_exclusive(*state, *shared);
    if (shared->ended != 0 && shared->ended <= holder.confirmed)
        remove(*state, shared, let_go);
}

void LeaseTable::end_exclusive(State& state, Lease& lease) {
    if (!lease.exclusive)
        return;
    Holder& holder = *lease.holder;
    lease.exclusive = false;
    state.exclusive.erase(lease.directory.get());
    --holder.exclusive;
    if (lease.recalled)
        holder.recalls.erase(*lease.recalled);
    lease.recalled.reset();
    if (std::exchange(lease.wanted, false))
        state.held_off.push_back({clock_.now() + limits_.hold_off, lease.directory.get()});
    exclusive_total_.fetch_sub(1);
    exclusive_.subtract();
    shares_.fetch_add(1);
}

// ---------------------------------------------------------------- others

// Once a lease, however many wait for it.
void LeaseTable::recall(State& state, Lease& lease, bool wanted) {
    lease.wanted |= wanted;
    if (lease.recalled)
        return;
    std::list<TimePoint>& recalls = lease.holder->recalls;
    recalls.push_back(clock_.now());
    lease.recalled = std::prev(recalls.end());
    recalled_.add();
    tell_to_share(state, lease);
}

// Whatever else waits to be told: there are no more of these than leases.
void LeaseTable::tell_to_share(State& state, Lease& lease) {
    Holder& holder = *lease.holder;
    const ToldNumber number = ++holder.last;
    holder.untold.push_back({number, {lease.node, What::shared, {}}});
    holder.decisions.push_back({number, clock_.now()});
    announce(state, holder);
}

void LeaseTable::recall_all() {
    auto state = state_.lock();
    for (const auto& [directory, lease] : state->exclusive)
        recall(*state, *lease, false);
}

bool LeaseTable::may_concern_others(LeaseHolder key, bool changes) const {
    if (exclusive_total_.load() == 0 && (!changes || takers_.load() == 0))
        return false;
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    if (found == state->holders.end())
        return true;
    const std::size_t own = found->second.may_take ? 1 : 0;
    return exclusive_total_.load() > found->second.exclusive || (changes && takers_.load() > own);
}

Passage LeaseTable::pass(LeaseHolder key, const Concerned& concerned, bool changes) {
    auto state = state_.lock();
    Passage passage;
    const auto await = [&](Lease& lease) {
        if (lease.holder->key == key)
            return;
        recall(*state, lease, true);
        passage.awaited.push_back(lease.directory);
    };
    if (concerned.everywhere) {
        for (const auto& [directory, lease] : state->exclusive)
            await(*lease);
    } else {
        for (const InodePtr& directory : concerned.directories) {
            if (const auto found = state->exclusive.find(directory.get()); found != state->exclusive.end())
                await(*found->second);
        }
    }
    if (!passage.awaited.empty() || !changes)
        return passage;
    const std::uint64_t number = ++state->last_change;
    state->changes.push_back({.number = number, .author = key, .concerned = concerned});
    return {.awaited = {}, .change = ChangeUnderWay(*this, number)};
}

void LeaseTable::change_is_done(std::uint64_t number) {
    Concerned let_go;
    auto state = state_.lock();
    const auto found = std::ranges::find(state->changes, number, &State::Change::number);
    let_go = std::move(found->concerned);
    state->changes.erase(found);
}

bool LeaseTable::is_exclusive_to_another(LeaseHolder key, const Inode& directory) const {
    if (exclusive() == 0)
        return false;
    auto state = state_.lock();
    const auto found = state->exclusive.find(&directory);
    return found != state->exclusive.end() && found->second->holder->key != key;
}

bool LeaseTable::are_shared(LeaseHolder key, std::span<const InodePtr> directories) const {
    return std::ranges::none_of(directories, [&](const InodePtr& each) { return is_exclusive_to_another(key, *each); });
}

bool LeaseTable::newly_shared() {
    const std::uint64_t now = shares();
    return std::exchange(shares_seen_, now) != now;
}

}  // namespace remofile::server
