// SPDX-License-Identifier: MIT
// Byte-range locks (fcntl) and whole-file locks (flock): both are the server's, so that all its clients share them.
#include <vector>

#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"

namespace remofile::filesystem {

// Nobody waits for a RELEASE, but a process that has ended must not hold a lock against the next one. Gives back a
// handle that locks were taken through.
Task<void> FileSystem::release_locked(InodeNumber inode, HandleId handle) {
    ++locked_releases_[inode];
    const wire::Release release{handle};
    // Whatever the answer is, the server holds nothing for the handle any more.
    const client::CallOptions options{.lane = client::LaneKind::data};
    [[maybe_unused]] const auto reply = co_await session_.call(release, options);
    if (--locked_releases_[inode] == 0)
        locked_releases_.erase(inode);
    locked_release_answered_.wake(Status::ok);
}

// Ends when the server has answered those of the file.
Task<Status> FileSystem::locks_released(Operation& operation, InodeNumber inode) {
    while (locked_releases_.contains(inode)) {
        const Status status = co_await locked_release_answered_.wait(&operation.cancellation);
        if (status != Status::ok)
            co_return status;
    }
    co_return Status::ok;
}

Task<Result<FileSystem::Look>> FileSystem::look_at_locked(Operation& operation, wire::Getattr getattr) {
    if (operation.on_wait_over)
        operation.on_wait_over();
    const auto looked = co_await call_on_lane(operation, getattr, client::LaneKind::metadata);
    if (looked.status() == Status::interrupted)
        co_return Result<Look>(Status::interrupted);
    co_return Result<Look>(looked ? Look(looked->body.attributes) : Look());
}

// Asks for a lock and, once it is had, for the file's attributes: in one message, unless the lock is waited for.
template <class Message>
Task<Result<FileSystem::Look>> FileSystem::lock_and_look(Operation& operation, Message message, wire::Getattr getattr) {
    if (message.wait) {
        const auto locked = co_await call_on_lane(operation, message, client::LaneKind::metadata);
        if (!locked)
            co_return Result<Look>(locked.error());
        co_return co_await look_at_locked(operation, getattr);
    }
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(message, true));
    requests.push_back(client::encoded(getattr));
    const client::CallOptions options;
    const auto replies = co_await session_.call_batch(std::move(requests), options, &operation.cancellation);
    if (replies[0].status != Status::ok)
        co_return Result<Look>(replies[0].status);
    const auto looked = client::decoded<wire::Getattr>(replies[1]);
    co_return Result<Look>(looked ? Look(looked->attributes) : Look());
}

// Having a lock means seeing what its last holder wrote (as on NFS): what is out of date goes first. Attributes that
// could not be had count as changed. Whoever is told of a signal once the lock is had holds it all the same, until the
// file is closed. `had` is called as soon as it is.
template <class Message, class Had>
Task<Result<>> FileSystem::take_lock(Operation& operation, InodeNumber inode, Message message, Had had) {
    if (const Status status = co_await locks_released(operation, inode); status != Status::ok)
        co_return Result<>(status);
    if (const Status status = co_await written_out(operation, inode); status != Status::ok)
        co_return Result<>(status);
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<>(node.error());
    const std::uint64_t asked_at = contents_.now();
    const wire::Getattr getattr{*node, message.handle};
    const auto look = co_await lock_and_look(operation, message, getattr);
    if (!look)
        co_return Result<>(look.error());
    had();
    if (*look)
        contents_.seen(inode, **look, asked_at);
    else
        contents_.outdated(inode);
    co_return outcome_of(co_await front_is_current(operation, inode));
}

// Whoever gets the lock next sees what was written under it.
template <class Message>
Task<Result<>> FileSystem::drop_lock(Operation& operation, InodeNumber inode, Message message) {
    co_await written_out(operation, inode);
    const auto reply = co_await call_on_lane(operation, message, client::LaneKind::metadata);
    co_return outcome_of(reply);
}

Task<Result<wire::LockRange>> FileSystem::getlk(Operation& operation, HandleNumber handle, LockOwner owner,
                                                wire::LockRange range) {
    if (behind_.any()) {
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<wire::LockRange>(status);
    }
    if (const auto had = co_await have_open(operation, handle); !had)
        co_return Result<wire::LockRange>(had.error());
    const auto open = file(handle);
    if (!open)
        co_return Result<wire::LockRange>(open.error());
    const wire::Getlk message{(*open)->handle, owner, range};
    if (const Status status = co_await locks_released(operation, (*open)->inode); status != Status::ok)
        co_return Result<wire::LockRange>(status);
    const auto reply = co_await call_on_lane(operation, message, client::LaneKind::metadata);
    if (!reply)
        co_return Result<wire::LockRange>(reply.error());
    co_return reply->body.range;
}

Task<Result<>> FileSystem::setlk(Operation& operation, HandleNumber handle, LockOwner owner, wire::LockRange range,
                                 bool wait) {
    if (behind_.any()) {
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<>(status);
    }
    if (const auto had = co_await have_open(operation, handle); !had)
        co_return Result<>(had.error());
    const auto open = file(handle);
    if (!open)
        co_return Result<>(open.error());
    const InodeNumber inode = (*open)->inode;
    const wire::Setlk message{(*open)->handle, owner, range, wait};
    if (range.type == wire::LockType::unlock) {
        held_locks_.set_range(handle, inode, owner, range);
        co_return co_await drop_lock(operation, inode, message);
    }
    (*open)->locked = true;
    if (Inode* known = inodes_.find(inode); known != nullptr)
        known->has_byte_locks = true;
    const auto had = [this, handle, inode, owner, range] {
        if (files_.find(handle) != nullptr)
            held_locks_.set_range(handle, inode, owner, range);
    };
    co_return co_await take_lock(operation, inode, message, had);
}

Task<Result<>> FileSystem::flock(Operation& operation, HandleNumber handle, wire::LockType type, bool wait) {
    if (behind_.any()) {
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<>(status);
    }
    if (const auto had = co_await have_open(operation, handle); !had)
        co_return Result<>(had.error());
    const auto open = file(handle);
    if (!open)
        co_return Result<>(open.error());
    const InodeNumber inode = (*open)->inode;
    const wire::Flock message{(*open)->handle, type, wait};
    // One that is had is given up while another is waited for, as flock(2) says.
    held_locks_.set_whole(handle, wire::LockType::unlock);
    if (type == wire::LockType::unlock)
        co_return co_await drop_lock(operation, inode, message);
    (*open)->locked = true;
    const auto had = [this, handle, type] {
        if (files_.find(handle) != nullptr)
            held_locks_.set_whole(handle, type);
    };
    co_return co_await take_lock(operation, inode, message, had);
}

}  // namespace remofile::filesystem
