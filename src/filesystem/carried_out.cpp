// SPDX-License-Identifier: MIT
#include "filesystem/carried_out.hpp"

#include <algorithm>

namespace remofile::filesystem {

std::optional<bool> was_carried_out(std::span<const NameChange> change,
                                    const std::function<bool(const NamePlace&, InodeNumber)>& stands_for) {
    const auto is_as = [&](InodeNumber NameChange::*when) {
        return std::ranges::all_of(change, [&](const NameChange& name) { return stands_for(name.place, name.*when); });
    };
    const bool is_as_before = is_as(&NameChange::before);
    const bool is_as_after = is_as(&NameChange::after);
    return is_as_before == is_as_after ? std::nullopt : std::optional(is_as_after);
}

std::optional<CarriedOut> carried_out(std::span<const std::vector<NameChange>> changes,
                                      const std::function<bool(const NamePlace&, InodeNumber)>& stands_for) {
    CarriedOut found;
    for (const auto& change : changes) {
        for (const NameChange& each : change)
            found.names.try_emplace(each.place, each.before);
    }
    std::size_t wrong = 0;
    for (const auto& [place, inode] : found.names)
        wrong += stands_for(place, inode) ? 0U : 1U;
    for (const auto& change : changes) {
        if (wrong == 0)
            break;
        for (const NameChange& each : change) {
            InodeNumber& inode = found.names.at(each.place);
            wrong -= stands_for(each.place, inode) ? 0U : 1U;
            inode = each.after;
            wrong += stands_for(each.place, inode) ? 0U : 1U;
        }
        ++found.count;
    }
    return wrong == 0 ? std::optional(std::move(found)) : std::nullopt;
}

}  // namespace remofile::filesystem
