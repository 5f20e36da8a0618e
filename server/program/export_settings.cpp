// SPDX-License-Identifier: MIT
#include "server/program/export_settings.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "base/log.hpp"

namespace remofile::server {
namespace {

bool is_in(std::string_view path, std::string_view directory) {
    return path == directory || directory == "/" || (path.starts_with(directory) && path[directory.size()] == '/');
}

}  // namespace

Result<ServedDirectory> ServedDirectory::find(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), std::free);
    struct stat attributes {};
    if (real == nullptr || ::stat(real.get(), &attributes) != 0) {
        const Status status = from_errno(errno);
        return make_error(status, fmt::format("{}: {}", log::printable(path), describe(status)));
    }
    if (!S_ISDIR(attributes.st_mode))
        return make_error(Status::not_directory,
                          fmt::format("{}: {}", log::printable(path), describe(Status::not_directory)));
    return ServedDirectory{.path = real.get(), .device = attributes.st_dev, .inode = attributes.st_ino};
}

bool ServedDirectory::overlaps(const ServedDirectory& other) const {
    return (device == other.device && inode == other.inode) || is_in(path, other.path) || is_in(other.path, path);
}

Result<std::vector<ServedDirectory>> find_directories(std::span<const ExportSettings> exports,
                                                      std::span<const ServedDirectory> others) {
    std::vector<ServedDirectory> directories(others.begin(), others.end());
    for (const ExportSettings& settings : exports) {
        auto directory = ServedDirectory::find(settings.directory);
        if (!directory)
            return make_error(Status::bad_usage, settings.place() + directory.error().to_string());
        for (const ServedDirectory& other : directories) {
            if (directory->overlaps(other))
                return make_error(Status::bad_usage,
                                  fmt::format("{}{} and {} of another export lie one in the other", settings.place(),
                                              log::printable(directory->path), log::printable(other.path)));
        }
        directories.push_back(std::move(*directory));
    }
    directories.erase(directories.begin(), directories.begin() + static_cast<std::ptrdiff_t>(others.size()));
    return directories;
}

}  // namespace remofile::server
