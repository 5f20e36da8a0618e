// SPDX-License-Identifier: MIT
// What the server's machine has lost is sent again.
//
// A machine that starts anew may have lost what its server had answered and nobody had made durable. So that is kept
// here (unsynced_writes.hpp) until it is durable or old, and sent again to the same file, before anything else is asked
// of it. A file of which not all is kept, that is not there any more, or that somebody else has changed, is given up.
#include <linux/falloc.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/log.hpp"
#include "client/waiters.hpp"
#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"
#include "wire/machine_start.hpp"

namespace remofile::filesystem {
namespace {

constexpr std::size_t max_files_at_once = 32;
// What is sent at once of a file: what a link with a long way holds.
constexpr std::uint64_t max_sent_bytes = 16U << 20;
constexpr std::size_t max_sent_changes = 64;
constexpr std::size_t max_looked_at = 1'024;
constexpr auto look_for_old_every = std::chrono::seconds(15);

client::CallOptions before_all_else(std::uint32_t credential) {
    return {.credential = credential, .set_id = wire::SetId::keep, .timeout = Duration::max(), .restores = true};
}

}  // namespace

// A server's process may end, and what it has stays; what its machine had and not written is lost with that.
void FileSystem::note_machine() {
    const std::uint64_t before = std::exchange(machine_start_, wire::machine_start(session_.hello().boot));
    if (before != 0 && machine_start_ != 0 && machine_start_ != before)
        contents_.machine_was_lost(session_.lost_at());
}

// ---------------------------------------------------------------- all files

struct FileSystem::LostFiles {
    std::vector<InodeNumber> files;
    std::size_t next = 0;
    std::size_t sent = 0;
    std::size_t under_way = 0;
    bool is_cut_off = false;
    client::Waiters done;
};

// false: the connection is lost once more.
Task<bool> FileSystem::send_lost_again() {
    const auto all = std::make_shared<LostFiles>();  // with those who send
    all->files = contents_.unsynced().lost();
    for (std::size_t i = 0; i < std::min(all->files.size(), max_files_at_once); ++i) {
        ++all->under_way;
        spawn(send_some_again(all), [all](Status) {
            all->is_cut_off = true;
            --all->under_way;
            all->done.wake(Status::ok);
        });
    }
    while (all->under_way > 0)
        co_await all->done.wait(nullptr);
    if (!all->is_cut_off && !all->files.empty())
        log::info("the server's machine has started anew: what was not synced of {} files was sent again, of {}",
                  all->sent, all->files.size());
    co_return !all->is_cut_off;
}

Task<void> FileSystem::send_some_again(std::shared_ptr<LostFiles> all) {
    while (all->next < all->files.size() && !all->is_cut_off) {
        const InodeNumber id = all->files[all->next++];
        const Status status = co_await send_again(id);
        if (is_of_connection(status))
            all->is_cut_off = true;
        else if (status != Status::ok)
            contents_.give_up_lost(id, status);
        else
            ++all->sent;
    }
    --all->under_way;
    all->done.wake(Status::ok);
}

// Where the session could not be taken up, nothing is known by its number any more.
void FileSystem::give_up_lost() {
    for (const InodeNumber id : contents_.unsynced().lost())
        contents_.give_up_lost(id, Status::no_session);
}

// ---------------------------------------------------------------- one file

Task<Status> FileSystem::send_again(InodeNumber id) {
    const Inode* inode = inodes_.find(id);
    if (inode == nullptr || !inode->node || inodes_.stale(*inode))
        co_return Status::stale;
    if (!contents_.unsynced().is_whole(id))
        co_return Status::limit_exceeded;
    const NodeId node = inode->node;
    const auto opened = co_await open_to_send_again(node);
    if (!opened)
        co_return opened.status();
    const OpenedAgain file = *opened;
    Status status = contents_.is_as_left(id, file.attributes) ? Status::ok : Status::version_mismatch;
    if (status == Status::ok)
        status = co_await send_changes(file, node, contents_.unsynced().changes(id));
    if (status == Status::ok) {
        // As programs have been told.
        wire::Setattr times{.node = node, .which = wire::set_modification};
        times.modification = contents_.unsynced().told(id)->modification;
        const auto set = co_await session_.call(times, before_all_else(file.credential));
        status = set.status();
        if (set)
            contents_.sent_again(id, set->body.attributes);
    }
    if (is_of_connection(status))
        co_return status;
    const wire::Release release{file.handle};
    const Status released = (co_await session_.call(release, before_all_else(file.credential))).status();
    co_return status != Status::ok ? status : released;
}

// As whoever of those that the server knows may.
Task<Result<FileSystem::OpenedAgain>> FileSystem::open_to_send_again(NodeId node) {
    Status status = Status::access_denied;
    for (const std::uint32_t credential : session_.credentials()) {
        const wire::Open message{node, session_.new_handle_id(), wire::open_write};
        const auto reply = co_await session_.call(message, before_all_else(credential));
        if (reply)
            co_return OpenedAgain{message.handle, credential, reply->body.attributes};
        status = reply.status();
        if (is_of_connection(status))
            break;
    }
    co_return Result<OpenedAgain>(status);
}

struct FileSystem::SentChanges {
    std::size_t under_way = 0;
    std::uint64_t bytes = 0;  // under way
    Status status = Status::ok;
    client::Waiters done;
};

// In their order where that matters, which is before and after the file gets another size.
Task<Status> FileSystem::send_changes(OpenedAgain file, NodeId node, std::vector<UnsyncedWrites::Change> changes) {
    const auto sent = std::make_shared<SentChanges>();  // with those who send
    for (UnsyncedWrites::Change& change : changes) {
        const bool is_alone = change.bytes == nullptr;
        while (sent->under_way > 0 &&
               (is_alone || sent->bytes + change.size > max_sent_bytes || sent->under_way >= max_sent_changes))
            co_await sent->done.wait(nullptr);
        if (sent->status != Status::ok)
            break;
        ++sent->under_way;
        sent->bytes += change.size;
        const std::uint64_t size = change.size;
        spawn(send_change(file, node, std::move(change), sent), [sent, size](Status status) {
            sent->status = status;
            --sent->under_way;
            sent->bytes -= size;
            sent->done.wake(Status::ok);
        });
        while (is_alone && sent->under_way > 0)
            co_await sent->done.wait(nullptr);
    }
    while (sent->under_way > 0)
        co_await sent->done.wait(nullptr);
    co_return sent->status;
}

Task<void> FileSystem::send_change(OpenedAgain file, NodeId node, UnsyncedWrites::Change change,
                                   std::shared_ptr<SentChanges> sent) {
    const client::CallOptions options = before_all_else(file.credential);
    Status status = Status::ok;
    if (change.bytes == nullptr) {
        const wire::Setattr message{.node = node, .handle = file.handle, .which = wire::set_size, .size = change.size};
        status = (co_await session_.call(message, options)).status();
    } else if (change.bytes->memory == nullptr) {
        const wire::Fallocate message{file.handle, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, change.offset,
                                      change.size};
        status = (co_await session_.call(message, options)).status();
    } else {
        const wire::Write message{file.handle, change.offset, false};
        auto bytes = client::view_of(change.bytes->memory, change.start, static_cast<std::size_t>(change.size));
        const auto reply = co_await session_.call_with_bulk(message, std::move(bytes), options);
        status = reply.status();
        if (reply && reply->body.size != change.size)
            status = Status::no_space;
    }
    if (status != Status::ok)
        sent->status = status;
    --sent->under_way;
    sent->bytes -= change.size;
    sent->done.wake(Status::ok);
}

// ---------------------------------------------------------------- what need not be kept

void FileSystem::note_unsynced() {
    if (!unsynced_timer_)
        unsynced_timer_ = reactor_.after(look_for_old_every, [this] { forget_old_unsynced(); });
}

void FileSystem::forget_old_unsynced() {
    unsynced_timer_.reset();
    contents_.unsynced().forget_old(session_.clock().now());
    if (!contents_.unsynced().empty())
        unsynced_timer_ = reactor_.after(look_for_old_every, [this] { forget_old_unsynced(); });
}

// The file that was found there, if something of it is kept, for a directory of which nothing else is known. 0: none,
// or there are too many to look at all.
InodeNumber FileSystem::unsynced_at(InodeNumber directory, std::string_view name) {
    if (contents_.unsynced().size() > max_looked_at)
        return 0;
    for (const InodeNumber id : contents_.unsynced().files()) {
        const Inode* inode = inodes_.find(id);
        if (inode != nullptr && inode->place.parent == directory && inode->place.name == name)
            return id;
    }
    return 0;
}

}  // namespace remofile::filesystem
