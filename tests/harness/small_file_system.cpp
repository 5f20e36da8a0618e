// SPDX-License-Identifier: MIT
#include "harness/small_file_system.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <utility>

#include "base/unique_fd.hpp"
#include "harness/child.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"

namespace remofile::test {

namespace {

// EXT4_IOC_SHUTDOWN: nothing is written any more, not even what the journal has.
constexpr unsigned long shutdown_request = _IOR('X', 125, std::uint32_t);
constexpr std::uint32_t shutdown_without_log = 2;

struct statvfs statistics_of(const std::string& path) {
    struct statvfs statistics {};
    (void)statvfs(path.c_str(), &statistics);
    return statistics;
}

}  // namespace

SmallFileSystem::SmallFileSystem(bool is_tmpfs)
    : is_tmpfs_(is_tmpfs), path_(Scratch::instance().make_directory("small")) {}

SmallFileSystem::SmallFileSystem(SmallFileSystem&& other) noexcept
    : is_tmpfs_(other.is_tmpfs_), path_(std::move(other.path_)), mounted_(std::exchange(other.mounted_, false)) {}

SmallFileSystem::~SmallFileSystem() {
    if (mounted_)
        umount2(path_.c_str(), MNT_DETACH);
    if (!is_tmpfs_ && !path_.empty())
        unlink(image().c_str());
}

SmallFileSystem SmallFileSystem::tmpfs(const std::string& options) {
    SmallFileSystem made(true);
    made.mounted_ = ::mount("tmpfs", made.path_.c_str(), "tmpfs", 0, options.c_str()) == 0;
    return made;
}

SmallFileSystem SmallFileSystem::ext4(std::uint64_t bytes) {
    SmallFileSystem made(false);
    if (geteuid() != 0 || !is_installed("mkfs.ext4"))
        return made;
    const UniqueFd fd(open(made.image().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
        return made;
    // With inodes enough for who wants many, and none of the room set aside for root.
    const Ended end = run({.arguments = {"mkfs.ext4", "-q", "-F", "-m", "0", "-N", "80000", made.image()}});
    made.mounted_ = end.exit_status == 0 && made.mount_image();
    return made;
}

bool SmallFileSystem::mount_image() const {
    return run({.arguments = {"mount", "-o", "loop", image(), path_}}).exit_status == 0;
}

bool SmallFileSystem::lose_power() {
    std::uint32_t how = shutdown_without_log;
    UniqueFd fd(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ioctl(fd.get(), shutdown_request, &how) != 0)
        return false;
    fd.reset();
    // Whoever was killed may still be letting go of its files, and of the mounts that it saw: then what is mounted is
    // the one that has stopped.
    const auto unmounted = [this] { return umount2(path_.c_str(), 0) == 0; };
    const std::string probe = path_ + "/probe";
    return eventually(Milliseconds{10'000}, [&] {
        mounted_ = mounted_ && !eventually(Milliseconds{10'000}, unmounted);
        mounted_ = !mounted_ && mount_image();
        return mounted_ && mkdir(probe.c_str(), 0700) == 0 && rmdir(probe.c_str()) == 0;
    });
}

std::uint64_t SmallFileSystem::free_bytes() const {
    const struct statvfs statistics = statistics_of(path_);
    return std::uint64_t{statistics.f_bavail} * statistics.f_frsize;
}

bool SmallFileSystem::remount(const std::string& options) const {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT, options.c_str()) == 0;
}

bool SmallFileSystem::leave_bytes(std::uint64_t bytes) {
    const struct statvfs statistics = statistics_of(path_);
    if (is_tmpfs_) {
        const std::uint64_t used = std::uint64_t{statistics.f_blocks - statistics.f_bfree} * statistics.f_frsize;
        return remount("size=" + std::to_string(used + bytes));
    }
    const std::uint64_t free = std::uint64_t{statistics.f_bavail} * statistics.f_frsize;
    const UniqueFd fd(open((path_ + "/taken").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    // One that fails, as others take room meanwhile, may have left less.
    struct stat taken = {};
    return fd && fstat(fd.get(), &taken) == 0 &&
           (free <= bytes || fallocate(fd.get(), 0, taken.st_size, static_cast<off_t>(free - bytes)) == 0);
}

bool SmallFileSystem::leave_inodes(std::uint64_t inodes) {
    const struct statvfs statistics = statistics_of(path_);
    return is_tmpfs_ && remount("nr_inodes=" + std::to_string(statistics.f_files - statistics.f_ffree + inodes));
}

}  // namespace remofile::test
