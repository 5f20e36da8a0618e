// SPDX-License-Identifier: MIT
#include "cli/mount_status.hpp"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstring>
#include <future>
#include <thread>

#include "base/log.hpp"

namespace remofile::cli {
namespace {

Error path_error(const std::string& path, int error) {
    return make_error(from_errno(error), fmt::format("{}: {}", log::printable(path), strerror(error)));
}

Result<std::filesystem::path> mountpoint_of(const std::string& path) {
    std::error_code failed;
    std::filesystem::path at = std::filesystem::canonical(path, failed);
    struct stat status {};
    if (failed || ::stat(at.c_str(), &status) != 0)
        return path_error(path, failed ? failed.value() : errno);
    struct stat above {};
    while (at.has_relative_path() && ::stat(at.parent_path().c_str(), &above) == 0 && above.st_dev == status.st_dev)
        at = at.parent_path();
    return at;
}

Result<MountStatus> read_now(const std::string& path) {
    constexpr std::size_t max_bytes = 64U << 10;  // the kernel's limit of an attribute
    REMOFILE_TRY(mountpoint, mountpoint_of(path));
    std::string json(max_bytes, '\0');
    const ssize_t size = ::getxattr(mountpoint.c_str(), "remofs.status", json.data(), json.size());
    if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
        return make_error(Status::bad_usage, fmt::format("{}: not a mount of remofs", log::printable(path)));
    if (size < 0)
        return path_error(mountpoint.string(), errno);
    json.resize(static_cast<std::size_t>(size));
    return MountStatus{.mountpoint = std::move(mountpoint), .json = std::move(json)};
}

}  // namespace

// On a thread of its own: what asks a file system waits for whoever serves it.
Result<MountStatus> read_mount_status(const std::string& path, Duration patience) {
    std::packaged_task<Result<MountStatus>()> task([path] {
        ::pthread_setname_np(::pthread_self(), "mount-status");
        return read_now(path);
    });
    std::future<Result<MountStatus>> status = task.get_future();
    std::thread(std::move(task)).detach();
    if (status.wait_for(patience) != std::future_status::ready)
        return make_error(Status::timed_out, fmt::format("{}: the mount does not answer", log::printable(path)));
    return status.get();
}

}  // namespace remofile::cli
