// SPDX-License-Identifier: MIT
// Looking up, making, removing and renaming entries of directories.
#include <sys/stat.h>

#include <array>

#include "client/directory.hpp"
#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"
#include "filesystem/symlink_containment.hpp"

namespace remofile::filesystem {

namespace {

// One of the two names of a rename.
struct RenamedEntry {
    InodeNumber parent = 0;
    const std::string& name;
    bool look = false;          // what it stands for is asked with the rename
    InodeNumber inode = 0;      // that it stands for, if that is known
    InodeNumber directory = 0;  // the same, if it is a directory
};

// How often a name may be replaced between two records of one message, before that is the caller's affair.
constexpr int max_held_attempts = 16;

}  // namespace

Task<Result<wire::EntryReply>> FileSystem::look_up(Operation& operation, wire::Lookup message) {
    auto reply = co_await call(operation, std::move(message));
    co_return reply ? Result<wire::EntryReply>(std::move(reply->body)) : Result<wire::EntryReply>(reply.error());
}

// Looks a name up and opens a handle that holds what was found. Errors: those of LOOKUP; whatever keeps the handle from
// being opened does not matter to the look-up.
Task<Result<wire::EntryReply>> FileSystem::look_up_and_hold(Operation& operation, wire::Lookup message) {
    for (int attempt = 0;; ++attempt) {
        message.node = {session_.new_node_id(), false};
        const wire::Open open{message.node.id, session_.new_handle_id(), wire::open_hold};
        std::vector<client::EncodedRequest> requests;
        requests.push_back(client::encoded(message, true));
        requests.push_back(client::encoded(open));
        const auto replies = co_await call_batch(operation, std::move(requests));
        auto entry = client::decoded<wire::Lookup>(replies[0]);
        if (!entry)
            co_return Result<wire::EntryReply>(entry.error());
        if (replies[1].status == Status::ok)
            second_attempts_.hold(open.handle);
        if (replies[1].status != Status::stale || attempt == max_held_attempts)
            co_return Result<wire::EntryReply>(std::move(*entry));
        give_back({{entry->node, 1}});
    }
}

// Gives out what is known of the name, `answer`: that it is there, and its attributes; else nothing.
std::optional<Entry> FileSystem::give_out_known(const Operation& operation, InodeNumber parent, std::string_view name,
                                                const DirectoryCache::Answer& answer) {
    if (answer.knowledge != DirectoryCache::Knowledge::present)
        return {};
    Inode* inode = nullptr;
    bool is_outdated = false;
    wire::Attributes attributes = *answer.attributes;
    if (S_ISDIR(attributes.mode)) {
        const InodeNumber number = names_.known().known_directory(parent, name);
        const bool is_known = number != 0 && !behind_.concerns(number);
        const wire::Attributes* own = is_known ? names_.known().own_attributes(number) : nullptr;
        // What is changed in it from here changes its times; a path leads through it all the same.
        if (own == nullptr && exclusive_.holds(number)) {
            own = names_.known().last_own_attributes(number);
            is_outdated = own != nullptr;
        }
        Inode* directory = inodes_.find(number);
        if (own == nullptr || directory == nullptr || inodes_.stale(*directory))
            return {};
        attributes = *own;
        inodes_.hand_out(*directory);
        inode = directory;
    } else {
        const Inode* known = inodes_.find(attributes.identity);
        is_outdated = !answer.current || (known != nullptr && contents_.writes().pending(known->id));
        // Nobody else gives the name another meaning, and the size is known of whatever is kept in front; whoever wants
        // the attributes asks for them.
        if (is_outdated && (known == nullptr || !(answer.current || answer.changed_here_alone) ||
                            attributes.links > 1 || !exclusive_.holds(parent)))
            return {};
        if (is_outdated && behind_.shown(known->id) != nullptr) {
            attributes = *behind_.shown(known->id);
            attributes.identity = known->identity;
        }
        if (is_outdated && known->type == S_IFREG)
            attributes.size = known->content.size;
        inode = inodes_.adopt_listed(parent, name, attributes);
    }
    if (inode == nullptr)
        return {};
    if (!is_outdated)
        attributes = seen(inode->id, attributes, operation.arrived_at);
    Entry entry = with_loan({.inode = inode->id, .attributes = attributes}, parent, name);
    entry.is_outdated = is_outdated;
    return entry;
}

// What is known of a name under leases; nothing if the server has to be asked. What cannot be a name is not absent: it
// has errors of its own.
Task<std::optional<Result<Entry>>> FileSystem::known_entry(Operation& operation, InodeNumber parent,
                                                           const std::string& name) {
    using Known = std::optional<Result<Entry>>;
    if (!may_use_names(operation) || !names_.in_force() || !client::is_valid_name(name))
        co_return Known();
    const auto credential = co_await credential_of(operation);
    if (!credential)
        co_return Known();
    if (const Status status = co_await names_.prepare(parent, name, *credential, &operation.cancellation);
        status != Status::ok)
        co_return Known(status);
    using Knowledge = DirectoryCache::Knowledge;
    const auto answer = names_.known().find(parent, name);
    if (!names_.in_force() || answer.knowledge == Knowledge::unknown)
        co_return Known();
    if (answer.knowledge == Knowledge::absent)
        co_return Known(Status::no_entry);
    auto entry = give_out_known(operation, parent, name, answer);
    co_return entry ? Known(std::move(*entry)) : Known();
}

Duration FileSystem::life_of_absence(InodeNumber parent, std::string_view name) {
    if (!may_lend() || names_.known().peek(parent, name) != nullptr)
        return Duration::zero();
    return names_.known().lend(parent, name).name;
}

// A request of ours, asked at that time, has made the name, or removed it.
void FileSystem::made(InodeNumber parent, std::string_view name, const wire::Attributes& attributes,
                      std::uint64_t asked_at) {
    const std::uint64_t now = contents_.now();
    statistics_.changed();
    names_.known().changed_here(parent, name, &attributes, asked_at, now);
    // What was written to a file that was there already may have come later.
    if (const Inode* inode = inodes_.find(attributes.identity); inode != nullptr && inode->changed_at >= asked_at)
        names_.known().attributes_changed_here(parent, name, now);
}

void FileSystem::removed(InodeNumber parent, std::string_view name, std::uint64_t asked_at) {
    statistics_.changed();
    linked_names_.remove({parent, std::string(name)});
    names_.known().changed_here(parent, name, nullptr, asked_at, contents_.now());
}

// A request of ours, asked at that time, has moved the name.
void FileSystem::has_moved(InodeNumber parent, const std::string& name, InodeNumber new_parent,
                           const std::string& new_name, std::uint64_t asked_at) {
    const std::uint64_t now = contents_.now();
    const DirectoryCache::Entry* entry = names_.known().peek(parent, name);
    const DirectoryCache::Entry* replaced = names_.known().peek(new_parent, new_name);
    const bool is_link = entry != nullptr && replaced != nullptr &&
                         entry->attributes.identity == replaced->attributes.identity;  // then nothing has happened
    if (!is_link)
        linked_names_.move({parent, name}, {new_parent, new_name});
    if (entry == nullptr || entry->attributes.mode == 0 || is_link) {
        names_.known().revoke_name(parent, name, now);
        names_.known().revoke_name(new_parent, new_name, now);
        return;
    }
    const wire::Attributes attributes = entry->attributes;
    const AbsentXattrs absent = entry->absent_xattrs;
    names_.known().changed_here(parent, name, nullptr, asked_at, now);
    names_.known().made_here(new_parent, new_name, attributes, absent, asked_at, now);
    names_.known().attributes_changed_here(new_parent, new_name, now);
    if (Inode* inode = inodes_.find(attributes.identity); inode != nullptr) {
        inodes_.move(*inode, new_parent, new_name);
        if (inode->leased)
            names_.known().put(inode->id, {new_parent, new_name});
    }
}

Task<Result<Entry>> FileSystem::lookup(Operation& operation, InodeNumber parent, std::string name) {
    const std::uint32_t thread = operation.caller.thread;
    if (const auto meaning = behind_.meaning(parent, name)) {
        if (*meaning == 0)
            co_return Result<Entry>(Status::no_entry);
        if (auto pending = give_out_pending(*meaning))
            co_return std::move(*pending);
        if (const Status status = co_await settled(operation, parent); status != Status::ok)
            co_return Result<Entry>(status);
    }
    if (!second_attempts_.is_one(thread)) {
        auto known = co_await known_entry(operation, parent, name);
        if (known) {
            if (*known && !(*known)->is_outdated)
                fresh_look_ups_.add(
                    thread, {.inode = (*known)->inode, .attributes = (*known)->attributes, .event = contents_.now()});
            co_return std::move(*known);
        }
    }
    const auto node = node_of(parent);
    if (!node)
        co_return Result<Entry>(node.error());
    wire::Lookup message{.parent = *node, .name = name, .node = new_node()};
    const std::uint64_t asked_at = contents_.now();
    auto looking = second_attempts_.is_one(thread) ? look_up_and_hold(operation, std::move(message))
                                                   : look_up(operation, std::move(message));
    const auto reply = co_await std::move(looking);
    if (reply.status() == Status::no_entry)
        names_.known().learn_absent(parent, name, asked_at);
    if (!reply)
        co_return Result<Entry>(reply.error());
    auto entry = entry_of(parent, name, *reply, asked_at);
    const Inode* found = entry ? inodes_.find(entry->inode) : nullptr;
    // A change that was answered from here may be behind the look-up.
    if (found != nullptr && found->changed_at < asked_at && !behind_.concerns(found->id))
        fresh_look_ups_.add(thread, {.inode = entry->inode, .attributes = entry->attributes, .event = contents_.now()});
    co_return entry;
}

// Sends a request that makes a name below `parent`.
template <class Message>
Task<Result<Entry>> FileSystem::make(Operation& operation, InodeNumber parent, Message message) {
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<Entry>(status);
    exclusive_.ask_for(parent);
    const auto node = node_of(parent);
    if (!node)
        co_return Result<Entry>(node.error());
    lent_.expect(*node);
    message.parent = *node;
    message.node = new_node();
    const auto asked = ask_for_change(operation, {{{parent, message.name}, 0, unnumbered_inode}});
    const auto reply = co_await call(operation, message);
    behind_.hide(parent);
    if (!reply)
        co_return Result<Entry>(reply.error());
    made(parent, message.name, reply->body.attributes, operation.arrived_at);
    co_return entry_of(parent, message.name, reply->body, operation.arrived_at);
}

Task<Result<Entry>> FileSystem::mknod(Operation& operation, InodeNumber parent, std::string name, std::uint32_t mode,
                                      std::uint32_t rdev_major, std::uint32_t rdev_minor) {
    return make(operation, parent,
                wire::Mknod{.name = std::move(name),
                            .mode = mode,
                            .umask = operation.caller.umask,
                            .rdev_major = rdev_major,
                            .rdev_minor = rdev_minor});
}

Task<Result<Entry>> FileSystem::mkdir(Operation& operation, InodeNumber parent, std::string name, std::uint32_t mode) {
    wire::Mkdir message{.name = std::move(name), .mode = mode, .umask = operation.caller.umask};
    if ((mode & (S_ISUID | S_ISGID | S_ISVTX)) == 0 && (mode & ~message.umask & S_IRWXU) == S_IRWXU) {
        const auto at_once = co_await may_make(operation, parent, message.name);
        if (!at_once)
            co_return Result<Entry>(at_once.error());
        if (*at_once) {
            const std::uint32_t mode_of_new = S_IFDIR | (mode & ~operation.caller.umask);
            const auto lent = borrow(LentInodes::Kind::directory, parent);
            if (!lent)
                co_return make_behind(parent, std::move(message), mode_of_new);
            wire::MakeLent making{.name = std::move(message.name),
                                  .lent = lent->number,
                                  .mode = mode,
                                  .umask = operation.caller.umask,
                                  .time = lent->attributes.modification};
            co_return make_behind(parent, std::move(making), mode_of_new, &*lent);
        }
    }
    co_return co_await make_directory(operation, parent, std::move(message));
}

// As make(). Whoever makes a directory goes on in it: for that to need no answers, what it takes is asked for in the
// same message, where these are slow.
Task<Result<Entry>> FileSystem::make_directory(Operation& operation, InodeNumber parent, wire::Mkdir message) {
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<Entry>(status);
    exclusive_.ask_for(parent);
    const auto above = node_of(parent);
    if (!above)
        co_return Result<Entry>(above.error());
    message.parent = *above;
    message.node = new_node();
    const NodeId node = message.node.id;
    const bool is_far = session_.quickest_answer().value_or(Duration::zero()) >= settings_.far_from;
    const auto leases = is_far ? exclusive_.ask_with(node) : std::nullopt;
    const auto lent = is_far ? lent_.ask_along(*above) : std::nullopt;
    if (!lent)
        lent_.expect(*above);
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(message, leases.has_value()));
    if (leases)
        requests.push_back(client::encoded(*leases));
    if (lent)
        requests.push_back(client::encoded(*lent));
    const auto in_doubt_until_then = ask_for_change(operation, {{{parent, message.name}, 0, unnumbered_inode}});
    const auto replies = co_await call_batch(operation, std::move(requests));
    behind_.hide(parent);
    if (lent)
        lent_.came_along(client::decoded<wire::LendInodes>(replies.back()));
    const auto reply = client::decoded<wire::Mkdir>(replies.front());
    if (reply)
        made(parent, message.name, reply->attributes, operation.arrived_at);
    auto entry = reply ? entry_of(parent, message.name, *reply, operation.arrived_at) : Result<Entry>(reply.error());
    if (leases)
        exclusive_.came_with(node, entry ? entry->inode : 0, reply ? reply->attributes : wire::Attributes(),
                             client::decoded<wire::TakeLeases>(replies[1]));
    co_return std::move(entry);
}

Task<Result<Entry>> FileSystem::symlink(Operation& operation, InodeNumber parent, std::string name,
                                        std::string target) {
    constexpr std::uint32_t mode_of_symlinks = S_IFLNK | 0777;
    wire::Symlink message{.name = std::move(name), .target = std::move(target)};
    if (!message.target.empty() && message.target.size() <= wire::max_path_bytes) {
        const auto at_once = co_await may_make(operation, parent, message.name);
        if (!at_once)
            co_return Result<Entry>(at_once.error());
        if (*at_once) {
            const std::size_t size = message.target.size();
            Entry entry = make_behind(parent, std::move(message), mode_of_symlinks);
            entry.attributes.size = size;
            co_return entry;
        }
    }
    co_return co_await make(operation, parent, std::move(message));
}

Task<Result<Entry>> FileSystem::link(Operation& operation, InodeNumber inode, InodeNumber new_parent,
                                     std::string new_name) {
    const auto at_once = co_await may_make(operation, new_parent, new_name);
    if (!at_once)
        co_return Result<Entry>(at_once.error());
    if (Inode* known = inodes_.find(inode); known != nullptr && *at_once)
        if (const wire::Attributes* attributes = may_link(operation, *known); attributes != nullptr)
            co_return link_behind(*known, new_parent, std::move(new_name), *attributes);
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<Entry>(status);
    exclusive_.ask_for(new_parent);
    const auto node = co_await node_for(operation, inode);
    const auto parent = node_of(new_parent);
    if (!node || !parent)
        co_return Result<Entry>(Status::stale);
    const wire::Link message{*node, *parent, new_name};
    const auto asked = ask_for_change(operation, {{{new_parent, new_name}, 0, inode}});
    const auto reply = co_await call(operation, message);
    behind_.hide(new_parent);
    behind_.hide(inode);
    changed_here(inode);
    if (const Inode* linked = inodes_.find(inode); linked != nullptr)
        names_.known().linked_here(linked->place.parent, linked->place.name, contents_.now());
    if (!reply)
        co_return Result<Entry>(reply.error());
    made(new_parent, new_name, reply->body.attributes, operation.arrived_at);
    if (const Inode* linked = inodes_.find(inode); linked != nullptr) {
        if (!linked->place.name.empty())
            linked_names_.add(inode, {linked->place.parent, linked->place.name});
        linked_names_.add(inode, {new_parent, new_name});
    }
    co_return entry_of(new_parent, new_name, reply->body, operation.arrived_at);
}

// Whether the name may stand for a file that is known by number, and to the server by its name alone: listings tell of
// such.
bool FileSystem::may_be_known_by_name_alone(InodeNumber parent, const std::string& name) {
    const auto answer = names_.known().find(parent, name);
    if (answer.knowledge != DirectoryCache::Knowledge::present)
        return answer.knowledge == DirectoryCache::Knowledge::unknown;
    const Inode* inode = inodes_.find(answer.attributes->identity);
    return inode != nullptr && !inode->node && !inodes_.stale(*inode);
}

// Carries out a request by which a file loses the name. Somebody may hold it without having opened it (O_PATH, a FIFO),
// and ask for its attributes afterwards: the server is asked for a node in the same message, if it has given none.
template <class Message>
Task<Status> FileSystem::take_away(Operation& operation, InodeNumber parent, std::string name, Message message) {
    const auto node = node_of(parent);
    if (!node || !may_be_known_by_name_alone(parent, name)) {
        const auto reply = co_await call(operation, message);
        co_return reply.status();
    }
    const std::uint64_t asked_at = contents_.now();
    const wire::Lookup look_up{.parent = *node, .name = name, .node = new_node()};
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(look_up));
    requests.push_back(client::encoded(message));
    const auto replies = co_await call_batch(operation, std::move(requests));
    if (const auto found = client::decoded<wire::Lookup>(replies[0]))
        if (const auto entry = entry_of(parent, name, *found, asked_at))
            forget(entry->inode);
    co_return replies[1].status;
}

template <class Message>
Task<Result<>> FileSystem::remove(Operation& operation, InodeNumber parent, Message message) {
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<>(status);
    exclusive_.ask_for(parent, ExclusiveLeases::Change::removal);
    const auto node = node_of(parent);
    if (!node)
        co_return Result<>(node.error());
    message.parent = *node;
    // Of what is removed, and what names it has left, nothing is known any more.
    const InodeNumber directory = names_.known().directory_at(parent, message.name);
    std::string name = message.name;
    co_await have_all_open(operation, parent, std::move(name));
    const InodeNumber removed_file = standing_of(parent, message.name).inode;
    const auto asked = ask_for_change(operation, {{{parent, message.name}, meaning_of(parent, message.name), 0}});
    const Status status = co_await take_away(operation, parent, message.name, message);
    behind_.hide(parent);
    behind_.hide(removed_file);
    if (status == Status::ok)
        contents_.loses_name(removed_file != 0 ? removed_file : unsynced_at(parent, message.name));
    if (status == Status::ok)
        removed(parent, message.name, operation.arrived_at);
    else
        names_.known().revoke_name(parent, message.name, contents_.now());
    if (status == Status::ok && directory != 0)
        names_.forget(directory);
    co_return outcome_of(status);
}

Task<Result<>> FileSystem::unlink(Operation& operation, InodeNumber parent, std::string name) {
    const auto at_once = co_await may_remove(operation, parent, name);
    if (!at_once)
        co_return Result<>(at_once.error());
    if (*at_once && !is_open(standing_of(parent, name).inode)) {
        remove_behind(parent, wire::Unlink{.name = std::move(name)});
        co_return Result<>();
    }
    wire::Unlink message{.name = std::move(name)};
    co_return co_await remove(operation, parent, std::move(message));
}

Task<Result<>> FileSystem::rmdir(Operation& operation, InodeNumber parent, std::string name) {
    if (const Status status = co_await behind_.room(&operation.cancellation); status != Status::ok)
        co_return Result<>(status);
    const Standing standing = standing_of(parent, name);
    if (standing.type == S_IFDIR && may_answer(operation, parent) && may_answer(operation, standing.inode) &&
        is_empty(standing.inode)) {
        remove_behind(parent, wire::Rmdir{.name = std::move(name)});
        co_return Result<>();
    }
    wire::Rmdir message{.name = std::move(name)};
    co_return co_await remove(operation, parent, std::move(message));
}

// Programs put a file in another's place once they have written it: nobody shall find it there without its content.
Task<Result<>> FileSystem::rename(Operation& operation, InodeNumber parent, std::string name, InodeNumber new_parent,
                                  std::string new_name, std::uint32_t flags) {
    const auto at_once = co_await may_rename(operation, parent, name, new_parent, new_name, flags);
    if (!at_once)
        co_return Result<>(at_once.error());
    if (*at_once) {
        rename_behind(parent, std::move(name), new_parent, std::move(new_name), flags);
        co_return Result<>();
    }
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<>(status);
    exclusive_.ask_for(parent);
    exclusive_.ask_for(new_parent);
    const Status drained = co_await contents_.writes().drain_all(&operation.cancellation);
    if (drained != Status::ok)
        co_return Result<>(drained);
    const auto from = node_of(parent);
    const auto to = node_of(new_parent);
    if (!from || !to)
        co_return Result<>(Status::stale);
    kept_handles_.drop(parent, name);
    std::string replaced = new_name;
    co_await have_all_open(operation, new_parent, std::move(replaced));
    // A directory that is moved has new attributes and another place, whatever is known of its name. Of a name that is
    // not known, which the front may know all the same, the server says in the same message what it stands for.
    RenamedEntry source{.parent = parent, .name = name, .look = names_.known().peek(parent, name) == nullptr};
    RenamedEntry target{
        .parent = new_parent, .name = new_name, .look = may_be_known_by_name_alone(new_parent, new_name)};
    const std::uint64_t asked_at = contents_.now();
    std::vector<client::EncodedRequest> requests;
    for (RenamedEntry* entry : {&source, &target}) {
        const NodeId above = entry == &source ? *from : *to;
        if (entry->look)
            requests.push_back(client::encoded(wire::Lookup{.parent = above, .name = entry->name, .node = new_node()}));
        entry->directory = names_.known().directory_at(entry->parent, entry->name);
        if (const auto* known = names_.known().peek(entry->parent, entry->name); known != nullptr)
            if (const Inode* inode = inodes_.find(known->attributes.identity);
                inode != nullptr && inode->type == S_IFDIR)
                entry->directory = inode->id;
    }
    requests.push_back(client::encoded(wire::Rename{*from, name, *to, new_name, flags}));
    const std::array concerned{parent, new_parent, standing_of(parent, name).inode,
                               standing_of(new_parent, new_name).inode};
    source.inode = concerned[2];
    target.inode = concerned[3];
    const InodeNumber moved = meaning_of(parent, name);
    const bool may_be_absent = standing_of(new_parent, new_name).knowledge == DirectoryCache::Knowledge::unknown;
    const bool exchanges = (flags & wire::rename_exchange) != 0;
    const InodeNumber replaced_by_it = may_be_absent && !exchanges ? unknown_inode : meaning_of(new_parent, new_name);
    const auto asked = ask_for_change(operation, {{{parent, name}, moved, exchanges ? replaced_by_it : 0},
                                                  {{new_parent, new_name}, replaced_by_it, moved}});
    const auto replies = co_await call_batch(operation, std::move(requests));
    const Status status = replies.back().status;
    auto reply = replies.begin();
    for (RenamedEntry* entry : {&source, &target}) {
        const auto found =
            entry->look ? client::decoded<wire::Lookup>(*reply++) : Result<wire::EntryReply>(Status::no_entry);
        if (!found)
            continue;
        if (const auto looked = entry_of(entry->parent, entry->name, *found, asked_at)) {
            entry->directory = S_ISDIR(looked->attributes.mode) ? looked->inode : 0;
            entry->inode = looked->inode;
            forget(looked->inode);
        }
    }
    for (const InodeNumber each : concerned)
        behind_.hide(each);
    if (status == Status::ok) {
        for (const RenamedEntry* entry : {&source, &target})
            if (Inode* inode = inodes_.find(entry->inode); inode != nullptr)
                inode->changed_otherwise_at = contents_.now();
        names_.known().loan_moves(parent, name, new_parent, new_name);
        if (exchanges)
            names_.known().loan_moves(new_parent, new_name, parent, name);
    }
    if (status == Status::ok && (flags & ~wire::rename_noreplace) == 0) {
        statistics_.changed();
        contents_.loses_name(target.inode);
        has_moved(parent, name, new_parent, new_name, operation.arrived_at);
    } else {
        // What they stand for now is not said.
        names_.known().revoke_name(parent, name, contents_.now());
        names_.known().revoke_name(new_parent, new_name, contents_.now());
    }
    const auto moves = [&](const RenamedEntry& entry, const RenamedEntry& there) {
        Inode* directory = status == Status::ok ? inodes_.find(entry.directory) : nullptr;
        if (directory == nullptr)
            return;
        inodes_.move(*directory, there.parent, there.name);
        names_.known().put(directory->id, {there.parent, there.name});
    };
    moves(source, target);
    if ((flags & wire::rename_exchange) != 0)
        moves(target, source);
    for (const InodeNumber directory : {source.directory, target.directory})
        if (directory != 0)
            names_.known().revoke_own_attributes(directory, contents_.now());
    // What has been replaced is gone.
    if (status == Status::ok && target.directory != 0 && !exchanges)
        names_.forget(target.directory);
    co_return outcome_of(status);
}

// Whoever is in front does not know the access time of what it has read.
void FileSystem::has_its_access_time_asked_for(const Inode& inode) {
    names_.known().better_listed_anew(inode.place.parent);
}

Task<Result<std::string>> FileSystem::readlink(Operation& operation, InodeNumber inode) {
    if (const Status status = co_await settled(operation, inode); status != Status::ok)
        co_return Result<std::string>(status);
    if (const Inode* link = inodes_.find(inode); link != nullptr)
        has_its_access_time_asked_for(*link);
    std::string target;
    const Inode* link = inodes_.find(inode);
    if (const std::string* known = link == nullptr ? nullptr : names_.target(*link); known != nullptr) {
        target = *known;
    } else {
        const auto node = co_await node_for(operation, inode);
        if (!node)
            co_return Result<std::string>(node.error());
        const wire::Readlink message{*node};
        auto reply = co_await call(operation, message);
        if (!reply)
            co_return Result<std::string>(reply.error());
        target = std::move(reply->body.target);
        link = inodes_.find(inode);
    }
    const std::size_t depth = link == nullptr ? 0 : inodes_.depth(link->parent);
    if (settings_.contain_symlinks && !stays_within(target, depth))
        co_return Result<std::string>(Status::access_denied);
    co_return Result<std::string>(std::move(target));
}

}  // namespace remofile::filesystem
