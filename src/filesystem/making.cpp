// SPDX-License-Identifier: MIT
// Making, removing and renaming without waiting for the server.
//
// In a directory of which this client alone has a lease, nobody else looks before what was answered from here has been
// carried out. So a change of it is answered at once, if all that decides about it is known, and its request is sent
// behind. Requests are carried out in the order in which programs made the changes. Whoever wants to know what only the
// server can tell (the time of a change, the number of a new file) waits for the answer, and so does whoever makes sure
// of anything (fsync, unmount, another client's look).
#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>

#include "base/log.hpp"
#include "client/directory.hpp"
#include "filesystem/file_system.hpp"

namespace remofile::filesystem {
namespace {

// Whoever closes a larger file waits: the server's room for what is not there yet was looked at for less.
constexpr std::uint64_t max_closed_unwaited_bytes = 1U << 20;
// A file system has its limit of links somewhere above.
constexpr std::uint32_t max_links_unasked = 1000;

// Of an open file, so much may be on its way to the server when somebody asks what the file is like, and is waited for:
// the modification time is that of the last write. Whoever looks at a large file that is being written goes on.
constexpr std::uint64_t max_waited_bytes = 256U << 10;

constexpr auto held_for = std::chrono::milliseconds(1);

// A directory in which nothing has been changed for so long is done with.
constexpr auto quiet_after = std::chrono::milliseconds(100);
constexpr std::size_t max_quiet = 1024;

constexpr std::uint32_t permissions = 0777;
constexpr std::uint32_t all_permissions = 07777;

// Not the time of the moment, which is the server's to tell.
constexpr std::uint32_t set_unasked =
    wire::set_mode | wire::set_uid | wire::set_gid | wire::set_access | wire::set_modification;

wire::Timestamp time_here() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
    return {.seconds = seconds.count(),
            .nanoseconds = static_cast<std::uint32_t>(
                std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds).count())};
}

const wire::Attributes& attributes_in(const wire::EntryReply& reply) {
    return reply.attributes;
}
const wire::Attributes& attributes_in(const wire::CreateReply& reply) {
    return reply.entry.attributes;
}

// What a program can make of it. That the session has ended is remofs's affair.
Status for_programs(Status status) {
    const bool is_of_session = status == Status::no_session || status == Status::shutting_down ||
                               status == Status::stale || status == Status::bad_handle;
    return is_of_session ? Status::io_error : status;
}

// What both ask for, the later one having the last word. (Without set-id bits, which set_behind() does not deal with,
// their order does not matter otherwise.)
void join(wire::Setattr& earlier, const wire::Setattr& later) {
    earlier.which |= later.which;
    if ((later.which & wire::set_mode) != 0)
        earlier.mode = later.mode;
    if ((later.which & wire::set_uid) != 0)
        earlier.uid = later.uid;
    if ((later.which & wire::set_gid) != 0)
        earlier.gid = later.gid;
    if ((later.which & wire::set_access) != 0)
        earlier.access = later.access;
    if ((later.which & wire::set_modification) != 0)
        earlier.modification = later.modification;
}

}  // namespace

// ---------------------------------------------------------------- what is known

FileSystem::Standing FileSystem::standing_of(InodeNumber directory, std::string_view name) {
    using Knowledge = DirectoryCache::Knowledge;
    if (const auto meaning = behind_.meaning(directory, name)) {
        if (*meaning == 0)
            return {.knowledge = Knowledge::absent};
        const Inode* inode = inodes_.find(*meaning);
        if (inode == nullptr || inodes_.stale(*inode))
            return {};
        return {.knowledge = Knowledge::present, .inode = inode->id, .type = inode->type, .is_plain = true};
    }
    const auto answer = names_.known().find(directory, name);
    if (answer.knowledge != Knowledge::present)
        return {.knowledge = answer.knowledge};
    Standing standing{.knowledge = Knowledge::present, .type = answer.attributes->mode & S_IFMT};
    if (const Inode* inode = inodes_.find(answer.attributes->identity); inode != nullptr && !inodes_.stale(*inode))
        standing.inode = inode->id;
    // What is changed of its attributes from here gives it no extended ones, and others' changes take this away.
    const DirectoryCache::Entry* entry = names_.known().peek(directory, name);
    standing.is_plain = entry != nullptr && entry->absent_xattrs == no_xattrs_at_all && entry->attributes.links <= 1 &&
                        entry->attributes.identity.device == export_device_;
    return standing;
}

bool FileSystem::may_answer(const Operation& operation, InodeNumber directory) {
    const Inode* inode = inodes_.find(directory);
    return exclusive_.holds(directory) && may_use_names(operation) && inode != nullptr && inode->node &&
           !inodes_.stale(*inode);
}

// Whether a name may be made without asking. Errors: interrupted.
Task<Result<bool>> FileSystem::may_make(Operation& operation, InodeNumber parent, const std::string& name) {
    if (!may_answer(operation, parent) || !client::is_valid_name(name))
        co_return false;
    if (const Status status = co_await behind_.room(&operation.cancellation); status != Status::ok)
        co_return Result<bool>(status);
    co_return may_answer(operation, parent) && standing_of(parent, name).knowledge == DirectoryCache::Knowledge::absent;
}

// Whether the name of a file that is no directory may be taken away without asking.
Task<Result<bool>> FileSystem::may_remove(Operation& operation, InodeNumber parent, const std::string& name) {
    if (!may_answer(operation, parent))
        co_return false;
    if (const Status status = co_await behind_.room(&operation.cancellation); status != Status::ok)
        co_return Result<bool>(status);
    const Standing standing = standing_of(parent, name);
    const bool may = may_answer(operation, parent) && standing.is_plain && standing.type != 0 &&
                     standing.type != S_IFDIR && !has_unopened(standing.inode);
    co_return may;
}

// Whether nothing is in the directory, for certain.
bool FileSystem::is_empty(InodeNumber directory) {
    if (behind_.gives_meaning_in(directory))
        return false;
    const auto names = names_.known().names(directory);
    return names != nullptr && std::ranges::all_of(*names, [&](const DirectoryCache::Name& each) {
               return behind_.meaning(directory, each.name) == InodeNumber{0};
           });
}

// What the server will say of a new file, but for its number and its times, and what it inherits.
wire::Attributes FileSystem::attributes_of_new(const Inode& inode, std::uint32_t mode,
                                               const wire::LentInode* lent) const {
    if (lent != nullptr) {
        wire::Attributes attributes = lent->attributes;
        attributes.mode = inode.type | (mode & all_permissions);
        return attributes;
    }
    const wire::HelloReply& hello = session_.hello();
    const wire::Timestamp now = time_here();
    constexpr std::uint32_t block_size = 4096;
    return {.identity = inode.identity,
            .mode = inode.type | (mode & all_permissions),
            .links = inode.type == S_IFDIR ? 2U : 1U,
            .uid = hello.server_uid,
            .gid = hello.server_gid,
            .block_size = block_size,
            .access = now,
            .modification = now,
            .change = now};
}

// The server's, as far as it is known.
wire::Timestamp FileSystem::time_now() {
    return lent_.now().value_or(time_here());
}

// Something to make in the directory of which all is known: what it will be like but for its mode, with the time of
// making as its times. Nothing where it would get its group from the directory.
std::optional<wire::LentInode> FileSystem::borrow(LentInodes::Kind kind, InodeNumber parent) {
    const wire::Attributes* directory = behind_.shown(parent);
    if (directory == nullptr)
        directory = names_.known().last_own_attributes(parent);
    if (directory == nullptr || (directory->mode & S_ISGID) != 0)
        return std::nullopt;
    auto lent = lent_.take(kind, inodes_.find(parent)->node);
    const auto now = lent_.now();
    if (!lent || !now)
        return std::nullopt;
    lent->attributes.access = lent->attributes.modification = lent->attributes.change = *now;
    return lent;
}

// A file that a change under way has given a name.
std::optional<Entry> FileSystem::give_out_pending(InodeNumber id) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || inodes_.stale(*inode))
        return std::nullopt;
    wire::Attributes attributes;
    if (const wire::Attributes* shown = behind_.shown(id); shown != nullptr)
        attributes = *shown;
    else if (const wire::Attributes* known = names_.attributes(*inode); known != nullptr)
        attributes = *known;
    else
        return std::nullopt;
    if (inode->type == S_IFREG)
        attributes.size = std::max(attributes.size, inode->content.size);
    inodes_.hand_out(*inode);
    return Entry{.inode = id, .attributes = attributes, .is_outdated = true};
}

// ---------------------------------------------------------------- changes under way

// Ends when the server has answered what was changed of the file, or in the directory, before: also what was written to
// it, unless that is much and goes on. Errors: interrupted.
Task<Status> FileSystem::settled(Operation& operation, InodeNumber id) {
    if (behind_.concerns(id)) {
        hurry();
        if (const Status status = co_await behind_.settled(id, &operation.cancellation); status != Status::ok)
            co_return status;
    }
    const Inode* inode = inodes_.find(id);
    if (inode == nullptr || (inode->open_count > 0 && contents_.writes().pending_bytes(id) > max_waited_bytes))
        co_return Status::ok;
    co_return co_await written_out(operation, id);
}

// The same of an open file: its handle is there, and what was changed of it.
Task<Status> FileSystem::settled(Operation& operation, HandleNumber handle) {
    const FileHandle* open = files_.find(handle);
    if (open == nullptr || !behind_.concerns(open->inode))
        co_return Status::ok;
    hurry();
    co_return co_await behind_.settled(open->inode, &operation.cancellation);
}

// The same for whoever can do without, if the server is silent: false then.
Task<bool> FileSystem::settled_briefly(Operation& operation, InodeNumber inode) {
    if (!behind_.concerns(inode))
        co_return true;
    if (session_.silent())
        co_return false;
    Patience patience(session_, reactor_, operation);
    co_await settled(patience.questions(), inode);
    co_return !patience.is_over();
}

// What a name that is there stands for as programs see it, who know of it if nothing is known here; see NameChange.
InodeNumber FileSystem::meaning_of(InodeNumber directory, std::string_view name) {
    const Standing standing = standing_of(directory, name);
    if (standing.knowledge == DirectoryCache::Knowledge::absent)
        return 0;
    return standing.inode == 0 ? unnumbered_inode : standing.inode;
}

// The operation asks for one change, for which its program waits.
ChangesBehind::Asked FileSystem::ask_for_change(Operation& operation, std::vector<NameChange> names) {
    auto asked = behind_.ask(std::move(names));
    operation.change = asked.number();
    return asked;
}

ChangesBehind::UnderWay FileSystem::begin_change(ChangesBehind::Concern concern) {
    send_held();
    for (auto& name : concern.names)
        name.before = meaning_of(name.directory, name.name);
    statistics_.changed();
    for (const InodeNumber id : concern.inodes) {
        Inode* inode = inodes_.find(id);
        // It stays known until the change is settled.
        if (inode != nullptr && !behind_.concerns(id))
            inodes_.hand_out(*inode);
    }
    for (const auto& name : concern.names) {
        names_.known().own_attributes_changed_here(name.directory, contents_.now());
        shown_times_.changed(name.directory);
        if (name.inode != 0)
            shown_times_.changed(name.inode);
    }
    return behind_.begin(std::move(concern));
}

void FileSystem::hold_for_a_moment() {
    held_timer_ = reactor_.after(held_for, [this] { send_held(); });
}

void FileSystem::send_held() {
    if (!held_setting_ && !held_removal_)
        return;
    reactor_.cancel(*held_timer_);
    if (held_setting_)
        send_held_setting();
    else
        send_held_removal();
}

void FileSystem::change_settled(InodeNumber id, const std::optional<ChangesBehind::Heard>& heard) {
    if (heard && !contents_.writes().pending(id))
        attributes_are(id, heard->attributes, heard->asked_at);
    shown_times_.settled(id);
    contents_.writes().made(id);
    const Inode* inode = inodes_.find(id);
    const bool is_noted = !quiet_.empty() && quiet_.back().directory == id;
    if (is_noted) {
        quiet_.back().due = reactor_.clock().now() + quiet_after;
    } else if (inode != nullptr && inode->type == S_IFDIR && exclusive_.holds(id) && quiet_.size() < max_quiet) {
        quiet_.push_back({reactor_.clock().now() + quiet_after, id});
        if (!quiet_timer_)
            quiet_timer_ = reactor_.after(quiet_after, [this] { look_at_quiet_directories(); });
    }
    forget(id);
}

// Whoever has made a tree looks at its directories next, one after the other: each would be a round trip.
void FileSystem::look_at_quiet_directories() {
    quiet_timer_.reset();
    const TimePoint now = reactor_.clock().now();
    while (!quiet_.empty() && quiet_.front().due <= now) {
        const InodeNumber directory = quiet_.front().directory;
        quiet_.pop_front();
        const bool is_due = exclusive_.holds(directory) && !behind_.concerns(directory) &&
                            names_.known().own_attributes(directory) == nullptr &&
                            std::ranges::find(quiet_, directory, &Quiet::directory) == quiet_.end();
        if (is_due)
            spawn(look_at_quiet(directory));
    }
    if (!quiet_.empty())
        quiet_timer_ = reactor_.after(quiet_.front().due - now, [this] { look_at_quiet_directories(); });
}

Task<void> FileSystem::look_at_quiet(InodeNumber directory) {
    const std::uint64_t asked_at = contents_.now();
    const std::uint64_t epoch = session_.epoch();
    const wire::Getattr message{.node = inodes_.find(directory)->node};
    const client::CallOptions options{.ahead = true};
    const auto reply = co_await session_.call(message, options);
    const Inode* inode = inodes_.find(directory);
    if (reply && inode != nullptr && epoch == session_.epoch() && !inodes_.stale(*inode))
        names_.heard(*inode, reply->body.attributes, asked_at);
}

void FileSystem::failed_behind(std::string_view what, InodeNumber directory, std::string_view name, InodeNumber made_as,
                               Status status) {
    if (behind_.note_failure(directory, for_programs(status)) && !unsent_taken_)
        log::error("{} \"{}\" in directory {} has failed at the server after a program was told that it was done: {}",
                   what, name, directory, describe(status));
    names_.known().revoke_name(directory, name, contents_.now());
    // What else is done in it would fail likewise: the server is asked before it is answered.
    names_.forget(directory);
    if (front_names_ != nullptr)
        front_names_->drop_name(directory, std::string(name), made_as);
    Inode* inode = made_as == 0 ? nullptr : inodes_.find(made_as);
    if (inode == nullptr)
        return;
    files_.for_each([&](FileHandle& file) {
        if (file.inode == made_as && file.write_error == Status::ok)
            file.write_error = for_programs(status);
    });
    if (inode->type == S_IFDIR)
        names_.forget(made_as);
    inodes_.condemn(*inode);
}

// ---------------------------------------------------------------- making

// The server has made it, and says what it is like.
void FileSystem::confirm_made(InodeNumber parent, std::string_view name, InodeNumber id,
                              const wire::Attributes& attributes, std::uint64_t asked_at) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    if ((attributes.mode & S_IFMT) != inode->type || attributes.identity == inodes_.root().identity)
        return failed_behind("making", parent, name, id, Status::io_error);
    if (InodeMap::has_identity(*inode) && inode->identity != attributes.identity)
        log::warn("\"{}\" in directory {} has another number than programs were told: {}, not {}", name, parent,
                  attributes.identity.inode, inode->identity.inode);
    shown_times_.heard(id, attributes.change);
    inodes_.confirm(*inode, attributes);
    statistics_.changed();
    const std::uint64_t now = contents_.now();
    names_.known().made_here(parent, name, attributes, no_xattrs_at_all, asked_at, now);
    if (inode->changed_at >= asked_at)
        names_.known().attributes_changed_here(parent, name, now);
    if (inode->type == S_IFDIR) {
        names_.known().put(id, {inode->place.parent, inode->place.name});
        names_.known().note_own(id, attributes);
        names_.known().learn_own(id, attributes, asked_at);
    } else {
        contents_.seen(id, attributes, asked_at);
    }
}

template <class Message>
Task<void> FileSystem::carry_out_making(ChangesBehind::UnderWay change, InodeNumber parent, InodeNumber inode,
                                        Message message, std::uint64_t asked_at) {
    const auto under_way = std::move(change);
    note_request(under_way, message);
    const auto reply = co_await session_.call(message, options_of_change(under_way));
    if (reply)
        confirm_made(parent, message.name, inode, attributes_in(reply->body), asked_at);
    else
        failed_behind("making", parent, message.name, inode, reply.status());
}

// A directory counts those that are in it, if its file system counts.
void FileSystem::has_another_directory(InodeNumber parent, std::int32_t more) {
    constexpr std::uint32_t links_of_empty = 2;
    const wire::Attributes* shown = behind_.shown(parent);
    if (shown == nullptr || shown->links < links_of_empty)
        return;
    wire::Attributes attributes = *shown;
    attributes.links += static_cast<std::uint32_t>(more);
    behind_.show(parent, attributes);
}

// Precondition: may_make().
template <class Message>
Entry FileSystem::make_behind(InodeNumber parent, Message message, std::uint32_t mode, const wire::LentInode* lent) {
    const std::uint64_t asked_at = contents_.now();
    message.parent = inodes_.find(parent)->node;
    message.node = {session_.new_node_id(), false};
    Inode& inode = lent == nullptr ? inodes_.make_unconfirmed(parent, message.name, mode & S_IFMT, message.node.id)
                                   : inodes_.make_lent(parent, message.name, lent->attributes, message.node.id);
    const InodeNumber id = inode.id;
    auto change = begin_change({.inodes = {parent, id}, .names = {{parent, message.name, id}}});
    const wire::Attributes attributes = attributes_of_new(inode, mode, lent);
    behind_.show(id, attributes);
    spawn(carry_out_making(std::move(change), parent, id, std::move(message), asked_at));
    if (S_ISDIR(mode)) {
        has_another_directory(parent, 1);
        exclusive_.made(id);
    }
    return {.inode = id, .attributes = attributes, .is_outdated = true};
}

template Entry FileSystem::make_behind(InodeNumber, wire::Mkdir, std::uint32_t, const wire::LentInode*);
template Entry FileSystem::make_behind(InodeNumber, wire::MakeLent, std::uint32_t, const wire::LentInode*);
template Entry FileSystem::make_behind(InodeNumber, wire::Symlink, std::uint32_t, const wire::LentInode*);
template Entry FileSystem::make_behind(InodeNumber, wire::Mknod, std::uint32_t, const wire::LentInode*);

// The same of a file that is opened with it.
Created FileSystem::create_behind(InodeNumber parent, wire::Create message, const OpenHow& how) {
    const std::uint64_t asked_at = contents_.now();
    const auto lent = borrow(LentInodes::Kind::file, parent);
    Inode& inode = lent ? inodes_.make_lent(parent, message.name, lent->attributes, message.node.id)
                        : inodes_.make_unconfirmed(parent, message.name, S_IFREG, message.node.id);
    const InodeNumber id = inode.id;
    auto change = begin_change({.inodes = {parent, id}, .names = {{parent, message.name, id}}});
    const wire::Attributes attributes =
        attributes_of_new(inode, message.mode & ~message.umask, lent ? &*lent : nullptr);
    behind_.show(id, attributes);
    FileHandle file{.handle = message.handle, .epoch = session_.epoch(), .inode = id, .readahead = {}};
    constexpr std::uint32_t to_read_and_write = wire::open_read | wire::open_write;
    file.flags = flags_to_open_again(how);
    file.made_behind = true;
    file.reads = (how.flags & wire::open_read) != 0;
    file.maps = (how.flags & to_read_and_write) == to_read_and_write;
    opened(id, file.maps);
    const HandleNumber handle = files_.add(std::move(file));
    if (lent) {
        wire::MakeLent making{.parent = message.parent,
                              .name = std::move(message.name),
                              .node = message.node,
                              .lent = lent->number,
                              .handle = message.handle,
                              .flags = message.flags,
                              .mode = message.mode,
                              .umask = message.umask,
                              .time = attributes.modification};
        spawn(carry_out_making(std::move(change), parent, id, std::move(making), asked_at));
    } else {
        spawn(carry_out_making(std::move(change), parent, id, std::move(message), asked_at));
    }
    return {.entry = {.inode = id, .attributes = attributes, .is_outdated = true}, .opened = {.handle = handle}};
}

// Whether the file may be given another name in the directory without asking, and what it is like; else null.
const wire::Attributes* FileSystem::may_link(const Operation& operation, const Inode& inode) {
    const bool is_behind = behind_.shown(inode.id) != nullptr;
    const wire::Attributes* known = is_behind ? behind_.shown(inode.id) : names_.attributes(inode);
    const bool fits = known != nullptr && inode.node && !inodes_.stale(inode) && inode.type != S_IFDIR &&
                      may_answer(operation, inode.place.parent) && known->links < max_links_unasked &&
                      (is_behind || names_.absent_xattrs(inode) == no_xattrs_at_all) &&
                      (known->uid == session_.hello().server_uid || session_.hello().server_uid == 0);
    return fits ? known : nullptr;
}

Entry FileSystem::link_behind(Inode& inode, InodeNumber new_parent, std::string new_name, wire::Attributes known) {
    const std::uint64_t asked_at = contents_.now();
    const InodeNumber id = inode.id;
    wire::Link message{inode.node, inodes_.find(new_parent)->node, std::move(new_name)};
    auto change =
        begin_change({.inodes = {new_parent, id, inode.place.parent}, .names = {{new_parent, message.new_name, id}}});
    if (!inode.place.name.empty())
        linked_names_.add(id, {inode.place.parent, inode.place.name});
    linked_names_.add(id, {new_parent, message.new_name});
    ++known.links;
    known.change = std::max(known.change, time_now());
    behind_.show(id, known);
    changed_here(id);
    names_.known().linked_here(inode.place.parent, inode.place.name, contents_.now());
    contents_.writes().send(id);
    if (inode.type == S_IFREG)
        known.size = std::max(known.size, inode.content.size);
    spawn(carry_out_link(std::move(change), id, new_parent, std::move(message), asked_at));
    inodes_.hand_out(inode);
    return {.inode = id, .attributes = known, .is_outdated = true};
}

Task<void> FileSystem::carry_out_link(ChangesBehind::UnderWay change, InodeNumber id, InodeNumber new_parent,
                                      wire::Link message, std::uint64_t asked_at) {
    const auto under_way = std::move(change);
    note_request(under_way, message);
    const auto reply = co_await session_.call(message, options_of_change(under_way));
    changed_here(id);
    behind_.note_heard(id, std::nullopt);
    if (!reply)
        co_return failed_behind("linking", new_parent, message.new_name, 0, reply.status());
    made(new_parent, message.new_name, reply->body.attributes, asked_at);
    // The answer has given one more of the node, and the entry was given out before.
    if (Inode* inode = inodes_.find(id); inode != nullptr && inode->node == message.node)
        ++inode->server_count;
    else
        give_back({{message.node, 1}});
}

// ---------------------------------------------------------------- opening what is being made

// Whether a file with changes under way is opened without asking: to be read, by somebody who may.
bool FileSystem::may_open_behind(const Operation& operation, InodeNumber id, const OpenHow& how) {
    const Inode* inode = inodes_.find(id);
    const wire::Attributes* shown = behind_.shown(id);
    return how.flags == wire::open_read && !how.past_cache && shown != nullptr && inode != nullptr && inode->node &&
           inode->type == S_IFREG && !inodes_.stale(*inode) && !inode->place.name.empty() &&
           may_answer(operation, inode->place.parent) && mode_allows(operation, *shown, R_OK) &&
           // Who else has it open is told of what fails before it is read.
           (inode->open_count == 0 || !contents_.writes().pending(id)) && files_.size() < max_open_unasked;
}

// The server opens it in order with what is done to it before and after.
Opened FileSystem::open_behind(InodeNumber id, const OpenHow& how) {
    const Inode& inode = *inodes_.find(id);
    const std::uint64_t size = std::max(behind_.shown(id)->size, inode.content.size);
    auto change = begin_change({.inodes = {inode.place.parent, id}, .names = {}});
    FileHandle file{.handle = {}, .epoch = session_.epoch(), .inode = id, .readahead = {}};
    file.flags = flags_to_open_again(how);
    file.reads = true;
    file.opening = true;
    opened(id, false);
    const HandleNumber handle = files_.add(std::move(file));
    spawn(carry_out_opening(std::move(change), handle, wire::Open{inode.node, session_.new_handle_id(), how.flags}));
    return {.handle = handle, .size = size};
}

// If it fails, whoever reads the file asks once more, and is told why.
Task<void> FileSystem::carry_out_opening(ChangesBehind::UnderWay change, HandleNumber handle, wire::Open message) {
    const auto under_way = std::move(change);
    const auto reply = co_await session_.call(message, options_of_change(under_way));
    FileHandle* file = files_.find(handle);
    if (file != nullptr)
        file->opening = false;
    if (reply && file != nullptr)
        file->handle = message.handle;
    else if (reply)
        session_.tell(wire::Release{message.handle}, client::LaneKind::metadata);
}

// ---------------------------------------------------------------- removing and renaming

// What is open needs a descriptor of the server's once its last name goes, which there may not be.
bool FileSystem::is_open(InodeNumber inode) {
    const Inode* known = inodes_.find(inode);
    return known != nullptr && known->open_count > 0;
}

// Whether a program has the file open of which the server has not been asked for a handle: that goes by its name.
bool FileSystem::has_unopened(InodeNumber inode) {
    bool found = false;
    if (const Inode* known = inodes_.find(inode); known == nullptr || known->open_count == 0)
        return false;
    files_.for_each([&](const FileHandle& file) { found |= file.inode == inode && !file.handle && !file.opening; });
    return found;
}

// Carries out a request by which a file loses the name; as take_away().
template <class Message>
Task<Status> FileSystem::take_away_behind(const ChangesBehind::UnderWay& change, InodeNumber parent, std::string name,
                                          Message message, bool look_first) {
    if (!look_first) {
        const auto reply = co_await session_.call(message, options_of_change(change));
        co_return reply.status();
    }
    const std::uint64_t asked_at = contents_.now();
    const wire::Lookup look_up{.parent = inodes_.find(parent)->node, .name = name, .node = new_node()};
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(look_up));
    requests.push_back(client::encoded(message));
    const auto replies = co_await session_.call_batch(std::move(requests), options_of_change(change));
    if (const auto found = client::decoded<wire::Lookup>(replies[0]))
        if (const auto entry = entry_of(parent, name, *found, asked_at))
            forget(entry->inode);
    co_return replies[1].status;
}

// It may have another, which a change under way has given it.
void FileSystem::loses_name(InodeNumber id) {
    changed_here(id);
    contents_.loses_name(id);
    shown_times_.changed(id);
    const wire::Attributes* shown = behind_.shown(id);
    if (shown == nullptr)
        return;
    wire::Attributes attributes = *shown;
    attributes.links -= std::min(attributes.links, 1U);
    attributes.change = std::max(attributes.change, time_now());
    behind_.show(id, attributes);
}

// Precondition: may_remove(), or of a directory that it and the one above are held and that it is empty.
template <class Message>
void FileSystem::remove_behind(InodeNumber parent, Message message) {
    const std::uint64_t asked_at = contents_.now();
    const Standing standing = standing_of(parent, message.name);
    const bool look_first =
        standing.inode != 0 && standing.type != S_IFDIR && may_be_known_by_name_alone(parent, message.name);
    message.parent = inodes_.find(parent)->node;
    kept_handles_.drop(parent, message.name);
    ChangesBehind::Concern concern{.inodes = {parent}, .names = {{parent, message.name, 0}}};
    if (standing.inode != 0) {
        concern.inodes.push_back(standing.inode);
        if (standing.type != S_IFDIR)
            loses_name(standing.inode);
    }
    auto change = begin_change(std::move(concern));
    const InodeNumber directory = standing.type == S_IFDIR ? standing.inode : 0;
    if (directory != 0)
        has_another_directory(parent, -1);
    if constexpr (std::is_same_v<Message, wire::Unlink>) {
        if (look_first) {
            held_removal_.emplace(HeldRemoval{standing.inode, parent, std::move(message), asked_at, std::move(change)});
            return hold_for_a_moment();
        }
    }
    spawn(carry_out_removal(std::move(change), parent, directory, std::move(message), false, asked_at));
}

template void FileSystem::remove_behind(InodeNumber, wire::Unlink);
template void FileSystem::remove_behind(InodeNumber, wire::Rmdir);

void FileSystem::send_held_removal() {
    HeldRemoval held = std::move(*held_removal_);
    held_removal_.reset();
    const Inode* inode = inodes_.find(held.inode);
    const bool is_held =
        inode == nullptr || inode->entry_count > 1 || inode->open_count > 0;  // not by the change alone
    spawn(
        carry_out_removal(std::move(held.under_way), held.parent, 0, std::move(held.message), is_held, held.asked_at));
}

template <class Message>
Task<void> FileSystem::carry_out_removal(ChangesBehind::UnderWay change, InodeNumber parent, InodeNumber directory,
                                         Message message, bool look_first, std::uint64_t asked_at) {
    const auto under_way = std::move(change);
    note_request(under_way, message, known_of(parent, message.name));
    const Status status = co_await take_away_behind(under_way, parent, message.name, message, look_first);
    if (status != Status::ok)
        co_return failed_behind("removing", parent, message.name, 0, status);
    removed(parent, message.name, asked_at);
    if (directory != 0)
        names_.forget(directory);
}

Task<Result<bool>> FileSystem::may_rename(Operation& operation, InodeNumber parent, const std::string& name,
                                          InodeNumber new_parent, const std::string& new_name, std::uint32_t flags) {
    using Knowledge = DirectoryCache::Knowledge;
    if ((flags & ~wire::rename_noreplace) != 0 || !may_answer(operation, new_parent) ||
        !client::is_valid_name(new_name))
        co_return false;
    const auto may_go = co_await may_remove(operation, parent, name);
    if (!may_go || !*may_go)
        co_return may_go;
    const Standing from = standing_of(parent, name);
    const Standing to = standing_of(new_parent, new_name);
    if (!may_answer(operation, new_parent) || from.inode == 0 || contents_.writes().pending_by_data_lane(from.inode))
        co_return false;
    if (to.knowledge == Knowledge::absent)
        co_return true;
    const bool may_replace = flags == 0 && to.knowledge == Knowledge::present && to.is_plain && to.type != 0 &&
                             to.type != S_IFDIR && to.inode != from.inode && !is_open(to.inode);
    co_return may_replace;
}

// Precondition: may_rename().
void FileSystem::rename_behind(InodeNumber parent, std::string name, InodeNumber new_parent, std::string new_name,
                               std::uint32_t flags) {
    const std::uint64_t asked_at = contents_.now();
    const Standing from = standing_of(parent, name);
    const Standing to = standing_of(new_parent, new_name);
    const bool look_first =
        to.knowledge == DirectoryCache::Knowledge::present && may_be_known_by_name_alone(new_parent, new_name);
    kept_handles_.drop(parent, name);
    kept_handles_.drop(new_parent, new_name);
    wire::Rename message{inodes_.find(parent)->node, name, inodes_.find(new_parent)->node, new_name, flags};
    ChangesBehind::Concern concern{.inodes = {parent, new_parent, from.inode},
                                   .names = {{parent, name, 0}, {new_parent, new_name, from.inode}}};
    std::optional<wire::Attributes> attributes;
    if (const auto answer = names_.known().find(parent, name); answer.current)
        attributes = *answer.attributes;
    changed_here(from.inode);
    if (to.inode != 0) {
        concern.inodes.push_back(to.inode);
        loses_name(to.inode);
    }
    names_.known().loan_moves(parent, name, new_parent, new_name);
    auto change = begin_change(std::move(concern));
    contents_.writes().send(from.inode);  // as the file is concerned by a change, in order with it
    if (const wire::Attributes* shown = behind_.shown(from.inode); shown != nullptr)
        attributes = *shown;
    if (attributes) {
        attributes->change = std::max(attributes->change, time_now());
        behind_.show(from.inode, *attributes);
    }
    inodes_.move(*inodes_.find(from.inode), new_parent, new_name);
    spawn(
        carry_out_rename(std::move(change), parent, new_parent, from.inode, std::move(message), look_first, asked_at));
}

Task<void> FileSystem::carry_out_rename(ChangesBehind::UnderWay change, InodeNumber parent, InodeNumber new_parent,
                                        InodeNumber moved, wire::Rename message, bool look_first,
                                        std::uint64_t asked_at) {
    const auto under_way = std::move(change);
    note_request(under_way, message, known_of(parent, message.name), known_of(new_parent, message.new_name));
    const Status status = co_await take_away_behind(under_way, new_parent, message.new_name, message, look_first);
    behind_.note_heard(moved, std::nullopt);
    if (status == Status::ok)
        co_return has_moved(parent, message.name, new_parent, message.new_name, asked_at);
    failed_behind("renaming", parent, message.name, 0, status);
    failed_behind("renaming to", new_parent, message.new_name, 0, status);
}

// ---------------------------------------------------------------- attributes

// What the file will be like after the change; nothing if the server has to be asked.
std::optional<wire::Attributes> FileSystem::attributes_after(const Operation& operation, const Inode& inode,
                                                             const wire::Setattr& change) {
    const bool is_directory = inode.type == S_IFDIR;
    const bool is_behind = behind_.shown(inode.id) != nullptr;
    const wire::Attributes* known = is_behind ? behind_.shown(inode.id) : names_.attributes(inode);
    // Its times and links change with the names in it, and it is not shown then; the rest would have been told.
    if (!is_behind && is_directory && (known == nullptr || behind_.concerns(inode.id)))
        known = names_.known().last_own_attributes(inode.id);
    const wire::HelloReply& hello = session_.hello();
    const bool is_root = hello.server_uid == 0;
    if (known == nullptr || !inode.node || inodes_.stale(inode) || inode.type == S_IFLNK ||
        !may_answer(operation, is_directory ? inode.id : inode.place.parent) ||
        contents_.writes().pending_by_data_lane(inode.id) || (change.which & ~set_unasked) != 0 ||
        (known->mode & (S_ISUID | S_ISGID | S_ISVTX)) != 0 || (known->uid != hello.server_uid && !is_root))
        return std::nullopt;
    if (!is_behind && !is_directory && names_.absent_xattrs(inode) != no_xattrs_at_all)
        return std::nullopt;
    wire::Attributes after = *known;
    if ((change.which & wire::set_mode) != 0) {
        const bool is_usable = !is_directory || (change.mode & S_IRWXU) == S_IRWXU;
        if ((change.mode & all_permissions & ~permissions) != 0 || !is_usable)
            return std::nullopt;
        after.mode = (after.mode & S_IFMT) | (change.mode & permissions);
    }
    if ((change.which & wire::set_uid) != 0)
        after.uid = change.uid;
    if ((change.which & wire::set_gid) != 0)
        after.gid = change.gid;
    if ((after.uid != known->uid || after.gid != known->gid) && !is_root)
        return std::nullopt;
    if ((change.which & wire::set_access) != 0)
        after.access = change.access;
    if ((change.which & wire::set_modification) != 0)
        after.modification = change.modification;
    after.change = std::max(after.change, time_now());
    return after;
}

ShownAttributes FileSystem::set_behind(Inode& inode, wire::Setattr change, wire::Attributes after) {
    const InodeNumber id = inode.id;
    const std::uint64_t asked_at = contents_.now();
    change.node = inode.node;
    change.handle = {};
    const bool is_directory = inode.type == S_IFDIR;
    // Whether all of it is; else whoever wants to know waits for the server.
    const bool is_known =
        !is_directory || behind_.shown(id) != nullptr || (names_.attributes(inode) != nullptr && !behind_.concerns(id));
    if (is_directory) {
        inode.changed_at = asked_at;
        names_.known().own_attributes_changed_here(id, asked_at);
    } else {
        names_.changed(inode);
    }
    shown_times_.changed(id);
    if (held_setting_ && held_setting_->inode == id) {
        join(held_setting_->message, change);
    } else {
        // A time that is set must not be overtaken by what was written before. And what the file was like is asked for
        // with it if it was there before, and is open here: what others changed would not be noticed any more behind
        // ours.
        const bool look_first = inode.type == S_IFREG && inode.open_count > 0 && !behind_.concerns(id);
        auto under_way = begin_change({.inodes = {id, is_directory ? id : inode.place.parent}, .names = {}});
        contents_.writes().send(id);  // as the file is concerned by a change, in order with it
        held_setting_.emplace(HeldSetting{id, change, look_first, asked_at, std::move(under_way)});
        hold_for_a_moment();
    }
    if (is_known)
        behind_.show(id, after);
    if ((change.which & wire::set_modification) != 0)
        behind_.note_written(id, false);
    if (inode.type == S_IFREG)
        after.size = std::max(after.size, inode.content.size);
    return {.attributes = after};
}

void FileSystem::send_held_setting() {
    HeldSetting held = std::move(*held_setting_);
    held_setting_.reset();
    spawn(carry_out_setting(std::move(held.under_way), held.inode, std::move(held.message), held.look_first,
                            held.asked_at));
}

Task<void> FileSystem::carry_out_setting(ChangesBehind::UnderWay change, InodeNumber id, wire::Setattr message,
                                         bool look_first, std::uint64_t asked_at) {
    const auto under_way = std::move(change);
    note_request(under_way, message);
    const wire::Getattr look{.node = message.node};
    std::vector<client::EncodedRequest> requests;
    if (look_first)
        requests.push_back(client::encoded(look));
    requests.push_back(client::encoded(message));
    const auto replies = co_await session_.call_batch(std::move(requests), options_of_change(under_way));
    if (look_first)
        if (const auto before = client::decoded<wire::Getattr>(replies.front()))
            contents_.seen(id, before->attributes, asked_at);
    const auto reply = client::decoded<wire::Setattr>(replies.back());
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        co_return;
    if (!reply) {
        if (!unsent_taken_)
            log::error(
                "attributes of file {} could not be set at the server after a program was told that they were: {}", id,
                describe(reply.status()));
        const Status status = for_programs(reply.status());
        const InodeNumber directory = inode->type == S_IFDIR ? id : inode->place.parent;
        behind_.note_failure(directory, status);
        names_.forget(directory);
        files_.for_each([&](FileHandle& file) {
            if (file.inode == id && file.write_error == Status::ok)
                file.write_error = status;
        });
        changed_here(id);
        co_return;
    }
    const wire::Attributes& attributes = reply->attributes;
    // What was asked for while the change was on its way, a listing ahead or a look-up, may have passed it.
    inode->changed_at = contents_.now();
    if (inode->type == S_IFDIR) {
        shown_times_.heard(id, attributes.change);
        names_.known().own_attributes_changed_here(id, inode->changed_at);
        names_.known().note_own(id, attributes);
        co_return;
    }
    names_.known().attributes_changed_here(inode->place.parent, inode->place.name, inode->changed_at);
    inode->version = attributes.version & ~wire::version_is_fresh;
    inode->content.kept_version = 0;
    contents_.told(id, attributes);
    contents_.note_told(id, attributes);
    attributes_are(id, attributes, asked_at);
}

// A change of a file has been carried out: this is what it is like, if nothing else is under way.
void FileSystem::attributes_are(InodeNumber id, const wire::Attributes& attributes, std::uint64_t asked_at) {
    const Inode* inode = inodes_.find(id);
    shown_times_.heard(id, attributes.change);
    if (behind_.concerns(id))
        behind_.note_heard(id, ChangesBehind::Heard{attributes, asked_at});
    else if (inode != nullptr && inode->content.writes_through == 0 && inode->identity == attributes.identity)
        names_.known().attributes_are(inode->place.parent, inode->place.name, attributes, asked_at);
}

// ---------------------------------------------------------------- closing

// Whether nobody needs to wait for what was written to the file: whoever looks for it does. If it fails, that is told
// to nobody else who has the file open.
bool FileSystem::may_close_unwaited(const FileHandle& file) {
    const Inode* inode = inodes_.find(file.inode);
    return file.made_behind && file.epoch == session_.epoch() && file.write_error == Status::ok &&
           file.told_error == Status::ok && inode != nullptr && inode->open_count == 1 && !inode->has_byte_locks &&
           inode->content.size <= max_closed_unwaited_bytes && exclusive_.holds(inode->place.parent);
}

// Counts as a change in its directory until all that was written is there.
void FileSystem::close_unwaited(InodeNumber id) {
    contents_.writes().send(id);
    if (!contents_.writes().pending(id))
        return;
    auto change = begin_change({.inodes = {inodes_.find(id)->place.parent}, .names = {}});
    spawn(finish_closed(std::move(change), id));
}

Task<void> FileSystem::finish_closed(ChangesBehind::UnderWay change, InodeNumber id) {
    const auto under_way = std::move(change);
    co_await contents_.writes().drain(id, nullptr);
}

Task<void> FileSystem::release_when_settled(const FileHandle& file) {
    const HandleNumber number =
        released_.add({.handle = file.handle,
                       .epoch = file.epoch,
                       .inode = file.inode,
                       .flags = file.flags,
                       .locked = file.locked,
                       .opener = file.opener ? std::make_unique<const CallerIdentity>(*file.opener) : nullptr,
                       .readahead = {}});
    const InodeNumber id = file.inode;
    inodes_.hand_out(*inodes_.find(id));  // it is known by its number until then
    co_await behind_.settled(id, nullptr);
    co_await contents_.writes().drain(id, nullptr);
    if (const FileHandle* kept = released_.find(number); kept->epoch == session_.epoch()) {
        // Through one that cannot be read through nothing is under way now, and metadata has messages to take it along.
        const bool may_be_read = (kept->flags & wire::open_read) != 0;
        session_.tell(wire::Release{kept->handle}, may_be_read ? client::LaneKind::data : client::LaneKind::metadata);
    }
    released_.remove(number);
    forget(id);
}

}  // namespace remofile::filesystem
