// SPDX-License-Identifier: MIT
#include "server/leases/exact_names.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>

#include <algorithm>
#include <array>

namespace remofile::server {
namespace {

// File systems that may find a name by another spelling (statfs(2) and linux/magic.h).
constexpr std::array<unsigned long, 10> inexact{
    0x4D44 /* FAT */,  0x2011BAB0 /* exFAT */, 0x7366746E /* ntfs3 */, 0x5346544E /* NTFS */, 0x4244 /* HFS */,
    0x482B /* HFS+ */, 0xFF534D42 /* CIFS */,  0xFE534D42 /* SMB 2 */, 0x65735546 /* FUSE */, 0x01021997 /* 9P */};

}  // namespace

bool has_exact_names(int directory) {
    struct statfs statistics {};
    if (fstatfs(directory, &statistics) != 0)
        return false;
    // The field is signed, and of 32 bits on some machines.
    const auto type = static_cast<unsigned long>(static_cast<unsigned>(statistics.f_type));
    if (std::ranges::find(inexact, type) != inexact.end())
        return false;
    // ext4 and f2fs decide it for each directory (chattr +F).
    int flags = 0;
    return ioctl(directory, FS_IOC_GETFLAGS, &flags) != 0 || (flags & FS_CASEFOLD_FL) == 0;
}

}  // namespace remofile::server
