// SPDX-License-Identifier: MIT
// What linux/fuse.h of Debian 12 (Linux 6.1) does not have yet. Numbers and layouts are the kernel's ABI.
#pragma once

#include <array>
#include <cstdint>

namespace remofile::remofs {

inline constexpr std::uint32_t opcode_tmpfile = 51;             // FUSE_TMPFILE, Linux 6.1
inline constexpr std::uint32_t opcode_statx = 52;               // FUSE_STATX, 6.6
inline constexpr std::uint32_t opcode_copy_file_range_64 = 53;  // FUSE_COPY_FILE_RANGE_64, 6.18

struct KernelTime {  // fuse_sx_time
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    std::int32_t reserved = 0;
};

struct KernelStatx {  // fuse_statx
    std::uint32_t mask = 0;
    std::uint32_t block_size = 0;
    std::uint64_t attributes = 0;
    std::uint32_t links = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint16_t mode = 0;
    std::uint16_t spare0 = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::uint64_t blocks = 0;
    std::uint64_t attributes_mask = 0;
    KernelTime access;
    KernelTime birth;
    KernelTime change;
    KernelTime modification;
    std::uint32_t rdev_major = 0;
    std::uint32_t rdev_minor = 0;
    std::uint32_t dev_major = 0;
    std::uint32_t dev_minor = 0;
    std::array<std::uint64_t, 14> spare2{};
};

struct StatxReply {  // fuse_statx_out
    std::uint64_t valid_s = 0;
    std::uint32_t valid_ns = 0;
    std::uint32_t flags = 0;
    std::array<std::uint64_t, 2> spare{};
    KernelStatx stat;
};
static_assert(sizeof(KernelStatx) == 256 && sizeof(StatxReply) == 288);

struct DropName {  // fuse_notify_inval_entry_out, the name behind it
    std::uint64_t directory = 0;
    std::uint32_t name_bytes = 0;  // without the zero byte that ends it
    std::uint32_t flags = 0;       // ignored by kernels that do not know them
};
inline constexpr std::uint32_t drop_name_expire_only = 1;                  // FUSE_EXPIRE_ONLY, 6.2
inline constexpr std::uint64_t has_expire_only = std::uint64_t{1} << 35U;  // of INIT: FUSE_HAS_EXPIRE_ONLY

// FUSE_NOTIFY_PRUNE, of protocol 7.45 (Linux 6.18), which no flag of INIT tells of. The numbers of the files come
// behind it.
inline constexpr int notify_prune = 9;
inline constexpr std::uint32_t first_minor_with_prune = 45;
struct PruneFiles {  // fuse_notify_prune_out
    std::uint32_t count = 0;
    std::uint32_t padding = 0;
    std::uint64_t spare = 0;
};
static_assert(sizeof(PruneFiles) == 16);

struct CopyFileRangeReply {  // fuse_copy_file_range_out
    std::uint64_t bytes = 0;
};

}  // namespace remofile::remofs
