// SPDX-License-Identifier: MIT
// Change times that programs were told of files whose changes were still under way. The server's are a little later and
// cannot be set: as long as a file stays as it is, the time that was told is told again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>

#include "filesystem/inode_number.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// One thread.
class ShownTimes {
public:
    // A program was told it while changes were under way.
    void told(InodeNumber inode, const wire::Timestamp& change) {
        if (times_.size() >= max_remembered && !times_.contains(inode))
            times_.clear();
        times_[inode] = {.shown = change};
    }
    // The server has carried out one of those changes.
    void heard(InodeNumber inode, const wire::Timestamp& change) {
        if (const auto found = times_.find(inode); found != times_.end() && !found->second.settled)
            found->second.at_server = std::max(found->second.at_server, change);
    }
    // All of them have been carried out.
    void settled(InodeNumber inode) {
        if (const auto found = times_.find(inode); found != times_.end())
            found->second.settled = true;
    }
    // Something is changed that has not been told.
    void changed(InodeNumber inode) { times_.erase(inode); }
    // The attributes as programs see them. `is_changing`: changes are under way.
    wire::Attributes as_shown(InodeNumber inode, wire::Attributes attributes, bool is_changing) {
        const auto found = times_.find(inode);
        if (found == times_.end())
            return attributes;
        if (attributes.change == found->second.at_server)
            attributes.change = found->second.shown;
        else if (!is_changing)
            times_.erase(found);
        return attributes;
    }
    void forget(InodeNumber inode) { times_.erase(inode); }

private:
    static constexpr std::size_t max_remembered = 1U << 16;
    struct Time {
        wire::Timestamp shown;
        wire::Timestamp at_server{};
        bool settled = false;
    };
    std::unordered_map<InodeNumber, Time> times_;
};

}  // namespace remofile::filesystem
