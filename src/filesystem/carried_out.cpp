// SPDX-License-Identifier: MIT
#include "filesystem/carried_out.hpp"

namespace remofile::filesystem {

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
