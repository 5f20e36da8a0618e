// SPDX-License-Identifier: MIT
// Looking up, making, removing and renaming entries of directories.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <string>
#include <vector>

#include "remofs/mount.hpp"
#include "remofs/operations.hpp"
#include "remofs/symlink_containment.hpp"

namespace remofile::remofs {
namespace {

// Sends a request whose reply names a file below `parent`, and hands that to the kernel.
template <class Message>
Task<void> answer_with_entry(Mount& mount, Request request, InodeNumber parent, Message message) {
    auto reply = co_await mount.call(request, std::move(message));
    if (!reply)
        co_return request.error(reply.error());
    mount.reply_entry(request, parent, reply->body);
}

// How often a name may be replaced between two records of one message, before that is the caller's affair.
constexpr int max_held_attempts = 16;

// Looks a name up and opens a handle that holds what was found. Errors: those of LOOKUP; whatever keeps the handle from
// being opened does not matter to the look-up.
Task<Result<wire::EntryReply>> look_up_and_hold(Mount& mount, Request& request, wire::Lookup message) {
    for (int attempt = 0;; ++attempt) {
        message.node = {mount.session().new_node_id(), false};
        const wire::Open open{message.node.id, mount.session().new_handle_id(), wire::open_hold};
        std::vector<client::EncodedRequest> requests;
        requests.push_back(client::encoded(message, true));
        requests.push_back(client::encoded(open));
        const auto replies = co_await mount.call_batch(request, std::move(requests));
        auto entry = client::decoded<wire::Lookup>(replies[0]);
        if (!entry)
            co_return Result<wire::EntryReply>(entry.error());
        if (replies[1].status == Status::ok)
            mount.second_attempts().hold(open.handle);
        if (replies[1].status != Status::stale || attempt == max_held_attempts)
            co_return Result<wire::EntryReply>(std::move(*entry));
        mount.give_back({{entry->node, 1}});
    }
}

Task<Result<wire::EntryReply>> look_up(Mount& mount, Request& request, wire::Lookup message) {
    auto reply = co_await mount.call(request, std::move(message));
    co_return reply ? Result<wire::EntryReply>(std::move(reply->body)) : Result<wire::EntryReply>(reply.error());
}

Task<void> answer_look_up(Mount& mount, Request request, InodeNumber parent, wire::Lookup message) {
    const pid_t thread = request.pid();
    auto looking = mount.second_attempts().is_one(thread) ? look_up_and_hold(mount, request, std::move(message))
                                                          : look_up(mount, request, std::move(message));
    auto entry = co_await std::move(looking);
    if (!entry)
        co_return request.error(entry.error());
    if (const Inode* inode = mount.reply_entry(request, parent, *entry); inode != nullptr)
        mount.fresh_look_ups().add(
            thread, {.inode = inode->id, .attributes = entry->attributes, .event = mount.contents().now()});
}

// Programs put a file in another's place once they have written it: nobody shall find it there without its content.
Task<void> rename_entry(Mount& mount, Request request, wire::Rename message) {
    const Status drained = co_await mount.contents().writes().drain_all(&request.cancellation());
    if (drained != Status::ok)
        co_return request.error(drained);
    const auto reply = co_await mount.call(request, std::move(message));
    request.error(reply.status());
}

template <class Message>
Task<void> answer_with_status(Mount& mount, Request request, Message message) {
    const auto reply = co_await mount.call(request, std::move(message));
    request.error(reply.status());
}

Task<void> read_link(Mount& mount, Request request, InodeNumber inode, NodeId node) {
    const wire::Readlink message{node};
    const auto reply = co_await mount.call(request, message);
    if (!reply)
        co_return request.error(reply.error());
    const std::string& target = reply->body.target;
    // The kernel would take a target only up to its first zero byte.
    if (target.empty() || target.size() > wire::max_path_bytes || target.find('\0') != std::string::npos)
        co_return request.error(Status::io_error);
    const Inode* link = mount.inodes().find(inode);
    const std::size_t depth = link == nullptr ? 0 : mount.inodes().depth(link->parent);
    if (mount.contains_symlinks() && !stays_within(target, depth))
        co_return request.error(Status::access_denied);
    request.symlink_target(target.c_str());
}

}  // namespace

void op_lookup(fuse_req_t handle, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.lookup");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Lookup message{.parent = *node, .name = name, .node = mount.new_node()};
    spawn(answer_look_up(mount, std::move(request), parent, std::move(message)));
}

void op_forget(fuse_req_t handle, fuse_ino_t inode, std::uint64_t count) {
    fuse_forget_data forget{inode, count};
    op_forget_multi(handle, 1, &forget);
}

void op_forget_multi(fuse_req_t handle, std::size_t count, fuse_forget_data* forgets) {
    Mount& mount = Mount::of(handle);
    mount.counters().at("fuse.forget").add(count);
    std::vector<wire::ForgetNode> unneeded;
    for (std::size_t i = 0; i < count; ++i)
        mount.inodes().forget(forgets[i].ino, forgets[i].nlookup, unneeded);
    mount.give_back(std::move(unneeded));
    fuse_reply_none(handle);
}

void op_readlink(fuse_req_t handle, fuse_ino_t inode) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.readlink");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    spawn(read_link(mount, std::move(request), inode, *node));
}

void op_mknod(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.mknod");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Mknod message{.parent = *node,
                        .name = name,
                        .node = mount.new_node(),
                        .mode = mode,
                        .umask = request.umask(),
                        .rdev_major = major(device),
                        .rdev_minor = minor(device)};
    spawn(answer_with_entry(mount, std::move(request), parent, std::move(message)));
}

void op_mkdir(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.mkdir");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Mkdir message{
        .parent = *node, .name = name, .node = mount.new_node(), .mode = mode, .umask = request.umask()};
    spawn(answer_with_entry(mount, std::move(request), parent, std::move(message)));
}

void op_unlink(fuse_req_t handle, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.unlink");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Unlink message{*node, name};
    spawn(answer_with_status(mount, std::move(request), std::move(message)));
}

void op_rmdir(fuse_req_t handle, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.rmdir");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Rmdir message{*node, name};
    spawn(answer_with_status(mount, std::move(request), std::move(message)));
}

void op_symlink(fuse_req_t handle, const char* target, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.symlink");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Symlink message{.parent = *node, .name = name, .node = mount.new_node(), .target = target};
    spawn(answer_with_entry(mount, std::move(request), parent, std::move(message)));
}

void op_rename(fuse_req_t handle, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
               unsigned flags) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.rename");
    const auto node = mount.node_of(parent);
    const auto new_node = mount.node_of(new_parent);
    if (!node || !new_node)
        return request.error(Status::stale);
    // The protocol's flags have Linux's numbers.
    if ((flags & ~(wire::rename_noreplace | wire::rename_exchange | wire::rename_whiteout)) != 0)
        return request.error(Status::invalid);
    wire::Rename message{*node, name, *new_node, new_name, flags};
    spawn(rename_entry(mount, std::move(request), std::move(message)));
}

void op_link(fuse_req_t handle, fuse_ino_t inode, fuse_ino_t new_parent, const char* new_name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.link");
    const auto node = mount.node_of(inode);
    const auto parent = mount.node_of(new_parent);
    if (!node || !parent)
        return request.error(Status::stale);
    wire::Link message{*node, *parent, new_name};
    spawn(answer_with_entry(mount, std::move(request), new_parent, std::move(message)));
}

}  // namespace remofile::remofs
