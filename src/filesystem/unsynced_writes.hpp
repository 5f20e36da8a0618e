// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "filesystem/inode_number.hpp"

namespace remofile::filesystem {

// What the server has of files and was not asked to make durable: if its machine loses its power, it may have lost it.
// Pure bookkeeping.
class UnsyncedWrites {
public:
    // A kernel writes by itself what is half a minute old; and it takes a while to notice that a machine is gone.
    static constexpr Duration written_back_after = std::chrono::seconds(90);

    // A program was told that it has written something.
    void accepted(InodeNumber file) { ++files_[file].accepted; }
    // The server has something of the file since then.
    void answered(InodeNumber file, TimePoint now) {
        files_[file].answered_at = now;
        if (files_.size() >= next_look_)
            forget_old(now);
    }
    // To be handed to synced(): how often something was accepted.
    std::uint64_t accepted_so_far(InodeNumber file) const {
        const auto found = files_.find(file);
        return found == files_.end() ? 0 : found->second.accepted;
    }
    // What had been accepted then is durable.
    void synced(InodeNumber file, std::uint64_t accepted) {
        const auto found = files_.find(file);
        if (found != files_.end() && found->second.accepted == accepted)
            files_.erase(found);
    }
    // The files of which something may be lost if the machine was lost at that time; they are told of once.
    std::vector<InodeNumber> take_lost(TimePoint lost_at) {
        std::vector<InodeNumber> lost;
        std::erase_if(files_, [&](const auto& each) {
            const auto& [file, writes] = each;
            const bool is_lost = writes.answered_at && *writes.answered_at + written_back_after > lost_at;
            if (is_lost)
                lost.push_back(file);
            return is_lost;
        });
        std::ranges::sort(lost);
        return lost;
    }

private:
    void forget_old(TimePoint now) {
        std::erase_if(files_, [&](const auto& each) {
            return each.second.answered_at && *each.second.answered_at + written_back_after <= now;
        });
        next_look_ = std::max(least_of_a_look, 2 * files_.size());
    }

    struct Writes {
        std::uint64_t accepted = 0;
        std::optional<TimePoint> answered_at;  // the last one
    };
    static constexpr std::size_t least_of_a_look = 1'024;

    std::unordered_map<InodeNumber, Writes> files_;
    std::size_t next_look_ = least_of_a_look;
};

}  // namespace remofile::filesystem
