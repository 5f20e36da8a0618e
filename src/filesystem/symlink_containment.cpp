// SPDX-License-Identifier: MIT
#include "filesystem/symlink_containment.hpp"

#include <algorithm>

namespace remofile::filesystem {

bool stays_within(std::string_view target, std::size_t depth) {
    if (target.empty() || target.front() == '/')
        return false;
    bool seen_name = false;
    while (!target.empty()) {
        const std::size_t end = std::min(target.find('/'), target.size());
        const std::string_view component = target.substr(0, end);
        target.remove_prefix(std::min(end + 1, target.size()));
        if (component.empty() || component == ".")
            continue;
        if (component != "..") {
            seen_name = true;
            continue;
        }
        if (seen_name || depth == 0)
            return false;
        --depth;
    }
    return true;
}

}  // namespace remofile::filesystem
