// SPDX-License-Identifier: MIT
// Listing directories.
//
// Entries are fetched in large pieces, with their attributes when those are wanted, and kept until they are asked for,
// as many at a time as whoever asks has room for. An entry's node that nobody took is given back.
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>

#include "client/directory.hpp"
#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"

namespace remofile::filesystem {
namespace {

// A piece of a listing: large enough for most directories in one round trip, small enough that a stat does not wait
// long behind it.
constexpr std::uint32_t piece_bytes = 256U << 10;
constexpr std::uint16_t piece_entries = 1024;

// Files that listings may give numbers to unasked: the front keeps those as long as it likes, and so do we.
constexpr std::size_t max_listed_inodes = 64U << 10;

// Before the names that are known come "." and "..".
constexpr std::uint64_t dots = 2;

bool is_dot(std::string_view name) {
    return name == "." || name == "..";
}

}  // namespace

// All names of a directory, if they are known or come with one answer, under a lease; else null. Errors: interrupted.
Task<Result<DirectoryCache::Names>> FileSystem::names_of(Operation& operation, InodeNumber inode) {
    using Names = DirectoryCache::Names;
    const Inode* directory = inodes_.find(inode);
    if (directory == nullptr || directory->unlistable || directory->too_large || !may_use_names(operation) ||
        !names_.in_force())
        co_return Names();
    if (Names names = names_.known().names(inode); names != nullptr)
        co_return std::move(names);
    const auto credential = co_await credential_of(operation);
    if (!credential)
        co_return Names();
    if (const Status status = co_await names_.list(inode, *credential, &operation.cancellation); status != Status::ok)
        co_return Result<Names>(status);
    co_return names_.in_force() ? names_.known().names(inode) : Names();
}

Task<Result<HandleId>> FileSystem::open_at_server(Operation& operation, InodeNumber inode) {
    const auto node = node_of(inode);
    if (!node)
        co_return Result<HandleId>(node.error());
    const wire::Opendir message{*node, session_.new_handle_id()};
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<HandleId>(reply.error());
    co_return message.handle;
}

Task<Result<FileSystem::OpenedDirectory>> FileSystem::opendir(Operation& operation, InodeNumber inode) {
    if (const auto node = node_of(inode); !node)
        co_return Result<OpenedDirectory>(node.error());
    if (may_open_unasked(operation, inode) || !co_await settled_briefly(operation, inode))
        co_return open_unasked(inode);
    if (may_use_names(operation) && names_.in_force())
        if (const auto known = names_.known().names(inode); known != nullptr)
            co_return add_directory({.epoch = session_.epoch(), .inode = inode, .names = known});
    if (session_.silent())
        co_return open_unasked(inode);
    Patience patience(session_, reactor_, operation);
    const auto names = co_await names_of(patience.questions(), inode);
    if (!names && patience.is_over())
        co_return open_unasked(inode);
    if (!names)
        co_return Result<OpenedDirectory>(names.error());
    DirectoryHandle opened{.epoch = session_.epoch(), .inode = inode, .names = *names};
    if (*names == nullptr) {
        const auto handle = co_await open_at_server(patience.questions(), inode);
        if (!handle && patience.is_over())
            co_return open_unasked(inode);
        if (!handle)
            co_return Result<OpenedDirectory>(handle.error());
        opened.handle = *handle;
        opened.epoch = session_.epoch();
    }
    co_return add_directory(std::move(opened));
}

// A directory in which changes are under way, and that nobody else changes: programs that have filled one open it to
// set its mode, and to sync it.
bool FileSystem::may_open_unasked(const Operation& operation, InodeNumber inode) {
    if (!behind_.concerns(inode) || !may_answer(operation, inode))
        return false;
    const wire::Attributes* known = behind_.shown(inode);
    if (known == nullptr)
        known = names_.known().last_own_attributes(inode);
    return known != nullptr && mode_allows(operation, *known, R_OK);
}

// Also of a silent server: df opens the directory that it is given, and wants nothing of it. Whoever wants the names
// waits.
Result<FileSystem::OpenedDirectory> FileSystem::open_unasked(InodeNumber inode) {
    return add_directory({.epoch = session_.epoch(), .inode = inode, .names = nullptr});
}

// ---------------------------------------------------------------- what is kept in front of the names

// Whoever is in front may keep the names that are read through one handle, and answer from them to those who read
// another one, wherever they are in it: so all handles that are lent at a time read the same names.
FileSystem::OpenedDirectory FileSystem::add_directory(DirectoryHandle opened) {
    const InodeNumber inode = opened.inode;
    opened.lent = opened.names != nullptr && may_lend_names(inode) && lent_names_are(inode, opened.names);
    const bool lent = opened.lent;
    const HandleNumber handle = directories_.add(std::move(opened));
    if (!lent)
        return {.handle = handle};
    lent_directories_[inode].push_back(handle);
    watch_lent_names();
    return {.handle = handle, .front_may_keep = true, .front_is_true = names_.known().lend_names(inode)};
}

bool FileSystem::may_lend_names(InodeNumber inode) {
    return may_lend() && names_.known().is_told_of(inode);
}

// Whether all handles of the directory that are lent read these names.
bool FileSystem::lent_names_are(InodeNumber inode, const DirectoryCache::Names& names) {
    const auto lent = lent_directories_.find(inode);
    return lent == lent_directories_.end() || std::ranges::all_of(lent->second, [&](HandleNumber handle) {
               return directories_.find(handle)->names == names;
           });
}

// A lease may end while a directory is open, and nobody is told.
void FileSystem::watch_lent_names() {
    if (!lent_names_timer_)
        lent_names_timer_ = reactor_.after(std::chrono::seconds(1), [this] { check_lent_names(); });
}

void FileSystem::check_lent_names() {
    lent_names_timer_.reset();
    for (const auto& [inode, handles] : lent_directories_)
        for (const HandleNumber handle : handles)
            if (front_names_ != nullptr && !names_.known().are_names(inode, directories_.find(handle)->names)) {
                front_names_->drop_listing(inode);
                break;
            }
    if (!lent_directories_.empty())
        watch_lent_names();
}

// ---------------------------------------------------------------- the server's handle

// Ends when the server has a handle for an open directory.
Task<Result<>> FileSystem::have_at_server(Operation& operation, HandleNumber handle) {
    const auto found = directory(handle);
    if (!found || (*found)->handle)
        co_return found ? Result<>() : Result<>(found.error());
    const auto opened = co_await open_at_server(operation, (*found)->inode);
    if (!opened)
        co_return Result<>(opened.error());
    const auto again = directory(handle);
    if (!again || (*again)->handle)
        session_.tell(wire::Releasedir{*opened});
    else
        (*again)->handle = *opened;
    co_return again ? Result<>() : Result<>(again.error());
}

// The same for all of a directory that may become one that the server opens to nobody, but for those whose names are
// known. Errors do not matter: whoever reads it is told.
Task<void> FileSystem::have_directory_at_server(Operation& operation, InodeNumber inode) {
    std::vector<HandleNumber> handles;
    directories_.for_each_numbered([&](HandleNumber number, const DirectoryHandle& opened) {
        if (opened.inode == inode && !opened.handle && opened.names == nullptr)
            handles.push_back(number);
    });
    for (const HandleNumber handle : handles)
        co_await have_at_server(operation, handle);
}

void FileSystem::releasedir(HandleNumber handle) {
    if (const auto found = directory(handle); found && (*found)->handle) {
        discard_entries(**found);
        session_.tell(wire::Releasedir{(*found)->handle});
    }
    if (const DirectoryHandle* closed = directories_.find(handle); closed != nullptr && closed->lent) {
        const auto lent = lent_directories_.find(closed->inode);
        std::erase(lent->second, handle);
        if (lent->second.empty())
            lent_directories_.erase(lent);
    }
    directories_.remove(handle);
}

Task<Result<>> FileSystem::fsyncdir(Operation& operation, HandleNumber handle, bool data_only) {
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<>(status);
    if (const auto opened = directory(handle))
        if (const Status failure = behind_.take_failure((*opened)->inode); failure != Status::ok)
            co_return Result<>(failure);
    if (const auto had = co_await have_at_server(operation, handle); !had)
        co_return had;
    const auto found = directory(handle);
    if (!found)
        co_return Result<>(found.error());
    const wire::Fsyncdir message{(*found)->handle, data_only};
    const auto reply = co_await call(operation, message);
    co_return outcome_of(reply);
}

// Forgets what was fetched and not delivered.
void FileSystem::discard_entries(DirectoryHandle& directory) {
    std::vector<wire::ForgetNode> nodes;
    for (const wire::DirectoryEntry& entry : directory.entries)
        if (entry.entry.node)
            nodes.push_back({entry.entry.node, 1});
    directory.entries.clear();
    give_back(std::move(nodes));
}

// Of names that are known, the position is the cookie: whoever has read them through another handle has it too.
std::optional<std::uint64_t> FileSystem::known_position(const DirectoryHandle& directory, std::uint64_t number) {
    const std::uint64_t last = directory.names == nullptr ? 0 : directory.names->size() + dots;
    return number <= last ? std::optional(number) : std::nullopt;
}

// False for a position that was not given out.
bool FileSystem::go_to(DirectoryHandle& directory, std::uint64_t number) {
    if (directory.number == number)
        return true;
    const auto position = directory.handle ? directory.positions.cookie(number) : known_position(directory, number);
    if (!position)
        return false;
    discard_entries(directory);
    if (number == DirectoryPositions::start)
        directory.positions.restart();
    directory.number = number;
    directory.position = *position;
    directory.end = false;
    return true;
}

// Fetches the next piece. The handle is looked up anew afterwards: it may have been closed meanwhile.
Task<Result<>> FileSystem::fetch_entries(Operation& operation, HandleNumber handle, Listing listing) {
    const DirectoryHandle& before = *directories_.find(handle);
    const std::uint64_t position = before.position;
    wire::Readdir message{.handle = before.handle,
                          .cookie = position,
                          .size = piece_bytes,
                          .max_entries = piece_entries,
                          .attributes = listing == Listing::with_attributes ? wire::ListedAttributes::with_nodes
                                                                            : wire::ListedAttributes::none};
    if (listing == Listing::with_attributes)
        message.first_node = session_.new_node_ids(piece_entries);
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<>(reply.error());
    auto entries = client::decode_directory(reply->bulk, reply->body.count, position);
    if (!entries)
        co_return Result<>(entries.error());
    DirectoryHandle fetched{
        .entries = {std::make_move_iterator(entries->begin()), std::make_move_iterator(entries->end())}};
    DirectoryHandle* directory = directories_.find(handle);
    if (directory == nullptr || directory->position != position) {
        discard_entries(fetched);
        co_return Result<>(Status::bad_handle);
    }
    discard_entries(*directory);
    directory->end = reply->body.end || fetched.entries.empty();
    directory->asked_at = operation.arrived_at;
    directory->entries = std::move(fetched.entries);
    co_return Result<>();
}

// The names that are known, from the directory's position on.
void FileSystem::list_known(DirectoryHandle& directory) {
    const Inode* inode = inodes_.find(directory.inode);
    const Inode* parent = inode == nullptr ? nullptr : inodes_.find(inode->parent);
    const std::uint64_t own = inode == nullptr ? 0 : inode->identity.inode;
    const auto entry = [&](std::uint64_t cookie) -> wire::DirectoryEntry {
        if (cookie == 1)
            return {.cookie = cookie, .inode = own, .type = DT_DIR, .name = "."};
        if (cookie == 2)
            return {.cookie = cookie,
                    .inode = parent == nullptr ? own : parent->identity.inode,
                    .type = DT_DIR,
                    .name = ".."};
        const DirectoryCache::Name& name = (*directory.names)[cookie - dots - 1];
        return {.cookie = cookie, .inode = name.inode, .type = name.type, .name = name.name};
    };
    for (std::uint64_t cookie = directory.position + 1; cookie <= directory.names->size() + dots; ++cookie)
        directory.entries.push_back(entry(cookie));
    directory.end = true;
}

// What comes after the directory's position. A listing that begins anew shows what there is now.
Task<Result<>> FileSystem::find_entries(Operation& operation, HandleNumber handle, Listing listing) {
    auto found = directory(handle);
    if (!found)
        co_return Result<>(found.error());
    if ((*found)->position == 0) {
        if (const Status status = co_await settled(operation, (*found)->inode); status != Status::ok)
            co_return Result<>(status);
        found = directory(handle);
        if (!found)
            co_return Result<>(found.error());
    }
    if (!(*found)->handle && (*found)->position == 0) {
        const auto names = co_await names_of(operation, (*found)->inode);
        if (!names)
            co_return Result<>(names.error());
        found = directory(handle);
        if (!found)
            co_return Result<>(found.error());
        (*found)->names = *names;
        if ((*found)->lent)
            names_.known().lend_names((*found)->inode);
    }
    if (!(*found)->handle && (*found)->names != nullptr) {
        list_known(**found);
        co_return Result<>();
    }
    if (const auto had = co_await have_at_server(operation, handle); !had)
        co_return had;
    co_return co_await fetch_entries(operation, handle, listing);
}

Task<Result<>> FileSystem::readdir(Operation& operation, HandleNumber handle, std::uint64_t position, Listing listing,
                                   ListingSink& sink) {
    auto found = directory(handle);
    if (!found)
        co_return Result<>(found.error());
    if (!go_to(**found, position))
        co_return Result<>(Status::invalid);
    if ((*found)->entries.empty() && !(*found)->end) {
        const auto fetched = co_await find_entries(operation, handle, listing);
        if (!fetched)
            co_return Result<>(fetched.error());
        found = directory(handle);
        if (!found)
            co_return Result<>(found.error());
    }
    // What is kept of this answer would not be true, or not go on where others are.
    if (DirectoryHandle& read = **found; read.lent && front_names_ != nullptr)
        if (!names_.known().are_names(read.inode, read.names) || !lent_names_are(read.inode, read.names))
            front_names_->drop_listing(read.inode);
    deliver(operation, **found, listing, sink);
    co_return Result<>();
}

// Hands on what was fetched, as much as there is room for.
void FileSystem::deliver(const Operation& operation, DirectoryHandle& directory, Listing listing, ListingSink& sink) {
    std::vector<wire::ForgetNode> unneeded;
    while (!directory.entries.empty() && sink.has_room_for(directory.entries.front().name)) {
        wire::DirectoryEntry entry = std::move(directory.entries.front());
        directory.entries.pop_front();
        directory.position = entry.cookie;
        directory.number = directory.handle ? directory.positions.number(directory.number, entry.cookie) : entry.cookie;
        ListedEntry listed = brief(directory, entry);
        listed.name = std::move(entry.name);
        if (entry.entry.node && (listing == Listing::plain || is_dot(listed.name) || is_outdated(directory, entry)))
            unneeded.push_back({entry.entry.node, 1});
        else if (entry.entry.node)
            listed.entry = entry_of(directory.inode, listed.name, entry.entry, directory.asked_at).value_or(Entry{});
        else if (listing == Listing::with_attributes && directory.names != nullptr)
            listed.entry = known_listed(operation, directory.inode, listed.name);
        sink.add(listed);
    }
    give_back(std::move(unneeded));
}

// What is known of a name that is listed. Nothing, if the front may not keep it, or keeps many already: it is looked up
// then, if it matters. The same holds of a directory of which nothing is known: looking it up tells of a walk.
Entry FileSystem::known_listed(const Operation& operation, InodeNumber parent, const std::string& name) {
    if (!may_lend() || !may_use_names(operation) || is_dot(name) || inodes_.size() >= max_listed_inodes)
        return {};
    // It has been removed, or another put in its place, since the listing began.
    if (behind_.meaning(parent, name))
        return {};
    return give_out_known(operation, parent, name, names_.known().find(parent, name)).value_or(Entry{});
}

// Whether later attributes than those of the listing, which waited here, may have been told.
bool FileSystem::is_outdated(const DirectoryHandle& directory, const wire::DirectoryEntry& entry) {
    const Inode* inode = inodes_.find(entry.entry.node);
    return inode != nullptr && contents_.heard_since(inode->id, directory.asked_at);
}

// What a plain listing says of a file besides its name.
ListedEntry FileSystem::brief(const DirectoryHandle& directory, const wire::DirectoryEntry& entry) {
    ListedEntry listed{.name = {},
                       .position = directory.number,
                       .identity = {.inode = entry.inode},
                       .type = static_cast<std::uint32_t>(DTTOIF(entry.type))};
    const Inode* inode = inodes_.find(directory.inode);
    if (entry.entry.node)
        listed.identity = entry.entry.attributes.identity;
    else if (inode != nullptr)
        listed.identity.device = inode->identity.device;
    return listed;
}

}  // namespace remofile::filesystem
