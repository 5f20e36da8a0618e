// SPDX-License-Identifier: MIT
#include "filesystem/file_system.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "base/log.hpp"

namespace remofile::filesystem {

FileSystem::FileSystem(client::Session& session, transport::Reactor& reactor, const Clock& clock, Counters& counters,
                       FileSystemSettings settings)
    : session_(session),
      reactor_(reactor),
      settings_(std::move(settings)),
      export_device_(session.hello().root_attributes.identity.device),
      inodes_(session.epoch(), session.hello().root, session.hello().root_attributes),
      contents_(session, clock, inodes_, files_, counters, settings_.cache_bytes,
                [this](InodeNumber inode) { drop_front(inode, nullptr); }),
      resident_memory_(contents_.memory(), reactor),
      names_(
          session, clock, counters, inodes_, [this] { return contents_.now(); },
          [this](std::vector<wire::ForgetNode> nodes) { give_back(std::move(nodes)); }),
      behind_(counters, settings_.max_changes_behind),
      exclusive_(
          session, clock, counters, inodes_, names_, [this] { return contents_.now(); },
          [this](InodeNumber directory) { return carried_out_in(directory); }),
      lent_(session, clock, counters, settings_.borrows_inodes),
      fetched_(session, counters, inodes_, names_, [this] { return contents_.now(); }),
      xattr_memory_(clock),
      second_attempts_(reactor, session),
      fresh_look_ups_(clock),
      statistics_(
          session, reactor, clock, [this] { return inodes_.root().node; },
          [this] { return contents_.writes().pending_bytes() == 0 && !behind_.any(); }),
      kept_handles_(reactor,
                    [&session](HandleId handle) { session.tell(wire::Release{handle}, client::LaneKind::data); }) {
    session_.on_invalidate = [this](const client::Invalidation& invalidation, std::function<void()> acknowledge) {
        on_invalidate(invalidation, std::move(acknowledge));
    };
    names_.known().on_name_void = [this](InodeNumber directory, const std::string& name,
                                         const wire::FileIdentity* meant) {
        if (front_names_ == nullptr)
            return;
        const Inode* inode = meant == nullptr ? nullptr : inodes_.find(*meant);
        front_names_->drop_name(directory, name, inode == nullptr ? 0 : inode->id);
    };
    names_.known().on_names_void = [this](InodeNumber directory) {
        if (front_names_ != nullptr)
            front_names_->drop_listing(directory);
    };
    names_.known().on_attributes_void = [this](const wire::FileIdentity& identity) {
        // The root is no entry of a directory, and is not found as one.
        const bool is_root = identity == inodes_.root().identity;
        const Inode* inode = is_root ? &inodes_.root() : inodes_.find(identity);
        if (inode != nullptr && front_ != nullptr)
            front_->drop_attributes(inode->id);
    };
    names_.on_void = [this](InodeNumber directory, std::string_view name) {
        fetched_.drop(directory, name);
        kept_handles_.drop(directory, name);
    };
    lent_.on_first = [this] { names_.known().revoke_own_attributes(root_inode, contents_.now()); };
    inodes_.on_removed = [this](InodeNumber inode) {
        contents_.removed(inode);
        shown_times_.forget(inode);
        linked_names_.forget(inode);
    };
    if (settings_.waits_for_names)
        exclusive_.disable();
    behind_.on_settled = [this](InodeNumber inode, const std::optional<ChangesBehind::Heard>& heard) {
        change_settled(inode, heard);
    };
    contents_.writes().now = [this] { return contents_.now(); };
    contents_.writes().is_being_made = [this](const client::WriteBehind::Target& target) {
        return behind_.concerns(target.file);
    };
    // The answer to a write may have been overtaken by that to something else.
    contents_.writes().on_written_out = [this](InodeNumber id, const wire::Attributes& attributes,
                                               std::uint64_t accepted_at) {
        if (const Inode* inode = inodes_.find(id); inode != nullptr && inode->changed_otherwise_at <= accepted_at)
            attributes_are(id, attributes, accepted_at);
    };
    contents_.on_lost = [this](InodeNumber inode, Status status) {
        const Inode* lost = inodes_.find(inode);
        const InodeNumber directory = lost == nullptr ? 0 : lost->place.parent;
        if (directory == 0)
            return;
        behind_.note_failure(directory, status);
        names_.forget(directory);
    };
    contents_.on_written = [this](InodeNumber inode) { written_here(inode); };
    contents_.on_changed = [this](InodeNumber inode) { changed_here(inode); };
    contents_.on_kept = [this] { note_unsynced(); };
    contents_.on_synced = [this](InodeNumber id) {
        Inode* inode = inodes_.find(id);
        if (inode == nullptr || !inode->unsynced)
            return;
        std::vector<wire::ForgetNode> unneeded;
        inodes_.let_go_synced(*inode, unneeded);
        give_back(std::move(unneeded));
    };
    note_machine();
    session_.on_session_lost = [this] { return restore_session(); };
    session_.on_change_in_doubt = [this](std::uint64_t change, const auto& requests) {
        return fate_of_change(change, requests);
    };
    session_.on_new_epoch = [this] { on_new_epoch(); };
    session_.on_reconnected = [this] { on_reconnected(); };
}

FileSystem::~FileSystem() {
    session_.on_invalidate = nullptr;
    session_.on_session_lost = nullptr;
    session_.on_change_in_doubt = nullptr;
    session_.on_new_epoch = nullptr;
    session_.on_reconnected = nullptr;
    names_.on_void = nullptr;
    if (late_timer_)
        reactor_.cancel(*late_timer_);
    if (quiet_timer_)
        reactor_.cancel(*quiet_timer_);
    if (held_timer_)
        reactor_.cancel(*held_timer_);
    if (lent_names_timer_)
        reactor_.cancel(*lent_names_timer_);
    if (unsynced_timer_)
        reactor_.cancel(*unsynced_timer_);
}

FileSystem::Usage FileSystem::usage() const {
    return {.known_files = inodes_.size(),
            .open_files = files_.size(),
            .open_directories = directories_.size(),
            .cached_bytes = contents_.memory().used_bytes(),
            .cache_limit_bytes = contents_.memory().limit_bytes(),
            .pending_write_bytes = contents_.writes().pending_bytes(),
            .pending_changes = behind_.size()};
}

Task<void> FileSystem::all_written_out() {
    co_await all_settled(nullptr);
    co_await contents_.writes().drain_all(nullptr);
}

// ---------------------------------------------------------------- asking the server

Result<NodeId> FileSystem::node_of(InodeNumber id) {
    const Inode* inode = inodes_.find(id);
    if (inode == nullptr || inodes_.stale(*inode))
        return Status::stale;
    return inode->node;
}

Task<Result<NodeId>> FileSystem::node_for(Operation& operation, InodeNumber id) {
    const Inode* inode = inodes_.find(id);
    if (inode == nullptr || inodes_.stale(*inode))
        co_return Result<NodeId>(Status::stale);
    if (inode->node)
        co_return inode->node;
    co_return co_await find_node(operation, id);
}

Task<Result<NodeId>> FileSystem::find_node(Operation& operation, InodeNumber id) {
    const Inode::Place place = inodes_.find(id)->place;
    const auto parent = node_of(place.parent);
    if (!parent)
        co_return Result<NodeId>(parent.error());
    const wire::Lookup message{.parent = *parent, .name = place.name, .node = new_node()};
    const std::uint64_t asked_at = contents_.now();
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<NodeId>(reply.status() == Status::no_entry ? Status::stale : reply.status());
    const auto entry = entry_of(place.parent, place.name, reply->body, asked_at);
    if (!entry)
        co_return Result<NodeId>(entry.error());
    const Inode* found = inodes_.find(id);
    const bool is_same = entry->inode == id && found != nullptr;
    const NodeId node = is_same ? found->node : NodeId{};
    forget(entry->inode);
    co_return is_same ? Result<NodeId>(node) : Result<NodeId>(Status::stale);
}

Result<FileHandle*> FileSystem::file(HandleNumber handle) {
    FileHandle* file = files_.find(handle);
    if (file == nullptr || file->epoch != session_.epoch())
        return Status::stale;
    return file;
}

Result<DirectoryHandle*> FileSystem::directory(HandleNumber handle) {
    DirectoryHandle* directory = directories_.find(handle);
    if (directory == nullptr || directory->epoch != session_.epoch())
        return Status::stale;
    return directory;
}

CallerIdentity FileSystem::identity_of(const Operation& operation) const {
    const Caller& caller = operation.caller;
    return {.uid = caller.uid, .gid = caller.gid, .groups = settings_.facts_of(caller).groups};
}

Task<Result<std::uint32_t>> FileSystem::credential_of(CallerIdentity identity, client::Cancellation* cancellation) {
    if (!session_.hello().client_identity)
        co_return Result<std::uint32_t>(0U);
    co_return co_await session_.credential(identity.uid, identity.gid, std::move(identity.groups), cancellation);
}

Task<Result<std::uint32_t>> FileSystem::credential_of(Operation& operation) {
    if (!session_.hello().client_identity)
        co_return Result<std::uint32_t>(0U);
    auto identity = identity_of(operation);
    co_return co_await credential_of(std::move(identity), &operation.cancellation);
}

void FileSystem::settle_set_id(Operation& operation, InodeNumber id, bool is_said) {
    const Inode* inode = inodes_.find(id);
    if (!is_said && !settings_.facts_of(operation.caller).keeps_set_id)
        operation.set_id = wire::SetId::drop;
    if (inode == nullptr || operation.set_id != wire::SetId::drop)
        return;
    // Whoever is of the file's group keeps its set-group-id bit where the group may not execute it. A server that acts
    // as itself does not know of the caller's groups.
    if ((inode->content.mode & (S_ISUID | S_ISGID | S_IXGRP)) != S_ISGID)
        return;
    const auto identity = identity_of(operation);
    if (identity.gid == inode->content.gid ||
        std::ranges::find(identity.groups, inode->content.gid) != identity.groups.end())
        operation.set_id = wire::SetId::as_caller;
}

Task<std::vector<client::EncodedReply>> FileSystem::call_batch(Operation& operation,
                                                               std::vector<client::EncodedRequest> requests) {
    auto credential = co_await credential_of(operation);
    if (!credential) {
        std::vector<client::EncodedReply> replies(requests.size());
        for (client::EncodedReply& reply : replies)
            reply.status = credential.status();
        co_return replies;
    }
    const client::CallOptions options{
        .credential = *credential, .set_id = operation.set_id, .change = operation.change};
    auto replies = co_await session_.call_batch(std::move(requests), options, &operation.cancellation);
    for (client::EncodedReply& reply : replies)
        if (reply.status == Status::no_session && operation.change != 0)
            reply.status = in_doubt;
    co_return replies;
}

// ---------------------------------------------------------------- inodes and their holders

// Takes in a reply that names a file below `parent`, asked for at `asked_at`.
Result<Entry> FileSystem::entry_of(InodeNumber parent, std::string_view name, const wire::EntryReply& reply,
                                   std::uint64_t asked_at) {
    std::vector<wire::ForgetNode> unneeded;
    Inode* inode = inodes_.adopt(parent, reply, unneeded);
    give_back(std::move(unneeded));
    if (inode == nullptr) {
        log::warn("the server named node {} as an entry of a directory, which it cannot be", reply.node.value);
        return Status::io_error;
    }
    names_.found(parent, name, *inode, reply.attributes, asked_at);
    return with_loan({.inode = inode->id, .attributes = seen(inode->id, reply.attributes, asked_at)}, parent, name);
}

void FileSystem::forget(InodeNumber inode, std::uint64_t count) {
    const Forgotten entry{inode, count};
    forget(std::span(&entry, 1));
}

void FileSystem::forget(std::span<const Forgotten> entries) {
    std::vector<wire::ForgetNode> unneeded;
    for (const Forgotten& entry : entries)
        inodes_.forget(entry.inode, entry.count, unneeded);
    give_back(std::move(unneeded));
}

void FileSystem::give_back(std::vector<wire::ForgetNode> nodes) {
    for (wire::Forget& message : messages_to_forget(nodes))
        session_.tell(std::move(message));
}

// As few messages as may be.
std::vector<wire::Forget> FileSystem::messages_to_forget(std::span<const wire::ForgetNode> nodes) {
    std::vector<wire::Forget> messages;
    while (!nodes.empty()) {
        const auto some = nodes.first(std::min(nodes.size(), wire::max_forgets));
        messages.push_back({.nodes = {some.begin(), some.end()}});
        nodes = nodes.subspan(some.size());
    }
    return messages;
}

// A handle of a file has come, and gone; `maps`: a mapping that is written to can be made through it.
void FileSystem::opened(InodeNumber id, bool maps) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inodes_.opened(*inode);
    inode->pages.mappable_by += maps ? 1 : 0;
}

void FileSystem::released(InodeNumber id, bool maps) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || inode->open_count == 0)
        return;
    inode->pages.mappable_by -= maps ? 1 : 0;
    if (inode->open_count == 1) {
        inode->has_byte_locks = false;
        contents_.closed(id);
    }
    std::vector<wire::ForgetNode> unneeded;
    inodes_.closed(*inode, unneeded);
    give_back(std::move(unneeded));
}

// ---------------------------------------------------------------- what is kept in front

// Ends once nothing is kept in front of the file that is known to be out of date. Errors: interrupted.
Task<Status> FileSystem::front_is_current(Operation& operation, InodeNumber inode) {
    if (front_ == nullptr)
        co_return Status::ok;
    co_return co_await front_->current(inode, &operation.cancellation);
}

// Ends once all that was written to mappings in front of the file is at the server. Errors: interrupted.
Task<Status> FileSystem::front_written_back(Operation& operation, InodeNumber inode) {
    if (front_ == nullptr)
        co_return Status::ok;
    co_return co_await front_->mappings_written(inode, &operation.cancellation);
}

void FileSystem::drop_front(InodeNumber inode, std::function<void()> done) {
    if (front_ != nullptr)
        front_->drop(inode, std::move(done));
    else if (done)
        done();
}

// ---------------------------------------------------------------- what the session tells

bool FileSystem::may_use_names(const Operation& operation) {
    if (!session_.hello().client_identity || settings_.front_checks_permissions)
        return true;
    if (!names_user_)
        names_user_ = operation.caller.uid;
    return *names_user_ == operation.caller.uid;
}

bool FileSystem::may_lend() const {
    const bool all_are_told_the_same =
        !session_.hello().client_identity || settings_.front_checks_permissions || settings_.is_single_user;
    return front_names_ != nullptr && all_are_told_the_same && names_.in_force();
}

// For how long the attributes that are known of a file may be kept in front. Not where writes and changes from here are
// about to change them: the front has been told of those.
Duration FileSystem::life_of_attributes(const Inode& inode) {
    if (!may_lend() || contents_.writes().pending(inode.id) || behind_.concerns(inode.id))
        return Duration::zero();
    if (inode.type == S_IFDIR)
        return names_.known().lend_own(inode.id);
    const DirectoryCache::Entry* entry = names_.known().peek(inode.place.parent, inode.place.name);
    if (entry == nullptr || entry->attributes.identity != inode.identity)
        return Duration::zero();
    // These go with what is written, and the front is not told.
    if ((entry->attributes.mode & (S_ISUID | S_ISGID)) != 0)
        return Duration::zero();
    return names_.known().lend(inode.place.parent, inode.place.name).attributes;
}

// The attributes that an answer has brought, with the time for which they may be kept in front: then those that are
// known, for a write that was sent later may have been answered before.
ShownAttributes FileSystem::lend_attributes(const Inode& inode, const wire::Attributes& attributes) {
    const wire::Attributes* known = names_.attributes(inode);
    const Duration life = known == nullptr ? Duration::zero() : life_of_attributes(inode);
    if (life == Duration::zero())
        return {.attributes = attributes};
    return {.attributes = shown_times_.as_shown(inode.id, *known, behind_.concerns(inode.id)), .life = life};
}

// The entry, with the time for which it may be kept in front.
Entry FileSystem::with_loan(Entry entry, InodeNumber parent, std::string_view name) {
    const Inode* inode = inodes_.find(entry.inode);
    const DirectoryCache::Entry* known = names_.known().peek(parent, name);
    if (!may_lend() || inode == nullptr || known == nullptr || known->attributes.identity != inode->identity)
        return entry;
    entry.entry_life = names_.known().lend(parent, name).name;
    const ShownAttributes lent = lend_attributes(*inode, entry.attributes);
    entry.attributes = lent.attributes;
    entry.attributes_life = lent.life;
    return entry;
}

// An extended attribute was changed from here: one that is an ACL changes the mode, of which the front is not told.
void FileSystem::xattr_changed_here(InodeNumber id) {
    if (Inode* inode = inodes_.find(id); inode != nullptr) {
        names_.xattrs_changed(*inode);
        inode->changed_otherwise_at = inode->changed_at;
    }
    behind_.hide(id);
    if (front_ != nullptr)
        front_->drop_attributes(id);
}

void FileSystem::changed_here(InodeNumber id) {
    written_here(id);
    if (Inode* inode = inodes_.find(id); inode != nullptr)
        inode->changed_otherwise_at = inode->changed_at;
}

void FileSystem::written_here(InodeNumber id) {
    statistics_.changed();
    if (Inode* inode = inodes_.find(id); inode != nullptr)
        names_.changed(*inode);
}

// What is void is not answered from here any more when it is acknowledged, nor are names and attributes kept in front.
// Pages in front go afterwards: the kernel may hold on to one until a request is answered, which waits for others'
// acknowledgements, as they do for ours.
void FileSystem::on_invalidate(const client::Invalidation& invalidation, std::function<void()> acknowledge) {
    names_.revoke(invalidation);
    for (const NodeId node : invalidation.nodes) {
        const Inode* inode = inodes_.find(node);
        if (inode == nullptr)
            continue;
        contents_.changed_elsewhere(inode->id);
        drop_front(inode->id, nullptr);
    }
    if (front_names_ != nullptr)
        front_names_->when_names_dropped(std::move(acknowledge));
    else
        acknowledge();
}

// Whatever the server of before has told of names, contents and leases is void.
void FileSystem::begin_session() {
    inodes_.heard_of_root(session_.hello().root_attributes);
    contents_.forget_all();
    kept_handles_.forget_all();
    lent_.lost();
    names_.begin_session();
    note_machine();
}

void FileSystem::on_new_epoch() {
    log::warn("files that were open report errors, new ones work");
    inodes_.new_epoch(session_.epoch(), session_.hello().root, session_.hello().root_attributes);
    export_device_ = session_.hello().root_attributes.identity.device;
    begin_session();
    give_up_lost();
    on_reconnected();
}

// What the server told while the connection was down is lost: nothing kept of an open file can be trusted.
void FileSystem::on_reconnected() {
    contents_.reader().reconnected();
    files_.for_each([&](const FileHandle& file) { contents_.outdated(file.inode); });
}

}  // namespace remofile::filesystem
