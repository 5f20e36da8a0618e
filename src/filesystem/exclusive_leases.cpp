// SPDX-License-Identifier: MIT
#include "filesystem/exclusive_leases.hpp"

#include <sys/stat.h>

#include <algorithm>

namespace remofile::filesystem {
namespace {

// Another looks into the directory: there is more to lose than to win by asking again at once.
constexpr auto ask_again_after = std::chrono::seconds(2);
// Changes that follow one another so soon are a row.
constexpr auto in_a_row = std::chrono::seconds(2);
// Of those that are remembered: beyond it those that are not held are forgotten.
constexpr std::size_t max_remembered = 4096;
constexpr std::uint32_t no_limit_of_trust = UINT32_MAX;

}  // namespace

ExclusiveLeases::ExclusiveLeases(client::Session& session, const Clock& clock, Counters& counters, InodeMap& inodes,
                                 LeasedNames& names, Events now, CarriedOut carried_out)
    : session_(session),
      clock_(clock),
      inodes_(inodes),
      names_(names),
      now_(std::move(now)),
      carried_out_(std::move(carried_out)),
      taken_(counters.at("leases.exclusive_taken")),
      refused_(counters.at("leases.exclusive_refused")),
      shared_(counters.at("leases.exclusive_shared")) {
    names_.on_shared = [this](NodeId node, InodeNumber directory) { spawn(share(node, directory)); };
    names_.on_lost = [this](InodeNumber directory) { lost(directory); };
    names_.on_unknown = [this](NodeId node) { asked_with_.erase(node); };
}

ExclusiveLeases::~ExclusiveLeases() {
    names_.on_shared = nullptr;
    names_.on_lost = nullptr;
    names_.on_unknown = nullptr;
}

// The server acts as one user, whose rights it has looked at.
bool ExclusiveLeases::may_ask() const {
    const wire::HelloReply& hello = session_.hello();
    return !disabled_ && (hello.features & wire::feature_exclusive_leases) != 0 && !hello.client_identity &&
           !hello.read_only && names_.in_force();
}

bool ExclusiveLeases::holds(InodeNumber directory) const {
    const auto found = directories_.find(directory);
    return found != directories_.end() && epoch_ == session_.epoch() &&
           (found->second.state == State::held || found->second.state == State::made) && !found->second.lost &&
           names_.in_force() && names_.known().is_told_of(directory);
}

// ---------------------------------------------------------------- asking

bool ExclusiveLeases::is_worth_asking(InodeNumber directory) const {
    const auto found = directories_.find(directory);
    if (found == directories_.end() || epoch_ != session_.epoch())
        return true;
    const Directory& known = found->second;
    if (known.state == State::refused)
        return clock_.now() >= known.time;
    return known.state == State::changed || (known.state == State::held && !names_.known().is_told_of(directory));
}

// Whoever removes a tree goes on with what is beside the directory, and above it.
std::vector<InodeNumber> ExclusiveLeases::likely_to_follow(InodeNumber directory) const {
    std::vector<InodeNumber> found;
    const DirectoryCache& known = names_.known();
    const DirectoryCache::Place* place = known.place(directory);
    if (place == nullptr || place->parent == 0)
        return found;
    const InodeNumber parent = place->parent;
    const auto add = [&](InodeNumber number) {
        const Inode* inode = inodes_.find(number);
        if (inode != nullptr && inode->node && !inodes_.stale(*inode) && is_worth_asking(number) && !holds(number))
            found.push_back(number);
    };
    if (known.place(parent) != nullptr)
        add(parent);
    std::string name = place->name;
    for (std::size_t looked_at = 0; looked_at < wire::max_taken_leases && found.size() + 1 < wire::max_taken_leases;
         ++looked_at) {
        const DirectoryCache::Entry* next = known.next(parent, DirectoryCache::Order::listing, name);
        if (next == nullptr)
            break;
        name = next->name;
        if (const InodeNumber number = known.known_directory(parent, name); number != 0)
            add(number);
    }
    return found;
}

void ExclusiveLeases::ask_for(InodeNumber directory, Change change) {
    const Inode* inode = inodes_.find(directory);
    if (inode == nullptr || inodes_.stale(*inode) || !may_ask() || holds(directory) || !is_worth_asking(directory))
        return;
    begin_epoch();
    const auto [known, is_first] = directories_.try_emplace(directory, Directory{.state = State::changed});
    const bool follows =
        !is_first && (known->second.state != State::changed || clock_.now() - known->second.time <= in_a_row);
    if (!follows) {
        known->second = {.state = State::changed, .time = clock_.now()};
        return;
    }
    std::vector<InodeNumber> directories{directory};
    if (change == Change::removal)
        std::ranges::copy(likely_to_follow(directory), std::back_inserter(directories));
    spawn(take(std::move(directories), false));
}

void ExclusiveLeases::made(InodeNumber directory) {
    if (!may_ask())
        return;
    Inode& inode = *inodes_.find(directory);
    names_.known().learn({.directory = directory,
                          .place = {inode.place.parent, inode.place.name},
                          .attributes = {},
                          .absent_xattrs = no_xattrs_at_all,
                          .entries = {},
                          .complete = true,
                          .asked_at = now_(),
                          .asked = clock_.now(),
                          .trust = std::nullopt});
    InodeMap::hold(inode);
    spawn(take({directory}, true));
    if (const auto asked = directories_.find(directory); asked != directories_.end())
        asked->second.state = State::made;
}

std::optional<wire::TakeLeases> ExclusiveLeases::ask_with(NodeId node) {
    if (!may_ask())
        return std::nullopt;
    begin_epoch();
    asked_with_.insert_or_assign(node, Asked{.at = now_(), .time = clock_.now()});
    return wire::TakeLeases{{node}};
}

void ExclusiveLeases::came_with(NodeId node, InodeNumber directory, const wire::Attributes& attributes,
                                const Result<wire::TakeLeasesReply>& reply) {
    begin_epoch();
    const auto asked = asked_with_.extract(node);
    if (directory == 0 || !reply || asked.empty() || directories_.contains(directory))
        return;
    directories_[directory] = {};
    taken(directory, reply->leases.front(), reply->trust_ms == no_limit_of_trust, asked.mapped().at,
          asked.mapped().time, attributes);
}

// What is known is of one session, and does not grow without bound.
void ExclusiveLeases::begin_epoch() {
    if (std::exchange(epoch_, session_.epoch()) != session_.epoch()) {
        directories_.clear();
        asked_with_.clear();
    }
    if (directories_.size() > max_remembered)
        std::erase_if(directories_, [](const auto& each) {
            return each.second.state == State::refused || each.second.state == State::changed;
        });
}

Task<void> ExclusiveLeases::take(std::vector<InodeNumber> directories, bool unhurried) {
    begin_epoch();
    wire::TakeLeases message;
    for (const InodeNumber directory : directories) {
        message.directories.push_back(inodes_.find(directory)->node);
        directories_[directory] = {};
    }
    const std::uint64_t epoch = epoch_;
    const std::uint64_t asked_at = now_();
    const TimePoint asked = clock_.now();
    const client::CallOptions options{.ahead = unhurried, .in_order = true};
    const auto reply = co_await session_.call(message, options);
    if (epoch != session_.epoch() || epoch_ != epoch)
        co_return;
    const bool is_watched = reply && reply->body.trust_ms == no_limit_of_trust;
    for (std::size_t i = 0; i < directories.size(); ++i)
        taken(directories[i], reply ? reply->body.leases[i] : wire::TakenLease{}, is_watched, asked_at, asked);
}

void ExclusiveLeases::taken(InodeNumber number, const wire::TakenLease& lease, bool is_watched, std::uint64_t asked_at,
                            TimePoint asked, const wire::Attributes& attributes) {
    const auto found = directories_.find(number);
    Inode* inode = inodes_.find(number);
    if (found == directories_.end() || inode == nullptr || inodes_.stale(*inode))
        return;
    Directory& directory = found->second;
    // Shared meanwhile.
    if (directory.state != State::asked && directory.state != State::made)
        return;
    const bool was_made = directory.state == State::made;
    if (!lease.taken || !is_watched || directory.lost || (was_made && !lease.empty)) {
        // What was believed of a directory that was made may not be true.
        if (was_made)
            names_.forget(number);
        return refuse(number);
    }
    taken_.add();
    directory.state = State::held;
    // Known by this lease, if it was not before; of its names nothing, unless there are none.
    if (names_.known().place(number) == nullptr) {
        names_.known().learn({.directory = number,
                              .place = {inode->place.parent, inode->place.name},
                              .attributes = attributes,
                              .entries = {},
                              .complete = lease.empty,
                              .asked_at = asked_at,
                              .asked = asked,
                              .trust = std::nullopt});
        InodeMap::hold(*inode);
    }
}

void ExclusiveLeases::refuse(InodeNumber directory) {
    refused_.add();
    directories_[directory] = {.state = State::refused, .time = clock_.now() + ask_again_after};
}

// ---------------------------------------------------------------- sharing and losing

Task<void> ExclusiveLeases::share(NodeId node, InodeNumber directory) {
    const std::uint64_t epoch = session_.epoch();
    asked_with_.erase(node);
    if (directory != 0) {
        refuse(directory);
        co_await carried_out_(directory);
    }
    if (epoch != session_.epoch())
        co_return;
    shared_.add();
    session_.tell(wire::ShareLeases{{node}});
}

void ExclusiveLeases::lost(InodeNumber directory) {
    if (directory == 0) {
        asked_with_.clear();
        for (auto& [number, each] : directories_)
            each.lost = true;
        std::erase_if(directories_, [](const auto& each) {
            return each.second.state != State::asked && each.second.state != State::made;
        });
        return;
    }
    const auto found = directories_.find(directory);
    if (found == directories_.end())
        return;
    if (found->second.state != State::asked && found->second.state != State::made)
        directories_.erase(found);
    else
        found->second.lost = true;
}

}  // namespace remofile::filesystem
