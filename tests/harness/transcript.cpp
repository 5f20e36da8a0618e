// SPDX-License-Identifier: MIT
#include "harness/transcript.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "base/unique_fd.hpp"

namespace remofile::test {

namespace {

// Longer contents than this are written as a digest.
constexpr std::size_t printed_limit = 80;

std::string printable(std::string_view text) {
    std::string safe;
    for (const char c : text) {
        if (c == '\\' || c < ' ' || c > '~') {
            char hex[5];
            std::snprintf(hex, sizeof(hex), "\\x%02x", static_cast<unsigned char>(c));
            safe += hex;
        } else {
            safe += c;
        }
    }
    return safe;
}

const char* type_name(mode_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return "file";
        case S_IFDIR:
            return "directory";
        case S_IFLNK:
            return "symlink";
        case S_IFIFO:
            return "fifo";
        case S_IFSOCK:
            return "socket";
        case S_IFCHR:
            return "character device";
        case S_IFBLK:
            return "block device";
        default:
            return "unknown type";
    }
}

std::string link_target(const std::string& path) {
    std::array<char, 4096> target;
    const ssize_t size = readlink(path.c_str(), target.data(), target.size());
    return size < 0 ? errno_name(errno) : printable({target.data(), static_cast<std::size_t>(size)});
}

std::string user_xattrs(const std::string& path) {
    std::array<char, 65536> names;
    const ssize_t size = llistxattr(path.c_str(), names.data(), names.size());
    std::vector<std::string> found;
    for (const char* name = names.data(); size > 0 && name < names.data() + size; name += std::strlen(name) + 1) {
        std::array<char, 65536> value;
        const ssize_t value_size = lgetxattr(path.c_str(), name, value.data(), value.size());
        if (std::string_view(name).starts_with("user.") && value_size >= 0)
            found.push_back(printable(name) + "=" + abbreviated({value.data(), static_cast<std::size_t>(value_size)}));
    }
    std::ranges::sort(found);
    std::string text;
    for (const std::string& pair : found)
        text += " " + pair;
    return text;
}

std::string contents_or_error(const std::string& path) {
    try {
        return abbreviated(read_file(path));
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

}  // namespace

std::string errno_name(int number) {
    if (number == 0)
        return "0";
    const char* name = strerrorname_np(number);
    return name ? name : std::to_string(number);
}

std::string describe(const struct stat& attributes) {
    std::ostringstream text;
    text << type_name(attributes.st_mode) << " mode " << std::oct << (attributes.st_mode & 07777) << std::dec
         << " links " << attributes.st_nlink << " owner " << attributes.st_uid << ":" << attributes.st_gid;
    // What a directory's size means is the file system's own affair, though the mount has it from there too.
    if (!S_ISDIR(attributes.st_mode))
        text << " size " << attributes.st_size;
    if (S_ISCHR(attributes.st_mode) || S_ISBLK(attributes.st_mode))
        text << " device " << major(attributes.st_rdev) << ":" << minor(attributes.st_rdev);
    return text.str();
}

std::string abbreviated(std::string_view bytes) {
    if (bytes.size() <= printed_limit)
        return "\"" + printable(bytes) + "\"";
    std::ostringstream text;
    text << bytes.size() << " bytes, digest " << std::hex << XXH64(bytes.data(), bytes.size(), 0);
    return text.str();
}

std::string read_file(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd)
        throw std::runtime_error(errno_name(errno));
    std::string bytes;
    std::vector<char> piece(1 << 20);
    while (true) {
        const ssize_t size = read(fd.get(), piece.data(), piece.size());
        if (size < 0)
            throw std::runtime_error(errno_name(errno));
        if (size == 0)
            return bytes;
        bytes.append(piece.data(), static_cast<std::size_t>(size));
    }
}

void write_file(const std::string& path, std::string_view bytes) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = fd >= 0;
    while (good && !bytes.empty()) {
        const ssize_t size = write(fd, bytes.data(), bytes.size());
        good = size >= 0;
        if (good)
            bytes.remove_prefix(static_cast<std::size_t>(size));
    }
    const int error = errno;
    if (fd >= 0 && close(fd) != 0 && good)
        throw std::runtime_error(path + ": close: " + errno_name(errno));
    if (!good)
        throw std::runtime_error(path + ": " + errno_name(error));
}

std::string random_bytes(std::size_t size, unsigned seed) {
    std::mt19937_64 generator(seed);
    std::string bytes(size, '\0');
    for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
        const std::uint64_t word = generator();
        std::memcpy(bytes.data() + at, &word, std::min(sizeof(word), size - at));
    }
    return bytes;
}

void Transcript::note(std::string_view what, std::string_view result) {
    std::string line = std::string(what) + ": " + std::string(result) + "\n";
    (void)!write(STDOUT_FILENO, line.data(), line.size());
}

long Transcript::called(std::string_view what, long result) {
    note(what, result == -1 ? errno_name(errno) : std::to_string(result));
    return result;
}

int Transcript::opened(std::string_view what, int fd) {
    note(what, fd < 0 ? errno_name(errno) : "opened");
    return fd;
}

void Transcript::expect(std::string_view what, bool holds) {
    note(what, holds ? "as expected" : failure);
}

void Transcript::attributes(const char* path) {
    struct stat attributes = {};
    const int result = lstat(path, &attributes);
    note(path, result == 0 ? describe(attributes) : errno_name(errno));
}

void Transcript::attributes(std::string_view what, int fd) {
    struct stat attributes = {};
    const int result = fstat(fd, &attributes);
    note(what, result == 0 ? describe(attributes) : errno_name(errno));
}

void Transcript::contents(const char* path) {
    note(path, contents_or_error(path));
}

void Transcript::names(const char* path) {
    DIR* directory = opendir(path);
    if (!directory) {
        note(path, errno_name(errno));
        return;
    }
    std::vector<std::string> found;
    while (const dirent* entry = readdir(directory))
        found.push_back(printable(entry->d_name));
    closedir(directory);
    std::ranges::sort(found);
    std::string all;
    for (const std::string& name : found)
        all += " " + name;
    note(path, "names" + all);
}

std::string describe_tree(const std::string& directory,
                          const std::function<bool(std::string_view path)>& content_matters) {
    std::vector<std::string> lines;
    std::error_code error;
    std::filesystem::recursive_directory_iterator entries(directory, error);
    for (; !error && entries != std::filesystem::recursive_directory_iterator(); entries.increment(error)) {
        const auto& entry = *entries;
        const std::string path = entry.path();
        const std::string relative = path.substr(directory.size() + 1);
        struct stat attributes = {};
        if (lstat(path.c_str(), &attributes) != 0) {
            lines.push_back(printable(relative) + ": " + errno_name(errno));
            continue;
        }
        std::string line = printable(relative) + ": ";
        if (!content_matters(relative))
            line += std::string(type_name(attributes.st_mode));
        else
            line += describe(attributes);
        if (S_ISREG(attributes.st_mode) && content_matters(relative))
            line += " " + contents_or_error(path);
        if (S_ISLNK(attributes.st_mode))
            line += " -> " + link_target(path);
        lines.push_back(line + user_xattrs(path));
    }
    std::ranges::sort(lines);
    if (error)
        lines.push_back("cannot be listed: " + errno_name(error.value()));
    std::string text;
    for (const std::string& line : lines)
        text += line + "\n";
    return text;
}

std::string first_difference(const std::string& expected, const std::string& actual) {
    constexpr std::size_t lines_of_context = 6;
    if (expected == actual)
        return {};
    std::istringstream left(expected), right(actual);
    std::vector<std::string> before;
    while (true) {
        std::string expected_line, actual_line;
        const bool more_left = static_cast<bool>(std::getline(left, expected_line));
        const bool more_right = static_cast<bool>(std::getline(right, actual_line));
        if (!more_left && !more_right)
            return {};  // they differ only in a last line's end
        if (more_left == more_right && expected_line == actual_line) {
            before.push_back(expected_line);
            continue;
        }
        std::string text;
        const std::size_t from = before.size() > lines_of_context ? before.size() - lines_of_context : 0;
        for (std::size_t i = from; i < before.size(); ++i)
            text += "        " + before[i] + "\n";
        text += "local:  " + (more_left ? expected_line : "(nothing more)") + "\n";
        text += "mount:  " + (more_right ? actual_line : "(nothing more)") + "\n";
        return text;
    }
}

}  // namespace remofile::test
