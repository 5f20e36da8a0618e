// SPDX-License-Identifier: MIT
#include "client/conflict_name.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "wire/protocol.hpp"

namespace remofile::client {

std::string conflict_name(std::string_view name, std::string_view side, std::time_t time, int number) {
    std::tm parts{};
    ::localtime_r(&time, &parts);
    char text[32];
    const std::string_view when(text, std::strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &parts));
    const std::size_t dot = name.rfind('.');
    std::string_view extension = dot == name.npos || dot == 0 ? "" : name.substr(dot);
    std::string_view stem = name.substr(0, name.size() - extension.size());
    const std::string mark =
        fmt::format(".conflict-{}-{}{}", side, when, number == 1 ? "" : fmt::format("-{}", number));
    if (mark.size() + extension.size() >= wire::max_name_bytes)
        extension = {};
    stem = stem.substr(0, wire::max_name_bytes - mark.size() - extension.size());
    return fmt::format("{}{}{}", stem, mark, extension);
}

}  // namespace remofile::client
