// SPDX-License-Identifier: MIT
// Opening, making and closing files.
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <utility>
#include <vector>

#include "remofs/kernel_abi.hpp"
#include "remofs/mount.hpp"
#include "remofs/open_flags.hpp"
#include "remofs/operations.hpp"

namespace remofile::remofs {
namespace {

// Files up to this size come with the answer to OPEN: on a link of 100 Mbit/s that delays what is behind it by 5 ms, a
// quarter of the round trip that it saves there.
constexpr std::uint64_t max_content_with_open_bytes = 64U << 10;

// The server is not told of O_APPEND when it opens a file: each write through the handle says so itself. A page of a
// shared mapping has its place, and the kernel may write it through any handle of the file.
std::uint32_t server_open_flags(int flags) {
    return to_wire_open_flags(flags) & ~wire::open_append;
}

HandleNumber add_file(Mount& mount, const Request& request, InodeNumber inode, HandleId handle,
                      const wire::Attributes& attributes, std::uint64_t asked_at, fuse_file_info& info) {
    info.direct_io = needs_direct_io(info.flags) ? 1 : 0;
    info.keep_cache = mount.contents().keeps(inode, attributes, asked_at) ? 1 : 0;
    FileHandle file{.handle = handle, .epoch = mount.session().epoch(), .inode = inode, .readahead = {}};
    file.past_cache = info.direct_io != 0;
    if (mount.session().hello().client_identity)
        file.opener = std::make_unique<const filesystem::CallerIdentity>(mount.identity_of(request));
    file.maps = (info.flags & O_ACCMODE) == O_RDWR;
    mount.opened(inode, file.maps);
    info.fh = mount.files().add(std::move(file));
    return info.fh;
}

void drop_file(Mount& mount, HandleNumber number) {
    const FileHandle* file = mount.files().find(number);
    if (file == nullptr)
        return;
    mount.contents().writes().send(file->inode);
    if (file->epoch == mount.session().epoch() && file->locked)
        spawn(mount.release_locked(file->inode, file->handle));
    else if (file->epoch == mount.session().epoch())
        mount.session().tell(wire::Release{file->handle}, client::LaneKind::data);
    mount.released(file->inode, file->maps);
    mount.files().remove(number);
}

struct Opened {
    HandleId handle;
    wire::Attributes attributes;
    Buffer beginning;  // of the content, if it came along
    bool has_beginning = false;
};

// Whether the content should come with the answer to OPEN: a small file is read as a whole, if it is read at all.
bool wants_content(Mount& mount, InodeNumber inode, int flags) {
    const Inode* known = mount.inodes().find(inode);
    return (flags & O_ACCMODE) == O_RDONLY && (flags & O_TRUNC) == 0 && !needs_direct_io(flags) && known != nullptr &&
           known->type == S_IFREG && known->content.size > 0 && known->content.size <= max_content_with_open_bytes &&
           !mount.contents().writes().pending(inode) &&
           !mount.contents().reader().knows_beginning(inode, known->content.generation);
}

Task<Result<Opened>> open_with_content(Mount& mount, Request& request, wire::Open message) {
    const wire::Read read{message.handle, 0, client::block_bytes};
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(message, true));
    requests.push_back(client::encoded(read));
    auto replies = co_await mount.call_batch(request, std::move(requests));
    if (replies[0].status != Status::ok)
        co_return Result<Opened>(replies[0].status);
    const auto body = wire::decode_body<wire::AttributesReply>(replies[0].body);
    if (!body)
        co_return Result<Opened>(Status::io_error);
    Opened opened{.handle = message.handle, .attributes = body->attributes, .beginning = {}};
    opened.has_beginning = replies[1].status == Status::ok;
    opened.beginning = std::move(replies[1].bulk);
    co_return Result<Opened>(std::move(opened));
}

Task<Result<Opened>> open_alone(Mount& mount, Request& request, wire::Open message, int flags) {
    auto reply = co_await mount.call(request, message);
    if (reply.status() == Status::not_permitted && (flags & O_APPEND) != 0) {
        // A file that its owner has made append-only (chattr +a) cannot be opened otherwise, nor be mapped to write.
        message.handle = mount.session().new_handle_id();
        message.flags |= wire::open_append;
        reply = co_await mount.call(request, message);
    }
    if (!reply)
        co_return Result<Opened>(reply.error());
    co_return Result<Opened>(Opened{.handle = message.handle, .attributes = reply->body.attributes, .beginning = {}});
}

Task<void> open_file(Mount& mount, Request request, InodeNumber inode, NodeId node, fuse_file_info info) {
    if ((info.flags & O_TRUNC) != 0) {
        if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
            co_return request.error(status);
    }
    const wire::Open message{node, mount.session().new_handle_id(), server_open_flags(info.flags)};
    const std::uint64_t asked_at = mount.contents().now();
    auto opening = wants_content(mount, inode, info.flags) ? open_with_content(mount, request, message)
                                                           : open_alone(mount, request, message, info.flags);
    auto opened = co_await std::move(opening);
    if (!opened)
        co_return request.error(opened.error());
    if ((info.flags & O_TRUNC) != 0)
        mount.contents().replaced(inode, opened->attributes);
    // It may have been written from here since the server read it, and other answers come by another way.
    const bool beginning_is_true = opened->has_beginning && !mount.contents().changed_since(inode, asked_at);
    const HandleNumber number = add_file(mount, request, inode, opened->handle, opened->attributes, asked_at, info);
    if (const Inode* known = mount.inodes().find(inode); known != nullptr && beginning_is_true)
        mount.contents().reader().put_beginning(inode, known->content.generation, std::move(opened->beginning));
    if (info.keep_cache != 0) {
        if (const Status status = co_await mount.pages().current(inode, &request.cancellation());
            status != Status::ok) {
            drop_file(mount, number);
            co_return request.error(status);
        }
    }
    if (!request.opened(info))
        drop_file(mount, number);
    else if (info.keep_cache == 0)
        mount.pages().dropped(inode);
}

// CREATE and TMPFILE: a new file and a handle for it.
void reply_created(Mount& mount, Request& request, InodeNumber parent, wire::EntryReply entry, HandleId handle,
                   fuse_file_info& info) {
    const wire::Attributes attributes = entry.attributes;
    Inode* inode = mount.adopt(parent, entry, request.arrived_at());
    if (inode == nullptr) {
        mount.session().tell(wire::Release{handle}, client::LaneKind::data);
        return request.error(Status::io_error);
    }
    if ((info.flags & O_TRUNC) != 0)
        mount.contents().replaced(inode->id, attributes);
    const HandleNumber number = add_file(mount, request, inode->id, handle, attributes, request.arrived_at(), info);
    if (request.created(mount.tell_entry(*inode, entry.attributes), info)) {
        if (info.keep_cache == 0)
            mount.pages().dropped(inode->id);
        return mount.inodes().delivered(*inode);
    }
    drop_file(mount, number);
    mount.undelivered(*inode);
}

Task<void> create_file(Mount& mount, Request request, InodeNumber parent, wire::Create message, fuse_file_info info) {
    const HandleId handle = message.handle;
    const auto reply = co_await mount.call(request, std::move(message));
    if (!reply)
        co_return request.error(reply.error());
    reply_created(mount, request, parent, reply->body.entry, handle, info);
}

Task<void> create_nameless(Mount& mount, Request request, wire::Tmpfile message, fuse_file_info info) {
    const HandleId handle = message.handle;
    const auto reply = co_await mount.call(request, std::move(message));
    if (!reply)
        co_return request.error(reply.error());
    constexpr InodeNumber no_parent = 0;
    reply_created(mount, request, no_parent, reply->body, handle, info);
}

void make_nameless(Mount& mount, Request request, NodeId parent, mode_t mode, const fuse_file_info& info) {
    wire::Tmpfile message{.parent = parent,
                          .node = mount.new_node(),
                          .handle = mount.session().new_handle_id(),
                          .flags = server_open_flags(info.flags),
                          .mode = mode & 07777U,
                          .umask = request.umask()};
    spawn(create_nameless(mount, std::move(request), std::move(message), info));
}

}  // namespace

void op_open(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.open");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    mount.settle_set_id(request, inode);
    spawn(open_file(mount, std::move(request), inode, *node, *info));
}

void op_create(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    const bool nameless = mount.channel().current().opcode == opcode_tmpfile;
    Request request(mount, handle, nameless ? "fuse.tmpfile" : "fuse.create");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    if (nameless)
        return make_nameless(mount, std::move(request), *node, mode, *info);
    wire::Create message{.parent = *node,
                         .name = name,
                         .node = mount.new_node(),
                         .handle = mount.session().new_handle_id(),
                         .flags = server_open_flags(info->flags),
                         .mode = mode & 07777U,
                         .umask = request.umask()};
    spawn(create_file(mount, std::move(request), parent, std::move(message), *info));
}

void op_release(fuse_req_t handle, fuse_ino_t, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.release");
    drop_file(mount, info->fh);
    request.ok();
}

}  // namespace remofile::remofs
