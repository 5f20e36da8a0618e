// SPDX-License-Identifier: MIT
// Listing directories.
#include <sys/stat.h>

#include <string>
#include <vector>

#include "remofs/operations/mount.hpp"
#include "remofs/operations/operations.hpp"
#include "remofs/operations/replies.hpp"

namespace remofile::remofs {
namespace {

using Listing = filesystem::FileSystem::Listing;

// The bytes of an answer to READDIR or READDIRPLUS, up to the kernel's size.
class ListingWriter : public filesystem::ListingSink {
public:
    ListingWriter(Mount& mount, fuse_req_t request, std::size_t size, Listing listing)
        : mount_(mount), request_(request), listing_(listing), buffer_(size) {}

    bool has_room_for(const std::string& name) override {
        const std::size_t size = listing_ == Listing::plain
                                     ? fuse_add_direntry(request_, nullptr, 0, name.c_str(), nullptr, 0)
                                     : fuse_add_direntry_plus(request_, nullptr, 0, name.c_str(), nullptr, 0);
        return size <= buffer_.size() - used_;
    }

    void add(const filesystem::ListedEntry& entry) override {
        char* const place = buffer_.data() + used_;
        const std::size_t room = buffer_.size() - used_;
        const auto next = static_cast<off_t>(entry.position);
        if (listing_ == Listing::plain) {
            const struct stat attributes = brief_attributes(entry);
            used_ += fuse_add_direntry(request_, place, room, entry.name.c_str(), &attributes, next);
            return;
        }
        // Without an inode (".", "..", and what was removed while it was being listed) the kernel just shows the name.
        fuse_entry_param param{};
        param.attr = brief_attributes(entry);
        if (entry.entry.inode != 0) {
            param = mount_.tell_entry(entry.entry);
            named_.push_back({entry.entry.inode, 1});
        }
        used_ += fuse_add_direntry_plus(request_, place, room, entry.name.c_str(), &param, next);
    }

    std::span<const std::byte> bytes() const { return std::as_bytes(std::span(buffer_)).first(used_); }
    // The inodes that the answer names.
    std::span<const filesystem::FileSystem::Forgotten> named() const { return named_; }

private:
    struct stat brief_attributes(const filesystem::ListedEntry& entry) const {
        struct stat attributes {};
        attributes.st_ino = mount_.visible_inode(entry.identity);
        attributes.st_mode = entry.type;
        return attributes;
    }

    Mount& mount_;
    fuse_req_t request_;
    Listing listing_;
    std::vector<char> buffer_;
    std::size_t used_ = 0;
    std::vector<filesystem::FileSystem::Forgotten> named_;
};

Task<void> open_directory(Mount& mount, Request request, fuse_ino_t inode, fuse_file_info info) {
    const auto opened = co_await mount.file_system().opendir(request.operation(), inode);
    if (!opened)
        co_return request.error(opened.error());
    info.fh = opened->handle.value;
    info.cache_readdir = opened->front_may_keep;
    info.keep_cache = opened->front_is_true;
    if (!request.opened(info))
        mount.file_system().releasedir(opened->handle);
}

Task<void> list(Mount& mount, Request request, filesystem::HandleNumber directory, std::size_t size,
                std::uint64_t position, Listing listing) {
    ListingWriter writer(mount, request.handle(), size, listing);
    const auto listed = co_await mount.file_system().readdir(request.operation(), directory, position, listing, writer);
    if (!listed)
        co_return request.error(listed.error());
    if (!request.data(writer.bytes()))
        mount.file_system().forget(writer.named());
}

void start_listing(fuse_req_t handle, std::string_view operation, std::size_t size, off_t position,
                   const fuse_file_info* info, Listing listing) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, operation);
    spawn(list(mount, std::move(request), handle_of(info), size, static_cast<std::uint64_t>(position), listing));
}

}  // namespace

void op_opendir(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.opendir");
    spawn(open_directory(mount, std::move(request), inode, *info));
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
    mount.file_system().releasedir(handle_of(info));
    request.ok();
}

void op_fsyncdir(fuse_req_t handle, fuse_ino_t, int data_only, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.fsyncdir");
    auto answer = mount.file_system().fsyncdir(request.operation(), handle_of(info), data_only != 0);
    spawn(reply_status(std::move(request), std::move(answer)));
}

}  // namespace remofile::remofs
