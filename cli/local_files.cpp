// SPDX-License-Identifier: MIT
#include "cli/local_files.hpp"

#include <unistd.h>

#include <cerrno>

namespace remofile::cli {

std::uint32_t current_umask() {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return mask;
}

Result<std::size_t> read_at(int fd, std::span<std::byte> into, std::uint64_t offset) {
    std::size_t done = 0;
    while (done < into.size()) {
        const ssize_t size = ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno_error();
        if (size == 0)
            break;
        done += static_cast<std::size_t>(size);
    }
    return done;
}

Result<> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t size = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            return size < 0 ? errno_error() : make_error(Status::no_space);
        bytes = bytes.subspan(static_cast<std::size_t>(size));
        offset += static_cast<std::uint64_t>(size);
    }
    return {};
}

Result<> write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t size = ::write(fd, bytes.data(), bytes.size());
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno_error();
        bytes = bytes.subspan(static_cast<std::size_t>(size));
    }
    return {};
}

}  // namespace remofile::cli
