// SPDX-License-Identifier: MIT
#include "remofs/ids/attributes.hpp"

#include <sys/sysmacros.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace remofile::remofs {
namespace {

// st_blksize, at least: programs that read or write through stdio do it in pieces of this size, and each piece may be a
// round trip: 1 MiB by fwrite(3) is 8 requests of the kernel by it, and 256 by the 4 KiB of most local disks. 128 KiB
// is what coreutils choose by themselves. The price: gocryptfs, which takes the number for the size of a block of the
// file system, gives up SEEK_DATA then.
constexpr std::uint32_t min_block_size = 128U << 10;

struct timespec to_timespec(const wire::Timestamp& time) {
    return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

}  // namespace

std::uint64_t visible_inode(const wire::FileIdentity& identity, std::uint64_t export_device) {
    if (identity.device == export_device && identity.inode != 0)
        return identity.inode;
    const std::array<std::uint64_t, 2> key{identity.device, identity.inode};
    // Real inode numbers rarely use the highest bit.
    return XXH3_64bits(key.data(), sizeof key) | std::uint64_t{1} << 63U;
}

struct stat to_stat(const wire::Attributes& attributes, const IdMap& map, std::uint64_t export_device) {
    struct stat result {};
    result.st_ino = visible_inode(attributes.identity, export_device);
    result.st_mode = attributes.mode;
    result.st_nlink = attributes.links;
    result.st_uid = map.users.to_local(attributes.uid);
    result.st_gid = map.groups.to_local(attributes.gid);
    result.st_rdev = makedev(attributes.rdev_major, attributes.rdev_minor);
    result.st_size = static_cast<off_t>(std::min<std::uint64_t>(attributes.size, INT64_MAX));
    result.st_blocks = static_cast<blkcnt_t>(attributes.blocks);
    result.st_blksize = static_cast<blksize_t>(std::max(attributes.block_size, min_block_size));
    result.st_atim = to_timespec(attributes.access);
    result.st_mtim = to_timespec(attributes.modification);
    result.st_ctim = to_timespec(attributes.change);
    return result;
}

void Overrides::apply(struct stat& stat) const {
    stat.st_uid = uid.value_or(stat.st_uid);
    stat.st_gid = gid.value_or(stat.st_gid);
    if (!S_ISLNK(stat.st_mode))
        stat.st_mode &= ~(S_ISDIR(stat.st_mode) ? directory_mask : file_mask);
}

StatxReply to_statx(const struct stat& stat, const wire::Timestamp& birth, double valid_s) {
    const auto time_of = [](const struct timespec& time) {
        return KernelTime{.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
    };
    const bool has_birth = birth != wire::Timestamp{};
    StatxReply reply;
    reply.valid_s = static_cast<std::uint64_t>(valid_s);
    reply.valid_ns = static_cast<std::uint32_t>((valid_s - std::floor(valid_s)) * 1e9);
    reply.stat = {.mask = STATX_BASIC_STATS | (has_birth ? STATX_BTIME : 0U),
                  .block_size = static_cast<std::uint32_t>(stat.st_blksize),
                  .links = static_cast<std::uint32_t>(stat.st_nlink),
                  .uid = stat.st_uid,
                  .gid = stat.st_gid,
                  .mode = static_cast<std::uint16_t>(stat.st_mode),
                  .inode = stat.st_ino,
                  .size = static_cast<std::uint64_t>(stat.st_size),
                  .blocks = static_cast<std::uint64_t>(stat.st_blocks),
                  .access = time_of(stat.st_atim),
                  .birth = {.seconds = birth.seconds, .nanoseconds = birth.nanoseconds},
                  .change = time_of(stat.st_ctim),
                  .modification = time_of(stat.st_mtim),
                  .rdev_major = major(stat.st_rdev),
                  .rdev_minor = minor(stat.st_rdev)};
    return reply;
}

}  // namespace remofile::remofs
