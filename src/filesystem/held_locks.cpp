// SPDX-License-Identifier: MIT
#include "filesystem/held_locks.hpp"

#include "wire/lock_ranges.hpp"

namespace remofile::filesystem {

void HeldLocks::set_range(HandleNumber through, InodeNumber inode, LockOwner owner, const wire::LockRange& range) {
    const auto [place, is_first] = ranges_.try_emplace({inode, owner}, Ranges{.through = through, .held = {}});
    wire::apply(place->second.held, range);
    if (place->second.held.empty())
        ranges_.erase(place);
}

void HeldLocks::set_whole(HandleNumber handle, wire::LockType type) {
    if (type == wire::LockType::unlock)
        whole_.erase(handle);
    else
        whole_[handle] = type;
}

void HeldLocks::closed_by(InodeNumber inode, LockOwner owner) {
    ranges_.erase({inode, owner});
}

void HeldLocks::closed(HandleNumber handle) {
    whole_.erase(handle);
    std::erase_if(ranges_, [handle](const auto& each) { return each.second.through == handle; });
}

std::vector<HeldLocks::Held> HeldLocks::all() const {
    std::vector<Held> all;
    for (const auto& [handle, type] : whole_)
        all.push_back({.through = handle, .whole = true, .owner = {}, .range = {.type = type}});
    for (const auto& [of, ranges] : ranges_) {
        for (const wire::LockRange& range : ranges.held)
            all.push_back({.through = ranges.through, .whole = false, .owner = of.second, .range = range});
    }
    return all;
}

}  // namespace remofile::filesystem
