// SPDX-License-Identifier: MIT
#include "server/files/xattr_names.hpp"

#include <sys/xattr.h>

#include <algorithm>
#include <array>

namespace remofile::server {

bool is_label(std::string_view name) {
    return name.starts_with("security.") && name != "security.capability";
}

std::size_t hide_labels(std::span<char> list) {
    std::size_t kept = 0;
    for (std::size_t at = 0; at < list.size();) {
        const std::string_view name(list.data() + at);
        const std::size_t bytes = name.size() + 1;
        if (!is_label(name)) {
            std::copy_n(list.data() + at, bytes, list.data() + kept);
            kept += bytes;
        }
        at += bytes;
    }
    return kept;
}

bool has_no_xattrs(const char* path) {
    std::array<char, 256> names;  // of labels there are few: what needs more room has others
    const ssize_t size = llistxattr(path, names.data(), names.size());
    return size >= 0 && hide_labels({names.data(), static_cast<std::size_t>(size)}) == 0;
}

bool has_default_acl(const char* path) {
    return getxattr(path, "system.posix_acl_default", nullptr, 0) > 0;
}

}  // namespace remofile::server
