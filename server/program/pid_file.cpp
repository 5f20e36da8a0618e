// SPDX-License-Identifier: MIT
#include "server/program/pid_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/log.hpp"

namespace remofile::server {
namespace {

// How often to try again when a server that is just ending removes the file under us.
constexpr int max_attempts = 10;

Error busy_error(int fd, const std::string& path) {
    std::array<char, 32> text{};
    const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
    std::string_view pid(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
    pid = pid.substr(0, pid.find('\n'));
    return make_error(Status::busy, fmt::format("the pid file {} belongs to a server that runs, process {}", path,
                                                pid.empty() ? "unknown" : log::printable(pid)));
}

Error system_error(const std::string& what, const std::string& path) {
    const Status status = from_errno(errno);
    return make_error(status, fmt::format("cannot {} the pid file {}: {}", what, path, describe(status)));
}

// Whether the path still leads to the open file.
bool is_current(int fd, const std::string& path) {
    struct stat open_file {};
    struct stat named {};
    return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 && open_file.st_ino == named.st_ino &&
           open_file.st_dev == named.st_dev;
}

}  // namespace

Result<PidFile> PidFile::create(std::string path) {
    for (int attempt = 0; attempt < max_attempts; ++attempt) {
        UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
        if (!fd)
            return system_error("create", path);
        if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
            return errno == EWOULDBLOCK ? busy_error(fd.get(), path) : system_error("lock", path);
        if (!is_current(fd.get(), path))
            continue;
        const std::string text = fmt::format("{}\n", ::getpid());
        if (::ftruncate(fd.get(), 0) != 0 || ::write(fd.get(), text.data(), text.size()) < 0)
            return system_error("write", path);
        return PidFile(std::move(path), std::move(fd));
    }
    return make_error(Status::busy, fmt::format("the pid file {} is removed again and again", path));
}

PidFile::~PidFile() {
    // Removed before the lock goes: who opens it now finds it gone, or another's.
    if (fd_)
        ::unlink(path_.c_str());
}

}  // namespace remofile::server
