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

// Files up to this size come with the answer to OPEN: on a link of 100 Mbit/s that delays what is behind it by 5 ms, a
// quarter of the round trip that it saves there.
constexpr std::uint64_t max_content_with_open_bytes = 64U << 10;

// The server is not told of O_APPEND when it opens a file: each write through the handle says so itself. A page of a
// shared mapping has its place, and the kernel may write it through any handle of the file.
std::uint32_t server_open_flags(int flags) {
    return to_wire_open_flags(flags) & ~wire::open_append;
}

KernelHandle add_file(Mount& mount, KernelNode inode, HandleId handle, const wire::Attributes& attributes,
                      fuse_file_info& info) {
    info.direct_io = needs_direct_io(info.flags) ? 1 : 0;
    info.keep_cache = mount.contents().keeps(inode, attributes) ? 1 : 0;
    OpenFile file{.handle = handle, .epoch = mount.session().epoch(), .inode = inode, .readahead = {}};
    file.past_cache = info.direct_io != 0;
    info.fh = mount.files().add(std::move(file));
    mount.opened(inode);
    return info.fh;
}

void drop_file(Mount& mount, KernelHandle number) {
    const OpenFile* file = mount.files().find(number);
    if (file == nullptr)
        return;
    mount.contents().writes().send(file->inode);
    if (file->epoch == mount.session().epoch())
        mount.session().tell(wire::Release{file->handle}, client::LaneKind::data);
    mount.released(file->inode);
    mount.files().remove(number);
}

struct Opened {
    HandleId handle;
    wire::Attributes attributes;
    Buffer beginning;  // of the content, if it came along
    bool has_beginning = false;
};

// Whether the content should come with the answer to OPEN: a small file is read as a whole, if it is read at all.
bool wants_content(Mount& mount, KernelNode inode, int flags) {
    const Inode* known = mount.inodes().find(inode);
    return (flags & O_ACCMODE) == O_RDONLY && (flags & O_TRUNC) == 0 && !needs_direct_io(flags) && known != nullptr &&
           known->type == S_IFREG && known->content.size > 0 && known->content.size <= max_content_with_open_bytes &&
           !mount.contents().writes().pending(inode) &&
           !mount.contents().reader().knows_beginning(inode, known->content.generation);
}

Task<Result<Opened>> open_with_content(Mount& mount, Request& request, wire::Open message) {
    const wire::Read read{message.handle, 0, client::block_bytes};
    std::vector<client::EncodedRequest> requests;
    requests.push_back({.opcode = wire::Opcode::open, .body = wire::encode_body(message), .bulk = {}, .link = true});
    requests.push_back({.opcode = wire::Opcode::read, .body = wire::encode_body(read), .bulk = {}});
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

Task<void> open_file(Mount& mount, Request request, KernelNode inode, NodeId node, fuse_file_info info) {
    if ((info.flags & O_TRUNC) != 0) {
        const Status drained = co_await mount.contents().writes().drain(inode, &request.cancellation());
        if (drained != Status::ok)
            co_return request.error(drained);
    }
    const wire::Open message{node, mount.session().new_handle_id(), server_open_flags(info.flags)};
    auto opening = wants_content(mount, inode, info.flags) ? open_with_content(mount, request, message)
                                                           : open_alone(mount, request, message, info.flags);
    auto opened = co_await std::move(opening);
    if (!opened)
        co_return request.error(opened.error());
    if ((info.flags & O_TRUNC) != 0)
        mount.contents().replaced(inode, opened->attributes);
    const KernelHandle number = add_file(mount, inode, opened->handle, opened->attributes, info);
    if (const Inode* known = mount.inodes().find(inode); known != nullptr && opened->has_beginning)
        mount.contents().reader().put_beginning(inode, known->content.generation, std::move(opened->beginning));
    if (info.keep_cache != 0)
        co_await mount.pages_are_current(inode);
    if (!request.opened(info))
        drop_file(mount, number);
}

// CREATE and TMPFILE: a new file and a handle for it.
void reply_created(Mount& mount, Request& request, KernelNode parent, wire::EntryReply entry, HandleId handle,
                   fuse_file_info& info) {
    const wire::Attributes attributes = entry.attributes;
    Inode* inode = mount.adopt(parent, entry, request.arrived_at());
    if (inode == nullptr) {
        mount.session().tell(wire::Release{handle}, client::LaneKind::data);
        return request.error(Status::io_error);
    }
    if ((info.flags & O_TRUNC) != 0)
        mount.contents().replaced(inode->id, attributes);
    const KernelHandle number = add_file(mount, inode->id, handle, attributes, info);
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

Task<void> read_file(Mount& mount, Request request, KernelHandle number, std::uint64_t offset, std::uint32_t size) {
    FileContents& contents = mount.contents();
    const OpenFile* before = mount.files().find(number);
    if (contents.must_drain_before(before->inode, offset, size)) {
        const Status drained = co_await contents.writes().drain(before->inode, &request.cancellation());
        if (drained != Status::ok)
            co_return request.error(drained);
    }
    OpenFile* file = mount.files().find(number);
    if (file == nullptr || file->epoch != mount.session().epoch() || mount.inodes().find(file->inode) == nullptr)
        co_return request.error(Status::stale);
    auto reading = file->past_cache
                       ? contents.reader().read_uncached(file->handle, offset, size, &request.cancellation())
                       : contents.reader().read(contents.source_of(*file), &file->readahead, offset, size,
                                                &request.cancellation());
    const auto data = co_await std::move(reading);
    if (!data)
        co_return request.error(data.error());
    request.data(data->pieces);
}

// Programs that ask for it, and pages of mappings (the kernel keeps those until they are written), wait for the server.
bool goes_through(int flags, bool of_mapping) {
    return of_mapping || (flags & (O_APPEND | O_DIRECT | O_SYNC | O_DSYNC)) != 0;
}

Task<Result<client::Reply<wire::Write>>> send_write(Mount& mount, Request& request, const wire::Write& message,
                                                    Buffer data, bool of_mapping) {
    // A page of a mapping is written for nobody in particular.
    if (of_mapping)
        return mount.session().call_with_bulk(message, std::move(data), {.lane = client::LaneKind::data});
    return mount.call_with_bulk(request, message, std::move(data), client::LaneKind::data);
}

Task<void> write_through(Mount& mount, Request request, KernelNode inode, wire::Write message, Buffer data,
                         bool of_mapping) {
    const Status drained = co_await mount.contents().writes().drain(inode, &request.cancellation());
    if (drained != Status::ok)
        co_return request.error(drained);
    const std::size_t size = data.size();
    const auto reply = co_await send_write(mount, request, message, std::move(data), of_mapping);
    if (!reply)
        co_return request.error(reply.error());
    if (reply->body.size > size)
        co_return request.error(Status::io_error);
    mount.contents().written(inode, reply->body.offset, reply->body.size, reply->body.attributes);
    // The kernel believes that the bytes went where it said.
    if (reply->body.offset != message.offset)
        mount.contents().outdated(inode);
    request.written(reply->body.size);
}

Task<void> write_behind(Mount& mount, Request request, client::WriteBehind::Target target, std::uint64_t offset,
                        Buffer data) {
    const auto credential = co_await mount.credential_of(request);
    if (!credential)
        co_return request.error(credential.error());
    target.credential = *credential;
    const std::size_t size = data.size();
    const auto accepted =
        co_await mount.contents().writes().write(target, offset, std::move(data), &request.cancellation());
    if (!accepted)
        co_return request.error(accepted.error());
    mount.contents().accepted(target.file, offset, size);
    request.written(size);
}

// The error of a write that was accepted earlier; reported once.
Status take_write_error(Mount& mount, KernelHandle number) {
    OpenFile* file = mount.files().find(number);
    return file == nullptr ? Status::ok : std::exchange(file->write_error, Status::ok);
}

// Ends a FLUSH or FSYNC: what failed before comes first.
void report(Request& request, Status earlier, Status now) {
    request.error(earlier != Status::ok ? earlier : now);
}

// Sends what is pending of the file, so that a request that follows on the handle comes after it. The server does not
// order what was written through other handles: that is waited for.
Task<Status> send_before(Mount& mount, Request& request, KernelNode inode, HandleId handle) {
    client::WriteBehind& writes = mount.contents().writes();
    if (writes.pending_of_others(inode, handle))
        co_return co_await writes.drain(inode, &request.cancellation());
    writes.send(inode);
    co_return Status::ok;
}

Task<void> flush_file(Mount& mount, Request request, KernelNode inode, KernelHandle number, wire::Flush message) {
    Status status = co_await send_before(mount, request, inode, message.handle);
    if (status == Status::ok)
        status = (co_await mount.call_on_handle(request, message)).status();
    // A process that is killed does not wait for the answer, but its locks have to go.
    if (status == Status::interrupted)
        mount.session().tell(message, client::LaneKind::data);
    else
        co_await mount.contents().writes().drain(inode, &request.cancellation());
    report(request, take_write_error(mount, number), status);
}

Task<void> sync_file(Mount& mount, Request request, KernelNode inode, KernelHandle number, wire::Fsync message) {
    Status status = co_await send_before(mount, request, inode, message.handle);
    if (status == Status::ok)
        status = (co_await mount.call_on_handle(request, message)).status();
    if (status == Status::ok)
        status = co_await mount.contents().writes().drain(inode, &request.cancellation());
    // What was written is not known to be safe when the session has ended meanwhile.
    if (status == Status::no_session)
        status = Status::io_error;
    report(request, take_write_error(mount, number), status);
}

// What was written before is to be there for a request about the content.
Task<Status> drain(Mount& mount, Request& request, KernelNode inode) {
    co_return co_await mount.contents().writes().drain(inode, &request.cancellation());
}

Task<void> allocate(Mount& mount, Request request, KernelNode inode, wire::Fallocate message) {
    if (const Status drained = co_await drain(mount, request, inode); drained != Status::ok)
        co_return request.error(drained);
    const auto reply = co_await mount.call_on_handle(request, message);
    if (!reply)
        co_return request.error(reply.error());
    mount.contents().replaced(inode, reply->body.attributes);
    request.ok();
}

Task<void> seek(Mount& mount, Request request, KernelNode inode, wire::Seek message) {
    if (const Status drained = co_await drain(mount, request, inode); drained != Status::ok)
        co_return request.error(drained);
    const auto reply = co_await mount.call_on_handle(request, message);
    if (!reply)
        co_return request.error(reply.error());
    request.offset(static_cast<off_t>(reply->body.offset));
}

Task<void> copy_range(Mount& mount, Request request, KernelNode from, KernelNode to, wire::CopyRange message) {
    for (const KernelNode inode : {from, to}) {
        if (const Status drained = co_await drain(mount, request, inode); drained != Status::ok)
            co_return request.error(drained);
    }
    const auto reply = co_await mount.call_on_handle(request, message);
    mount.contents().outdated(to);
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
    spawn(read_file(mount, std::move(request), info->fh, static_cast<std::uint64_t>(offset),
                    static_cast<std::uint32_t>(std::min(size, wire::max_bulk_bytes))));
}

void op_write(fuse_req_t handle, fuse_ino_t inode, const char* data, std::size_t size, off_t offset,
              fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.write");
    const auto file = mount.file(info);
    if (!file)
        return request.error(Status::io_error);
    const bool of_mapping = info->writepage != 0;
    if (const Status earlier = of_mapping ? Status::ok : take_write_error(mount, info->fh); earlier != Status::ok)
        return request.error(earlier);
    (*file)->written = true;
    const auto start = static_cast<std::uint64_t>(offset);
    // The flags as they are now: fcntl(2) may have changed them since the file was opened.
    if (goes_through(info->flags, of_mapping)) {
        const bool append = (info->flags & O_APPEND) != 0 && !of_mapping;
        const wire::Write message{(*file)->handle, start, append};
        Buffer payload = mount.channel().take_payload(data, size);
        return spawn(write_through(mount, std::move(request), inode, message, std::move(payload), of_mapping));
    }
    const client::WriteBehind::Target target{.file = inode, .handle = (*file)->handle};
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    if (!mount.session().hello().client_identity && mount.contents().writes().join(target, start, bytes)) {
        mount.contents().accepted(inode, start, size);
        return request.written(size);
    }
    Buffer payload = mount.channel().take_payload(data, size);
    spawn(write_behind(mount, std::move(request), target, start, std::move(payload)));
}

void op_flush(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.flush");
    OpenFile* file = mount.files().find(info->fh);
    if (file == nullptr)
        return request.error(Status::bad_handle);
    const bool written = std::exchange(file->written, false);
    if (file->epoch != mount.session().epoch())
        return report(request, take_write_error(mount, info->fh), written ? Status::io_error : Status::ok);
    // Nothing written, so no error to report; nothing locked, so nothing to unlock: no need to ask.
    const Inode* known = mount.inodes().find(inode);
    if (!written && (known == nullptr || !known->has_byte_locks))
        return report(request, take_write_error(mount, info->fh), Status::ok);
    const wire::Flush message{file->handle, to_lock_owner(info->lock_owner)};
    spawn(flush_file(mount, std::move(request), inode, info->fh, message));
}

void op_release(fuse_req_t handle, fuse_ino_t, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.release");
    drop_file(mount, info->fh);
    request.ok();
}

void op_fsync(fuse_req_t handle, fuse_ino_t inode, int data_only, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fsync");
    const auto file = mount.file(info);
    if (!file)
        return request.error(Status::io_error);
    const wire::Fsync message{(*file)->handle, data_only != 0};
    spawn(sync_file(mount, std::move(request), inode, info->fh, message));
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

void op_lseek(fuse_req_t handle, fuse_ino_t inode, off_t offset, int whence, fuse_file_info* info) {
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
    spawn(seek(mount, std::move(request), inode, message));
}

void op_copy_file_range(fuse_req_t handle, fuse_ino_t from_inode, off_t from_offset, fuse_file_info* from_info,
                        fuse_ino_t to_inode, off_t to_offset, fuse_file_info* to_info, std::size_t size, int) {
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
    spawn(copy_range(mount, std::move(request), from_inode, to_inode, message));
}

}  // namespace remofile::remofs
