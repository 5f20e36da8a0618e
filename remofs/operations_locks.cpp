// SPDX-License-Identifier: MIT
// Byte-range locks (fcntl) and whole-file locks (flock): both are the server's, so that all its clients share them.
#include <fcntl.h>
#include <sys/file.h>

#include <optional>
#include <vector>

#include "remofs/mount.hpp"
#include "remofs/operations.hpp"

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

Task<void> get_lock(Mount& mount, Request request, InodeNumber inode, wire::Getlk message) {
    if (const Status status = co_await mount.locks_released(request, inode); status != Status::ok)
        co_return request.error(status);
    const auto reply = co_await mount.call_on_lane(request, message, client::LaneKind::metadata);
    if (!reply)
        co_return request.error(reply.error());
    if (reply->body.range.end < reply->body.range.start)
        co_return request.error(Status::io_error);
    request.lock(to_local(reply->body.range));
}

// What is known of a locked file, if anything.
using Look = std::optional<wire::Attributes>;

Task<Result<Look>> look_at_locked(Mount& mount, Request& request, wire::Getattr getattr) {
    request.has_what_it_waited_for();
    const auto looked = co_await mount.call_on_lane(request, getattr, client::LaneKind::metadata);
    if (looked.status() == Status::interrupted)
        co_return Result<Look>(Status::interrupted);
    co_return Result<Look>(looked ? Look(looked->body.attributes) : Look());
}

// Asks for a lock and, once it is had, for the file's attributes: in one message, unless the lock is waited for.
template <class Message>
Task<Result<Look>> lock_and_look(Mount& mount, Request& request, Message message, wire::Getattr getattr) {
    if (message.wait) {
        const auto locked = co_await mount.call_on_lane(request, message, client::LaneKind::metadata);
        if (!locked)
            co_return Result<Look>(locked.error());
        co_return co_await look_at_locked(mount, request, getattr);
    }
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(message, true));
    requests.push_back(client::encoded(getattr));
    const client::CallOptions options;
    const auto replies = co_await mount.session().call_batch(std::move(requests), options, &request.cancellation());
    if (replies[0].status != Status::ok)
        co_return Result<Look>(replies[0].status);
    const auto looked = client::decoded<wire::Getattr>(replies[1]);
    co_return Result<Look>(looked ? Look(looked->attributes) : Look());
}

// Having a lock means seeing what its last holder wrote (as on NFS): what is out of date leaves the page cache first.
// Attributes that could not be had count as changed. Whoever is told of a signal once the lock is had holds it all the
// same, until the file is closed.
template <class Message>
Task<void> take_lock(Mount& mount, Request request, InodeNumber inode, Message message, wire::Getattr getattr) {
    if (const Status status = co_await mount.locks_released(request, inode); status != Status::ok)
        co_return request.error(status);
    if (const Status status = co_await mount.written_out(request, inode); status != Status::ok)
        co_return request.error(status);
    const std::uint64_t asked_at = mount.contents().now();
    const auto look = co_await lock_and_look(mount, request, message, getattr);
    if (!look)
        co_return request.error(look.error());
    if (*look)
        mount.contents().seen(inode, **look, asked_at);
    else
        mount.contents().outdated(inode);
    if (const Status status = co_await mount.pages().current(inode, &request.cancellation()); status != Status::ok)
        co_return request.error(status);
    request.ok();
}

// Whoever gets the lock next sees what was written under it.
template <class Message>
Task<void> drop_lock(Mount& mount, Request request, InodeNumber inode, Message message) {
    co_await mount.written_out(request, inode);
    const auto reply = co_await mount.call_on_lane(request, message, client::LaneKind::metadata);
    request.error(reply.status());
}

template <class Message>
void set_lock(Mount& mount, Request request, InodeNumber inode, const Message& message, bool unlock) {
    if (unlock)
        return spawn(drop_lock(mount, std::move(request), inode, message));
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    spawn(take_lock(mount, std::move(request), inode, message, wire::Getattr{*node, message.handle}));
}

}  // namespace

void op_getlk(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info, struct flock* lock) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.getlk");
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    const wire::Getlk message{(*file)->handle, to_lock_owner(info->lock_owner), to_wire(*lock)};
    spawn(get_lock(mount, std::move(request), inode, message));
}

void op_setlk(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info, struct flock* lock, int wait) {
    Mount& mount = Mount::of(handle);
    const bool waits = wait != 0 && lock->l_type != F_UNLCK;
    Request request(mount, handle, "fuse.setlk", interruption_of(waits));
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    if (Inode* known = mount.inodes().find(inode); known != nullptr && lock->l_type != F_UNLCK)
        known->has_byte_locks = true;
    (*file)->locked |= lock->l_type != F_UNLCK;
    const wire::Setlk message{(*file)->handle, to_lock_owner(info->lock_owner), to_wire(*lock), waits};
    set_lock(mount, std::move(request), inode, message, lock->l_type == F_UNLCK);
}

void op_flock(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info, int operation) {
    Mount& mount = Mount::of(handle);
    const bool unlock = (operation & LOCK_UN) != 0;
    const bool waits = (operation & LOCK_NB) == 0 && !unlock;
    Request request(mount, handle, "fuse.flock", interruption_of(waits));
    const auto file = mount.file(info);
    if (!file)
        return request.error(file.error());
    (*file)->locked |= !unlock;
    const auto type = unlock                       ? wire::LockType::unlock
                      : (operation & LOCK_EX) != 0 ? wire::LockType::write
                                                   : wire::LockType::read;
    set_lock(mount, std::move(request), inode, wire::Flock{(*file)->handle, type, waits}, unlock);
}

}  // namespace remofile::remofs
