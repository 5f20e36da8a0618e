// SPDX-License-Identifier: MIT
// What files say of themselves, and what the file system says of itself.
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <array>

#include "remofs/operations/mount.hpp"
#include "remofs/operations/operations.hpp"
#include "remofs/operations/replies.hpp"

namespace remofile::remofs {
namespace {

struct SetRow {
    int fuse;
    std::uint32_t wire;
};

// FUSE_SET_ATTR_CTIME is not here: the server's file system sets that time by itself at each change.
constexpr auto set_table = std::to_array<SetRow>({
    {FUSE_SET_ATTR_MODE, wire::set_mode},
    {FUSE_SET_ATTR_UID, wire::set_uid},
    {FUSE_SET_ATTR_GID, wire::set_gid},
    {FUSE_SET_ATTR_SIZE, wire::set_size},
});

std::uint32_t to_wire_set(int which) {
    std::uint32_t result = 0;
    for (const SetRow& row : set_table)
        if ((which & row.fuse) != 0)
            result |= row.wire;
    // "Now" comes together with the plain bit, and means the server's clock.
    if ((which & FUSE_SET_ATTR_ATIME_NOW) != 0)
        result |= wire::set_access_now;
    else if ((which & FUSE_SET_ATTR_ATIME) != 0)
        result |= wire::set_access;
    if ((which & FUSE_SET_ATTR_MTIME_NOW) != 0)
        result |= wire::set_modification_now;
    else if ((which & FUSE_SET_ATTR_MTIME) != 0)
        result |= wire::set_modification;
    return result;
}

wire::Timestamp to_wire(const struct timespec& time) {
    return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

struct statvfs to_statvfs(const wire::StatfsReply& reply) {
    struct statvfs result {};
    result.f_bsize = reply.block_size;
    result.f_frsize = reply.block_size;
    result.f_blocks = reply.blocks;
    result.f_bfree = reply.blocks_free;
    result.f_bavail = reply.blocks_available;
    result.f_files = reply.files;
    result.f_ffree = reply.files_free;
    result.f_favail = reply.files_free;
    result.f_namemax = reply.name_max;
    return result;
}

void tell(Mount& mount, Request& request, InodeNumber inode, const filesystem::ShownAttributes& shown) {
    const struct stat attributes = mount.tell_attributes(inode, shown.attributes);
    const double life_s = to_seconds(shown.life);
    if (request.opcode() == opcode_statx)
        return request.statx(to_statx(attributes, shown.attributes.identity.birth, life_s));
    request.attributes(attributes, life_s);
}

// While the kernel waits for the answer, it is not told to drop pages of the file.
Task<void> reply_attributes(Mount& mount, Request request, InodeNumber inode,
                            Task<Result<filesystem::ShownAttributes>> answer) {
    const KernelPages::Question question(mount.pages(), inode);
    const auto shown = co_await std::move(answer);
    if (!shown)
        co_return request.error(shown.error());
    if (const Status status = co_await mount.size_will_be_known(request, inode, shown->attributes.size);
        status != Status::ok)
        co_return request.error(status);
    tell(mount, request, inode, *shown);
}

Task<void> reply_set_attributes(Mount& mount, Request request, InodeNumber inode, bool truncated,
                                Task<Result<filesystem::ShownAttributes>> answer) {
    const auto shown = co_await std::move(answer);
    if (!shown)
        co_return request.error(shown.error());
    if (truncated)
        mount.pages().truncated(inode, shown->attributes.size);
    tell(mount, request, inode, *shown);
}

Task<void> reply_statistics(Request request, Task<Result<wire::StatfsReply>> answer) {
    const auto statistics = co_await std::move(answer);
    if (!statistics)
        co_return request.error(statistics.error());
    request.statistics(to_statvfs(*statistics));
}

}  // namespace

void op_getattr(fuse_req_t handle, fuse_ino_t inode, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.getattr");
    auto answer = mount.file_system().getattr(request.operation(), inode, handle_of(info));
    spawn(reply_attributes(mount, std::move(request), inode, std::move(answer)));
}

void op_setattr(fuse_req_t handle, fuse_ino_t inode, struct stat* attributes, int which, fuse_file_info* info) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.setattr");
    const Overrides& overrides = mount.overrides();
    const bool names_another_user =
        (which & FUSE_SET_ATTR_UID) != 0 && overrides.uid.value_or(attributes->st_uid) != attributes->st_uid;
    const bool names_another_group =
        (which & FUSE_SET_ATTR_GID) != 0 && overrides.gid.value_or(attributes->st_gid) != attributes->st_gid;
    if (names_another_user || names_another_group)
        return request.error(Status::not_permitted);
    // The file has what all are shown to have.
    if (overrides.uid)
        which &= ~FUSE_SET_ATTR_UID;
    if (overrides.gid)
        which &= ~FUSE_SET_ATTR_GID;
    wire::Setattr change{.which = to_wire_set(which),
                         .mode = attributes->st_mode & 07777U,
                         .uid = mount.ids().users.to_server(attributes->st_uid),
                         .gid = mount.ids().groups.to_server(attributes->st_gid),
                         .size = static_cast<std::uint64_t>(attributes->st_size),
                         .access = to_wire(attributes->st_atim),
                         .modification = to_wire(attributes->st_mtim)};
    auto answer = mount.file_system().setattr(request.operation(), inode, handle_of(info), std::move(change));
    const bool truncates = (which & FUSE_SET_ATTR_SIZE) != 0;
    spawn(reply_set_attributes(mount, std::move(request), inode, truncates, std::move(answer)));
}

void op_access(fuse_req_t handle, fuse_ino_t inode, int mask) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.access");
    auto answer = mount.file_system().access(request.operation(), inode, static_cast<std::uint32_t>(mask) & 7U);
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_statfs(fuse_req_t handle, fuse_ino_t inode) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.statfs");
    auto answer = mount.file_system().statfs(request.operation(), inode == 0 ? filesystem::root_inode : inode);
    spawn(reply_statistics(std::move(request), std::move(answer)));
}

}  // namespace remofile::remofs
