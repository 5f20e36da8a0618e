// SPDX-License-Identifier: MIT
// Byte-range locks (fcntl) and whole-file locks (flock).
#include <fcntl.h>
#include <sys/file.h>

#include "remofs/operations/mount.hpp"
#include "remofs/operations/operations.hpp"
#include "remofs/operations/replies.hpp"

namespace remofile::remofs {
namespace {

wire::LockType to_wire_type(short type) {
    return type == F_RDLCK ? wire::LockType::read : type == F_WRLCK ? wire::LockType::write : wire::LockType::unlock;
}

short to_local_type(wire::LockType type) {
    return type == wire::LockType::read ? F_RDLCK : type == wire::LockType::write ? F_WRLCK : F_UNLCK;
}

// struct flock counts bytes, and 0 stands for "to the end"; the protocol names the last byte.
wire::LockRange to_wire(const struct flock& lock) {
    const auto start = static_cast<std::uint64_t>(lock.l_start);
    return {.type = to_wire_type(lock.l_type),
            .start = start,
            .end = lock.l_len == 0 ? INT64_MAX : start + static_cast<std::uint64_t>(lock.l_len) - 1,
            .pid = static_cast<std::uint32_t>(lock.l_pid)};
}

struct flock to_local(const wire::LockRange& range) {
    struct flock lock {};
    lock.l_type = to_local_type(range.type);
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(range.start);
    lock.l_len = range.end >= INT64_MAX ? 0 : static_cast<off_t>(range.end - range.start + 1);
    lock.l_pid = static_cast<pid_t>(range.pid);
    return lock;
}

Request::Interruption interruption_of(bool wait) {
    return wait ? Request::Interruption::at_once : Request::Interruption::when_stuck;
}

Task<void> reply_lock(Request request, Task<Result<wire::LockRange>> answer) {
    const auto range = co_await std::move(answer);
    if (!range)
        co_return request.error(range.error());
    request.lock(to_local(*range));
}

}  // namespace

void op_getlk(fuse_req_t handle, fuse_ino_t, fuse_file_info* info, struct flock* lock) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.getlk");
    auto answer = mount.file_system().getlk(request.operation(), handle_of(info), to_lock_owner(info->lock_owner),
                                            to_wire(*lock));
    spawn(reply_lock(std::move(request), std::move(answer)));
}

void op_setlk(fuse_req_t handle, fuse_ino_t, fuse_file_info* info, struct flock* lock, int wait) {
    Mount& mount = Mount::of(handle);
    const bool waits = wait != 0 && lock->l_type != F_UNLCK;
    Request request(mount, handle, "fuse.setlk", interruption_of(waits));
    auto answer = mount.file_system().setlk(request.operation(), handle_of(info), to_lock_owner(info->lock_owner),
                                            to_wire(*lock), waits);
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_flock(fuse_req_t handle, fuse_ino_t, fuse_file_info* info, int operation) {
    Mount& mount = Mount::of(handle);
    const bool unlock = (operation & LOCK_UN) != 0;
    const bool waits = (operation & LOCK_NB) == 0 && !unlock;
    Request request(mount, handle, "fuse.flock", interruption_of(waits));
    const auto type = unlock                       ? wire::LockType::unlock
                      : (operation & LOCK_EX) != 0 ? wire::LockType::write
                                                   : wire::LockType::read;
    auto answer = mount.file_system().flock(request.operation(), handle_of(info), type, waits);
    spawn(reply_status(std::move(request), std::move(answer)));
}

}  // namespace remofile::remofs
