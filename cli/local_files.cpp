// SPDX-License-Identifier: MIT
#include "cli/local_files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/buffer.hpp"

namespace remofile::cli {

std::uint32_t current_umask() {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return mask;
}

std::string path_of(int fd) {
    return "/proc/self/fd/" + std::to_string(fd);
}

Result<std::vector<std::string>> names_in(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
    if (directory == nullptr)
        return errno_error();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(directory.get())) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..")
            names.push_back(name);
    }
    if (errno != 0)
        return errno_error();
    std::ranges::sort(names);
    return names;
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

Result<> copy_range(int from, int to, std::uint64_t offset, std::uint64_t size) {
    auto in = static_cast<off64_t>(offset);
    auto out = in;
    const off64_t end = in + static_cast<off64_t>(size);
    while (in < end) {
        const ssize_t copied = ::copy_file_range(from, &in, to, &out, static_cast<std::size_t>(end - in), 0);
        if (copied > 0 || (copied < 0 && errno == EINTR))
            continue;
        if (copied == 0)
            return make_error(Status::io_error, "the file to be replaced has become shorter");
        // Two file systems, or one that knows no such call.
        Buffer rest = Buffer::allocate(static_cast<std::size_t>(end - in));
        REMOFILE_TRY(read, read_at(from, rest.bytes(), static_cast<std::uint64_t>(in)));
        if (read != rest.size())
            return make_error(Status::io_error, "the file to be replaced has become shorter");
        return write_at(to, rest.bytes(), static_cast<std::uint64_t>(in));
    }
    return {};
}

Result<> write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t size = ::write(fd, bytes.data(), bytes.size());
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EPIPE ? broken_pipe() : errno_error();
        bytes = bytes.subspan(static_cast<std::size_t>(size));
    }
    return {};
}

Error broken_pipe() {
    return make_error(Status::io_error, "broken pipe");
}

Result<> give_new_name(int directory, const std::string& name, const std::string& new_name) {
    if (::renameat2(directory, name.c_str(), directory, new_name.c_str(), RENAME_NOREPLACE) == 0)
        return {};
    if (errno != EINVAL)
        return errno_error();
    if (::linkat(directory, name.c_str(), directory, new_name.c_str(), 0) == 0)
        return ::unlinkat(directory, name.c_str(), 0) == 0 ? Result<>() : errno_error();
    if (errno == EEXIST)
        return Status::exists;
    if (::faccessat(directory, new_name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return Status::exists;
    return ::renameat(directory, name.c_str(), directory, new_name.c_str()) == 0 ? Result<>() : errno_error();
}

}  // namespace remofile::cli
