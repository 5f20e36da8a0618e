// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <map>
#include <unordered_map>
#include <vector>

#include "filesystem/carried_out.hpp"

namespace remofile::filesystem {

// The names of files to which somebody here has given more than one: where to look for such a file when the name under
// which it was found last is gone. Others may have changed them since. Pure bookkeeping, of files that are known.
//
// Invariant: a name is that of one file at most.
class LinkedNames {
public:
    static constexpr std::size_t max_names = 8;  // of a file; the oldest go

    // The file has got the name, or had it when it got another.
    void add(InodeNumber inode, const NamePlace& place);
    // The name stands for nothing any more, or for a file that was not known by it.
    void remove(const NamePlace& place);
    // What `from` stood for is at `to`.
    void move(const NamePlace& from, const NamePlace& to);
    // The file is not known any more.
    void forget(InodeNumber inode);

    // The latest first; none of a file that has had one name alone.
    std::vector<NamePlace> of(InodeNumber inode) const;

private:
    std::map<NamePlace, InodeNumber> by_name_;
    std::unordered_map<InodeNumber, std::vector<NamePlace>> names_;  // the oldest first
};

}  // namespace remofile::filesystem
