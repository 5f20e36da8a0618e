// SPDX-License-Identifier: MIT
// Open files and what is in them.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "remofs/mount.hpp"
#include "remofs/open_flags.hpp"
#include "remofs/operations.hpp"

namespace remofile::remofs {
namespace {

// One COPY_RANGE: long enough that its round trip costs nothing, short enough to be interrupted. Callers go on after a
// short copy.
constexpr std::uint64_t max_copy_bytes = 64U << 20;

// The server is not told of O_APPEND when it opens a file: each write through the handle says so itself. A page of a
// shared mapping has its place, and the kernel may write it through any handle of the file.
std::uint32_t server_open_flags(int flags) {
    return to_wire_open_flags(flags) & ~wire::open_append;
}

KernelHandle add_file(Mount& mount, KernelNode inode, HandleId handle, fuse_file_info& info) {
    info.direct_io = needs_direct_io(info.flags) ? 1 : 0;
    info.keep_cache = 0;
    info.fh = mount.files().add({.handle = handle, .epoch = mount.session().epoch(), .inode = inode});
    mount.opened(inode);
    return info.fh;
}

void drop_file(Mount& mount, KernelHandle number) {
    const OpenFile* file = mount.files().find(number);
    if (file == nullptr)
        return;
    if (file->epoch == mount.session().epoch())
        mount.session().tell(wire::Release{file->handle}, client::LaneKind::data);
    mount.released(file->inode);
    mount.files().remove(number);
}

Task<void> open_file(Mount& mount, Request request, KernelNode inode, NodeId node, fuse_file_info info) {
    wire::Open message{node, mount.session().new_handle_id(), server_open_flags(info.flags)};
    auto reply = co_await mount.call(request, message);
    if (reply.status() == Status::not_permitted && (info.flags & O_APPEND) != 0) {
        // A file that its owner has made append-only (chattr +a) cannot be opened otherwise, nor be mapped to write.
        message.handle = mount.session().new_handle_id();
        message.flags |= wire::open_append;
        reply = co_await mount.call(request, message);
    }
    if (!reply)
        co_return request.error(reply.error());
    if ((info.flags & O_TRUNC) != 0)
        mount.attributes_changed(inode, reply->body.attributes);
    const KernelHandle number = add_file(mount, inode, message.handle, info);
    if (!request.opened(info))
        drop_file(mount, number);
}

// CREATE and TMPFILE: a new file and a handle for it.
void reply_created(Mount& mount, Request& request, KernelNode parent, const wire::EntryReply& entry, HandleId handle,
                   fuse_file_info& info) {
    Inode* inode = mount.adopt(parent, entry);
    if (inode == nullptr) {
        mount.session().tell(wire::Release{handle}, client::LaneKind::data);
        return request.error(Status::io_error);
    }
    const KernelHandle number = add_file(mount, inode->id, handle, info);
    if (request.created(mount.to_entry(*inode, entry.attributes), info))
        return mount.inodes().delivered(*inode);
    drop_file(mount, number);
    mount.undelivered(*inode);
}

Task<void> create_file(Mount& mount, Request request, KernelNode parent, wire::Create message, fuse_file_info info) {
    const HandleId handle = message.handle;
    const auto reply = co_await mount.call(request, std::move(message));
    if (!reply)
        co_return request.error(reply.error());
    reply_created(mount, request, parent, reply->body.entry, handle, info);
}

#if REMOFS_HAS_TMPFILE
Task<void> create_nameless(Mount& mount, Request request, wire::Tmpfile message, fuse_file_info info) {
    const HandleId handle = message.handle;
    const auto reply = co_await mount.call(request, std::move(message));
    if (!reply)
        co_return request.error(reply.error());
    constexpr KernelNode no_parent = 0;
    reply_created(mount, request, no_parent, reply->body, handle, info);
}
#endif

Task<void> read_file(Mount& mount, Request request, wire::Read message) {
    const auto reply = co_await mount.call_on_handle(request, message);
    if (!reply)
        co_return request.error(reply.error());
    if (reply->bulk.size() > message.size)
        co_return request.error(Status::io_error);
    request.data(reply->bulk.bytes());
}

Task<Result<client::Reply<wire::Write>>> send_write(Mount& mount, Request& request, const wire::Write& message,
                                                    Buffer data, bool of_mapping) {
    // A page of a mapping is written for nobody in particular.
    if (of_mapping)
        return mount.session().call_with_bulk(message, std::move(data), {.lane = client::LaneKind::data});
    return mount.call_with_bulk(request, message, std::move(data), client::LaneKind::data);
}

Task<void> write_file(Mount& mount, Request request, KernelNode inode, wire::Write message, Buffer data,
                      bool of_mapping) {
    const std::size_t size = data.size();
    const auto reply = co_await send_write(mount, request, message, std::move(data), of_mapping);
    if (!reply)
        co_return request.error(reply.error());
    if (reply->body.size > size)
        co_return request.error(Status::io_error);
    mount.attributes_changed(inode, reply->body.attributes);
    // The kernel believes that the bytes went where it said.
    if (reply->body.offset != message.offset)
        mount.drop_pages(inode);
    request.written(reply->body.size);
}

Task<void> flush_file(Mount& mount, Request request, wire::Flush message) {
    const auto reply = co_await mount.call_on_handle(request, message);
    // A process that is killed does not wait for the answer, but its locks have to go.
    if (reply.status() == Status::interrupted)
        mount.session().tell(message, client::LaneKind::data);
    request.error(reply.status());
}

Task<void> sync_file(Mount& mount, Request request, wire::Fsync message) {
    const auto reply = co_await mount.call_on_handle(request, message);
    // What was written is not known to be safe when the session has ended meanwhile.
    request.error(reply.status() == Status::no_session ? Status::io_error : reply.status());
}

Task<void> allocate(Mount& mount, Request request, KernelNode inode, wire::Fallocate message) {
    const auto reply = co_await mount.call_on_handle(request, message);
    if (!reply)
        co_return request.error(reply.error());
    mount.attributes_changed(inode, reply->body.attributes);
    request.ok();
}

Task<void> seek(Mount& mount, Request request, wire::Seek message) {
    const auto reply = co_await mount.call_on_handle(request, message);
    if (!reply)
        co_return request.error(reply.error());
    request.offset(static_cast<off_t>(reply->body.offset));
}

Task<void> copy_range(Mount& mount, Request request, wire::CopyRange message) {
    const auto reply = co_await mount.call_on_handle(request, message);
    if (!reply)
        co_return request.error(reply.error());
    request.written(std::min(reply->body.size, message.size));
}

}  // namespace

void op_open(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.open");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    spawn(open_file(mount, std::move(request), inode, *node, *info));
}

void op_create(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.create");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Create message{.parent = *node,
                         .name = name,
                         .node = mount.new_node(),
                         .handle = mount.session().new_handle_id(),
                         .flags = server_open_flags(info->flags),
                         .mode = mode & 07777U,
                         .umask = request.umask()};
    spawn(create_file(mount, std::move(request), parent, std::move(message), *info));
}

#if REMOFS_HAS_TMPFILE
void op_tmpfile(fuse_req_t handle, fuse_ino_t parent, mode_t mode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.tmpfile");
    const auto node = mount.node_of(parent);
    if (!node)
        return request.error(node.error());
    wire::Tmpfile message{.parent = *node,
                          .node = mount.new_node(),
                          .handle = mount.session().new_handle_id(),
                          .flags = server_open_flags(info->flags),
                          .mode = mode & 07777U,
                          .umask = request.umask()};
    spawn(create_nameless(mount, std::move(request), std::move(message), *info));
}
#endif

void op_read(fuse_req_t handle, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.read");
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    const wire::Read message{(*file)->handle, static_cast<std::uint64_t>(offset),
                             static_cast<std::uint32_t>(std::min(size, wire::max_bulk_bytes))};
    spawn(read_file(mount, std::move(request), message));
}

void op_write(fuse_req_t handle, fuse_ino_t inode, const char* data, std::size_t size, off_t offset,
              fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.write");
    const auto file = mount.file(info);
    if (!file)
        return request.error(Status::io_error);
    (*file)->written = true;
    const bool of_mapping = info->writepage != 0;
    // The flags as they are now: fcntl(2) may have changed them since the file was opened.
    const bool append = (info->flags & O_APPEND) != 0 && !of_mapping;
    const wire::Write message{(*file)->handle, static_cast<std::uint64_t>(offset), append};
    Buffer payload = mount.channel().take_payload(data, size);
    spawn(write_file(mount, std::move(request), inode, message, std::move(payload), of_mapping));
}

void op_flush(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.flush");
    OpenFile* file = mount.files().find(info->fh);
    if (file == nullptr)
        return request.error(Status::bad_handle);
    const bool written = std::exchange(file->written, false);
    if (file->epoch != mount.session().epoch())
        return request.error(written ? Status::io_error : Status::ok);
    // Nothing written, so no error to report; nothing locked, so nothing to unlock: no need to ask.
    const Inode* known = mount.inodes().find(inode);
    if (!written && (known == nullptr || !known->has_byte_locks))
        return request.ok();
    const wire::Flush message{file->handle, to_lock_owner(info->lock_owner)};
    spawn(flush_file(mount, std::move(request), message));
}

void op_release(fuse_req_t handle, fuse_ino_t, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.release");
    drop_file(mount, info->fh);
    request.ok();
}

void op_fsync(fuse_req_t handle, fuse_ino_t, int data_only, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fsync");
    const auto file = mount.file(info);
    if (!file)
        return request.error(Status::io_error);
    const wire::Fsync message{(*file)->handle, data_only != 0};
    spawn(sync_file(mount, std::move(request), message));
}

void op_fallocate(fuse_req_t handle, fuse_ino_t inode, int mode, off_t offset, off_t length, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fallocate");
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    (*file)->written = true;
    const wire::Fallocate message{(*file)->handle, static_cast<std::uint32_t>(mode), static_cast<std::uint64_t>(offset),
                                  static_cast<std::uint64_t>(length)};
    spawn(allocate(mount, std::move(request), inode, message));
}

void op_lseek(fuse_req_t handle, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.lseek");
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    // The kernel does the others itself.
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return request.error(Status::invalid);
    const wire::Seek message{(*file)->handle, static_cast<std::uint64_t>(offset),
                             whence == SEEK_DATA ? wire::SeekWhat::data : wire::SeekWhat::hole};
    spawn(seek(mount, std::move(request), message));
}

void op_copy_file_range(fuse_req_t handle, fuse_ino_t, off_t from_offset, fuse_file_info* from_info, fuse_ino_t,
                        off_t to_offset, fuse_file_info* to_info, std::size_t size, int) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.copy_file_range");
    const auto from = mount.file(from_info);
    const auto to = mount.file(to_info);
    if (!from || !to)
        return request.error(Status::stale);
    (*to)->written = true;
    const wire::CopyRange message{.from = (*from)->handle,
                                  .from_offset = static_cast<std::uint64_t>(from_offset),
                                  .to = (*to)->handle,
                                  .to_offset = static_cast<std::uint64_t>(to_offset),
                                  .size = std::min<std::uint64_t>(size, max_copy_bytes)};
    spawn(copy_range(mount, std::move(request), message));
}

}  // namespace remofile::remofs
