// SPDX-License-Identifier: MIT
#include "filesystem/leased_names.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <iterator>

#include "client/directory.hpp"

namespace remofile::filesystem {
namespace {

// What is known of names takes no more: some 85,000 of them. Besides the files that the kernel knows (remofs/
// kernel_inodes.hpp) there is room for so much in what a walk may take.
constexpr std::size_t max_known_bytes = 28U << 20;
// One answer: most directories. Who lists a larger one has the rest in ever larger pieces; who looks up names in it has
// it once he has asked for so many of the rest, and again after twice as many if it could not be kept.
constexpr std::uint32_t listing_bytes = 128U << 10;
constexpr std::uint32_t largest_piece_bytes = 512U << 10;
constexpr std::uint32_t enough_look_ups_beyond = 64;
// Of names as long as they may be, not more than what may be kept of all directories.
constexpr std::size_t max_listed_entries = 40'000;
// A directory is listed at the second look-up in it: one alone is cheaper asked for.
constexpr std::uint8_t enough_look_ups = 2;
// Listings that a walk may be ahead, at its beginning and later: they are small, and each step of its growth is a round
// trip.
constexpr std::size_t first_ahead = 16;
constexpr std::size_t max_ahead = 128;
constexpr std::uint32_t no_limit_of_trust = UINT32_MAX;

bool is_dot(std::string_view name) {
    return name == "." || name == "..";
}

std::vector<DirectoryCache::Entry> entries_of(std::vector<wire::DirectoryEntry> listed) {
    std::vector<DirectoryCache::Entry> entries;
    entries.reserve(listed.size());
    for (wire::DirectoryEntry& entry : listed) {
        if (!is_dot(entry.name))
            entries.push_back({.name = std::move(entry.name),
                               .inode = entry.inode,
                               .type = entry.type,
                               .attributes = entry.entry.attributes,
                               .absent_xattrs = entry.no_xattrs ? no_xattrs_at_all : AbsentXattrs{},
                               .target = std::move(entry.target)});
    }
    return entries;
}

}  // namespace

LeasedNames::LeasedNames(client::Session& session, const Clock& clock, Counters& counters, InodeMap& inodes, Events now,
                         GiveBack give_back)
    : session_(session),
      clock_(clock),
      inodes_(inodes),
      now_(std::move(now)),
      give_back_(std::move(give_back)),
      term_(clock),
      known_(term_, clock, counters, max_known_bytes),
      directories_(known_, &is_directory_entry, first_ahead, max_ahead),
      listed_(counters.at("names.listed")),
      listed_ahead_(counters.at("names.listed_ahead")) {
    session_.on_answered = [this](TimePoint sent_at) {
        if (!session_.stopping())
            term_.heard(sent_at);
    };
    session_.on_stopping = [this] { lose_all(); };
    known_.on_given_up = [this](InodeNumber directory) {
        if (const Inode* inode = inodes_.find(directory); inode != nullptr && inode->leased) {
            session_.tell(wire::ReturnLeases{{inode->node}});
            // A listing under way was asked for before.
            for (const auto& [key, pending] : pending_)
                pending->is_void |= pending->node == inode->node;
        }
        tell_lost(directory);
        let_go(directory);
    };
    begin_session();
}

LeasedNames::~LeasedNames() {
    session_.on_answered = nullptr;
    session_.on_stopping = nullptr;
    for (const auto& [key, pending] : pending_)
        pending->abandoned = true;
}

void LeasedNames::begin_session() {
    const wire::HelloReply& hello = session_.hello();
    const bool granted = (hello.features & wire::feature_leases) != 0;
    term_.agree(std::chrono::milliseconds(granted ? hello.lease_term_ms : 0));
    lose_all();
}

void LeasedNames::lose_all() {
    term_.end();
    tell_lost(0);
    known_.revoke_all(now_());
    make_void(0, {});
    let_go_all();
}

void LeasedNames::tell_lost(InodeNumber directory) {
    if (on_lost)
        on_lost(directory);
}

void LeasedNames::make_void(InodeNumber directory, std::string_view name) {
    if (on_void)
        on_void(directory, name);
}

// ---------------------------------------------------------------- what is revoked

void LeasedNames::revoke(const client::Invalidation& invalidation) {
    const std::uint64_t now = now_();
    if (invalidation.all_leases) {
        known_.revoke_all(now);
        make_void(0, {});
        tell_lost(0);
        for (const auto& [key, pending] : pending_)
            pending->is_void = true;
        let_go_all();
    }
    using What = wire::LeaseChange::What;
    for (const wire::LeaseChange& change : invalidation.changes) {
        if (change.what == What::shared) {
            const Inode* shared = inodes_.find(change.directory);
            if (on_shared)
                on_shared(change.directory, shared == nullptr ? 0 : shared->id);
            continue;
        }
        Inode* inode = inodes_.find(change.directory);
        // A node that nobody knows may be that of any listing under way: another answer that has it is, too.
        for (const auto& [key, pending] : pending_)
            pending->is_void |= inode == nullptr || pending->node == change.directory;
        if (inode == nullptr) {
            if (on_unknown)
                on_unknown(change.directory);
            continue;
        }
        switch (change.what) {
            case What::content:
                known_.revoke_attributes(inode->id, change.name, now);
                make_void(inode->id, change.name);
                break;
            case What::name:
                known_.revoke_name(inode->id, change.name, now);
                make_void(inode->id, change.name);
                break;
            case What::directory:
                if (inode->type != S_IFDIR) {
                    known_.revoke_attributes(inode->place.parent, inode->place.name, now);
                    make_void(inode->place.parent, inode->place.name);
                    break;
                }
                // Who may enter it is among them.
                [[fallthrough]];
            case What::ended:
                known_.revoke(inode->id, now);
                make_void(inode->id, {});
                tell_lost(inode->id);
                let_go(inode->id);
                break;
            case What::shared:
                break;
        }
    }
}

void LeasedNames::let_go(InodeNumber directory) {
    Inode* inode = inodes_.find(directory);
    if (inode == nullptr || !inode->leased)
        return;
    std::vector<wire::ForgetNode> unneeded;
    inodes_.let_go(*inode, unneeded);
    give_back_(std::move(unneeded));
}

void LeasedNames::let_go_all() {
    std::vector<InodeNumber> held;
    inodes_.for_each([&](const Inode& inode) {
        if (inode.leased)
            held.push_back(inode.id);
    });
    for (const InodeNumber directory : held)
        let_go(directory);
}

// ---------------------------------------------------------------- listing

LeasedNames::PendingPtr LeasedNames::start(const Key& key, std::uint32_t credential, Extent extent) {
    const auto [place, is_new] = pending_.try_emplace(key);
    PendingPtr& pending = place->second;
    if (!is_new)
        return pending;
    pending = std::make_shared<Pending>();
    pending->extent = extent;
    const Inode* inode = inodes_.find(key.first);
    pending->node = key.second.empty() && inode != nullptr ? inode->node : session_.new_node_id();
    const PendingPtr started = pending;  // the coroutine may end, and take the place away, before spawn() returns
    spawn(ask(key, credential, started), [this, key, started](Status) {
        if (!started->abandoned)
            pending_.erase(key);
        started->waiters.wake(Status::ok);
    });
    return started;
}

Task<void> LeasedNames::ask(Key key, std::uint32_t credential, PendingPtr pending) {
    const Inode* inode = inodes_.find(key.first);
    const std::uint64_t epoch = session_.epoch();
    const std::uint64_t asked_at = now_();
    const TimePoint asked = clock_.now();
    listed_.add();
    const wire::List message{.node = inode == nullptr ? NodeId{} : inode->node,
                             .name = key.second,
                             .new_node = {pending->node, true},
                             .handle = pending->extent == Extent::whole ? session_.new_handle_id() : HandleId{},
                             .size = listing_bytes,
                             .lease = true};
    const client::CallOptions options{.credential = credential, .ahead = pending->extent == Extent::ahead};
    const auto reply = co_await session_.call(message, options);
    if (pending->abandoned)
        co_return;
    std::optional<Listing> listing;
    if (reply)
        if (auto entries = client::decode_directory(reply->bulk, reply->body.count))
            listing = {.entries = std::move(*entries), .complete = reply->body.end};
    if (reply && message.handle && !reply->body.end && session_.epoch() == epoch) {
        if (listing && reply->body.leased)
            co_await read_on(pending, message.handle, credential, *listing);
        else
            session_.tell(wire::Releasedir{message.handle});
        if (pending->abandoned)
            co_return;
    }
    pending_.erase(key);
    if (session_.epoch() != epoch) {
        pending->waiters.wake(Status::ok);
        co_return;
    }
    if (reply)
        take_in(key, *pending, reply->body, std::move(listing), asked_at, asked);
    else if (Inode* refused = inodes_.find(key.first); refused != nullptr && key.second.empty())
        refused->unlistable = true;
    pending->waiters.wake(Status::ok);
    if (!key.second.empty() && directories_.is_starved())
        fetch_ahead(credential);
}

// The rest of a directory that is larger than one answer, if it can be kept. Whatever the server revokes of it
// meanwhile voids it all, as if it had come with one answer.
Task<void> LeasedNames::read_on(PendingPtr pending, HandleId handle, std::uint32_t credential, Listing& listing) {
    const std::uint64_t epoch = session_.epoch();
    wire::Readdir message{.handle = handle,
                          .cookie = 0,
                          .size = listing_bytes,
                          .max_entries = UINT16_MAX,
                          .attributes = wire::ListedAttributes::leased,
                          .first_node = {}};
    bool goes_on = !listing.entries.empty();
    while (goes_on && !pending->is_void && listing.entries.size() < max_listed_entries) {
        message.cookie = listing.entries.back().cookie;
        message.size = std::min(2 * message.size, largest_piece_bytes);
        const auto reply = co_await session_.call(message, client::CallOptions{.credential = credential});
        if (pending->abandoned || session_.epoch() != epoch)
            co_return;
        goes_on = false;
        if (!reply)
            continue;
        auto entries = client::decode_directory(reply->bulk, reply->body.count, message.cookie);
        if (!entries)
            continue;
        std::ranges::move(*entries, std::back_inserter(listing.entries));
        listing.complete = reply->body.end;
        goes_on = !listing.complete && !entries->empty();
    }
    session_.tell(wire::Releasedir{handle});
}

// The directory that an answer is about, held if its lease is; null if nobody knows it.
Inode* LeasedNames::directory_of(const Key& key, const wire::ListReply& reply,
                                 std::vector<wire::ForgetNode>& unneeded) {
    if (key.second.empty())
        return inodes_.find(key.first);
    return inodes_.adopt(key.first, reply.entry, unneeded);
}

void LeasedNames::take_in(const Key& key, const Pending& pending, const wire::ListReply& reply,
                          std::optional<Listing> listing, std::uint64_t asked_at, TimePoint asked) {
    std::vector<wire::ForgetNode> unneeded;
    Inode* directory = directory_of(key, reply, unneeded);
    if (directory != nullptr) {
        const InodeNumber id = directory->id;
        const bool by_name = !key.second.empty();
        if (by_name)
            InodeMap::put(*directory, key.first, key.second);
        if (listing && reply.leased && !pending.is_void) {
            DirectoryCache::Listed news{.directory = id,
                                        .place = {directory->place.parent, directory->place.name},
                                        .attributes = reply.entry.attributes,
                                        .absent_xattrs = reply.no_xattrs ? no_xattrs_at_all : AbsentXattrs{},
                                        .entries = entries_of(std::move(listing->entries)),
                                        .complete = listing->complete,
                                        .asked_at = asked_at,
                                        .asked = asked,
                                        .trust = std::nullopt};
            if (reply.trust_ms != no_limit_of_trust)
                news.trust = std::chrono::milliseconds(reply.trust_ms);
            directory->too_large = pending.extent == Extent::whole && !listing->complete;
            if (!known_.has_changed_since(id, asked_at)) {
                const auto known_by_number = put_entries(id, news.entries);
                known_.learn(std::move(news));
                InodeMap::hold(*directory);
                reconcile(id, known_by_number, asked_at);
            }
        }
        if (by_name)
            inodes_.forget(id, 1, unneeded);
    }
    give_back_(std::move(unneeded));
}

// Of what a listing shows, that which is known by number: this is where it is.
std::vector<InodeNumber> LeasedNames::put_entries(InodeNumber directory,
                                                  const std::vector<DirectoryCache::Entry>& entries) {
    std::vector<InodeNumber> known;
    for (const DirectoryCache::Entry& entry : entries) {
        Inode* inode = entry.attributes.mode == 0 ? nullptr : inodes_.find(entry.attributes.identity);
        if (inode == nullptr)
            continue;
        InodeMap::put(*inode, directory, entry.name);
        known.push_back(inode->id);
    }
    return known;
}

// What was changed from here since the listing was asked for is not in it.
void LeasedNames::reconcile(InodeNumber directory, const std::vector<InodeNumber>& inodes, std::uint64_t asked_at) {
    for (const InodeNumber id : inodes) {
        const Inode* inode = inodes_.find(id);
        if (inode == nullptr)
            continue;
        if (inode->leased)
            known_.put(id, {directory, inode->place.name});
        if (inode->changed_at >= asked_at)
            known_.attributes_changed_here(directory, inode->place.name, now_());
    }
}

Task<Status> LeasedNames::list(InodeNumber directory, std::uint32_t credential, client::Cancellation* cancellation) {
    if (!in_force())
        co_return Status::ok;
    const Key key{directory, {}};
    const auto under_way = pending_.find(key);
    if (under_way != pending_.end() && under_way->second->extent != Extent::whole) {
        const Status status = co_await have(key, credential, Extent::one_answer, cancellation);
        if (status != Status::ok || !in_force() || !known_.is_partial(directory))
            co_return status;
    }
    co_return co_await have(key, credential, Extent::whole, cancellation);
}

Task<Status> LeasedNames::have(Key key, std::uint32_t credential, Extent extent, client::Cancellation* cancellation) {
    const PendingPtr pending = start(key, credential, extent);
    if (!pending_.contains(key))
        co_return Status::ok;
    co_return co_await pending->waiters.wait(cancellation);
}

// Whether somebody who looks a name up had better have the names of the directory.
bool LeasedNames::is_worth_listing(InodeNumber number, std::string_view name) {
    Inode* directory = inodes_.find(number);
    if (directory == nullptr || directory->unlistable || directory->too_large)
        return false;
    if (known_.place(number) == nullptr) {
        directory->looked_into = std::min<std::uint8_t>(directory->looked_into + 1, enough_look_ups);
        return directory->looked_into >= enough_look_ups;
    }
    if (!known_.is_partial(number) || known_.peek(number, name) != nullptr)
        return false;
    ++directory->looked_beyond;
    return directory->looked_beyond >= enough_look_ups_beyond && std::has_single_bit(directory->looked_beyond);
}

Task<Status> LeasedNames::prepare(InodeNumber parent, std::string_view name, std::uint32_t credential,
                                  client::Cancellation* cancellation) {
    if (!in_force())
        co_return Status::ok;
    const Key key{parent, name};
    const bool is_first = known_.place(parent) == nullptr;
    if (is_worth_listing(parent, name)) {
        // Whoever comes to a directory again goes into it.
        if (is_first && key == directory_found_alone_)
            start(key, credential, Extent::one_answer);
        const Status status = is_first ? co_await have({parent, {}}, credential, Extent::one_answer, cancellation)
                                       : co_await list(parent, credential, cancellation);
        if (status != Status::ok)
            co_return status;
    }
    const DirectoryCache::Entry* entry = known_.peek(parent, key.second);
    if (entry == nullptr || !is_directory_entry(*entry))
        co_return Status::ok;
    directories_.visit(parent, key.second);
    if (directories_.is_due())
        fetch_ahead(credential);
    const bool is_known = known_.known_directory(parent, key.second) != 0;
    if (!is_known && directories_.window() > 0)
        start(key, credential, Extent::one_answer);
    if (const auto asked = pending_.find(key); asked != pending_.end() && !is_known) {
        const PendingPtr pending = asked->second;
        co_return co_await pending->waiters.wait(cancellation);
    }
    co_return Status::ok;
}

void LeasedNames::fetch_ahead(std::uint32_t credential) {
    std::size_t count = 0;
    for (const Walk::Target& target : directories_.ahead()) {
        const bool is_there =
            known_.known_directory(target.parent, target.name) != 0 || pending_.contains({target.parent, target.name});
        if (!is_there && pending_.size() >= max_ahead)
            break;
        ++count;
        if (is_there)
            continue;
        listed_ahead_.add();
        start({target.parent, target.name}, credential, Extent::ahead);
    }
    directories_.fetched(count);
}

// ---------------------------------------------------------------- what other answers bring

void LeasedNames::found(InodeNumber parent, std::string_view name, Inode& inode, const wire::Attributes& attributes,
                        std::uint64_t asked_at) {
    if (parent == 0)
        return;
    if (inode.type == S_IFDIR && known_.place(parent) == nullptr)
        directory_found_alone_ = {parent, std::string(name)};
    // A file has its place where its attributes are current, for what is changed from here is noted there: an answer
    // that is of the time before a change of the directory does not move it.
    if (inode.place.name.empty() || !known_.has_changed_since(parent, asked_at)) {
        InodeMap::put(inode, parent, name);
        if (inode.leased)
            known_.put(inode.id, {parent, std::string(name)});
    }
    if (inode.changed_at >= asked_at)
        return;
    known_.learn(parent, name, attributes, asked_at);
    if (inode.type == S_IFDIR)
        known_.learn_own(inode.id, attributes, asked_at);
}

void LeasedNames::fetched(InodeNumber parent, std::string_view name, const wire::Attributes& attributes,
                          std::uint64_t asked_at) {
    Inode* known = inodes_.find(attributes.identity);
    if (known != nullptr && known->type == (attributes.mode & S_IFMT))
        return found(parent, name, *known, attributes, asked_at);
    known_.learn(parent, name, attributes, asked_at);
}

void LeasedNames::heard(const Inode& inode, const wire::Attributes& attributes, std::uint64_t asked_at) {
    if (inode.changed_at >= asked_at || (attributes.mode & S_IFMT) != inode.type)
        return;
    if (inode.type == S_IFDIR)
        return known_.learn_own(inode.id, attributes, asked_at);
    if (entry_of(inode) != nullptr)
        known_.learn(inode.place.parent, inode.place.name, attributes, asked_at);
}

void LeasedNames::changed(Inode& inode) {
    inode.changed_at = now_();
    if (inode.type == S_IFDIR) {
        known_.revoke(inode.id, inode.changed_at);
        tell_lost(inode.id);
        let_go(inode.id);
    }
    if (inode.place.name.empty())
        return;
    make_void(inode.place.parent, inode.place.name);
    known_.attributes_changed_here(inode.place.parent, inode.place.name, inode.changed_at);
}

void LeasedNames::xattrs_changed(Inode& inode) {
    changed(inode);
    if (inode.type != S_IFDIR)
        known_.xattrs_changed_here(inode.place.parent, inode.place.name);
}

void LeasedNames::lacks_xattrs(const Inode& inode, AbsentXattrs absent, std::uint64_t asked_at) {
    if (inode.changed_at >= asked_at)
        return;
    if (inode.type == S_IFDIR)
        known_.learn_own_absent_xattrs(inode.id, absent, asked_at);
    else if (entry_of(inode) != nullptr)
        known_.learn_absent_xattrs(inode.place.parent, inode.place.name, absent, asked_at);
}

void LeasedNames::forget(InodeNumber directory) {
    tell_lost(directory);
    known_.revoke(directory, now_());
    let_go(directory);
}

const wire::Attributes* LeasedNames::attributes(const Inode& inode) {
    if (!in_force())
        return nullptr;
    if (inode.type == S_IFDIR)
        return known_.own_attributes(inode.id);
    if (entry_of(inode) == nullptr)
        return nullptr;
    const auto answer = known_.find(inode.place.parent, inode.place.name);
    return answer.current ? answer.attributes : nullptr;
}

// What is known of its name, if that stands for it: by its number it says nothing of that.
const DirectoryCache::Entry* LeasedNames::entry_of(const Inode& inode) const {
    const DirectoryCache::Entry* entry = known_.peek(inode.place.parent, inode.place.name);
    return entry != nullptr && entry->attributes.identity == inode.identity ? entry : nullptr;
}

AbsentXattrs LeasedNames::absent_xattrs(const Inode& inode) const {
    if (!in_force())
        return 0;
    if (inode.type == S_IFDIR)
        return known_.own_absent_xattrs(inode.id);
    return entry_of(inode) == nullptr ? AbsentXattrs{} : known_.absent_xattrs(inode.place.parent, inode.place.name);
}

const std::string* LeasedNames::target(const Inode& inode) const {
    const DirectoryCache::Entry* entry = in_force() ? entry_of(inode) : nullptr;
    return entry == nullptr || entry->target.empty() ? nullptr : &entry->target;
}

}  // namespace remofile::filesystem
