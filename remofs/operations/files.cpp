// SPDX-License-Identifier: MIT
// Opening, making and closing files.
#include <fcntl.h>

#include "remofs/kernel/kernel_abi.hpp"
#include "remofs/kernel/open_flags.hpp"
#include "remofs/operations/mount.hpp"
#include "remofs/operations/operations.hpp"

namespace remofile::remofs {
namespace {

// Files up to this size come to us as a whole.
constexpr std::uint64_t max_stored_bytes = 64U << 10;

filesystem::OpenHow how_of(int flags) {
    return {.flags = to_wire_open_flags(flags), .past_cache = needs_direct_io(flags)};
}

// What the kernel is told of a handle.
void describe(fuse_file_info& info, const filesystem::Opened& opened) {
    info.fh = opened.handle.value;
    info.direct_io = needs_direct_io(info.flags) ? 1 : 0;
    info.keep_cache = opened.front_is_true ? 1 : 0;
}

// A small file is read as a whole, if it is read at all: what is known of it goes into the page cache at once. That
// saves the kernel a READ, and a GETATTR for the access time, which it does not know after one.
bool store_content(Mount& mount, fuse_ino_t inode, const filesystem::Opened& opened) {
    if (opened.size == 0 || opened.size > max_stored_bytes || !mount.pages().may_store_whole(inode, opened.size))
        return false;
    const auto content = mount.file_system().whole_content(opened.handle);
    if (!content || content->pieces.size() != 1 || content->pieces.front().size() != opened.size)
        return false;
    mount.pages().filled(inode);
    mount.channel().store(inode, 0, content->pieces.front());
    return true;
}

Task<void> reply_opened(Mount& mount, Request request, fuse_ino_t inode, fuse_file_info info,
                        Task<Result<filesystem::Opened>> answer) {
    const auto opened = co_await std::move(answer);
    if (!opened)
        co_return request.error(opened.error());
    describe(info, *opened);
    if (const Status status = co_await mount.size_will_be_known(request, inode, opened->size); status != Status::ok) {
        mount.file_system().release(opened->handle);
        co_return request.error(status);
    }
    if (info.keep_cache == 0 && store_content(mount, inode, *opened))
        info.keep_cache = 1;
    if (!request.opened(info))
        mount.file_system().release(opened->handle);
    else if (info.keep_cache == 0)
        mount.pages().dropped(inode);
}

Task<void> reply_created(Mount& mount, Request request, fuse_file_info info, Task<Result<filesystem::Created>> answer) {
    const auto created = co_await std::move(answer);
    if (!created)
        co_return request.error(created.error());
    const filesystem::Entry& entry = created->entry;
    describe(info, created->opened);
    if (request.created(mount.tell_entry(entry), info)) {
        if (info.keep_cache == 0)
            mount.pages().dropped(entry.inode);
        co_return;
    }
    mount.file_system().release(created->opened.handle);
    mount.file_system().forget(entry.inode);
}

}  // namespace

void op_open(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.open");
    auto answer = mount.file_system().open(request.operation(), inode, how_of(info->flags));
    spawn(reply_opened(mount, std::move(request), inode, *info, std::move(answer)));
}

void op_create(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    const bool nameless = mount.channel().current().opcode == opcode_tmpfile;
    Request request(mount, handle, nameless ? "fuse.tmpfile" : "fuse.create");
    const std::uint32_t permissions = mode & 07777U;
    const filesystem::OpenHow how = how_of(info->flags);
    auto answer = nameless ? mount.file_system().tmpfile(request.operation(), parent, permissions, how)
                           : mount.file_system().create(request.operation(), parent, name, permissions, how);
    spawn(reply_created(mount, std::move(request), *info, std::move(answer)));
}

void op_release(fuse_req_t handle, fuse_ino_t, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.release");
    mount.file_system().release(handle_of(info));
    request.ok();
}

}  // namespace remofile::remofs
