// SPDX-License-Identifier: MIT
// Trees of this machine that a test makes and looks at.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/log.hpp"

namespace remofile::test {

namespace fs = std::filesystem;

constexpr std::size_t mebibyte = 1U << 20;

inline std::string random_bytes(std::size_t size) {
    static std::mt19937_64 random(std::random_device{}());
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i + sizeof(std::uint64_t) <= size; i += sizeof(std::uint64_t)) {
        const std::uint64_t word = random();
        std::memcpy(bytes.data() + i, &word, sizeof(word));
    }
    return bytes;
}

inline void write_file(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

inline std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void set_mtime(const std::string& path, time_t seconds, long nanoseconds) {
    const timespec times[] = {{.tv_sec = seconds, .tv_nsec = 5}, {.tv_sec = seconds, .tv_nsec = nanoseconds}};
    REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

// Owners, modes, times, extended attributes (ACLs among them) and targets of a directory itself and all below it, a
// line each.
inline std::string attributes_below(const std::string& directory) {
    std::vector<fs::path> paths = {directory};
    for (const auto& entry : fs::recursive_directory_iterator(directory))
        paths.push_back(entry.path());
    std::ranges::sort(paths);
    std::string all;
    for (const fs::path& path : paths) {
        struct stat status {};
        REQUIRE(::lstat(path.c_str(), &status) == 0);
        all += fmt::format("{} {:o} {}:{} {}.{}", fs::relative(path, directory).native(), status.st_mode, status.st_uid,
                           status.st_gid, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
        std::string names(65'536, '\0');
        names.resize(
            static_cast<std::size_t>(std::max(::llistxattr(path.c_str(), names.data(), names.size()), ssize_t{0})));
        std::set<std::string> attributes;
        for (std::size_t at = 0; at < names.size(); at += std::strlen(names.c_str() + at) + 1) {
            const std::string name = names.c_str() + at;
            std::string value(65'536, '\0');
            const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
            value.resize(static_cast<std::size_t>(std::max(size, ssize_t{0})));
            if (!name.starts_with("security."))
                attributes.insert(fmt::format(" {}={}", name, std::hash<std::string>{}(value)));
        }
        for (const std::string& attribute : attributes)
            all += attribute;
        all += "\n";
    }
    return all;
}

// Names, types, modes, sizes, times, targets and contents below a directory, a line each.
inline std::string described(const std::string& directory) {
    std::vector<std::string> lines;
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
        struct stat status {};
        REQUIRE(::lstat(entry.path().c_str(), &status) == 0);
        std::string line = fmt::format("{} {:o}", fs::relative(entry.path(), directory).native(), status.st_mode);
        if (S_ISLNK(status.st_mode))
            line += " -> " + fs::read_symlink(entry.path()).native();
        else
            line += fmt::format(" {}.{}", status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
        if (S_ISREG(status.st_mode))
            line += fmt::format(" {} {}", status.st_size, std::hash<std::string>{}(read_file(entry.path())));
        lines.push_back(line);
    }
    std::ranges::sort(lines);
    std::string all;
    for (const std::string& line : lines)
        all += line + "\n";
    return all;
}

}  // namespace remofile::test
