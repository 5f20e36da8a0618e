// SPDX-License-Identifier: MIT
// What files say of themselves, and what the file system says of itself.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/log.hpp"
#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"

namespace remofile::filesystem {
namespace {

// As file systems with blocks count that put them down one after the other.
std::uint64_t blocks_of(const wire::Attributes& attributes) {
    constexpr std::uint64_t unit = 512;
    const std::uint64_t block = std::max<std::uint64_t>(attributes.block_size, unit);
    return (attributes.size + block - 1) / block * (block / unit);
}

bool is_silence(Status status) {
    return status == Status::timed_out || status == Status::unreachable;
}

// A file never becomes one of another type: it has gone, and its number stands for another. The kernel would give up an
// inode of which it is told that, the root's with all of the mount.
bool has_its_type(const Inode* inode, const wire::Attributes& attributes) {
    if (inode == nullptr || (attributes.mode & S_IFMT) == inode->type)
        return true;
    log::warn("the server says that node {} is of another type now, which no file can become", inode->node.value);
    return false;
}

}  // namespace

// The same as the server says, but for what programs have been told already.
wire::Attributes FileSystem::seen(InodeNumber inode, const wire::Attributes& attributes, std::uint64_t asked_at) {
    return shown_times_.as_shown(inode, contents_.seen(inode, attributes, asked_at), behind_.concerns(inode));
}

// What a file or directory is like with the changes under way, if nothing of it is the server's to say: its number was
// lent or is known, and its times are those that it is told to have. What was written gets its time now.
std::optional<wire::Attributes> FileSystem::attributes_under_way(const Operation& operation, InodeNumber id) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || behind_.shown(id) == nullptr || !InodeMap::has_identity(*inode) || inodes_.stale(*inode) ||
        contents_.writes().pending_by_data_lane(id) || inode->content.writes_through > 0 ||
        !may_answer(operation, inode->type == S_IFDIR ? id : inode->place.parent))
        return std::nullopt;
    const auto now = lent_.now();
    if (!now)
        return std::nullopt;
    wire::Attributes attributes = *behind_.shown(id);
    // The server's clock is known a little late: no time goes back.
    if (attributes.change > *now)
        return std::nullopt;
    attributes.identity = inode->identity;
    if (inode->type == S_IFREG) {
        attributes.size = std::max(attributes.size, inode->content.size);
        attributes.blocks = blocks_of(attributes);
    }
    if (behind_.is_written(id)) {
        attributes.modification = attributes.change = *now;
        set_behind(*inode, {.which = wire::set_modification, .modification = attributes.modification}, attributes);
    }
    shown_times_.told(id, attributes.change);
    return attributes;
}

// What a reply to a request of this operation says of a file, as it may be shown.
ShownAttributes FileSystem::shown(const Operation& operation, InodeNumber inode, const wire::Attributes& attributes) {
    if (inode == root_inode)
        inodes_.heard_of_root(attributes);
    const Inode* known = inodes_.find(inode);
    if (known != nullptr)
        names_.heard(*known, attributes, operation.arrived_at);
    const wire::Attributes result = seen(inode, attributes, operation.arrived_at);
    return known == nullptr ? ShownAttributes{.attributes = result} : lend_attributes(*known, result);
}

// The attributes that the look-up of the same stat(2) has brought, if they are to be had. An open file is asked for
// anew, as fstat(2) has no look-up before it.
const wire::Attributes* FileSystem::just_heard(const Operation& operation, InodeNumber id) {
    const auto& told = operation.just_looked_up;
    const Inode* inode = inodes_.find(id);
    const bool good = told && told->inode == id && inode != nullptr && inode->open_count == 0 &&
                      !contents_.heard_since(id, told->event);
    return good ? &told->attributes : nullptr;
}

Task<Result<ShownAttributes>> FileSystem::getattr(Operation& operation, InodeNumber inode, HandleNumber handle) {
    const Inode* asked = inodes_.find(inode);
    if (asked == nullptr || inodes_.stale(*asked))
        co_return Result<ShownAttributes>(Status::stale);
    if (const auto attributes = attributes_under_way(operation, inode); attributes)
        co_return ShownAttributes{.attributes = *attributes};
    if (inode == root_inode) {
        co_await settled_briefly(operation, inode);
    } else if (const Status status = co_await settled(operation, inode); status != Status::ok) {
        co_return Result<ShownAttributes>(status);
    }
    asked = inodes_.find(inode);
    if (asked == nullptr || inodes_.stale(*asked))
        co_return Result<ShownAttributes>(Status::stale);
    if (may_use_names(operation) && !contents_.writes().pending(inode)) {
        if (const wire::Attributes* known = names_.attributes(*asked); known != nullptr)
            co_return ShownAttributes{.attributes = seen(inode, *known, operation.arrived_at),
                                      .life = life_of_attributes(*asked)};
    }
    const auto node = co_await node_for(operation, inode);
    if (!node) {
        // Its name is gone, and it was open without the server's knowledge.
        if (const FileHandle* known = known_handle(inode); known != nullptr && node.status() == Status::stale)
            co_return ShownAttributes{.attributes = known->known.attributes};
        co_return Result<ShownAttributes>(node.error());
    }
    if (inode == root_inode)
        co_return co_await getattr_of_root(operation, *node);
    if (const wire::Attributes* heard = just_heard(operation, inode); heard != nullptr)
        co_return Result<ShownAttributes>(ShownAttributes{.attributes = *heard});
    const auto open = file(handle);
    // With a handle come the kernel's own questions; those of stat(2) and fstat(2) come without.
    if (const auto recent = contents_.recent(inode); open && recent)
        co_return Result<ShownAttributes>(
            ShownAttributes{.attributes = shown_times_.as_shown(inode, *recent, behind_.concerns(inode))});
    const wire::Getattr message{*node, open ? (*open)->handle : HandleId{}};
    auto reply = co_await call(operation, message);
    // What was written meanwhile may take them away, and its writer has been told that it is written.
    constexpr std::uint32_t set_id = S_ISUID | S_ISGID;
    if (reply && (reply->body.attributes.mode & set_id) != 0 && contents_.changed_since(inode, operation.arrived_at)) {
        if (const Status status = co_await written_out(operation, inode); status != Status::ok)
            co_return Result<ShownAttributes>(status);
        auto again = co_await call(operation, message);
        reply = std::move(again);
    }
    if (!reply)
        co_return Result<ShownAttributes>(reply.error());
    if (!has_its_type(inodes_.find(inode), reply->body.attributes))
        co_return Result<ShownAttributes>(Status::stale);
    co_return shown(operation, inode, reply->body.attributes);
}

// The answer, or none: the server is silent. Whoever asks has something to say then.
template <class Message>
Task<std::optional<Result<client::Reply<Message>>>> FileSystem::ask_briefly(Operation& operation, Message message) {
    using Answer = std::optional<Result<client::Reply<Message>>>;
    if (session_.silent())
        co_return Answer();
    Patience patience(session_, reactor_, operation);
    const client::CallOptions options;
    auto reply = co_await session_.call(std::move(message), options, &patience.questions().cancellation);
    if (!reply && (patience.is_over() || is_silence(reply.status())))
        co_return Answer();
    co_return Answer(std::move(reply));
}

// The root itself answers even if the server does not: df, unmount and listings of the directory above a mountpoint
// must not hang with it.
Task<Result<ShownAttributes>> FileSystem::getattr_of_root(Operation& operation, NodeId node) {
    const wire::Getattr message{.node = node};
    const auto reply = co_await ask_briefly(operation, message);
    if (!reply)
        co_return ShownAttributes{.attributes =
                                      contents_.seen(root_inode, inodes_.root_attributes(), operation.arrived_at)};
    if (!*reply)
        co_return Result<ShownAttributes>(reply->error());
    if (!has_its_type(&inodes_.root(), (*reply)->body.attributes))
        co_return Result<ShownAttributes>(Status::stale);
    co_return shown(operation, root_inode, (*reply)->body.attributes);
}

// Sets them. What the file was like before is asked for in the same message if it is open here, for a change that was
// made elsewhere would not be noticed any more behind ours.
Task<Result<wire::Attributes>> FileSystem::set_at_server(Operation& operation, InodeNumber id, wire::Setattr change) {
    const Inode* inode = inodes_.find(id);
    if (inode == nullptr || inode->type != S_IFREG || inode->open_count == 0) {
        const auto reply = co_await call(operation, std::move(change));
        co_return reply ? Result<wire::Attributes>(reply->body.attributes) : Result<wire::Attributes>(reply.error());
    }
    const wire::Getattr getattr{change.node, change.handle};
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(getattr));
    requests.push_back(client::encoded(change));
    const std::uint64_t asked_at = contents_.now();
    const auto replies = co_await call_batch(operation, std::move(requests));
    if (const auto before = client::decoded<wire::Getattr>(replies[0]))
        contents_.seen(id, before->attributes, asked_at);
    const auto set = client::decoded<wire::Setattr>(replies[1]);
    co_return set ? Result<wire::Attributes>(set->attributes) : Result<wire::Attributes>(set.error());
}

Task<Result<ShownAttributes>> FileSystem::setattr(Operation& operation, InodeNumber inode, HandleNumber handle,
                                                  wire::Setattr change) {
    const bool truncates = (change.which & wire::set_size) != 0;
    if (const Status status = co_await behind_.room(&operation.cancellation); status != Status::ok)
        co_return Result<ShownAttributes>(status);
    if (Inode* known = inodes_.find(inode); known != nullptr)
        if (const auto after = attributes_after(operation, *known, change); after)
            co_return set_behind(*known, std::move(change), *after);
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<ShownAttributes>(status);
    settle_set_id(operation, inode, (change.which & (wire::set_uid | wire::set_gid)) == 0);
    // A time that is set, or an end, must not be overtaken by what was written before.
    if (!truncates && (change.which & (wire::set_modification | wire::set_modification_now)) != 0) {
        if (const Status status = co_await front_written_back(operation, inode); status != Status::ok)
            co_return Result<ShownAttributes>(status);
    }
    if (const Status status = co_await written_out(operation, inode); status != Status::ok)
        co_return Result<ShownAttributes>(status);
    if ((change.which & (wire::set_mode | wire::set_uid | wire::set_gid)) != 0)
        co_await have_directory_at_server(operation, inode);
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<ShownAttributes>(node.error());
    change.node = *node;
    if (handle != HandleNumber{}) {
        const auto open = file(handle);
        if (!open)
            co_return Result<ShownAttributes>(open.error());
        change.handle = (*open)->handle;
    }
    const auto attributes = co_await set_at_server(operation, inode, std::move(change));
    behind_.hide(inode);
    if (!attributes) {
        changed_here(inode);  // a part of it, perhaps
        co_return Result<ShownAttributes>(attributes.error());
    }
    if (!has_its_type(inodes_.find(inode), *attributes))
        co_return Result<ShownAttributes>(Status::stale);
    if (truncates)
        contents_.resized(inode, *attributes);
    else
        contents_.touched(inode, *attributes);
    co_return shown(operation, inode, *attributes);
}

// Whether the mode that is known allows it to whomever the server acts as. What it does not allow may still be: to the
// administrator, and to the members of groups that are known to the server alone. What depends on how its file system
// is mounted is left to the server.
bool FileSystem::surely_allows(const Operation& operation, InodeNumber id, std::uint32_t mask) {
    const Inode* inode = inodes_.find(id);
    const wire::Attributes* attributes = inode == nullptr ? nullptr : names_.attributes(*inode);
    const std::uint32_t answerable = S_ISDIR(inode == nullptr ? 0 : inode->type) ? R_OK | X_OK : R_OK;
    if (attributes == nullptr || (mask & ~answerable) != 0 || (names_.absent_xattrs(*inode) & no_access_acl) == 0)
        return false;
    return mode_allows(operation, *attributes, mask);
}

bool FileSystem::mode_allows(const Operation& operation, const wire::Attributes& attributes, std::uint32_t mask) const {
    const wire::HelloReply& hello = session_.hello();
    const CallerIdentity identity =
        hello.client_identity ? identity_of(operation) : CallerIdentity{hello.server_uid, hello.server_gid, {}};
    const bool is_owner = identity.uid == attributes.uid;
    const bool is_member =
        identity.gid == attributes.gid || std::ranges::find(identity.groups, attributes.gid) != identity.groups.end();
    std::uint32_t allowed = attributes.mode;
    if (is_owner)
        allowed >>= 6;
    else if (is_member)
        allowed >>= 3;
    else if (!hello.client_identity)
        allowed &= allowed >> 3;  // it may belong to the group
    return (mask & ~allowed) == 0;
}

Task<Result<>> FileSystem::access(Operation& operation, InodeNumber inode, std::uint32_t mask) {
    if (const Status status = co_await settled(operation, inode); status != Status::ok)
        co_return Result<>(status);
    if (surely_allows(operation, inode, mask))
        co_return Result<>();
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<>(node.error());
    const wire::Access message{*node, mask};
    const auto reply = co_await call(operation, message);
    co_return outcome_of(reply);
}

Task<Result<wire::StatfsReply>> FileSystem::statfs(Operation& operation, InodeNumber inode) {
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<wire::StatfsReply>(node.error());
    const wire::Statfs message{*node};
    // An export may have other file systems within it.
    const Inode* known = inodes_.find(inode);
    const bool is_of_root = known != nullptr && known->identity.device == export_device_;
    if (is_of_root && names_.in_force())
        if (const auto* current = statistics_.current(); current != nullptr)
            co_return *current;
    const Statistics::Asked asked = statistics_.asking();
    std::optional<Result<client::Reply<wire::Statfs>>> reply;
    if (is_of_root && statistics_.last() != nullptr) {
        reply = co_await ask_briefly(operation, message);
        if (!reply)
            co_return *statistics_.last();
    } else {
        const client::CallOptions options;
        reply = co_await session_.call(message, options, &operation.cancellation);
    }
    if (!*reply)
        co_return Result<wire::StatfsReply>(reply->error());
    if (is_of_root)
        statistics_.learn(asked, (*reply)->body);
    co_return (*reply)->body;
}

}  // namespace remofile::filesystem
