// SPDX-License-Identifier: MIT
// What is in open files: reading, writing, and making sure of what was written.
#include <algorithm>
#include <optional>
#include <utility>

#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"

namespace remofile::filesystem {
namespace {

// One COPY_RANGE: long enough that its round trip costs nothing, short enough to be interrupted. Callers go on after a
// short copy.
constexpr std::uint64_t max_copy_bytes = 64U << 20;

constexpr std::uint64_t max_read_to_copy = 256U << 10;

client::FileReader::Data piece_of(const std::shared_ptr<const Buffer>& whole, std::uint64_t offset, std::size_t size) {
    client::FileReader::Data data;
    if (offset < whole->size())
        data.pieces.push_back(whole->bytes().subspan(offset, std::min(size, whole->size() - offset)));
    data.whole = whole;
    return data;
}

}  // namespace

// From the content that is known, if nothing of it has changed since the file was opened.
std::optional<client::FileReader::Data> FileSystem::read_known(const FileHandle& file, std::uint64_t offset,
                                                               std::size_t size) {
    const Inode* inode = inodes_.find(file.inode);
    const bool is_true = inode != nullptr && file.known.content != nullptr &&
                         inode->content.generation == file.known.generation && inode->changed_at <= file.known.at;
    return is_true ? std::optional(piece_of(file.known.content, offset, size)) : std::nullopt;
}

std::optional<client::FileReader::Data> FileSystem::whole_content(HandleNumber handle) {
    const auto open = file(handle);
    const Inode* inode = open ? inodes_.find((*open)->inode) : nullptr;
    if (inode == nullptr || (*open)->past_cache || contents_.writes().pending(inode->id))
        return std::nullopt;
    if ((*open)->known.content != nullptr && !(*open)->handle)
        return read_known(**open, 0, (*open)->known.content->size());
    return contents_.reader().whole(inode->id, inode->content.generation, inode->content.size);
}

Task<Result<client::FileReader::Data>> FileSystem::read(Operation& operation, HandleNumber handle, std::uint64_t offset,
                                                        std::size_t size) {
    if (behind_.any()) {
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<client::FileReader::Data>(status);
    }
    using Data = client::FileReader::Data;
    auto open = file(handle);
    if (!open)
        co_return Result<Data>(open.error());
    const auto wanted = static_cast<std::uint32_t>(std::min(size, wire::max_bulk_bytes));
    if (contents_.must_drain_before((*open)->inode, offset, wanted)) {
        if (const Status status = co_await written_out(operation, (*open)->inode); status != Status::ok)
            co_return Result<Data>(status);
        open = file(handle);
    }
    const Inode* inode = open ? inodes_.find((*open)->inode) : nullptr;
    if (inode == nullptr)
        co_return Result<Data>(Status::stale);
    has_its_access_time_asked_for(*inode);
    if (!(*open)->handle) {
        if (auto known = read_known(**open, offset, wanted))
            co_return std::move(*known);
        const auto had = co_await have_open(operation, handle);
        open = file(handle);
        if (!open || inodes_.find((*open)->inode) == nullptr)
            co_return Result<Data>(Status::stale);
        // The file is gone: what was there when it was opened is all that there is.
        if (!had && had.status() == Status::stale && (*open)->known.content != nullptr)
            co_return piece_of((*open)->known.content, offset, wanted);
        if (!had)
            co_return Result<Data>(had.error());
    }
    FileHandle& from = **open;
    auto reading = from.past_cache
                       ? contents_.reader().read_uncached(from.handle, offset, wanted, &operation.cancellation)
                       : contents_.reader().read(contents_.source_of(from), &from.readahead, offset, wanted,
                                                 &operation.cancellation);
    co_return co_await std::move(reading);
}

Task<Result<std::optional<std::byte>>> FileSystem::peek(Operation& operation, InodeNumber inode, std::uint64_t offset) {
    using Byte = std::optional<std::byte>;
    HandleId reader;
    files_.for_each([&](const FileHandle& file) {
        if (file.inode == inode && file.reads && file.handle && file.epoch == session_.epoch() &&
            !behind_.concerns(inode))
            reader = file.handle;
    });
    if (!reader)
        co_return Byte();
    const auto data = co_await contents_.reader().read_uncached(reader, offset, 1, &operation.cancellation);
    if (!data)
        co_return Result<Byte>(data.error());
    if (data->pieces.empty() || data->pieces.front().empty())
        co_return Byte();
    co_return Byte(data->pieces.front().front());
}

bool FileSystem::past_cache(HandleNumber handle) {
    const FileHandle* open = files_.find(handle);
    return open != nullptr && open->past_cache;
}

// A page of a mapping is written for nobody in particular, by any handle that the file has: it counts as written by
// whoever opened that one. As on a local disk, set-id bits stay.
Task<Result<client::Reply<wire::Write>>> FileSystem::write_page(HandleNumber handle, wire::Write message, Buffer data) {
    using Reply = Result<client::Reply<wire::Write>>;
    client::CallOptions options{.lane = client::LaneKind::data, .set_id = wire::SetId::keep};
    if (const FileHandle* open = files_.find(handle); open != nullptr && open->opener != nullptr) {
        CallerIdentity opener = *open->opener;
        const auto credential = co_await credential_of(std::move(opener));
        if (!credential)
            co_return Reply(credential.error());
        options.credential = *credential;
    }
    co_return co_await session_.call_with_bulk(message, std::move(data), options);
}

Task<Result<std::size_t>> FileSystem::write_through(Operation& operation, InodeNumber inode, HandleNumber handle,
                                                    wire::Write message, Buffer data, bool of_mapping) {
    if (const Status status = co_await written_out(operation, inode); status != Status::ok)
        co_return Result<std::size_t>(status);
    const std::size_t size = data.size();
    const client::SharedBytes bytes{std::make_shared<Buffer>(std::move(data)), 0, size};  // with the request
    FileContents::WriteThrough under_way(contents_, inode, message.handle);
    auto writing = of_mapping
                       ? write_page(handle, message, client::view_of(bytes.memory))
                       : call_with_bulk(operation, message, client::view_of(bytes.memory), client::LaneKind::data);
    const auto reply = co_await std::move(writing);
    behind_.hide(inode);
    if (!reply)
        co_return Result<std::size_t>(reply.error());
    if (reply->body.size > size)
        co_return Result<std::size_t>(Status::io_error);
    const FileHandle* written_by = files_.find(handle);
    const bool is_durable =
        written_by != nullptr && !of_mapping && (written_by->flags & (wire::open_sync | wire::open_dsync)) != 0;
    under_way.written(reply->body, is_durable, bytes);
    // Whoever caches in front believes that the bytes went where it said.
    if (reply->body.offset != message.offset)
        contents_.outdated(inode);
    co_return std::size_t{reply->body.size};
}

Task<Result<std::size_t>> FileSystem::write_behind(Operation& operation, client::WriteBehind::Target target,
                                                   std::uint64_t offset, Buffer data) {
    const auto credential = co_await credential_of(operation);
    if (!credential)
        co_return Result<std::size_t>(credential.error());
    target.credential = *credential;
    const std::size_t size = data.size();
    const auto accepted = co_await contents_.writes().write(target, offset, std::move(data), &operation.cancellation);
    if (!accepted)
        co_return Result<std::size_t>(accepted.error());
    note_accepted(target.file, offset, size);
    co_return size;
}

// The write will be sent.
void FileSystem::note_accepted(InodeNumber inode, std::uint64_t offset, std::size_t size) {
    contents_.accepted(inode, offset, size);
    behind_.note_written(inode, true);
    shown_times_.changed(inode);
}

// The error of a write that was accepted earlier; reported once. Where it was made behind, what is written to other new
// files may fail likewise: they are waited for.
Status FileSystem::take_write_error(HandleNumber handle) {
    FileHandle* open = files_.find(handle);
    if (open == nullptr || open->write_error == Status::ok)
        return Status::ok;
    if (const Inode* inode = inodes_.find(open->inode); open->made_behind && inode != nullptr)
        names_.forget(inode->place.parent);
    open->told_error = std::exchange(open->write_error, Status::ok);
    return open->told_error;
}

// How a FLUSH or FSYNC ends: what failed before comes first.
Result<> FileSystem::after_write_error(HandleNumber handle, Status now, bool is_fsync) {
    take_write_error(handle);
    FileHandle* open = files_.find(handle);
    const Status earlier = open == nullptr ? Status::ok : open->told_error;
    if (open != nullptr && is_fsync)
        open->told_error = Status::ok;
    return outcome_of(earlier != Status::ok ? earlier : now);
}

Task<Result<std::size_t>> FileSystem::write(Operation& operation, HandleNumber handle, std::uint64_t offset,
                                            Payload payload, WriteHow how) {
    const auto open = file(handle);
    if (!open)
        co_return Result<std::size_t>(Status::io_error);
    if (const Status earlier = how.of_mapping ? Status::ok : take_write_error(handle); earlier != Status::ok)
        co_return Result<std::size_t>(earlier);
    (*open)->written = true;
    const InodeNumber inode = (*open)->inode;
    const HandleId target_handle = (*open)->handle;
    if (held_setting_ && held_setting_->inode == inode)
        send_held();
    settle_set_id(operation, inode, true);
    if (how.through || how.of_mapping) {
        // Before anything is waited for: the bytes are the next request's then.
        Buffer data = payload.take();
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<std::size_t>(status);
        const wire::Write message{target_handle, offset, how.append && !how.of_mapping};
        co_return co_await write_through(operation, inode, handle, message, std::move(data), how.of_mapping);
    }
    const client::WriteBehind::Target target{.file = inode, .handle = target_handle, .set_id = operation.set_id};
    const std::size_t size = payload.bytes.size();
    if (!session_.hello().client_identity && contents_.writes().join(target, offset, payload.bytes)) {
        note_accepted(inode, offset, size);
        co_return size;
    }
    Buffer data = payload.take();
    co_return co_await write_behind(operation, target, offset, std::move(data));
}

Task<Result<>> FileSystem::flush(Operation& operation, HandleNumber handle, LockOwner owner) {
    FileHandle* open = files_.find(handle);
    if (open == nullptr)
        co_return Result<>(Status::bad_handle);
    const InodeNumber inode = open->inode;
    held_locks_.closed_by(inode, owner);
    const bool written = std::exchange(open->written, false);
    if (written && may_close_unwaited(*open)) {
        close_unwaited(inode);
        co_return Result<>();
    }
    if (open->epoch != session_.epoch())
        co_return after_write_error(handle, written ? Status::io_error : Status::ok, false);
    // Nothing written, so no error to report; nothing locked, so nothing to unlock: no need to ask.
    const Inode* known = inodes_.find(inode);
    if (!written && (known == nullptr || !known->has_byte_locks))
        co_return after_write_error(handle, Status::ok, false);
    const wire::Flush message{open->handle, owner};
    Status status = co_await settled(operation, handle);
    if (status == Status::ok)
        status = co_await contents_.send_before(inode, message.handle, &operation.cancellation);
    if (status == Status::ok)
        status = (co_await call_on_handle(operation, message)).status();
    if (status == Status::ok)
        status = co_await written_out(operation, inode);
    // A process that is killed does not wait for the answer, but its locks have to go.
    if (status == Status::interrupted)
        session_.tell(message, client::LaneKind::data);
    co_return after_write_error(handle, status, false);
}

// What is on the server's disk needs no round trip at close: the handle counts as written again only if this fails.
Task<Result<>> FileSystem::fsync(Operation& operation, HandleNumber handle, bool data_only) {
    // As on a local disk, the names are safe with it that were made before.
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<>(status);
    if (const FileHandle* open = files_.find(handle);
        open != nullptr && contents_.writes().pending_in_order(open->inode))
        if (const Status status = co_await written_out(operation, open->inode); status != Status::ok)
            co_return Result<>(status);
    const auto had = co_await have_open(operation, handle);
    const auto open = file(handle);
    if (!open)
        co_return Result<>(Status::io_error);
    // Its name went, elsewhere, before the server was asked for a handle: there is nothing that could be lost.
    if (had.status() == Status::stale)
        co_return after_write_error(handle, Status::ok, true);
    if (!had)
        co_return Result<>(Status::io_error);
    const wire::Fsync message{(*open)->handle, data_only};
    const InodeNumber inode = (*open)->inode;
    const bool written = std::exchange((*open)->written, false);
    Status status = co_await contents_.sync(inode, message, &operation.cancellation);
    // What was written is not known to be safe when the session has ended meanwhile.
    if (status == Status::no_session)
        status = Status::io_error;
    // What was found changed by somebody else is shown from now on, not a moment later.
    if (status == Status::ok)
        status = co_await front_is_current(operation, inode);
    if (FileHandle* synced = files_.find(handle); synced != nullptr && status != Status::ok)
        synced->written |= written;
    co_return after_write_error(handle, status, true);
}

Task<Result<>> FileSystem::fallocate(Operation& operation, HandleNumber handle, std::uint32_t mode,
                                     std::uint64_t offset, std::uint64_t length) {
    if (behind_.any()) {
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<>(status);
    }
    const auto open = file(handle);
    if (!open)
        co_return Result<>(open.error());
    (*open)->written = true;
    const InodeNumber inode = (*open)->inode;
    settle_set_id(operation, inode, false);
    const wire::Fallocate message{(*open)->handle, mode, offset, length};
    if (const Status status = co_await written_out(operation, inode); status != Status::ok)
        co_return Result<>(status);
    const auto reply = co_await change(operation, message);
    behind_.hide(inode);
    if (!reply) {
        changed_here(inode);
        co_return Result<>(reply.error());
    }
    contents_.allocated(inode, message, reply->body.attributes);
    co_return Result<>();
}

Task<Result<std::uint64_t>> FileSystem::seek(Operation& operation, HandleNumber handle, std::uint64_t offset,
                                             wire::SeekWhat what) {
    if (behind_.any()) {
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<std::uint64_t>(status);
    }
    if (const auto had = co_await have_open(operation, handle); !had)
        co_return Result<std::uint64_t>(had.error());
    const auto open = file(handle);
    if (!open)
        co_return Result<std::uint64_t>(open.error());
    const wire::Seek message{(*open)->handle, offset, what};
    if (const Status status = co_await written_out(operation, (*open)->inode); status != Status::ok)
        co_return Result<std::uint64_t>(status);
    const auto reply = co_await call_on_handle(operation, message);
    if (!reply)
        co_return Result<std::uint64_t>(reply.error());
    co_return reply->body.offset;
}

// Whether a copy is done sooner by whoever asks for it: a small file that is here is read and written without waiting,
// and the server's own copy would have to wait until the target is made, and the source open there.
bool FileSystem::is_copied_by_reading(HandleNumber from, HandleNumber to) {
    const FileHandle* source = files_.find(from);
    const FileHandle* target = files_.find(to);
    const Inode* inode = source == nullptr ? nullptr : inodes_.find(source->inode);
    if (inode == nullptr || inode->content.size > max_read_to_copy || target == nullptr || !target->made_behind)
        return false;
    const bool is_here =
        source->known.content != nullptr || (inode->content.size <= client::block_bytes &&
                                             contents_.reader().knows_beginning(inode->id, inode->content.generation));
    return is_here || behind_.concerns(target->inode);
}

Task<Result<std::uint64_t>> FileSystem::copy_range(Operation& operation, HandleNumber from, std::uint64_t from_offset,
                                                   HandleNumber to, std::uint64_t to_offset, std::uint64_t size) {
    if (is_copied_by_reading(from, to))
        co_return Result<std::uint64_t>(Status::not_supported);
    for (const HandleNumber handle : {from, to})
        if (const Status status = co_await settled(operation, handle); status != Status::ok)
            co_return Result<std::uint64_t>(status);
    if (const auto had = co_await have_open(operation, from); !had)
        co_return Result<std::uint64_t>(had.error());
    const auto source = file(from);
    const auto target = file(to);
    if (!source || !target)
        co_return Result<std::uint64_t>(Status::stale);
    (*target)->written = true;
    const InodeNumber written_to = (*target)->inode;
    settle_set_id(operation, written_to, false);
    const wire::CopyRange message{.from = (*source)->handle,
                                  .from_offset = from_offset,
                                  .to = (*target)->handle,
                                  .to_offset = to_offset,
                                  .size = std::min(size, max_copy_bytes)};
    for (const InodeNumber inode : {(*source)->inode, written_to}) {
        if (const Status status = co_await written_out(operation, inode); status != Status::ok)
            co_return Result<std::uint64_t>(status);
    }
    const auto reply = co_await change(operation, message);
    behind_.hide(written_to);
    // Whoever caches in front drops the range itself.
    contents_.copied_to(written_to);
    if (!reply)
        co_return Result<std::uint64_t>(reply.error());
    co_return std::min(reply->body.size, message.size);
}

}  // namespace remofile::filesystem
