// SPDX-License-Identifier: MIT
// Opening, making and closing files.
#include <sys/stat.h>

#include <memory>
#include <utility>
#include <vector>

#include "filesystem/file_system.hpp"

namespace remofile::filesystem {
namespace {

// Files up to this size come with the answer to OPEN: on a link of 100 Mbit/s that delays what is behind it by 5 ms, a
// quarter of the round trip that it saves there.
constexpr std::uint64_t max_content_with_open_bytes = 64U << 10;

constexpr std::uint32_t open_to_read_and_write = wire::open_read | wire::open_write;

// The server is not told to append when it opens a file: each write through the handle says so itself. A page of a
// shared mapping has its place, and the kernel may write it through any handle of the file.
std::uint32_t server_flags(const OpenHow& how) {
    return how.flags & ~wire::open_append;
}

}  // namespace

// A file has been opened, and had these attributes when that was asked for.
Opened FileSystem::add_file(const Operation& operation, InodeNumber inode, HandleId handle,
                            const wire::Attributes& attributes, std::uint64_t asked_at, const OpenHow& how) {
    const bool kept = contents_.keeps(inode, attributes, asked_at);
    FileHandle file{.handle = handle, .epoch = session_.epoch(), .inode = inode, .readahead = {}};
    file.past_cache = how.past_cache;
    if (session_.hello().client_identity)
        file.opener = std::make_unique<const CallerIdentity>(identity_of(operation));
    file.reads = (how.flags & wire::open_read) != 0;
    file.maps = (how.flags & open_to_read_and_write) == open_to_read_and_write;
    opened(inode, file.maps);
    return {.handle = files_.add(std::move(file)), .size = attributes.size, .front_is_true = kept};
}

void FileSystem::release(HandleNumber handle) {
    const FileHandle* file = files_.find(handle);
    if (file == nullptr)
        return;
    contents_.writes().send(file->inode);
    if (file->epoch == session_.epoch() && file->locked)
        spawn(release_locked(file->inode, file->handle));
    else if (file->epoch == session_.epoch())
        session_.tell(wire::Release{file->handle}, client::LaneKind::data);
    released(file->inode, file->maps);
    files_.remove(handle);
}

// Whether the content should come with the answer to OPEN: a small file is read as a whole, if it is read at all.
bool FileSystem::wants_content(InodeNumber id, const OpenHow& how) {
    const Inode* inode = inodes_.find(id);
    return (how.flags & (wire::open_write | wire::open_truncate)) == 0 && !how.past_cache && inode != nullptr &&
           inode->type == S_IFREG && inode->content.size > 0 && inode->content.size <= max_content_with_open_bytes &&
           !contents_.writes().pending(id) && !contents_.reader().knows_beginning(id, inode->content.generation);
}

Task<Result<FileSystem::OpenAnswer>> FileSystem::open_with_content(Operation& operation, wire::Open message) {
    const wire::Read read{message.handle, 0, client::block_bytes};
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(message, true));
    requests.push_back(client::encoded(read));
    auto replies = co_await call_batch(operation, std::move(requests));
    const auto opened = client::decoded<wire::Open>(replies[0]);
    if (!opened)
        co_return Result<OpenAnswer>(opened.error());
    OpenAnswer answer{.handle = message.handle, .attributes = opened->attributes, .beginning = {}};
    answer.has_beginning = replies[1].status == Status::ok;
    answer.beginning = std::move(replies[1].bulk);
    co_return Result<OpenAnswer>(std::move(answer));
}

Task<Result<FileSystem::OpenAnswer>> FileSystem::open_alone(Operation& operation, wire::Open message, bool to_append) {
    auto reply = co_await call(operation, message);
    if (reply.status() == Status::not_permitted && to_append) {
        // A file that its owner has made append-only (chattr +a) cannot be opened otherwise, nor be mapped to write.
        message.handle = session_.new_handle_id();
        message.flags |= wire::open_append;
        reply = co_await call(operation, message);
    }
    if (!reply)
        co_return Result<OpenAnswer>(reply.error());
    co_return Result<OpenAnswer>(
        OpenAnswer{.handle = message.handle, .attributes = reply->body.attributes, .beginning = {}});
}

Task<Result<Opened>> FileSystem::open(Operation& operation, InodeNumber inode, OpenHow how) {
    const bool truncates = (how.flags & wire::open_truncate) != 0;
    settle_set_id(operation, inode, true);
    if (truncates) {
        if (const Status status = co_await written_out(operation, inode); status != Status::ok)
            co_return Result<Opened>(status);
    }
    const auto node = node_of(inode);
    if (!node)
        co_return Result<Opened>(node.error());
    const wire::Open message{*node, session_.new_handle_id(), server_flags(how)};
    const std::uint64_t asked_at = contents_.now();
    auto opening = wants_content(inode, how) ? open_with_content(operation, message)
                                             : open_alone(operation, message, (how.flags & wire::open_append) != 0);
    auto answer = co_await std::move(opening);
    if (!answer)
        co_return Result<Opened>(answer.error());
    if (truncates)
        contents_.replaced(inode, answer->attributes);
    // It may have been written from here since the server read it, and other answers come by another way.
    const bool beginning_is_true = answer->has_beginning && !contents_.changed_since(inode, asked_at);
    const Opened opened = add_file(operation, inode, answer->handle, answer->attributes, asked_at, how);
    if (const Inode* known = inodes_.find(inode); known != nullptr && beginning_is_true)
        contents_.reader().put_beginning(inode, known->content.generation, std::move(answer->beginning));
    if (opened.front_is_true) {
        if (const Status status = co_await front_is_current(operation, inode); status != Status::ok) {
            release(opened.handle);
            co_return Result<Opened>(status);
        }
    }
    co_return opened;
}

// CREATE and TMPFILE: a new file and a handle for it.
Result<Created> FileSystem::take_in(const Operation& operation, InodeNumber parent, const wire::EntryReply& reply,
                                    HandleId handle, const OpenHow& how) {
    auto entry = entry_of(parent, reply, operation.arrived_at);
    if (!entry) {
        session_.tell(wire::Release{handle}, client::LaneKind::data);
        return entry.error();
    }
    if ((how.flags & wire::open_truncate) != 0)
        contents_.replaced(entry->inode, reply.attributes);
    const Opened opened = add_file(operation, entry->inode, handle, reply.attributes, operation.arrived_at, how);
    return Created{std::move(*entry), opened};
}

Task<Result<Created>> FileSystem::create(Operation& operation, InodeNumber parent, std::string name, std::uint32_t mode,
                                         OpenHow how) {
    const auto node = node_of(parent);
    if (!node)
        co_return Result<Created>(node.error());
    const wire::Create message{.parent = *node,
                               .name = std::move(name),
                               .node = new_node(),
                               .handle = session_.new_handle_id(),
                               .flags = server_flags(how),
                               .mode = mode,
                               .umask = operation.caller.umask};
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<Created>(reply.error());
    co_return take_in(operation, parent, reply->body.entry, message.handle, how);
}

Task<Result<Created>> FileSystem::tmpfile(Operation& operation, InodeNumber parent, std::uint32_t mode, OpenHow how) {
    const auto node = node_of(parent);
    if (!node)
        co_return Result<Created>(node.error());
    const wire::Tmpfile message{.parent = *node,
                                .node = new_node(),
                                .handle = session_.new_handle_id(),
                                .flags = server_flags(how),
                                .mode = mode,
                                .umask = operation.caller.umask};
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<Created>(reply.error());
    constexpr InodeNumber no_parent = 0;
    co_return take_in(operation, no_parent, reply->body, message.handle, how);
}

}  // namespace remofile::filesystem
