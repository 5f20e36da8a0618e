// SPDX-License-Identifier: MIT
// Listing directories.
//
// Entries are fetched in large pieces, with their attributes when the kernel wants those, and kept until the kernel
// asks for them; it takes as many at a time as its buffer holds. An entry whose node the kernel never took is given
// back.
#include <dirent.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "client/directory.hpp"
#include "remofs/mount.hpp"
#include "remofs/operations.hpp"

namespace remofile::remofs {
namespace {

// A piece of a listing: large enough for most directories in one round trip, small enough that a stat does not wait
// long behind it.
constexpr std::uint32_t piece_bytes = 256U << 10;
constexpr std::uint16_t piece_entries = 1024;

enum class Listing : std::uint8_t { plain, with_attributes };

bool is_dot(const std::string& name) {
    return name == "." || name == "..";
}

// Forgets what was fetched and not delivered.
void discard_entries(Mount& mount, DirectoryHandle& directory) {
    std::vector<wire::ForgetNode> nodes;
    for (const wire::DirectoryEntry& entry : directory.entries)
        if (entry.entry.node)
            nodes.push_back({entry.entry.node, 1});
    directory.entries.clear();
    mount.give_back(std::move(nodes));
}

// False for a position that the kernel cannot have from here.
bool go_to(Mount& mount, DirectoryHandle& directory, std::uint64_t number) {
    if (directory.number == number)
        return true;
    const auto position = directory.positions.cookie(number);
    if (!position)
        return false;
    discard_entries(mount, directory);
    if (number == DirectoryPositions::start)
        directory.positions.restart();
    directory.number = number;
    directory.position = *position;
    directory.end = false;
    return true;
}

// Fills an answer to READDIR or READDIRPLUS up to the kernel's size.
class ListingWriter {
public:
    ListingWriter(Mount& mount, fuse_req_t request, const DirectoryHandle& directory, std::size_t size)
        : mount_(mount), request_(request), directory_(directory.inode), asked_at_(directory.asked_at), buffer_(size) {}

    // False if the entry does not fit; nothing has happened then.
    bool add(wire::DirectoryEntry& entry, std::uint64_t number, Listing listing) {
        const auto position = static_cast<off_t>(number);
        return listing == Listing::plain ? add_plain(entry, position) : add_with_attributes(entry, position);
    }

    std::span<const std::byte> bytes() const { return std::as_bytes(std::span(buffer_)).first(used_); }

    // Whether the kernel took the answer: settles who holds the entries' nodes.
    void settle(bool taken) {
        for (const InodeNumber id : named_) {
            Inode* inode = mount_.inodes().find(id);
            if (inode != nullptr && taken)
                mount_.inodes().delivered(*inode);
            else if (inode != nullptr)
                mount_.undelivered(*inode);
        }
        mount_.give_back(std::move(unneeded_));
    }

private:
    bool add_plain(const wire::DirectoryEntry& entry, off_t position) {
        const struct stat attributes = brief_attributes(entry);
        const std::size_t size = fuse_add_direntry(request_, buffer_.data() + used_, buffer_.size() - used_,
                                                   entry.name.c_str(), &attributes, position);
        if (size > buffer_.size() - used_)
            return false;
        used_ += size;
        if (entry.entry.node)
            unneeded_.push_back({entry.entry.node, 1});
        return true;
    }

    bool add_with_attributes(wire::DirectoryEntry& entry, off_t position) {
        const std::size_t size = fuse_add_direntry_plus(request_, nullptr, 0, entry.name.c_str(), nullptr, 0);
        if (size > buffer_.size() - used_)
            return false;
        // Without a node (".", "..", and what was removed while it was being listed) the kernel just shows the name.
        fuse_entry_param param{};
        param.attr = brief_attributes(entry);
        if (entry.entry.node && is_outdated(entry.entry.node)) {
            unneeded_.push_back({entry.entry.node, 1});
        } else if (entry.entry.node && !is_dot(entry.name)) {
            if (Inode* inode = mount_.adopt(directory_, entry.entry, asked_at_); inode != nullptr) {
                param = mount_.tell_entry(*inode, entry.entry.attributes);
                named_.push_back(inode->id);
            }
        }
        fuse_add_direntry_plus(request_, buffer_.data() + used_, buffer_.size() - used_, entry.name.c_str(), &param,
                               position);
        used_ += size;
        return true;
    }

    // Whether the kernel may have been told of later attributes than those of the listing, which waited here.
    bool is_outdated(NodeId node) const {
        const Inode* known = mount_.inodes().find(node);
        return known != nullptr && mount_.contents().heard_since(known->id, asked_at_);
    }

    // What a plain listing says of a file.
    struct stat brief_attributes(const wire::DirectoryEntry& entry) const {
        struct stat attributes {};
        const Inode* directory = mount_.inodes().find(directory_);
        wire::FileIdentity identity{.inode = entry.inode};
        if (entry.entry.node)
            identity = entry.entry.attributes.identity;
        else if (directory != nullptr)
            identity.device = directory->identity.device;
        attributes.st_ino = mount_.visible_inode(identity);
        attributes.st_mode = static_cast<mode_t>(DTTOIF(entry.type));
        return attributes;
    }

    Mount& mount_;
    fuse_req_t request_;
    InodeNumber directory_;
    std::uint64_t asked_at_;
    std::vector<char> buffer_;
    std::size_t used_ = 0;
    std::vector<InodeNumber> named_;
    std::vector<wire::ForgetNode> unneeded_;
};

Task<void> open_directory(Mount& mount, Request request, InodeNumber inode, NodeId node, fuse_file_info info) {
    const wire::Opendir message{node, mount.session().new_handle_id()};
    const auto reply = co_await mount.call(request, message);
    if (!reply)
        co_return request.error(reply.error());
    info.fh = mount.directories().add({.handle = message.handle, .epoch = mount.session().epoch(), .inode = inode});
    if (request.opened(info))
        co_return;
    mount.session().tell(wire::Releasedir{message.handle});
    mount.directories().remove(info.fh);
}

// Fetches the next piece. The directory's handle is looked up anew afterwards: it may have been closed meanwhile.
Task<Result<>> fetch(Mount& mount, Request& request, HandleNumber number, Listing listing) {
    const DirectoryHandle& before = *mount.directories().find(number);
    const std::uint64_t position = before.position;
    wire::Readdir message{.handle = before.handle,
                          .cookie = position,
                          .size = piece_bytes,
                          .max_entries = piece_entries,
                          .attributes = listing == Listing::with_attributes};
    if (message.attributes)
        message.first_node = mount.session().new_node_ids(piece_entries);
    const auto reply = co_await mount.call(request, message);
    if (!reply)
        co_return Result<>(reply.error());
    auto entries = client::decode_directory(reply->bulk, reply->body.count, position);
    if (!entries)
        co_return Result<>(entries.error());
    DirectoryHandle fetched{
        .entries = {std::make_move_iterator(entries->begin()), std::make_move_iterator(entries->end())}};
    DirectoryHandle* directory = mount.directories().find(number);
    if (directory == nullptr || directory->position != position) {
        discard_entries(mount, fetched);
        co_return Result<>(Status::bad_handle);
    }
    discard_entries(mount, *directory);
    directory->end = reply->body.end || fetched.entries.empty();
    directory->asked_at = request.arrived_at();
    directory->entries = std::move(fetched.entries);
    co_return Result<>();
}

void deliver(Mount& mount, Request& request, DirectoryHandle& directory, std::size_t size, Listing listing) {
    ListingWriter writer(mount, request.handle(), directory, size);
    while (!directory.entries.empty()) {
        wire::DirectoryEntry& entry = directory.entries.front();
        const std::uint64_t number = directory.positions.number(directory.number, entry.cookie);
        if (!writer.add(entry, number, listing))
            break;
        directory.number = number;
        directory.position = entry.cookie;
        directory.entries.pop_front();
    }
    writer.settle(request.data(writer.bytes()));
}

Task<void> list(Mount& mount, Request request, HandleNumber number, std::size_t size, std::uint64_t position,
                Listing listing) {
    DirectoryHandle* directory = mount.directories().find(number);
    if (!go_to(mount, *directory, position))
        co_return request.error(Status::invalid);
    if (directory->entries.empty() && !directory->end) {
        const auto fetched = co_await fetch(mount, request, number, listing);
        if (!fetched)
            co_return request.error(fetched.error());
        directory = mount.directories().find(number);
    }
    deliver(mount, request, *directory, size, listing);
}

void start_listing(fuse_req_t handle, std::string_view operation, std::size_t size, off_t position,
                   fuse_file_info* info, Listing listing) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, operation);
    const auto directory = mount.directory(info);
    if (!directory)
        return request.error(directory.error());
    spawn(list(mount, std::move(request), info->fh, size, static_cast<std::uint64_t>(position), listing));
}

Task<void> sync_directory(Mount& mount, Request request, wire::Fsyncdir message) {
    const auto reply = co_await mount.call(request, message);
    request.error(reply.status());
}

}  // namespace

void op_opendir(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.opendir");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    spawn(open_directory(mount, std::move(request), inode, *node, *info));
}

void op_readdir(fuse_req_t handle, fuse_ino_t, std::size_t size, off_t position, fuse_file_info* info) {
    start_listing(handle, "fuse.readdir", size, position, info, Listing::plain);
}

void op_readdirplus(fuse_req_t handle, fuse_ino_t, std::size_t size, off_t position, fuse_file_info* info) {
    start_listing(handle, "fuse.readdirplus", size, position, info, Listing::with_attributes);
}

void op_releasedir(fuse_req_t handle, fuse_ino_t, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.releasedir");
    if (const auto directory = mount.directory(info); directory) {
        discard_entries(mount, **directory);
        mount.session().tell(wire::Releasedir{(*directory)->handle});
    }
    mount.directories().remove(info->fh);
    request.ok();
}

void op_fsyncdir(fuse_req_t handle, fuse_ino_t, int data_only, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fsyncdir");
    const auto directory = mount.directory(info);
    if (!directory)
        return request.error(directory.error());
    const wire::Fsyncdir message{(*directory)->handle, data_only != 0};
    spawn(sync_directory(mount, std::move(request), message));
}

}  // namespace remofile::remofs
