// SPDX-License-Identifier: MIT
// Looking up, making, removing and renaming entries of directories.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <string>
#include <vector>

#include "remofs/operations/mount.hpp"
#include "remofs/operations/operations.hpp"
#include "remofs/operations/replies.hpp"

namespace remofile::remofs {
namespace {

// That there is nothing of that name is an entry too, as long as it may be kept.
Task<void> reply_found(Mount& mount, Request request, fuse_ino_t parent, std::string name,
                       Task<Result<filesystem::Entry>> answer) {
    const auto entry = co_await std::move(answer);
    if (entry.status() == Status::no_entry) {
        if (const Duration life = mount.file_system().life_of_absence(parent, name); life > Duration::zero()) {
            request.entry(mount.tell_entry({.entry_life = life}));
            co_return;
        }
    }
    if (!entry)
        co_return request.error(entry.error());
    if (!request.entry(mount.tell_entry(*entry)))
        mount.file_system().forget(entry->inode);
}

Task<void> reply_target(Request request, Task<Result<std::string>> answer) {
    const auto target = co_await std::move(answer);
    if (!target)
        co_return request.error(target.error());
    request.symlink_target(target->c_str());
}

struct Renamed {
    InodeNumber parent = 0;
    std::string name;
    InodeNumber new_parent = 0;
    std::string new_name;
    bool exchanges = false;
};

Task<void> reply_renamed(Mount& mount, Request request, Renamed renamed, Task<Result<>> answer) {
    const auto done = co_await std::move(answer);
    if (done) {
        KernelNames& names = mount.names();
        names.renamed(renamed.parent, renamed.name, renamed.new_parent, renamed.new_name);
        if (renamed.exchanges)
            names.renamed(renamed.new_parent, renamed.new_name, renamed.parent, renamed.name);
    }
    request.error(done.status());
}

}  // namespace

void op_lookup(fuse_req_t handle, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.lookup");
    auto answer = mount.file_system().lookup(request.operation(), parent, name);
    spawn(reply_found(mount, std::move(request), parent, name, std::move(answer)));
}

void op_forget(fuse_req_t handle, fuse_ino_t inode, std::uint64_t count) {
    fuse_forget_data forget{inode, count};
    op_forget_multi(handle, 1, &forget);
}

void op_forget_multi(fuse_req_t handle, std::size_t count, fuse_forget_data* forgets) {
    Mount& mount = Mount::of(handle);
    mount.counters().at("fuse.forget").add(count);
    std::vector<filesystem::FileSystem::Forgotten> forgotten;
    for (std::size_t i = 0; i < count; ++i)
        forgotten.push_back({forgets[i].ino, forgets[i].nlookup});
    mount.file_system().forget(forgotten);
    fuse_reply_none(handle);
}

void op_readlink(fuse_req_t handle, fuse_ino_t inode) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.readlink");
    auto answer = mount.file_system().readlink(request.operation(), inode);
    spawn(reply_target(std::move(request), std::move(answer)));
}

void op_mknod(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.mknod");
    auto answer = mount.file_system().mknod(request.operation(), parent, name, mode, major(device), minor(device));
    spawn(reply_entry(mount, std::move(request), std::move(answer)));
}

void op_mkdir(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.mkdir");
    auto answer = mount.file_system().mkdir(request.operation(), parent, name, mode);
    spawn(reply_entry(mount, std::move(request), std::move(answer)));
}

void op_unlink(fuse_req_t handle, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.unlink");
    auto answer = mount.file_system().unlink(request.operation(), parent, name);
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_rmdir(fuse_req_t handle, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.rmdir");
    auto answer = mount.file_system().rmdir(request.operation(), parent, name);
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_symlink(fuse_req_t handle, const char* target, fuse_ino_t parent, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.symlink");
    auto answer = mount.file_system().symlink(request.operation(), parent, name, target);
    spawn(reply_entry(mount, std::move(request), std::move(answer)));
}

void op_rename(fuse_req_t handle, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
               unsigned flags) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.rename");
    // The protocol's flags have Linux's numbers.
    if ((flags & ~(wire::rename_noreplace | wire::rename_exchange | wire::rename_whiteout)) != 0)
        return request.error(Status::invalid);
    auto answer = mount.file_system().rename(request.operation(), parent, name, new_parent, new_name, flags);
    Renamed renamed{parent, name, new_parent, new_name, (flags & wire::rename_exchange) != 0};
    spawn(reply_renamed(mount, std::move(request), std::move(renamed), std::move(answer)));
}

void op_link(fuse_req_t handle, fuse_ino_t inode, fuse_ino_t new_parent, const char* new_name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.link");
    auto answer = mount.file_system().link(request.operation(), inode, new_parent, new_name);
    spawn(reply_entry(mount, std::move(request), std::move(answer)));
}

}  // namespace remofile::remofs
