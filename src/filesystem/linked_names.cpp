// SPDX-License-Identifier: MIT
#include "filesystem/linked_names.hpp"

namespace remofile::filesystem {

void LinkedNames::add(InodeNumber inode, const NamePlace& place) {
    remove(place);
    std::vector<NamePlace>& names = names_[inode];
    if (names.size() == max_names) {
        by_name_.erase(names.front());
        names.erase(names.begin());
    }
    names.push_back(place);
    by_name_.emplace(place, inode);
}

void LinkedNames::remove(const NamePlace& place) {
    const auto found = by_name_.find(place);
    if (found == by_name_.end())
        return;
    const auto names = names_.find(found->second);
    std::erase(names->second, place);
    if (names->second.empty())
        names_.erase(names);
    by_name_.erase(found);
}

void LinkedNames::move(const NamePlace& from, const NamePlace& to) {
    const auto found = by_name_.find(from);
    if (found == by_name_.end())
        return remove(to);
    const InodeNumber inode = found->second;
    remove(from);
    add(inode, to);
}

void LinkedNames::forget(InodeNumber inode) {
    const auto names = names_.find(inode);
    if (names == names_.end())
        return;
    for (const NamePlace& place : names->second)
        by_name_.erase(place);
    names_.erase(names);
}

std::vector<NamePlace> LinkedNames::of(InodeNumber inode) const {
    const auto names = names_.find(inode);
    if (names == names_.end())
        return {};
    return {names->second.rbegin(), names->second.rend()};
}

}  // namespace remofile::filesystem
