// SPDX-License-Identifier: MIT
// What is in open files: reading, writing, and making sure of what was written.
#include <fcntl.h>
#include <unistd.h>

#include "remofs/operations/mount.hpp"
#include "remofs/operations/operations.hpp"
#include "remofs/operations/replies.hpp"

namespace remofile::remofs {
namespace {

Task<void> reply_data(Request request, Task<Result<client::FileReader::Data>> answer) {
    const auto data = co_await std::move(answer);
    if (!data)
        co_return request.error(data.error());
    request.data(data->pieces);
}

Task<void> reply_written(Mount& mount, Request request, fuse_ino_t inode, std::uint64_t offset,
                         Task<Result<std::size_t>> answer) {
    const auto size = co_await std::move(answer);
    if (!size)
        co_return request.error(size.error());
    mount.pages().extended(inode, offset + *size);
    request.written(*size);
}

Task<void> reply_offset(Request request, Task<Result<std::uint64_t>> answer) {
    const auto offset = co_await std::move(answer);
    if (!offset)
        co_return request.error(offset.error());
    request.offset(static_cast<off_t>(*offset));
}

Task<void> reply_copied(Request request, Task<Result<std::uint64_t>> answer) {
    const auto size = co_await std::move(answer);
    if (!size)
        co_return request.error(size.error());
    request.copied(*size);
}

// The flags as they are now: fcntl(2) may have changed them since the file was opened.
filesystem::WriteHow how_of(const fuse_file_info& info) {
    return {.append = (info.flags & O_APPEND) != 0,
            .through = (info.flags & (O_APPEND | O_DIRECT | O_SYNC | O_DSYNC)) != 0,
            .of_mapping = info.writepage != 0};
}

}  // namespace

void op_read(fuse_req_t handle, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.read");
    mount.pages().filled(inode);
    auto answer =
        mount.file_system().read(request.operation(), handle_of(info), static_cast<std::uint64_t>(offset), size);
    const auto look_for_signals = request.look_for_signals();
    spawn(reply_data(std::move(request), std::move(answer)));
    look_for_signals();
}

void op_write(fuse_req_t handle, fuse_ino_t inode, const char* data, std::size_t size, off_t offset,
              fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.write");
    const filesystem::WriteHow how = how_of(*info);
    if (how.of_mapping || !mount.file_system().past_cache(handle_of(info)))
        mount.pages().filled(inode);
    const auto start = static_cast<std::uint64_t>(offset);
    filesystem::Payload payload{.bytes = std::as_bytes(std::span(data, size)),
                                .take = [&mount, data, size] { return mount.channel().take_payload(data, size); }};
    auto answer = mount.file_system().write(request.operation(), handle_of(info), start, std::move(payload), how);
    spawn(reply_written(mount, std::move(request), inode, start, std::move(answer)));
}

void op_flush(fuse_req_t handle, fuse_ino_t, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.flush");
    request.interrupt_if_its_thread_was();
    auto answer = mount.file_system().flush(request.operation(), handle_of(info), to_lock_owner(info->lock_owner));
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_fsync(fuse_req_t handle, fuse_ino_t, int data_only, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fsync");
    auto answer = mount.file_system().fsync(request.operation(), handle_of(info), data_only != 0);
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_fallocate(fuse_req_t handle, fuse_ino_t, int mode, off_t offset, off_t length, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fallocate");
    auto answer = mount.file_system().fallocate(request.operation(), handle_of(info), static_cast<std::uint32_t>(mode),
                                                static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length));
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_lseek(fuse_req_t handle, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.lseek");
    // The kernel does the others itself.
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return request.error(Status::invalid);
    auto answer = mount.file_system().seek(request.operation(), handle_of(info), static_cast<std::uint64_t>(offset),
                                           whence == SEEK_DATA ? wire::SeekWhat::data : wire::SeekWhat::hole);
    spawn(reply_offset(std::move(request), std::move(answer)));
}

void op_copy_file_range(fuse_req_t handle, fuse_ino_t, off_t from_offset, fuse_file_info* from, fuse_ino_t,
                        off_t to_offset, fuse_file_info* to, std::size_t size, int) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.copy_file_range");
    auto answer =
        mount.file_system().copy_range(request.operation(), handle_of(from), static_cast<std::uint64_t>(from_offset),
                                       handle_of(to), static_cast<std::uint64_t>(to_offset), size);
    spawn(reply_copied(std::move(request), std::move(answer)));
}

}  // namespace remofile::remofs
