// SPDX-License-Identifier: MIT
// What is in open files: reading, writing, and making sure of what was written.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "remofs/mount.hpp"
#include "remofs/operations.hpp"

namespace remofile::remofs {
namespace {

// One COPY_RANGE: long enough that its round trip costs nothing, short enough to be interrupted. Callers go on after a
// short copy.
constexpr std::uint64_t max_copy_bytes = 64U << 20;

Task<void> read_file(Mount& mount, Request request, HandleNumber number, std::uint64_t offset, std::uint32_t size) {
    FileContents& contents = mount.contents();
    const FileHandle* before = mount.files().find(number);
    if (contents.must_drain_before(before->inode, offset, size)) {
        if (const Status status = co_await mount.written_out(request, before->inode); status != Status::ok)
            co_return request.error(status);
    }
    FileHandle* file = mount.files().find(number);
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

// The kernel writes a page of a mapping for nobody in particular, by any handle that the file has: it counts as written
// by whoever opened that one. As on a local disk, set-id bits stay.
Task<Result<client::Reply<wire::Write>>> write_page(Mount& mount, HandleNumber number, wire::Write message,
                                                    Buffer data) {
    using Reply = Result<client::Reply<wire::Write>>;
    client::CallOptions options{.lane = client::LaneKind::data, .set_id = wire::SetId::keep};
    if (const FileHandle* file = mount.files().find(number); file != nullptr && file->opener != nullptr) {
        filesystem::CallerIdentity opener = *file->opener;
        const auto credential = co_await mount.credential_of(std::move(opener));
        if (!credential)
            co_return Reply(credential.error());
        options.credential = *credential;
    }
    co_return co_await mount.session().call_with_bulk(message, std::move(data), options);
}

Task<void> write_through(Mount& mount, Request request, InodeNumber inode, HandleNumber number, wire::Write message,
                         Buffer data, bool of_mapping) {
    if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
        co_return request.error(status);
    const std::size_t size = data.size();
    FileContents::WriteThrough under_way(mount.contents(), inode, message.handle);
    auto writing = of_mapping ? write_page(mount, number, message, std::move(data))
                              : mount.call_with_bulk(request, message, std::move(data), client::LaneKind::data);
    const auto reply = co_await std::move(writing);
    if (!reply)
        co_return request.error(reply.error());
    if (reply->body.size > size)
        co_return request.error(Status::io_error);
    under_way.written(reply->body);
    mount.pages().extended(inode, message.offset + reply->body.size);
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
    mount.pages().extended(target.file, offset + size);
    request.written(size);
}

// The error of a write that was accepted earlier; reported once.
Status take_write_error(Mount& mount, HandleNumber number) {
    FileHandle* file = mount.files().find(number);
    return file == nullptr ? Status::ok : std::exchange(file->write_error, Status::ok);
}

// Ends a FLUSH or FSYNC: what failed before comes first.
void report(Request& request, Status earlier, Status now) {
    request.error(earlier != Status::ok ? earlier : now);
}

Task<void> flush_file(Mount& mount, Request request, InodeNumber inode, HandleNumber number, wire::Flush message) {
    Status status = co_await mount.contents().send_before(inode, message.handle, &request.cancellation());
    if (status == Status::ok)
        status = (co_await mount.call_on_handle(request, message)).status();
    if (status == Status::ok)
        status = co_await mount.written_out(request, inode);
    // A process that is killed does not wait for the answer, but its locks have to go.
    if (status == Status::interrupted)
        mount.session().tell(message, client::LaneKind::data);
    report(request, take_write_error(mount, number), status);
}

// What is on the server's disk needs no round trip at close: the handle counts as written again only if this fails.
Task<void> sync_file(Mount& mount, Request request, InodeNumber inode, HandleNumber number, bool written,
                     wire::Fsync message) {
    Status status = co_await mount.contents().sync(inode, message, &request.cancellation());
    // What was written is not known to be safe when the session has ended meanwhile.
    if (status == Status::no_session)
        status = Status::io_error;
    if (FileHandle* file = mount.files().find(number); file != nullptr && status != Status::ok)
        file->written |= written;
    report(request, take_write_error(mount, number), status);
}

Task<void> allocate(Mount& mount, Request request, InodeNumber inode, wire::Fallocate message) {
    if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
        co_return request.error(status);
    const auto reply = co_await mount.change(request, message);
    if (!reply)
        co_return request.error(reply.error());
    mount.contents().replaced(inode, reply->body.attributes);
    request.ok();
}

Task<void> seek(Mount& mount, Request request, InodeNumber inode, wire::Seek message) {
    if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
        co_return request.error(status);
    const auto reply = co_await mount.call_on_handle(request, message);
    if (!reply)
        co_return request.error(reply.error());
    request.offset(static_cast<off_t>(reply->body.offset));
}

Task<void> copy_range(Mount& mount, Request request, InodeNumber from, InodeNumber to, wire::CopyRange message) {
    for (const InodeNumber inode : {from, to}) {
        if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
            co_return request.error(status);
    }
    const auto reply = co_await mount.change(request, message);
    // The kernel drops its pages of the range itself.
    mount.contents().forget(to);
    if (!reply)
        co_return request.error(reply.error());
    request.copied(std::min(reply->body.size, message.size));
}

}  // namespace

void op_read(fuse_req_t handle, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.read");
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    mount.pages().filled(inode);
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
    if (of_mapping || !(*file)->past_cache)
        mount.pages().filled(inode);
    mount.settle_set_id(request, inode);
    const auto start = static_cast<std::uint64_t>(offset);
    // The flags as they are now: fcntl(2) may have changed them since the file was opened.
    if (goes_through(info->flags, of_mapping)) {
        const bool append = (info->flags & O_APPEND) != 0 && !of_mapping;
        const wire::Write message{(*file)->handle, start, append};
        Buffer payload = mount.channel().take_payload(data, size);
        return spawn(
            write_through(mount, std::move(request), inode, info->fh, message, std::move(payload), of_mapping));
    }
    const client::WriteBehind::Target target{.file = inode, .handle = (*file)->handle, .set_id = request.set_id()};
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    if (!mount.session().hello().client_identity && mount.contents().writes().join(target, start, bytes)) {
        mount.contents().accepted(inode, start, size);
        mount.pages().extended(inode, start + size);
        return request.written(size);
    }
    Buffer payload = mount.channel().take_payload(data, size);
    spawn(write_behind(mount, std::move(request), target, start, std::move(payload)));
}

void op_flush(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.flush");
    FileHandle* file = mount.files().find(info->fh);
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

void op_fsync(fuse_req_t handle, fuse_ino_t inode, int data_only, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fsync");
    const auto file = mount.file(info);
    if (!file)
        return request.error(Status::io_error);
    const wire::Fsync message{(*file)->handle, data_only != 0};
    const bool written = std::exchange((*file)->written, false);
    spawn(sync_file(mount, std::move(request), inode, info->fh, written, message));
}

void op_fallocate(fuse_req_t handle, fuse_ino_t inode, int mode, off_t offset, off_t length, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fallocate");
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    (*file)->written = true;
    mount.settle_set_id(request, inode, false);
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
    mount.settle_set_id(request, to_inode, false);
    const wire::CopyRange message{.from = (*from)->handle,
                                  .from_offset = static_cast<std::uint64_t>(from_offset),
                                  .to = (*to)->handle,
                                  .to_offset = static_cast<std::uint64_t>(to_offset),
                                  .size = std::min<std::uint64_t>(size, max_copy_bytes)};
    spawn(copy_range(mount, std::move(request), from_inode, to_inode, message));
}

}  // namespace remofile::remofs
