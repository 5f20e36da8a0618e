// SPDX-License-Identifier: MIT
#include "server/files/room.hpp"

#include <linux/quota.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace remofile::server {
namespace {

// What a client may have answered and not sent is bounded by its memory; this leaves it a wide margin.
constexpr std::uint64_t ample_bytes = 256U << 20;
constexpr std::uint64_t ample_files = 65'536;

// quotactl_fd(2), which older headers do not know; the number is the same everywhere.
constexpr long quotactl_fd_number = 443;

// The smaller of those that are set; 0 is no limit.
std::uint64_t stricter(std::uint64_t soft, std::uint64_t hard) {
    if (soft == 0 || hard == 0)
        return soft + hard;
    return soft < hard ? soft : hard;
}

bool leaves(std::uint64_t limit, std::uint64_t used, std::uint64_t wanted) {
    return limit == 0 || (used < limit && limit - used >= wanted);
}

// Where there are no quotas, or the kernel does not tell of them by descriptor, there is none to keep to.
bool quota_is_ample(int directory, int type, unsigned id, std::uint64_t kept_bytes) {
    if_dqblk quota{};
    if (syscall(quotactl_fd_number, directory, QCMD(Q_GETQUOTA, type), id, &quota) != 0)
        return true;
    const std::uint64_t bytes = stricter(quota.dqb_bsoftlimit, quota.dqb_bhardlimit) * QIF_DQBLKSIZE;
    const std::uint64_t files = stricter(quota.dqb_isoftlimit, quota.dqb_ihardlimit);
    return leaves(bytes + (bytes == 0 ? 0 : kept_bytes), quota.dqb_curspace, ample_bytes) &&
           leaves(files, quota.dqb_curinodes, ample_files);
}

}  // namespace

bool FileSystemRoom::is_ample(int directory, std::uint64_t kept_bytes) const {
    struct statvfs statistics {};
    if (fstatvfs(directory, &statistics) != 0)
        return false;
    const bool has_bytes = std::uint64_t{statistics.f_bavail} * statistics.f_frsize + kept_bytes >= ample_bytes;
    // Those that make inodes as they need them have no number of them.
    const bool has_files = statistics.f_files == 0 || statistics.f_favail >= ample_files;
    return has_bytes && has_files && quota_is_ample(directory, USRQUOTA, geteuid(), kept_bytes) &&
           quota_is_ample(directory, GRPQUOTA, getegid(), kept_bytes);
}

}  // namespace remofile::server
