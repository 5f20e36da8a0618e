// SPDX-License-Identifier: MIT
// Sees a walk through a tree in the order in which things are asked for, and says what comes next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "filesystem/directory_cache.hpp"

namespace remofile::filesystem {

// A walk visits an entry, then, if it is a directory, what is in it, then what comes after it: find, tar, rsync and du
// in the order of the listing, git in the order of the names. Whoever is where a walk would be gets four times as many
// entries fetched ahead as before; whoever is not, a quarter: so one who jumps about in a tree pays for next to
// nothing.
//
// One for directories and one for files: each sees only its kind. One thread. All it says is a guess, about what the
// cache knows.
class Walk {
public:
    struct Target {
        InodeNumber parent = 0;
        std::string name;
        friend bool operator==(const Target&, const Target&) = default;
    };
    using IsOfKind = bool (*)(const DirectoryCache::Entry&);

    Walk(const DirectoryCache& cache, IsOfKind is_of_kind, std::size_t max_window)
        : cache_(cache), is_of_kind_(is_of_kind), max_window_(max_window) {}

    // An entry of the kind is asked for, for the first time since something was known of it.
    void visit(InodeNumber parent, std::string_view name);

    // How many entries may be fetched ahead.
    std::size_t window() const { return window_; }
    // The next entries of the kind after the latest, in the order of the walk: at most window() of them.
    std::vector<Target> ahead() const;

private:
    using Order = DirectoryCache::Order;

    bool advance(Order order, Target& at) const;
    bool advance_to_kind(Order order, Target& at, std::size_t& looks) const;
    std::optional<std::size_t> distance(Order order, const Target& target) const;
    bool follows(const Target& target);

    const DirectoryCache& cache_;
    const IsOfKind is_of_kind_;
    const std::size_t max_window_;
    Target latest_;
    Order order_ = Order::listing;
    std::size_t window_ = 0;
};

// What fits the two walks.
bool is_directory_entry(const DirectoryCache::Entry& entry);
bool is_small_file_entry(const DirectoryCache::Entry& entry);

// Files of at most this size are fetched as a whole.
inline constexpr std::uint64_t max_small_file_bytes = 64U << 10;

}  // namespace remofile::filesystem
