// SPDX-License-Identifier: MIT
#include "filesystem/file_contents.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "base/log.hpp"

namespace remofile::filesystem {
namespace {

bool same_version(std::uint64_t one, std::uint64_t other) {
    return (one | wire::version_is_fresh) == (other | wire::version_is_fresh);
}

bool is_fresh(std::uint64_t version) {
    return (version & wire::version_is_fresh) != 0;
}

// Of a change of ours: its own content is no doubt true, and would be read again for nothing.
std::uint64_t our_version(const wire::Attributes& attributes) {
    return attributes.version & ~wire::version_is_fresh;
}

// Whoever has the file open may have read it before the last change that left the version as it is. From now on such a
// change would be seen.
bool has_settled(const Inode& inode, std::uint64_t version) {
    return inode.open_count > 0 && is_fresh(inode.version) && !is_fresh(version);
}

// What a program can make of it. That the session has ended is remofs's affair.
Status write_error(Status status) {
    switch (status) {
        case Status::no_session:
        case Status::shutting_down:
        case Status::bad_handle:
        case Status::stale:
            return Status::io_error;
        default:
            return status;
    }
}

}  // namespace

FileContents::FileContents(client::Session& session, const Clock& clock, InodeMap& inodes,
                           HandleTable<FileHandle>& files, Counters& counters, std::size_t cache_bytes,
                           std::function<void(InodeNumber)> drop_pages)
    : session_(session),
      clock_(clock),
      inodes_(inodes),
      files_(files),
      drop_pages_(std::move(drop_pages)),
      memory_(cache_bytes),
      reader_(session, memory_, counters),
      writes_(session, memory_, counters) {
    using Target = client::WriteBehind::Target;
    writes_.on_written = [this](const Target& target, std::uint64_t offset, const wire::WriteReply& reply) {
        const Inode* inode = inodes_.find(target.file);
        const bool through = inode != nullptr && inode->content.writes_through > 0;
        written(target.file, offset, reply, through || writes_.pending_of_others(target.file, target.handle));
        unsynced_.answered(target.file, session_.clock().now());
    };
    writes_.on_failed = [this](const Target& target, std::uint64_t offset, std::uint64_t size, Status status) {
        failed(target.file, offset, size, status);
    };
}

wire::Attributes FileContents::seen(InodeNumber id, const wire::Attributes& attributes, std::uint64_t asked_at) {
    wire::Attributes shown = attributes;
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || inode->type != S_IFREG)
        return shown;
    Inode::Content& content = inode->content;
    content.heard_at = now();
    heard(*inode, attributes);
    // The reply may be older than a write that is pending, or was when it was asked for.
    if (writes_.pending(id) || content.written_at > asked_at) {
        shown.size = std::max(shown.size, content.size);
        content.size = shown.size;
        return shown;
    }
    content.size = shown.size;
    content.size_at_server = shown.size;
    if (!same_version(inode->version, shown.version) || has_settled(*inode, shown.version)) {
        inode->version = shown.version;
        drop(*inode);
    }
    if (inode->open_count > 0)
        remember(*inode, shown);
    return shown;
}

void FileContents::heard(Inode& inode, const wire::Attributes& attributes) {
    inode.content.mode = attributes.mode;
    inode.content.gid = attributes.gid;
}

void FileContents::remember(const Inode& inode, const wire::Attributes& attributes) {
    recent_[inode.id] = {attributes, clock_.now()};
}

std::optional<wire::Attributes> FileContents::recent(InodeNumber id) const {
    constexpr auto life = std::chrono::seconds(1);
    const auto found = recent_.find(id);
    if (found == recent_.end() || clock_.now() - found->second.heard_at > life)
        return std::nullopt;
    return found->second.attributes;
}

void FileContents::replaced(InodeNumber id, const wire::Attributes& attributes) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->version = our_version(attributes);
    inode->content.size = attributes.size;
    inode->content.size_at_server = attributes.size;
    inode->content.written_at = now();
    drop(*inode);
    tell_changed(id);
}

void FileContents::touched(InodeNumber id, const wire::Attributes& attributes) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->version = our_version(attributes);
    inode->content.kept_version = 0;
    recent_.erase(id);
    tell_changed(id);
}

void FileContents::tell_changed(InodeNumber id) {
    if (on_changed)
        on_changed(id);
}

void FileContents::outdated(InodeNumber id) {
    if (Inode* inode = inodes_.find(id); inode != nullptr)
        drop(*inode);
}

void FileContents::drop(Inode& inode) {
    forget(inode);
    drop_pages_(inode.id);
}

void FileContents::forget(InodeNumber id) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    forget(*inode);
    // It may have been cut. What is written from here makes it as large as that, and the server knows the rest.
    if (!writes_.pending(id))
        inode->content.size = 0;
}

void FileContents::removed(InodeNumber id) {
    reader_.forget_before(id, client::FileReader::every_generation);
}

void FileContents::forget_all() {
    inodes_.for_each([this](Inode& inode) { forget(inode); });
}

// What is kept of it is void.
void FileContents::begin_generation(Inode& inode) {
    reader_.forget_before(inode.id, ++inode.content.generation);
}

void FileContents::forget(Inode& inode) {
    begin_generation(inode);
    inode.content.kept_version = 0;
    inode.content.forgotten_at = now();
    recent_.erase(inode.id);
}

bool FileContents::changed_since(InodeNumber id, std::uint64_t asked_at) const {
    const Inode* inode = inodes_.find(id);
    return inode == nullptr || writes_.pending(id) ||
           std::max(inode->content.written_at, inode->content.forgotten_at) > asked_at;
}

bool FileContents::heard_since(InodeNumber id, std::uint64_t asked_at) const {
    const Inode* inode = inodes_.find(id);
    return changed_since(id, asked_at) || inode->content.heard_at > asked_at;
}

bool FileContents::keeps(InodeNumber id, const wire::Attributes& attributes, std::uint64_t asked_at) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return false;
    Inode::Content& content = inode->content;
    heard(*inode, attributes);
    const bool kept = content.kept_version != 0 && content.kept_version == attributes.version;
    if (!kept)
        begin_generation(*inode);
    // Another change could leave the version as it is.
    const bool changed = changed_since(id, asked_at);
    content.kept_version = is_fresh(attributes.version) || changed ? 0 : attributes.version;
    if (!changed) {
        content.size = content.size_at_server = attributes.size;
        remember(*inode, attributes);
    }
    return kept;
}

void FileContents::accepted(InodeNumber id, std::uint64_t offset, std::uint64_t size) {
    unsynced_.accepted(id);
    now_has(id, offset, size);
}

void FileContents::now_has(InodeNumber id, std::uint64_t offset, std::uint64_t size) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->content.size = std::max(inode->content.size, offset + size);
    inode->content.written_at = now();
    inode->content.kept_version = 0;
    recent_.erase(id);
    if (on_written)
        on_written(id);
}

// The write makes a new version. If it has not found the one that was known, somebody else has changed the file, which
// nobody would notice behind ours. Writes through several handles at once (`by_others`) may find each other's.
void FileContents::written(InodeNumber id, std::uint64_t offset, const wire::WriteReply& reply, bool by_others) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    now_has(id, offset, reply.size);
    Inode::Content& content = inode->content;
    const bool alone = !by_others && !content.written_by_several;
    content.written_by_several = by_others;
    if (alone && !same_version(inode->version, reply.version_before))
        drop(*inode);
    inode->version = our_version(reply.attributes);
    content.size_at_server = reply.attributes.size;
    reader_.changed(id, content.generation, offset, reply.size);
}

FileContents::WriteThrough::WriteThrough(FileContents& contents, InodeNumber inode, HandleId handle)
    : contents_(contents), inode_(inode), handle_(handle) {
    if (Inode* written = contents_.inodes_.find(inode_); written != nullptr)
        ++written->content.writes_through;
}

FileContents::WriteThrough::~WriteThrough() {
    if (Inode* written = contents_.inodes_.find(inode_); written != nullptr)
        --written->content.writes_through;
}

void FileContents::WriteThrough::written(const wire::WriteReply& reply, bool is_durable) {
    const Inode* inode = contents_.inodes_.find(inode_);
    const bool by_others =
        (inode != nullptr && inode->content.writes_through > 1) || contents_.writes_.pending_of_others(inode_, handle_);
    contents_.written(inode_, reply.offset, reply, by_others);
    if (is_durable)
        return;
    contents_.unsynced_.accepted(inode_);
    contents_.unsynced_.answered(inode_, contents_.session_.clock().now());
}

Task<Status> FileContents::send_before(InodeNumber id, HandleId handle, client::Cancellation* cancellation) {
    if (writes_.pending_of_others(id, handle))
        co_return co_await writes_.drain(id, cancellation);
    writes_.send(id);
    co_return Status::ok;
}

Task<Status> FileContents::sync(InodeNumber id, wire::Fsync message, client::Cancellation* cancellation) {
    const std::uint64_t accepted = unsynced_.accepted_so_far(id);
    for (;;) {
        const std::uint64_t continued = writes_.continued();
        Status status = co_await send_before(id, message.handle, cancellation);
        if (status == Status::ok)
            status = (co_await session_.call(message, {.lane = client::LaneKind::data}, cancellation)).status();
        if (status == Status::ok)
            status = co_await writes_.drain(id, cancellation);
        // The rest of a write of which the server took a part has gone out behind the FSYNC.
        if (status == Status::ok && writes_.continued() != continued)
            continue;
        if (status == Status::ok)
            unsynced_.synced(id, accepted);
        co_return status;
    }
}

// Whoever has the file open is told, as after a failed write-back on a local disk; each of them once.
bool FileContents::tell_writers(InodeNumber id, Status status) {
    bool told = false;
    files_.for_each([&](FileHandle& file) {
        if (file.inode != id)
            return;
        told = true;
        if (file.write_error == Status::ok)
            file.write_error = write_error(status);
    });
    if (!told && on_lost)
        on_lost(id, status);
    return told;
}

void FileContents::machine_was_lost(TimePoint lost_at) {
    for (const InodeNumber id : unsynced_.take_lost(lost_at)) {
        const bool told = tell_writers(id, Status::io_error);
        log::error("the server's machine has started anew: what was written to file {} and not synced may be lost{}",
                   id, told ? "" : ", and no program has it open to be told");
    }
}

void FileContents::failed(InodeNumber id, std::uint64_t offset, std::uint64_t size, Status status) {
    const bool told = tell_writers(id, status);
    log::error("{} bytes at {} of file {} could not be written: {}{}", size, offset, id, describe(status),
               told ? "" : ", and no program has it open to be told");
    // What the kernel shows of it is not in the file.
    if (Inode* inode = inodes_.find(id); inode != nullptr) {
        inode->content.written_at = now();
        inode->content.size = inode->content.size_at_server;
        drop(*inode);
    }
    tell_changed(id);
}

client::ReadSource FileContents::source_of(const FileHandle& file) const {
    const Inode* inode = inodes_.find(file.inode);
    REMOFILE_ASSERT(inode != nullptr);
    return {.file = file.inode,
            .generation = inode->content.generation,
            .file_size = inode->content.size,
            .handle = file.handle};
}

bool FileContents::must_drain_before(InodeNumber id, std::uint64_t offset, std::uint64_t size) const {
    if (!writes_.pending(id))
        return false;
    // Before the end of what is pending, the server would show an end of the file that is none.
    const Inode* inode = inodes_.find(id);
    return writes_.overlaps(id, offset, size) || (inode != nullptr && offset + size > inode->content.size_at_server);
}

}  // namespace remofile::filesystem
