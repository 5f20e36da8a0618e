// SPDX-License-Identifier: MIT
#include "filesystem/file_contents.hpp"

#include <linux/falloc.h>
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

// Of the memory, so much may be taken by what is not durable, and no more than a link of 200 Mbit/s carries in 2.5 s:
// a disk makes it durable sooner.
constexpr std::size_t unsynced_share = 4;
constexpr std::size_t max_unsynced_bytes = 64U << 20;

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
      unsynced_(memory_, std::min(cache_bytes / unsynced_share, max_unsynced_bytes)),
      reader_(session, memory_, counters),
      writes_(session, memory_, counters) {
    using Target = client::WriteBehind::Target;
    unsynced_.on_begun = [this](InodeNumber id) {
        if (Inode* inode = inodes_.find(id); inode != nullptr)
            InodeMap::hold_unsynced(*inode);
    };
    unsynced_.on_ended = [this](InodeNumber id) {
        if (on_synced)
            on_synced(id);
    };
    writes_.on_written = [this](const Target& target, std::uint64_t offset, const wire::WriteReply& reply,
                                const client::SharedBytes& bytes) {
        const Inode* inode = inodes_.find(target.file);
        const bool through = inode != nullptr && inode->content.writes_through > 0;
        written(target.file, offset, reply, through || writes_.pending_of_others(target.file, target.handle));
        keep(target.file, offset, reply.size, bytes);
        note_answered(target.file, reply.attributes);
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
    const bool is_older = writes_.pending(id) || content.written_at > asked_at;
    if (is_older ? !told_.contains(id) : inode->open_count > 0)
        note_told(id, attributes);
    // The reply may be older than a write that is pending, or was when it was asked for.
    if (is_older) {
        shown.size = std::max(shown.size, content.size);
        content.size = shown.size;
        return shown;
    }
    content.size = shown.size;
    content.size_at_server = shown.size;
    if (const auto* told = unsynced_.told(id); told != nullptr && attributes.modification > told->latest_modification)
        unsynced_.cannot_keep(id, session_.clock().now());
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
    note_told(id, attributes);
    drop(*inode);
    tell_changed(id);
}

void FileContents::resized(InodeNumber id, const wire::Attributes& attributes) {
    replaced(id, attributes);
    unsynced_.accepted(id);
    unsynced_.keep_size(id, attributes.size, session_.clock().now());
    note_answered(id, attributes);
}

void FileContents::allocated(InodeNumber id, const wire::Fallocate& message, const wire::Attributes& attributes) {
    const Inode* inode = inodes_.find(id);
    const bool is_longer = inode != nullptr && attributes.size > inode->content.size_at_server;
    replaced(id, attributes);
    const TimePoint now = session_.clock().now();
    unsynced_.accepted(id);
    if ((message.mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
        const std::uint64_t end = std::min(message.offset + message.length, attributes.size);
        if (end > message.offset)
            unsynced_.keep_hole(id, message.offset, end - message.offset, now);
    } else if ((message.mode & ~std::uint32_t{FALLOC_FL_KEEP_SIZE}) != 0) {
        unsynced_.cannot_keep(id, now);
    }
    if (is_longer)
        unsynced_.keep_size(id, attributes.size, now);
    note_answered(id, attributes);
}

void FileContents::copied_to(InodeNumber id) {
    forget(id);
    const TimePoint now = session_.clock().now();
    unsynced_.accepted(id);
    unsynced_.answered(id, now);
    unsynced_.cannot_keep(id, now);
    if (on_kept)
        on_kept();
    tell_changed(id);
}

void FileContents::touched(InodeNumber id, const wire::Attributes& attributes) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->version = our_version(attributes);
    inode->content.kept_version = 0;
    recent_.erase(id);
    note_told(id, attributes);
    tell_changed(id);
    told(id, attributes);
}

void FileContents::told(InodeNumber id, const wire::Attributes& attributes) {
    unsynced_.told(id, attributes, now());
}

void FileContents::keep(InodeNumber id, std::uint64_t offset, std::uint64_t size, const client::SharedBytes& bytes) {
    unsynced_.keep(id, offset, size, bytes, session_.clock().now());
}

void FileContents::note_answered(InodeNumber id, const wire::Attributes& attributes) {
    unsynced_.answered(id, session_.clock().now());
    told(id, attributes);
    if (on_kept)
        on_kept();
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

void FileContents::changed_elsewhere(InodeNumber id) {
    unsynced_.cannot_keep(id, session_.clock().now());
    forget(id);
}

void FileContents::removed(InodeNumber id) {
    unsynced_.forget(id);
    reader_.forget_before(id, client::FileReader::every_generation);
    told_.erase(id);
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
        note_told(id, attributes);
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
    if (alone && !same_version(inode->version, reply.version_before)) {
        drop(*inode);
        // A name that it was given from here makes another version, too.
        if (const auto* told = unsynced_.told(id); told != nullptr && inode->changed_otherwise_at < told->event)
            unsynced_.cannot_keep(id, session_.clock().now());
    }
    inode->version = our_version(reply.attributes);
    content.size_at_server = reply.attributes.size;
    note_told(id, reply.attributes);
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

void FileContents::WriteThrough::written(const wire::WriteReply& reply, bool is_durable,
                                         const client::SharedBytes& bytes) {
    const Inode* inode = contents_.inodes_.find(inode_);
    const bool by_others =
        (inode != nullptr && inode->content.writes_through > 1) || contents_.writes_.pending_of_others(inode_, handle_);
    contents_.written(inode_, reply.offset, reply, by_others);
    // What is durable must not be written over by what was written before it.
    if (is_durable && !contents_.unsynced_.knows(inode_))
        return;
    if (!is_durable)
        contents_.unsynced_.accepted(inode_);
    contents_.keep(inode_, reply.offset, reply.size, bytes);
    contents_.note_answered(inode_, reply.attributes);
}

Task<Status> FileContents::send_before(InodeNumber id, HandleId handle, client::Cancellation* cancellation) {
    if (writes_.pending_of_others(id, handle))
        co_return co_await writes_.drain(id, cancellation);
    writes_.send(id);
    co_return Status::ok;
}

Task<Status> FileContents::sync(InodeNumber id, wire::Fsync message, client::Cancellation* cancellation) {
    const UnsyncedWrites::Mark mark = unsynced_.mark(id);
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
            unsynced_.synced(id, mark);
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

bool FileContents::is_as_left(InodeNumber id, const wire::Attributes& attributes) const {
    const auto* told = unsynced_.told(id);
    const Inode* inode = inodes_.find(id);
    if (told == nullptr || inode == nullptr)
        return false;
    // A name that it was given, or has lost, from here changes it later than was told.
    const bool is_change_known = inode->changed_otherwise_at < told->event;
    return attributes.modification <= told->latest_modification &&
           (!is_change_known || attributes.change <= told->latest_change);
}

void FileContents::sent_again(InodeNumber id, const wire::Attributes& attributes) {
    unsynced_.sent_again(id, session_.clock().now());
    told(id, attributes);
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->version = our_version(attributes);
    inode->content.size_at_server = attributes.size;
    if (!writes_.pending(id))
        inode->content.size = attributes.size;
}

void FileContents::give_up_lost(InodeNumber id, Status why) {
    const bool told = tell_writers(id, Status::io_error);
    log::error(
        "the server's machine has started anew: what was written to file {} and not synced may be lost, and cannot be "
        "sent again: {}{}",
        id, describe(why), told ? "" : ", and no program has it open to be told");
    forget(id);
    drop_pages_(id);
    unsynced_.forget(id);
}

void FileContents::loses_name(InodeNumber id) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->changed_otherwise_at = now();
    if (on_synced)
        on_synced(id);
}

void FileContents::failed(InodeNumber id, std::uint64_t offset, std::uint64_t size, Status status) {
    const bool told = tell_writers(id, status);
    if (!is_quiet_)
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
