// SPDX-License-Identifier: MIT
// Sees a walk through a tree in the order in which things are asked for, and says what comes next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
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
// Nothing is fetched that lies beyond where the walk has been: whoever reads one directory need not want its
// neighbours. Several walks may be on their way at a time, as those of git's threads, each through a part of the tree.
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

    // A walk that seems to begin gets `first_window` entries.
    Walk(const DirectoryCache& cache, IsOfKind is_of_kind, std::size_t first_window, std::size_t max_window)
        : cache_(cache), is_of_kind_(is_of_kind), first_window_(first_window), max_window_(max_window) {}

    // An entry of the kind is asked for, for the first time since something was known of it.
    void visit(InodeNumber parent, std::string_view name);

    // The rest is about the walk that the latest visit belongs to.

    // How many entries may be fetched ahead.
    std::size_t window() const { return latest().window; }
    // The next entries of the kind, in the order of the walk: at most window() of them.
    std::vector<Target> ahead() const;

    // Whether it is time to fetch more: not at each visit, so that many go in one message, and before all that was
    // fetched is used up.
    bool is_due() const;
    // The last time there was less to fetch than it might have been.
    bool is_starved() const { return latest().fetched < latest().window; }
    // So many entries ahead are there, or under way.
    void fetched(std::size_t count);

private:
    using Order = DirectoryCache::Order;
    struct Course {
        Target at;
        Order order = Order::listing;
        InodeNumber top = 0;  // the lowest directory that holds all it has visited
        bool at_start = true;
        std::size_t window = 0;
        std::size_t fetched = 0;
        std::size_t window_then = 0;  // when that was fetched
        std::size_t used = 0;         // entries that it has gone on since
    };

    const Course& latest() const { return courses_.front(); }
    bool advance(Order order, Target& at, InodeNumber top) const;
    bool advance_to_kind(Order order, Target& at, InodeNumber top, std::size_t& looks) const;
    std::optional<std::size_t> distance(const Target& from, Order order, const Target& target) const;
    std::size_t follow(Course& course, const Target& target) const;
    void widen(Course& course, const Target& target) const;
    bool is_within(InodeNumber directory, InodeNumber top) const;
    void join(const Target& target);
    void begin(const Target& target);

    const DirectoryCache& cache_;
    const IsOfKind is_of_kind_;
    const std::size_t first_window_;
    const std::size_t max_window_;
    std::list<Course> courses_ = std::list<Course>(1);  // the latest first
};

// What fits the two walks.
bool is_directory_entry(const DirectoryCache::Entry& entry);
bool is_small_file_entry(const DirectoryCache::Entry& entry);

// Files of at most this size are fetched as a whole.
inline constexpr std::uint64_t max_small_file_bytes = 64U << 10;

}  // namespace remofile::filesystem
