// SPDX-License-Identifier: MIT
#include "server/leases/lease_table.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace remofile::server {
namespace {

using What = wire::LeaseChange::What;

std::size_t encoded_bytes(const wire::LeaseChange& change) {
    constexpr std::size_t fixed = sizeof(std::uint64_t) + sizeof(std::uint8_t) + sizeof(std::uint16_t);
    return fixed + change.name.size();
}

}  // namespace

LeaseTable::LeaseTable(const Clock& clock, const Limits& limits, Counters& counters)
    : clock_(clock),
      limits_(limits),
      held_(counters.at("leases.held")),
      granted_(counters.at("leases.granted")),
      revoked_(counters.at("leases.revoked")),
      expired_(counters.at("leases.expired")),
      refused_(counters.at("leases.refused")),
      exclusive_(counters.at("leases.exclusive")),
      recalled_(counters.at("leases.recalled")) {}

LeaseTable::~LeaseTable() = default;

LeaseTable::Lease* LeaseTable::find(State& state, LeaseHolder holder, const Inode& directory) {
    const auto [begin, end] = state.by_directory.equal_range(&directory);
    const auto found = std::find_if(begin, end, [&](const auto& each) { return each.second->holder->key == holder; });
    return found == end ? nullptr : &*found->second;
}

LeaseTable::Told* LeaseTable::find_told(Lease& lease, std::string_view name) {
    const auto found = std::ranges::find(lease.told, name, &Told::name);
    return found == lease.told.end() ? nullptr : &*found;
}

void LeaseTable::mark_told(Lease& lease, Told told) {
    lease.told.push_back(std::move(told));
    ++lease.holder->told_names;
}

// Also their memory: most leases are never told of anything again.
void LeaseTable::take_back_all(Lease& lease) {
    lease.holder->told_names -= lease.told.size();
    lease.told = {};
}

// ---------------------------------------------------------------- granting

bool LeaseTable::grant(LeaseHolder key, const InodePtr& directory, NodeId node) {
    LetGo let_go;
    auto state = state_.lock();
    return grant(*state, key, directory, node, let_go);
}

bool LeaseTable::grant(State& state, LeaseHolder key, const InodePtr& directory, NodeId node, LetGo& let_go) {
    const auto found = state.holders.find(key);
    if (state.closed || found == state.holders.end())
        return false;
    Holder& holder = found->second;
    const auto exclusive = state.exclusive.find(directory.get());
    if (is_refused(holder) || (exclusive != state.exclusive.end() && exclusive->second->holder != &holder)) {
        refused_.add();
        return false;
    }
    Lease* lease = find(state, key, *directory);
    if (const auto other = holder.by_node.find(node); other != holder.by_node.end() && &*other->second != lease)
        remove(state, other->second, let_go);
    if (lease == nullptr) {
        if (!make_room(state, holder))
            return false;
        holder.in_force.push_back(
            {.holder = &holder, .directory = directory, .node = node, .asked_by = node, .told = {}, .recalled = {}});
        const LeasePosition added = std::prev(holder.in_force.end());
        holder.by_node.emplace(node, added);
        state.by_directory.emplace(directory.get(), added);
        total_.fetch_add(1);
        ++state.in_force;
        held_.add();
        granted_.add();
        return true;
    }
    const LeasePosition position = holder.by_node.at(lease->node);
    lease->asked_by = node;
    if (lease->ended != 0) {
        ++state.in_force;
        held_.add();
        granted_.add();
    }
    // What it still has to confirm of the old one is covered by what it will be told from now on: numbers rise.
    std::list<Lease>& from = lease->ended != 0 ? holder.ended : holder.in_force;
    holder.in_force.splice(holder.in_force.end(), from, position);
    lease->ended = 0;
    take_back_all(*lease);
    return true;
}

// Until it knows that it lost its leases it could take a new one for an old one.
bool LeaseTable::is_refused(const Holder& holder) const {
    return holder.all_ended > holder.confirmed || clock_.now() < holder.refused_until;
}

// False if there is none.
bool LeaseTable::make_room(State& state, Holder& holder) {
    if (limits_.leases_each == 0 || limits_.leases == 0)
        return false;
    if (holder.ended.size() >= limits_.leases_each) {
        end_all_of(state, holder);
        return false;
    }
    if (holder.in_force.size() >= limits_.leases_each)
        end(state, holder.in_force.front());
    if (state.in_force >= limits_.leases) {
        const auto most =
            std::ranges::max_element(state.holders, {}, [](const auto& each) { return each.second.in_force.size(); });
        end(state, most->second.in_force.front());
    }
    return true;
}

bool LeaseTable::asks_for_name(LeaseHolder holder, const Inode& directory, std::string_view name) {
    if (nobody())
        return false;
    auto state = state_.lock();
    Lease* lease = find(*state, holder, directory);
    if (lease == nullptr || lease->ended != 0)
        return false;
    lease->holder->told_names -= std::erase_if(lease->told, [&](const Told& told) { return told.name == name; });
    return true;
}

// What a name stands for is not answered by the attributes of a file that once had it.
bool LeaseTable::asks_for_attributes(LeaseHolder holder, const Inode& directory, std::string_view name) {
    if (nobody())
        return false;
    auto state = state_.lock();
    Lease* lease = find(*state, holder, directory);
    if (lease == nullptr || lease->ended != 0)
        return false;
    const std::size_t taken_back =
        std::erase_if(lease->told, [&](const Told& told) { return told.name == name && !told.is_new_meaning; });
    lease->holder->told_names -= taken_back;
    return taken_back != 0;
}

void LeaseTable::give_back(LeaseHolder key, const Inode& directory) {
    if (nobody())
        return;
    LetGo let_go;
    auto state = state_.lock();
    if (const Lease* lease = find(*state, key, directory); lease != nullptr)
        remove(*state, lease->holder->by_node.at(lease->node), let_go);
}

std::optional<NodeId> LeaseTable::node_gone(LeaseHolder key, NodeId node, NodeId other) {
    if (nobody())
        return std::nullopt;
    LetGo let_go;
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    if (found == state->holders.end())
        return std::nullopt;
    Holder& holder = found->second;
    const auto lease = holder.by_node.find(node);
    if (lease == holder.by_node.end())
        return std::nullopt;
    const LeasePosition position = lease->second;
    if (!other && position->asked_by != node)
        other = position->asked_by;
    if (!other || holder.by_node.contains(other)) {
        remove(*state, position, let_go);
        return std::nullopt;
    }
    go_by(*position, other);
    return other;
}

// The holder is told of it by that node, which no other lease of its goes by.
void LeaseTable::go_by(Lease& lease, NodeId node) {
    auto& by_node = lease.holder->by_node;
    const LeasePosition position = by_node.at(lease.node);
    by_node.erase(lease.node);
    by_node.emplace(node, position);
    lease.node = lease.asked_by = node;
}

bool LeaseTable::others_than(LeaseHolder author) const {
    if (nobody())
        return false;
    auto state = state_.lock();
    const auto found = state->holders.find(author);
    const std::size_t own =
        found == state->holders.end() ? 0 : found->second.in_force.size() + found->second.ended.size();
    return total_.load() > own;
}

bool LeaseTable::is_leased(const Inode& directory) const {
    return state_.lock()->by_directory.contains(&directory);
}

std::vector<InodePtr> LeaseTable::unleased() {
    return std::exchange(state_.lock()->unleased, {});
}

// ---------------------------------------------------------------- coming and going

void LeaseTable::enter(LeaseHolder key, SessionId session, bool may_take) {
    auto state = state_.lock();
    Holder& holder = state->holders[key];
    holder.may_take = may_take;
    takers_.fetch_add(may_take ? 1 : 0);
    holder.key = key;
    holder.session = session;
    state->sessions[session] = key;
}

void LeaseTable::leave(LeaseHolder key) {
    LetGo let_go;
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    if (found == state->holders.end())
        return;
    remove_all(*state, found->second, let_go);
    takers_.fetch_sub(found->second.may_take ? 1 : 0);
    state->sessions.erase(found->second.session);
    state->holders.erase(found);
}

void LeaseTable::remove(State& state, LeasePosition lease, LetGo& let_go) {
    Holder& holder = *lease->holder;
    end_exclusive(state, *lease);
    const auto [begin, end] = state.by_directory.equal_range(lease->directory.get());
    state.by_directory.erase(std::find_if(begin, end, [&](const auto& each) { return each.second == lease; }));
    holder.by_node.erase(lease->node);
    take_back_all(*lease);
    const bool is_last = !state.by_directory.contains(lease->directory.get());
    (is_last ? state.unleased : let_go).push_back(std::move(lease->directory));
    total_.fetch_sub(1);
    if (lease->ended != 0) {
        holder.ended.erase(lease);
        return;
    }
    holder.in_force.erase(lease);
    --state.in_force;
    held_.subtract();
}

void LeaseTable::remove_all(State& state, Holder& holder, LetGo& let_go) {
    for (std::list<Lease>* leases : {&holder.in_force, &holder.ended}) {
        while (!leases->empty())
            remove(state, leases->begin(), let_go);
    }
}

// ---------------------------------------------------------------- telling

void LeaseTable::announce(State& state, Holder& holder) {
    if (!std::exchange(holder.newly_told, true))
        state.newly_told.push_back(holder.session);
}

ToldNumber LeaseTable::note(State& state, Holder& holder, wire::LeaseChange change) {
    if (holder.untold.size() >= limits_.untold)
        return end_all_of(state, holder);
    const ToldNumber number = ++holder.last;
    holder.untold.push_back({number, std::move(change)});
    holder.decisions.push_back({number, clock_.now()});
    ++holder.revoked;
    revoked_.add();
    announce(state, holder);
    return number;
}

ToldNumber LeaseTable::end(State& state, Lease& lease) {
    Holder& holder = *lease.holder;
    if (lease.exclusive)
        recall(state, lease, false);
    const ToldNumber number = note(state, holder, {lease.node, What::ended, {}});
    if (lease.ended != 0)  // with all the others
        return lease.ended;
    lease.ended = number;
    take_back_all(lease);
    holder.ended.splice(holder.ended.end(), holder.in_force, holder.by_node.at(lease.node));
    --state.in_force;
    held_.subtract();
    return number;
}

// They are kept until the holder has confirmed it: whoever changes something that they cover waits for that.
ToldNumber LeaseTable::end_all_of(State& state, Holder& holder) {
    const ToldNumber number = ++holder.last;
    holder.untold.clear();
    holder.all_ended = number;
    holder.all_ended_untold = true;
    holder.decisions.push_back({number, clock_.now()});
    holder.revoked += holder.in_force.size();
    revoked_.add(holder.in_force.size());
    state.in_force -= holder.in_force.size();
    held_.subtract(holder.in_force.size());
    for (Lease& lease : holder.in_force) {
        lease.ended = number;
        take_back_all(lease);
    }
    holder.ended.splice(holder.ended.end(), holder.in_force);
    // Also those whose word had not been taken before all this was forgotten.
    for (Lease& lease : holder.ended) {
        if (lease.recalled)
            tell_to_share(state, lease);
        else if (lease.exclusive)
            recall(state, lease, false);
    }
    announce(state, holder);
    return number;
}

// Until which number its holder must have confirmed before the change can hurt nobody.
ToldNumber LeaseTable::tell_one(State& state, Lease& lease, const Touched& touched) {
    if (lease.ended != 0)
        return lease.ended;
    if (touched.name.empty())
        return tell_own_attributes(state, lease, 0);
    Told* told = find_told(lease, touched.name);
    if (told != nullptr && (told->is_new_meaning || !touched.is_new_meaning)) {
        const ToldNumber number = told->number;
        return touched.is_new_meaning ? std::max(number, tell_own_attributes(state, lease, 0)) : number;
    }
    if (told == nullptr &&
        (lease.told.size() >= limits_.told_names || lease.holder->told_names >= limits_.told_names_each))
        return end(state, lease);
    const ToldNumber number =
        note(state, *lease.holder, {lease.node, touched.is_new_meaning ? What::name : What::content, touched.name});
    if (lease.ended != 0)
        return lease.ended;
    if (told != nullptr)
        *told = {touched.name, true, number};
    else
        mark_told(lease, {touched.name, touched.is_new_meaning, number});
    if (touched.is_new_meaning)
        tell_own_attributes(state, lease, number);
    return number;
}

// The directory's own attributes. What told of a name (`told_with`) has told of them too.
ToldNumber LeaseTable::tell_own_attributes(State& state, Lease& lease, ToldNumber told_with) {
    if (const Told* told = find_told(lease, {}))
        return told->number;
    const ToldNumber number =
        told_with != 0 ? told_with : note(state, *lease.holder, {lease.node, What::directory, {}});
    if (lease.ended != 0)
        return lease.ended;
    mark_told(lease, {{}, false, number});
    return number;
}

std::vector<LeaseTable::Wait> LeaseTable::tell(LeaseHolder author, std::span<const Touched> touched) {
    std::vector<Wait> waits;
    if (nobody())
        return waits;
    auto state = state_.lock();
    for (const Touched& each : touched) {
        const auto [begin, end] = state->by_directory.equal_range(each.directory.get());
        for (auto entry = begin; entry != end; ++entry) {
            Holder& holder = *entry->second->holder;
            if (holder.key == author)
                continue;
            const ToldNumber number = tell_one(*state, *entry->second, each);
            if (number <= holder.confirmed)
                continue;
            const auto known = std::ranges::find(waits, holder.session, &Wait::holder);
            if (known == waits.end())
                waits.push_back({holder.session, number});
            else
                known->number = std::max(known->number, number);
        }
    }
    return waits;
}

std::vector<LeaseTable::Wait> LeaseTable::tell_nodes(LeaseHolder author, const NodesOf& nodes_of) {
    std::vector<LeaseHolder> others;
    state_.with([&](State& state) {
        for (const auto& [key, holder] : state.holders) {
            if (key != author && !(holder.in_force.empty() && holder.ended.empty()))
                others.push_back(key);
        }
    });
    std::vector<Wait> waits;
    for (const LeaseHolder key : others) {
        const std::vector<NodeId> nodes = nodes_of(key);
        auto state = state_.lock();
        const auto found = state->holders.find(key);
        if (nodes.empty() || found == state->holders.end())
            continue;
        ToldNumber number = 0;
        for (const NodeId node : nodes)
            number = note(*state, found->second, {node, What::directory, {}});
        waits.push_back({found->second.session, number});
    }
    return waits;
}

void LeaseTable::end_all() {
    auto state = state_.lock();
    for (auto& [key, holder] : state->holders) {
        if (!holder.in_force.empty())
            end_all_of(*state, holder);
    }
}

void LeaseTable::close() {
    state_.lock()->closed = true;
}

// ---------------------------------------------------------------- pushes and their confirmation

std::optional<LeaseTable::News> LeaseTable::take_news(LeaseHolder key, std::size_t max_bytes) {
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    if (found == state->holders.end())
        return std::nullopt;
    Holder& holder = found->second;
    if (!holder.all_ended_untold && holder.untold.empty())
        return std::nullopt;
    News news;
    if (std::exchange(holder.all_ended_untold, false)) {
        news.all_leases = true;
        news.last = holder.all_ended;
    }
    std::size_t bytes = 0;
    while (!holder.untold.empty()) {
        Untold& next = holder.untold.front();
        bytes += encoded_bytes(next.change);
        if (bytes > max_bytes)
            break;
        news.last = next.number;
        news.changes.push_back(std::move(next.change));
        holder.untold.pop_front();
    }
    return news;
}

bool LeaseTable::has_news(LeaseHolder key) const {
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    return found != state->holders.end() && (found->second.all_ended_untold || !found->second.untold.empty());
}

std::vector<SessionId> LeaseTable::newly_told() {
    auto state = state_.lock();
    for (const SessionId session : state->newly_told) {
        if (const auto key = state->sessions.find(session); key != state->sessions.end())
            state->holders.at(key->second).newly_told = false;
    }
    return std::exchange(state->newly_told, {});
}

void LeaseTable::confirm(LeaseHolder key, ToldNumber number) {
    LetGo let_go;
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    if (found == state->holders.end())
        return;
    Holder& holder = found->second;
    REMOFILE_ASSERT(number <= holder.last);
    holder.confirmed = std::max(holder.confirmed, number);
    while (!holder.decisions.empty() && holder.decisions.front().last <= holder.confirmed)
        holder.decisions.pop_front();
    for (auto lease = holder.ended.begin(); lease != holder.ended.end() && lease->ended <= holder.confirmed;) {
        const LeasePosition confirmed = lease++;
        if (!confirmed->exclusive)
            remove(*state, confirmed, let_go);
    }
}

std::vector<LeaseTable::Outstanding> LeaseTable::outstanding() const {
    std::vector<Outstanding> all;
    auto state = state_.lock();
    for (const auto& [key, holder] : state->holders) {
        if (!holder.decisions.empty())
            all.push_back({holder.session, holder.decisions.front().at});
        if (!holder.recalls.empty())
            all.push_back({holder.session, holder.recalls.front(), true});
    }
    return all;
}

bool LeaseTable::is_to_share(LeaseHolder holder) const {
    auto state = state_.lock();
    const auto found = state->holders.find(holder);
    return found != state->holders.end() && !found->second.recalls.empty();
}

LeaseTable::Expired LeaseTable::expire(SessionId session) {
    LetGo let_go;
    auto state = state_.lock();
    const auto key = state->sessions.find(session);
    if (key == state->sessions.end())
        return {};
    Holder& holder = state->holders.at(key->second);
    const std::size_t lost = holder.in_force.size() + holder.ended.size();
    holder.expired += lost;
    expired_.add(lost);
    remove_all(*state, holder, let_go);
    holder.untold.clear();
    holder.decisions.clear();
    holder.all_ended = ++holder.last;
    holder.all_ended_untold = true;
    announce(*state, holder);
    return {.leases = lost, .too_often = count_loss(holder)};
}

bool LeaseTable::count_loss(Holder& holder) const {
    const TimePoint now = clock_.now();
    std::erase_if(holder.losses, [&](TimePoint at) { return now - at >= limits_.penalty_period; });
    holder.losses.push_back(now);
    if (holder.losses.size() < static_cast<std::size_t>(limits_.losses))
        return false;
    holder.losses.clear();
    holder.refused_until = now + limits_.penalty_period;
    return true;
}

LeaseTable::Figures LeaseTable::figures(LeaseHolder key) const {
    auto state = state_.lock();
    const auto found = state->holders.find(key);
    if (found == state->holders.end())
        return {};
    const Holder& holder = found->second;
    return {.leases = static_cast<std::uint32_t>(holder.in_force.size()),
            .revoked = holder.revoked,
            .expired = holder.expired};
}

}  // namespace remofile::server
