// SPDX-License-Identifier: MIT
// Exports with names, and HELLO's paths that begin with one: docs/PROTOCOL.md, "Exports".
#pragma once

#include <algorithm>
#include <string_view>

#include "wire/protocol.hpp"

namespace remofile::wire {

// Only what needs no quoting anywhere: in a path, a TOML key, a line of authorized_keys, a metric's label, a log.
constexpr bool is_export_name(std::string_view name) {
    const auto is_alphanumeric = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    };
    return !name.empty() && name.size() <= max_export_name_bytes && is_alphanumeric(name.front()) &&
           std::ranges::all_of(name, [&](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

struct ExportPath {
    std::string_view name;   // empty: the path has no component
    std::string_view below;  // what follows it: empty, or from the slash on
};

// Views of `path`. Slashes in front count as one, as they do on the way below an export.
constexpr ExportPath split_export_path(std::string_view path) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    const std::size_t end = std::min(path.find('/'), path.size());
    return {.name = path.substr(0, end), .below = path.substr(end)};
}

}  // namespace remofile::wire
