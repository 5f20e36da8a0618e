// SPDX-License-Identifier: MIT
// What the file system says of files and names.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "filesystem/inode_number.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// What may be shown of a file, and for how long without asking again.
struct ShownAttributes {
    wire::Attributes attributes;
    Duration life = Duration::zero();
};

// A name that was found. Whoever gets one of an inode holds the inode, once for each, until FileSystem::forget().
struct Entry {
    InodeNumber inode = 0;  // 0: there is nothing of that name
    wire::Attributes attributes;
    // For how long the name, and the attributes, may be used without asking again.
    Duration entry_life = Duration::zero();
    Duration attributes_life = Duration::zero();
    bool is_outdated = false;  // the attributes may be others by now
};

// One name of a listing. `entry` is filled if attributes were asked for and could be had.
struct ListedEntry {
    std::string name;
    std::uint64_t position = 0;   // where the listing goes on after this entry
    wire::FileIdentity identity;  // as far as it is known: its birth may be missing
    std::uint32_t type = 0;       // S_IFMT bits
    Entry entry;
};

// Takes in the names of a listing, as many as it has room for.
class ListingSink {
public:
    virtual ~ListingSink() = default;
    virtual bool has_room_for(const std::string& name) = 0;
    // Called after has_room_for() has said yes to its name.
    virtual void add(const ListedEntry& entry) = 0;
};

}  // namespace remofile::filesystem
