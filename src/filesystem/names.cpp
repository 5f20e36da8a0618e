// SPDX-License-Identifier: MIT
// Looking up, making, removing and renaming entries of directories.
#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"
#include "filesystem/symlink_containment.hpp"

namespace remofile::filesystem {

namespace {

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

Task<Result<Entry>> FileSystem::lookup(Operation& operation, InodeNumber parent, std::string name) {
    const auto node = node_of(parent);
    if (!node)
        co_return Result<Entry>(node.error());
    const std::uint32_t thread = operation.caller.thread;
    wire::Lookup message{.parent = *node, .name = std::move(name), .node = new_node()};
    auto looking = second_attempts_.is_one(thread) ? look_up_and_hold(operation, std::move(message))
                                                   : look_up(operation, std::move(message));
    const auto reply = co_await std::move(looking);
    if (!reply)
        co_return Result<Entry>(reply.error());
    auto entry = entry_of(parent, *reply, operation.arrived_at);
    if (entry)
        fresh_look_ups_.add(thread, {.inode = entry->inode, .attributes = entry->attributes, .event = contents_.now()});
    co_return entry;
}

// Sends a request that makes a name below `parent`.
template <class Message>
Task<Result<Entry>> FileSystem::make(Operation& operation, InodeNumber parent, Message message) {
    const auto node = node_of(parent);
    if (!node)
        co_return Result<Entry>(node.error());
    message.parent = *node;
    message.node = new_node();
    const auto reply = co_await call(operation, std::move(message));
    if (!reply)
        co_return Result<Entry>(reply.error());
    co_return entry_of(parent, reply->body, operation.arrived_at);
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
    return make(operation, parent, wire::Mkdir{.name = std::move(name), .mode = mode, .umask = operation.caller.umask});
}

Task<Result<Entry>> FileSystem::symlink(Operation& operation, InodeNumber parent, std::string name,
                                        std::string target) {
    return make(operation, parent, wire::Symlink{.name = std::move(name), .target = std::move(target)});
}

Task<Result<Entry>> FileSystem::link(Operation& operation, InodeNumber inode, InodeNumber new_parent,
                                     std::string new_name) {
    const auto node = node_of(inode);
    const auto parent = node_of(new_parent);
    if (!node || !parent)
        co_return Result<Entry>(Status::stale);
    wire::Link message{*node, *parent, std::move(new_name)};
    const auto reply = co_await call(operation, std::move(message));
    if (!reply)
        co_return Result<Entry>(reply.error());
    co_return entry_of(new_parent, reply->body, operation.arrived_at);
}

template <class Message>
Task<Result<>> FileSystem::remove(Operation& operation, InodeNumber parent, Message message) {
    const auto node = node_of(parent);
    if (!node)
        co_return Result<>(node.error());
    message.parent = *node;
    const auto reply = co_await call(operation, std::move(message));
    co_return outcome_of(reply);
}

Task<Result<>> FileSystem::unlink(Operation& operation, InodeNumber parent, std::string name) {
    return remove(operation, parent, wire::Unlink{.name = std::move(name)});
}

Task<Result<>> FileSystem::rmdir(Operation& operation, InodeNumber parent, std::string name) {
    return remove(operation, parent, wire::Rmdir{.name = std::move(name)});
}

// Programs put a file in another's place once they have written it: nobody shall find it there without its content.
Task<Result<>> FileSystem::rename(Operation& operation, InodeNumber parent, std::string name, InodeNumber new_parent,
                                  std::string new_name, std::uint32_t flags) {
    const Status drained = co_await contents_.writes().drain_all(&operation.cancellation);
    if (drained != Status::ok)
        co_return Result<>(drained);
    const auto node = node_of(parent);
    const auto new_node = node_of(new_parent);
    if (!node || !new_node)
        co_return Result<>(Status::stale);
    wire::Rename message{*node, std::move(name), *new_node, std::move(new_name), flags};
    const auto reply = co_await call(operation, std::move(message));
    co_return outcome_of(reply);
}

Task<Result<std::string>> FileSystem::readlink(Operation& operation, InodeNumber inode) {
    const auto node = node_of(inode);
    if (!node)
        co_return Result<std::string>(node.error());
    const wire::Readlink message{*node};
    auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<std::string>(reply.error());
    std::string& target = reply->body.target;
    const Inode* link = inodes_.find(inode);
    const std::size_t depth = link == nullptr ? 0 : inodes_.depth(link->parent);
    if (settings_.contain_symlinks && !stays_within(target, depth))
        co_return Result<std::string>(Status::access_denied);
    co_return Result<std::string>(std::move(target));
}

}  // namespace remofile::filesystem
