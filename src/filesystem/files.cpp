// SPDX-License-Identifier: MIT
// Opening, making and closing files.
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <utility>
#include <vector>

#include "filesystem/file_system.hpp"

namespace remofile::filesystem {
namespace {

// Files up to this size come with the answer to OPEN: on a link of 100 Mbit/s that delays what is behind it by 5 ms, a
// quarter of the round trip that it saves there.
constexpr std::uint64_t max_content_with_open_bytes = 64U << 10;

// How long a file may be open before the server is asked for a handle whose content is known already.
constexpr auto late_open_delay = std::chrono::milliseconds(100);

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
    if (const Inode* known = inodes_.find(inode); known != nullptr)
        names_.heard(*known, attributes, asked_at);
    FileHandle file{.handle = handle, .epoch = session_.epoch(), .inode = inode, .readahead = {}};
    file.flags = flags_to_open_again(how);
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
    // It has come since the last close, which did not wait for it.
    if (file->write_error != Status::ok)
        contents_.on_lost(file->inode, file->write_error);
    if (file->handle && file->epoch == session_.epoch()) {
        // What is written to it may go by another lane than its release, and needs the handle until it is answered.
        if (behind_.concerns(file->inode) || contents_.writes().pending(file->inode))
            spawn(release_when_settled(*file));
        else if (file->locked)
            spawn(release_locked(file->inode, file->handle));
        else if (!keep_handle(*file))
            session_.tell(wire::Release{file->handle}, client::LaneKind::data);
    }
    held_locks_.closed(handle);
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

// ---------------------------------------------------------------- without the server

// Opens a small file to be read whose content has been fetched ahead: nothing if it is not there.
Task<Result<std::optional<Opened>>> FileSystem::open_known_file(Operation& operation, InodeNumber id, OpenHow how) {
    using Known = std::optional<Opened>;
    const Inode* inode = inodes_.find(id);
    const bool fits = how.flags == wire::open_read && !how.past_cache && inode != nullptr && inode->type == S_IFREG &&
                      !inodes_.stale(*inode) && !inode->place.name.empty() && may_use_names(operation) &&
                      names_.attributes(*inode) != nullptr && !contents_.writes().pending(id);
    if (!fits)
        co_return Known();
    const Inode::Place place = inode->place;
    const auto credential = co_await credential_of(operation);
    if (!credential)
        co_return Known();
    fetched_.visit(place.parent, place.name, *credential);
    inode = inodes_.find(id);
    const wire::Attributes* current = inode == nullptr ? nullptr : names_.attributes(*inode);
    const bool may_share = current != nullptr && surely_allows(operation, id, R_OK);
    const auto fetched =
        co_await fetched_.find(place.parent, place.name, *credential, may_share, &operation.cancellation);
    if (!fetched)
        co_return Result<Known>(fetched.error());
    const FetchedFiles::Content content = *fetched;
    inode = inodes_.find(id);
    current = inode == nullptr ? nullptr : names_.attributes(*inode);
    if (content == nullptr || current == nullptr || contents_.writes().pending(id) || current->size != content->size())
        co_return Known();
    const wire::Attributes attributes = *current;
    const Opened opened = add_file(operation, id, HandleId{}, attributes, operation.arrived_at, how);
    files_.find(opened.handle)->known = {
        .content = content, .generation = inode->content.generation, .at = contents_.now(), .attributes = attributes};
    open_later(operation, opened.handle);
    co_return Known(opened);
}

// ---------------------------------------------------------------- by a handle of before

// Whether the server tells of all that becomes of the file, and of its only name.
bool FileSystem::is_known_for_sure(const Inode& inode) {
    return inode.type == S_IFREG && !inodes_.stale(inode) && !inode.place.name.empty() &&
           names_.known().is_told_of(inode.place.parent) && names_.attributes(inode) != nullptr;
}

// Keeps the server's handle of a file that is closed, if it may serve who opens the file next.
bool FileSystem::keep_handle(const FileHandle& file) {
    const Inode* inode = inodes_.find(file.inode);
    if (!file.lasting_for || inode == nullptr || !is_known_for_sure(*inode))
        return false;
    kept_handles_.put({.inode = file.inode,
                       .directory = inode->place.parent,
                       .name = inode->place.name,
                       .credential = *file.lasting_for,
                       .handle = file.handle});
    return true;
}

// Opens a file to be read by a handle that is kept: nothing if there is none.
Task<Result<std::optional<Opened>>> FileSystem::open_kept_file(Operation& operation, InodeNumber id, OpenHow how) {
    using Kept = std::optional<Opened>;
    if (how.flags != wire::open_read || how.past_cache || !may_use_names(operation) || contents_.writes().pending(id))
        co_return Kept();
    const auto credential = co_await credential_of(operation);
    const Inode* inode = inodes_.find(id);
    if (!credential || inode == nullptr || !is_known_for_sure(*inode))
        co_return Kept();
    const auto handle = kept_handles_.take(id, *credential);
    if (!handle)
        co_return Kept();
    const wire::Attributes attributes = *names_.attributes(*inode);
    const Opened opened = add_file(operation, id, *handle, attributes, operation.arrived_at, how);
    files_.find(opened.handle)->lasting_for = *credential;
    co_return Kept(opened);
}

// Ends when the server has a handle for an open file.
Task<Result<>> FileSystem::have_open(Operation& operation, HandleNumber handle) {
    auto found = file(handle);
    if (found && (*found)->opening) {
        if (const Status status = co_await settled(operation, (*found)->inode); status != Status::ok)
            co_return Result<>(status);
        found = file(handle);
    }
    if (!found || (*found)->handle)
        co_return found ? Result<>() : Result<>(found.error());
    const auto node = co_await node_for(operation, (*found)->inode);
    if (!node)
        co_return Result<>(node.error());
    const wire::Open message{*node, session_.new_handle_id(), wire::open_read};
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<>(reply.error());
    const auto again = file(handle);
    if (!again || (*again)->handle)
        session_.tell(wire::Release{message.handle}, client::LaneKind::data);
    else
        (*again)->handle = message.handle;
    co_return again ? Result<>() : Result<>(again.error());
}

// The same for all handles of the file that has a name, which is about to lose it; those that nobody has open go.
// Errors do not matter: what is known of the content is all that there will be.
Task<Result<>> FileSystem::have_all_open(Operation& operation, InodeNumber directory, std::string name) {
    kept_handles_.drop(directory, name);
    const DirectoryCache::Entry* entry = names_.known().peek(directory, name);
    const Inode* inode = entry == nullptr ? nullptr : inodes_.find(entry->attributes.identity);
    if (inode == nullptr || inode->open_count == 0)
        co_return Result<>();
    std::vector<HandleNumber> handles;
    files_.for_each_numbered([&](HandleNumber number, const FileHandle& file) {
        if (file.inode == inode->id && !file.handle)
            handles.push_back(number);
    });
    for (const HandleNumber handle : handles)
        co_await have_open(operation, handle);
    co_return Result<>();
}

const FileHandle* FileSystem::known_handle(InodeNumber inode) {
    const FileHandle* known = nullptr;
    files_.for_each([&](const FileHandle& file) {
        if (file.inode == inode && file.known.content != nullptr && !file.handle && file.epoch == session_.epoch())
            known = &file;
    });
    return known;
}

// Most files that are read are closed at once. What is not must not go with its name.
void FileSystem::open_later(const Operation& operation, HandleNumber handle) {
    Caller caller = operation.caller;
    caller.thread = 0;
    late_opens_.push_back({reactor_.clock().now() + late_open_delay, caller, handle});
    if (!late_timer_)
        late_timer_ = reactor_.after(late_open_delay, [this] { open_late_ones(); });
}

void FileSystem::open_late_ones() {
    late_timer_.reset();
    const TimePoint now = reactor_.clock().now();
    while (!late_opens_.empty() && late_opens_.front().due <= now) {
        const LateOpen due = late_opens_.front();
        late_opens_.pop_front();
        if (const FileHandle* open = files_.find(due.handle); open != nullptr && !open->handle)
            spawn(open_late(due.caller, due.handle));
    }
    if (!late_opens_.empty())
        late_timer_ = reactor_.after(late_opens_.front().due - now, [this] { open_late_ones(); });
}

Task<void> FileSystem::open_late(Caller caller, HandleNumber handle) {
    Operation operation = begin(caller);
    co_await have_open(operation, handle);
}

Task<Result<Opened>> FileSystem::open(Operation& operation, InodeNumber inode, OpenHow how) {
    if (may_open_behind(operation, inode, how)) {
        if (const Status status = co_await behind_.room(&operation.cancellation); status != Status::ok)
            co_return Result<Opened>(status);
        if (may_open_behind(operation, inode, how))
            co_return open_behind(inode, how);
    }
    if (const Status status = co_await settled(operation, inode); status != Status::ok)
        co_return Result<Opened>(status);
    // What has been closed without waiting is told to whoever has the file open, if it fails.
    bool is_made_behind = false;
    files_.for_each([&](const FileHandle& file) { is_made_behind |= file.inode == inode && file.made_behind; });
    if (is_made_behind && contents_.writes().pending(inode))
        if (const Status status = co_await written_out(operation, inode); status != Status::ok)
            co_return Result<Opened>(status);
    auto without_server = co_await open_kept_file(operation, inode, how);
    if (without_server && !*without_server)
        without_server = co_await open_known_file(operation, inode, how);
    if (!without_server)
        co_return Result<Opened>(without_server.error());
    if (*without_server) {
        if ((*without_server)->front_is_true) {
            if (const Status status = co_await front_is_current(operation, inode); status != Status::ok) {
                release((*without_server)->handle);
                co_return Result<Opened>(status);
            }
        }
        co_return **without_server;
    }
    const bool truncates = (how.flags & wire::open_truncate) != 0;
    settle_set_id(operation, inode, true);
    if (truncates) {
        if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
            co_return Result<Opened>(status);
        if (const Status status = co_await written_out(operation, inode); status != Status::ok)
            co_return Result<Opened>(status);
    }
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<Opened>(node.error());
    const wire::Open message{*node, session_.new_handle_id(), server_flags(how)};
    const std::uint64_t asked_at = contents_.now();
    auto opening = wants_content(inode, how) ? open_with_content(operation, message)
                                             : open_alone(operation, message, (how.flags & wire::open_append) != 0);
    auto answer = co_await std::move(opening);
    if (!answer)
        co_return Result<Opened>(answer.error());
    if (truncates) {
        behind_.hide(inode);
        contents_.resized(inode, answer->attributes);
    }
    // It may have been written from here since the server read it, and other answers come by another way.
    const bool beginning_is_true = answer->has_beginning && !contents_.changed_since(inode, asked_at);
    const Opened opened = add_file(operation, inode, answer->handle, answer->attributes, asked_at, how);
    if (const Inode* known = inodes_.find(inode); known != nullptr && beginning_is_true)
        contents_.reader().put_beginning(inode, known->content.generation, std::move(answer->beginning));
    if (how.flags == wire::open_read && !how.past_cache) {
        const auto credential = co_await credential_of(operation);
        if (FileHandle* file = files_.find(opened.handle); file != nullptr && credential)
            file->lasting_for = *credential;
    }
    if (opened.front_is_true) {
        if (const Status status = co_await front_is_current(operation, inode); status != Status::ok) {
            release(opened.handle);
            co_return Result<Opened>(status);
        }
    }
    co_return opened;
}

// CREATE and TMPFILE: a new file and a handle for it.
Result<Created> FileSystem::take_in(const Operation& operation, InodeNumber parent, std::string_view name,
                                    const wire::EntryReply& reply, HandleId handle, const OpenHow& how) {
    auto entry = entry_of(parent, name, reply, operation.arrived_at);
    if (!entry) {
        session_.tell(wire::Release{handle}, client::LaneKind::data);
        return entry.error();
    }
    if ((how.flags & wire::open_truncate) != 0)
        contents_.resized(entry->inode, reply.attributes);
    const Opened opened = add_file(operation, entry->inode, handle, reply.attributes, operation.arrived_at, how);
    return Created{std::move(*entry), opened};
}

Task<Result<Created>> FileSystem::create(Operation& operation, InodeNumber parent, std::string name, std::uint32_t mode,
                                         OpenHow how) {
    // What else may be asked for says more of how the server is to open it.
    constexpr std::uint32_t simple_flags =
        wire::open_read | wire::open_write | wire::open_append | wire::open_truncate | wire::open_exclusive;
    bool at_once = (how.flags & ~simple_flags) == 0 && !how.past_cache && (mode & (S_ISUID | S_ISGID | S_ISVTX)) == 0 &&
                   files_.size() < max_open_unasked;
    if (at_once) {
        const auto may = co_await may_make(operation, parent, name);
        if (!may)
            co_return Result<Created>(may.error());
        at_once = *may;
    }
    if (!at_once) {
        if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
            co_return Result<Created>(status);
        exclusive_.ask_for(parent);
    }
    const auto node = node_of(parent);
    if (!node)
        co_return Result<Created>(node.error());
    const wire::Create message{.parent = *node,
                               .name = std::move(name),
                               .node = {session_.new_node_id(), !at_once},
                               .handle = session_.new_handle_id(),
                               .flags = server_flags(how),
                               .mode = mode,
                               .umask = operation.caller.umask};
    if (at_once)
        co_return create_behind(parent, message, how);
    lent_.expect(*node);
    const auto asked = ask_for_change(operation, {{{parent, message.name}, 0, unnumbered_inode}});
    const auto reply = co_await call(operation, message);
    behind_.hide(parent);
    if (!reply)
        co_return Result<Created>(reply.error());
    made(parent, message.name, reply->body.entry.attributes, operation.arrived_at);
    co_return take_in(operation, parent, message.name, reply->body.entry, message.handle, how);
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
    co_return take_in(operation, no_parent, {}, reply->body, message.handle, how);
}

}  // namespace remofile::filesystem
