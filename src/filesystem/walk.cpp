// SPDX-License-Identifier: MIT
#include "filesystem/walk.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace remofile::filesystem {
namespace {

constexpr std::size_t first_window = 4;
constexpr std::size_t window_growth = 4;
// A walk may pass over some entries: those that a program does not want, or has in a cache of its own.
constexpr std::size_t near_entries = 4;
// Entries of other kinds that are looked at on the way to the next ones.
constexpr std::size_t max_looks = 4096;

}  // namespace

bool is_directory_entry(const DirectoryCache::Entry& entry) {
    return entry.type == DT_DIR;
}

bool is_small_file_entry(const DirectoryCache::Entry& entry) {
    return S_ISREG(entry.attributes.mode) && entry.attributes.size > 0 && entry.attributes.size <= max_small_file_bytes;
}

// The next entry of any kind. False at the end of what is known.
bool Walk::advance(Order order, Target& at) const {
    if (const InodeNumber inside = at.name.empty() ? 0 : cache_.known_directory(at.parent, at.name); inside != 0) {
        if (const auto* first = cache_.next(inside, order, {}); first != nullptr) {
            at = {inside, first->name};
            return true;
        }
    }
    // A tree that a server makes up might lead round in a ring.
    constexpr int max_levels = 2048;
    for (int level = 0; level < max_levels; ++level) {
        if (const auto* next = cache_.next(at.parent, order, at.name); next != nullptr) {
            at.name = next->name;
            return true;
        }
        const auto* above = cache_.place(at.parent);
        if (above == nullptr || above->parent == 0)
            return false;
        at = {above->parent, above->name};
    }
    return false;
}

bool Walk::advance_to_kind(Order order, Target& at, std::size_t& looks) const {
    while (looks > 0 && advance(order, at)) {
        --looks;
        if (const auto answer = cache_.peek(at.parent, at.name); answer != nullptr && is_of_kind_(*answer))
            return true;
    }
    return false;
}

// How many entries of the kind further the target comes; none if it is not near.
std::optional<std::size_t> Walk::distance(Order order, const Target& target) const {
    Target at = latest_;
    std::size_t looks = max_looks;
    for (std::size_t steps = 1; steps <= near_entries && advance_to_kind(order, at, looks); ++steps) {
        if (at == target)
            return steps;
    }
    return std::nullopt;
}

// Whether the target is near in some order, which then is the walk's: the one in which it is nearest.
bool Walk::follows(const Target& target) {
    const Order other = order_ == Order::listing ? Order::names : Order::listing;
    const auto in_this = distance(order_, target);
    const auto in_other = in_this == 1U ? std::nullopt : distance(other, target);
    if (in_other && (!in_this || *in_other < *in_this))
        order_ = other;
    return in_this || in_other;
}

void Walk::visit(InodeNumber parent, std::string_view name) {
    Target target{parent, std::string(name)};
    if (target == latest_)
        return;
    bool near = follows(target);
    if (!near && window_ == 0) {
        // The first of its kind in a directory may be the beginning of a walk.
        latest_ = {parent, {}};
        near = follows(target);
    }
    if (near)
        window_ = std::min(max_window_, window_ == 0 ? first_window : window_ * window_growth);
    else
        window_ /= window_growth;
    latest_ = std::move(target);
}

std::vector<Walk::Target> Walk::ahead() const {
    std::vector<Target> targets;
    Target at = latest_;
    std::size_t looks = max_looks;
    while (targets.size() < window_ && advance_to_kind(order_, at, looks))
        targets.push_back(at);
    return targets;
}

}  // namespace remofile::filesystem
