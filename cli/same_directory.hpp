// SPDX-License-Identifier: MIT
// Tells a directory of the server from one of this machine, which may be the same: the server may run here, or what is
// copied may lie on a mount of it. A tree that is copied into itself would never end.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "client/remote_tree.hpp"

namespace remofile::cli {

// What a directory's numbers tell.
struct DirectoryNumbers {
    std::uint64_t inode = 0;
    // A mount mixes a number of its own for what lies on another file system than the export's root.
    bool may_be_mixed = false;
};
DirectoryNumbers numbers_of(const struct stat& local);
DirectoryNumbers numbers_of(const wire::Attributes& remote, const client::Session& session);

// Directories in which copies are made, one end's, found by the other end's numbers.
template <class Place>
class Destinations {
public:
    void add(const DirectoryNumbers& numbers, Place place) {
        if (numbers.may_be_mixed)
            mixed_.push_back(place);
        by_inode_.emplace(numbers.inode, std::move(place));
    }

    // Those that may be the directory with these numbers: mostly none.
    std::vector<Place> like(const DirectoryNumbers& numbers) const {
        std::vector<Place> found = numbers.may_be_mixed ? mixed_ : std::vector<Place>();
        const auto [begin, end] = by_inode_.equal_range(numbers.inode);
        for (auto it = begin; it != end; ++it)
            found.push_back(it->second);
        return found;
    }

private:
    std::unordered_multimap<std::uint64_t, Place> by_inode_;
    std::vector<Place> mixed_;
};

// Whether both are one directory: a file that is made in it on the server is seen here, and then removed.
Task<bool> is_same_made_there(client::RemoteTree& tree, NodeId remote, int local);
// The same the other way round, for a server that may not be written to. The descriptor stays open meanwhile.
Task<bool> is_same_made_here(client::RemoteTree& tree, NodeId remote, int local);
// The same by all that is known of both, without touching either; wrong if one of them changes just then.
bool looks_the_same(const wire::Attributes& remote, const struct stat& local, const client::Session& session);
// And with the attributes that the directory of the server has now.
Task<bool> looks_the_same_now(client::Session& session, NodeId remote, struct stat local);

}  // namespace remofile::cli
