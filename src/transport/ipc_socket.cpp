// SPDX-License-Identifier: MIT
#include "transport/ipc_socket.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "base/log.hpp"

namespace remofile::transport {
namespace {

Error socket_error(const std::string& path) {
    const Status status = from_errno(errno);
    return make_error(status, fmt::format("cannot listen on {}: {}", path, describe(status)));
}

// The lock is held for a few system calls; whoever holds it longer does so on purpose.
constexpr int lock_attempts = 100;
constexpr auto lock_pause = std::chrono::milliseconds(10);

// Two servers that start at once must not both take the other's fresh socket for a dead one's. The lock is on the
// directory, so that no lock file is left behind.
Result<UniqueFd> lock_directory_of(const std::string& path) {
    const std::string directory = std::filesystem::path(path).parent_path();
    UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd)
        return socket_error(path);
    for (int i = 0; ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
        if (i == lock_attempts)
            return make_error(Status::busy,
                              fmt::format("cannot listen on {}: another program has locked {}", path, directory));
        std::this_thread::sleep_for(lock_pause);
    }
    return fd;
}

// Makes room for a new socket: removes a dead server's.
Result<> remove_stale(const std::string& path, const sockaddr_un& address) {
    struct stat attributes {};
    if (::lstat(path.c_str(), &attributes) != 0)
        return errno == ENOENT ? Result<>() : Result<>(socket_error(path));
    if (!S_ISSOCK(attributes.st_mode))
        return make_error(Status::exists, path + " exists and is no socket; remove it, or listen elsewhere");
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe)
        return socket_error(path);
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 || errno == EAGAIN)
        return make_error(Status::busy, fmt::format("cannot listen on {}: a server is listening there", path));
    if (errno != ECONNREFUSED)
        return socket_error(path);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        return socket_error(path);
    return {};
}

}  // namespace

Result<IpcSocket> IpcSocket::listen(const std::string& path, int backlog) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path))
        return make_error(Status::name_too_long, fmt::format("cannot listen on {}: the path is too long", path));
    std::memcpy(address.sun_path, path.data(), path.size());

    REMOFILE_TRY(lock, lock_directory_of(path));
    REMOFILE_CHECK(remove_stale(path, address));
    IpcSocket result;
    result.fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int fd = result.fd_.get();
    // Before bind(): Linux makes the file with the socket's own mode, so that there is no moment in which it is open to
    // others.
    if (fd < 0 || ::fchmod(fd, 0600) != 0 ||
        ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        return socket_error(path);
    result.path_ = path;
    struct stat attributes {};
    if (::lstat(path.c_str(), &attributes) != 0 || ::listen(fd, backlog) != 0)
        return socket_error(path);
    result.device_ = attributes.st_dev;
    result.inode_ = attributes.st_ino;
    return result;
}

IpcSocket::IpcSocket(IpcSocket&& other) noexcept
    : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)), device_(other.device_), inode_(other.inode_) {}

IpcSocket::~IpcSocket() {
    struct stat attributes {};
    if (!path_.empty() && ::lstat(path_.c_str(), &attributes) == 0 && attributes.st_dev == device_ &&
        attributes.st_ino == inode_)
        ::unlink(path_.c_str());
}

}  // namespace remofile::transport
