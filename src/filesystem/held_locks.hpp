// SPDX-License-Identifier: MIT
// The locks that programs have been told are theirs, for a session that takes the place of a lost one.
#pragma once

#include <map>
#include <vector>

#include "base/strong_id.hpp"
#include "filesystem/handle_table.hpp"
#include "filesystem/inode_number.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// Pure bookkeeping. A lock ends as it does at the server: with the last byte that is unlocked, when its owner closes a
// descriptor of the file, and with the handle through which its owner first locked in the file. Bounded by what the
// server grants. One thread.
class HeldLocks {
public:
    struct Held {
        HandleNumber through{};
        bool whole = false;
        LockOwner owner;
        wire::LockRange range;
    };

    // Of type unlock: the range is given up. `through` is open.
    void set_range(HandleNumber through, InodeNumber inode, LockOwner owner, const wire::LockRange& range);
    void set_whole(HandleNumber handle, wire::LockType type);
    void closed_by(InodeNumber inode, LockOwner owner);
    void closed(HandleNumber handle);

    // In no particular order, those of one owner in one file by their start.
    std::vector<Held> all() const;

private:
    struct Ranges {
        HandleNumber through{};  // the first
        std::vector<wire::LockRange> held;
    };
    std::map<std::pair<InodeNumber, LockOwner>, Ranges> ranges_;
    std::map<HandleNumber, wire::LockType> whole_;
};

}  // namespace remofile::filesystem
