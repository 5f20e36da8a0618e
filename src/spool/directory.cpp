// SPDX-License-Identifier: MIT
#include "spool/directory.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <span>
#include <string_view>

#include "base/log.hpp"

namespace remofile::spool {
namespace {

constexpr std::string_view suffix = ".spool";
constexpr std::string_view suffix_of_progress = ".progress";
constexpr mode_t private_directory = 0700;
constexpr mode_t private_file = 0600;
// Of a file that is read into memory: what may be pending at a time (32 MiB) and the names with it are far less.
constexpr std::uint64_t max_file_bytes = std::uint64_t{256} << 20;

Error system_error(std::string what) {
    const int error = errno;
    return make_error(from_errno(error), fmt::format("{}: {}", what, strerror(error)));
}

std::string progress_name(const std::string& spool_name) {
    return spool_name.substr(0, spool_name.size() - suffix.size()) + std::string(suffix_of_progress);
}

Result<> write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return system_error("cannot be written");
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
}

Result<std::vector<std::byte>> read_all(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0)
        return system_error("cannot be read");
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid())
        return make_error(Status::not_permitted, "not a file of this user");
    if (static_cast<std::uint64_t>(status.st_size) > max_file_bytes)
        return make_error(Status::malformed, "not a spool file of remofs: it is too large");
    std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
    std::size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t count = ::pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(have));
        if (count < 0 && errno != EINTR)
            return system_error("cannot be read");
        if (count == 0)
            break;
        have += count > 0 ? static_cast<std::size_t>(count) : 0;
    }
    bytes.resize(have);
    return bytes;
}

// The time in UTC, so that their order is that of the mounts' ends.
std::string new_name(std::int64_t ended_at) {
    const auto time = static_cast<std::time_t>(ended_at);
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    char text[32];
    const std::size_t size = std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &parts);
    return fmt::format("{}-{}", std::string_view(text, size), ::getpid());
}

bool is_inside(const std::filesystem::path& path, const std::filesystem::path& directory) {
    const auto [end, _] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
    return end == directory.end();
}

}  // namespace

Result<Directory> Directory::open(const std::string& path, const std::string& mountpoint) {
    const auto refuse = [&path](std::string_view why) {
        return make_error(Status::bad_usage, fmt::format("spool={}: {}", path, why));
    };
    if (!path.starts_with('/'))
        return refuse("expected an absolute path");
    if (is_inside(std::filesystem::path(path).lexically_normal(), mountpoint))
        return refuse("it is inside the mount");
    const bool is_made = ::mkdir(path.c_str(), private_directory) == 0;
    if (!is_made && errno != EEXIST)
        return system_error(fmt::format("spool={}", path));
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd)
        return system_error(fmt::format("spool={}", path));
    std::error_code failed;
    const auto real = std::filesystem::canonical(path, failed);
    if (failed)
        return refuse(failed.message());
    if (is_inside(real, mountpoint))
        return refuse("it is inside the mount");
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return system_error(fmt::format("spool={}", path));
    if (status.st_uid != ::geteuid())
        return refuse("it belongs to another user");
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return refuse("others may write to it; chmod 700 helps");
    return Directory(real.string(), std::move(fd));
}

Result<std::string> Directory::keep(const Contents& contents) const {
    const std::string base = new_name(contents.ended_at);
    const std::string name = base + std::string(suffix);
    const std::string temporary = base + ".new";
    UniqueFd file(
        ::openat(fd_.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, private_file));
    if (!file)
        return system_error("cannot be made");
    auto outcome = write_all(file.get(), encode(contents));
    if (outcome && ::fsync(file.get()) != 0)
        outcome = system_error("cannot be written");
    if (outcome && ::renameat(fd_.get(), temporary.c_str(), fd_.get(), name.c_str()) != 0)
        outcome = system_error("cannot be named");
    if (!outcome) {
        ::unlinkat(fd_.get(), temporary.c_str(), 0);
        return std::unexpected(outcome.error());
    }
    if (::fsync(fd_.get()) != 0)
        return system_error("its directory cannot be written");
    return name;
}

Result<std::vector<std::string>> Directory::names() const {
    const int copy = ::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0)
        return system_error("cannot be listed");
    DIR* listing = ::fdopendir(copy);
    if (listing == nullptr) {
        auto error = system_error("cannot be listed");
        ::close(copy);
        return error;
    }
    std::vector<std::string> found;
    while (const dirent* entry = ::readdir(listing)) {
        if (const std::string_view name = entry->d_name; name.ends_with(suffix) && !name.starts_with('.'))
            found.emplace_back(name);
    }
    ::closedir(listing);
    std::ranges::sort(found);
    return found;
}

Result<Contents> Directory::read(const std::string& name) const {
    const UniqueFd file(::openat(fd_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file)
        return system_error("cannot be read");
    REMOFILE_TRY(bytes, read_all(file.get()));
    return decode(bytes);
}

Result<> Directory::remove(const std::string& name) const {
    if (::unlinkat(fd_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
        return system_error("cannot be removed");
    // Afterwards: without it the file would be carried out from its beginning.
    if (::fsync(fd_.get()) != 0)
        return system_error("its directory cannot be written");
    ::unlinkat(fd_.get(), progress_name(name).c_str(), 0);
    return {};
}

Result<std::optional<UniqueFd>> Directory::lock(const std::string& source) const {
    const std::string name = fmt::format(".{:016x}.lock", XXH3_64bits(source.data(), source.size()));
    UniqueFd file(::openat(fd_.get(), name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, private_file));
    if (!file)
        return system_error("cannot be locked");
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return std::optional<UniqueFd>();
        return system_error("cannot be locked");
    }
    return std::optional<UniqueFd>(std::move(file));
}

// ---------------------------------------------------------------- how far it has been carried out

Result<Progress> Progress::open(const Directory& directory, const std::string& spool_name) {
    const std::string path = directory.path_of(progress_name(spool_name));
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, private_file));
    if (!file)
        return system_error(path);
    REMOFILE_TRY(bytes, read_all(file.get()));
    Steps found = decode_steps(bytes);
    // What a step that is not whole would hide is not there.
    if (::ftruncate(file.get(), static_cast<off_t>(found.bytes)) != 0 || ::lseek(file.get(), 0, SEEK_END) < 0)
        return system_error(path);
    return Progress(std::move(file), std::move(found.steps));
}

Result<> Progress::add(const Step& step, bool durably) {
    REMOFILE_CHECK(write_all(fd_.get(), encode(step)));
    if (durably && ::fdatasync(fd_.get()) != 0)
        return system_error("cannot be written");
    return {};
}

}  // namespace remofile::spool
