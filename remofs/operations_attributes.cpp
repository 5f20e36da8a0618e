// SPDX-License-Identifier: MIT
// What files say of themselves, and what the file system says of itself.
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <array>
#include <vector>

#include "remofs/mount.hpp"
#include "remofs/operations.hpp"

namespace remofile::remofs {
namespace {

// How long df, and stat of the mountpoint, wait for a silent server before they are told what was true last.
constexpr auto last_known_after = std::chrono::milliseconds(900);

bool is_silence(Status status) {
    return status == Status::timed_out || status == Status::unreachable;
}

// The attributes that the look-up of the same stat(2) has brought, if they are to be had. An open file is asked for
// anew, as fstat(2) has no look-up before it.
const wire::Attributes* just_heard(Mount& mount, const Request& request, InodeNumber inode) {
    const auto& told = request.just_looked_up();
    const Inode* known = mount.inodes().find(inode);
    const bool good = told && told->inode == inode && known != nullptr && known->open_count == 0 &&
                      !mount.contents().heard_since(inode, told->event);
    return good ? &told->attributes : nullptr;
}

Task<void> get_attributes(Mount& mount, Request request, InodeNumber inode, NodeId node, HandleId handle) {
    const KernelPages::Question question(mount.pages(), inode);
    const wire::Getattr message{node, handle};
    auto reply = co_await mount.call(request, message);
    // What was written meanwhile may take them away, and its writer has been told that it is written.
    constexpr std::uint32_t set_id = S_ISUID | S_ISGID;
    if (reply && (reply->body.attributes.mode & set_id) != 0 &&
        mount.contents().changed_since(inode, request.arrived_at())) {
        if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
            co_return request.error(status);
        auto again = co_await mount.call(request, message);
        reply = std::move(again);
    }
    if (!reply)
        co_return request.error(reply.error());
    mount.reply_attributes(request, inode, mount.contents().seen(inode, reply->body.attributes, request.arrived_at()));
}

// The mountpoint itself answers even if the server does not: df, unmount and listings of the directory above it must
// not hang with it.
Task<void> get_root_attributes(Mount& mount, Request request, NodeId node) {
    const wire::Getattr message{.node = node};
    const client::CallOptions options{.timeout = last_known_after};
    const auto reply = co_await mount.session().call(message, options, &request.cancellation());
    if (!reply && !is_silence(reply.status()))
        co_return request.error(reply.error());
    const wire::Attributes attributes = reply ? reply->body.attributes : mount.inodes().root().last_attributes;
    mount.reply_attributes(request, root_inode, attributes);
}

struct SetRow {
    int fuse;
    std::uint32_t wire;
};

// FUSE_SET_ATTR_CTIME is not here: the server's file system sets that time by itself at each change.
constexpr auto set_table = std::to_array<SetRow>({
    {FUSE_SET_ATTR_MODE, wire::set_mode},
    {FUSE_SET_ATTR_UID, wire::set_uid},
    {FUSE_SET_ATTR_GID, wire::set_gid},
    {FUSE_SET_ATTR_SIZE, wire::set_size},
});

std::uint32_t to_wire_set(int which) {
    std::uint32_t result = 0;
    for (const SetRow& row : set_table)
        if ((which & row.fuse) != 0)
            result |= row.wire;
    // "Now" comes together with the plain bit, and means the server's clock.
    if ((which & FUSE_SET_ATTR_ATIME_NOW) != 0)
        result |= wire::set_access_now;
    else if ((which & FUSE_SET_ATTR_ATIME) != 0)
        result |= wire::set_access;
    if ((which & FUSE_SET_ATTR_MTIME_NOW) != 0)
        result |= wire::set_modification_now;
    else if ((which & FUSE_SET_ATTR_MTIME) != 0)
        result |= wire::set_modification;
    return result;
}

wire::Timestamp to_wire(const struct timespec& time) {
    return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

// Sets them. What the file was like before is asked for in the same message if it is open here, for a change that was
// made elsewhere would not be noticed any more behind ours.
Task<Result<wire::Attributes>> set_at_server(Mount& mount, Request& request, InodeNumber inode, wire::Setattr message) {
    const Inode* known = mount.inodes().find(inode);
    if (known == nullptr || known->type != S_IFREG || known->open_count == 0) {
        const auto reply = co_await mount.call(request, std::move(message));
        co_return reply ? Result<wire::Attributes>(reply->body.attributes) : Result<wire::Attributes>(reply.error());
    }
    const wire::Getattr getattr{message.node, message.handle};
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(getattr));
    requests.push_back(client::encoded(message));
    const std::uint64_t asked_at = mount.contents().now();
    const auto replies = co_await mount.call_batch(request, std::move(requests));
    if (const auto before = client::decoded<wire::Getattr>(replies[0]))
        mount.contents().seen(inode, before->attributes, asked_at);
    const auto set = client::decoded<wire::Setattr>(replies[1]);
    co_return set ? Result<wire::Attributes>(set->attributes) : Result<wire::Attributes>(set.error());
}

Task<void> set_attributes(Mount& mount, Request request, InodeNumber inode, wire::Setattr message) {
    const bool truncates = (message.which & wire::set_size) != 0;
    // A time that is set, or an end, must not be overtaken by what was written before.
    if (!truncates && (message.which & (wire::set_modification | wire::set_modification_now)) != 0) {
        if (const Status status = co_await mount.pages().mappings_written(inode, &request.cancellation());
            status != Status::ok)
            co_return request.error(status);
    }
    if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
        co_return request.error(status);
    const auto attributes = co_await set_at_server(mount, request, inode, std::move(message));
    if (!attributes)
        co_return request.error(attributes.error());
    if (truncates)
        mount.contents().replaced(inode, *attributes);
    else
        mount.contents().touched(inode, *attributes);
    const wire::Attributes shown = mount.contents().seen(inode, *attributes, request.arrived_at());
    if (truncates)
        mount.pages().truncated(inode, shown.size);
    mount.reply_attributes(request, inode, shown);
}

Task<void> check_access(Mount& mount, Request request, NodeId node, std::uint32_t mask) {
    const wire::Access message{node, mask};
    const auto reply = co_await mount.call(request, message);
    request.error(reply.status());
}

struct statvfs to_statvfs(const wire::StatfsReply& reply) {
    struct statvfs result {};
    result.f_bsize = reply.block_size;
    result.f_frsize = reply.block_size;
    result.f_blocks = reply.blocks;
    result.f_bfree = reply.blocks_free;
    result.f_bavail = reply.blocks_available;
    result.f_files = reply.files;
    result.f_ffree = reply.files_free;
    result.f_favail = reply.files_free;
    result.f_namemax = reply.name_max;
    return result;
}

Task<void> get_statistics(Mount& mount, Request request, NodeId node) {
    const wire::Statfs message{node};
    const client::CallOptions options{.timeout = last_known_after};
    const auto reply = co_await mount.session().call(message, options, &request.cancellation());
    if (reply)
        mount.last_statistics() = to_statvfs(reply->body);
    else if (!is_silence(reply.status()) || !mount.last_statistics())
        co_return request.error(reply.error());
    request.statistics(*mount.last_statistics());
}

}  // namespace

void op_getattr(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.getattr");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    if (inode == root_inode)
        return spawn(get_root_attributes(mount, std::move(request), *node));
    if (const wire::Attributes* heard = just_heard(mount, request, inode); heard != nullptr)
        return mount.reply_attributes(request, inode, *heard);
    const auto file = mount.file(info);
    // With a handle come the kernel's own questions; those of stat(2) and fstat(2) come without.
    if (const auto recent = mount.contents().recent(inode); file && recent)
        return mount.reply_attributes(request, inode, *recent);
    const HandleId open = file ? (*file)->handle : HandleId{};
    spawn(get_attributes(mount, std::move(request), inode, *node, open));
}

void op_setattr(fuse_req_t handle, fuse_ino_t inode, struct stat* attributes, int which, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.setattr");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    const auto file = mount.file(info);
    if (info != nullptr && !file)
        return request.error(file.error());
    wire::Setattr message{.node = *node,
                          .handle = file ? (*file)->handle : HandleId{},
                          .which = to_wire_set(which),
                          .mode = attributes->st_mode & 07777U,
                          .uid = mount.ids().users.to_server(attributes->st_uid),
                          .gid = mount.ids().groups.to_server(attributes->st_gid),
                          .size = static_cast<std::uint64_t>(attributes->st_size),
                          .access = to_wire(attributes->st_atim),
                          .modification = to_wire(attributes->st_mtim)};
    const bool said_by_kernel = (which & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) == 0;
    mount.settle_set_id(request, inode, said_by_kernel);
    spawn(set_attributes(mount, std::move(request), inode, std::move(message)));
}

void op_access(fuse_req_t handle, fuse_ino_t inode, int mask) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.access");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    spawn(check_access(mount, std::move(request), *node, static_cast<std::uint32_t>(mask) & 7U));
}

void op_statfs(fuse_req_t handle, fuse_ino_t inode) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.statfs");
    const auto node = mount.node_of(inode == 0 ? root_inode : inode);
    if (!node)
        return request.error(node.error());
    spawn(get_statistics(mount, std::move(request), *node));
}

}  // namespace remofile::remofs
