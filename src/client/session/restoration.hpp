// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>

#include "client/requests/lanes.hpp"
#include "client/requests/outgoing_queue.hpp"

namespace remofile::client {

// How far a session has got that takes the place of one that the server has lost: first its ids are given their
// meaning, then what is unanswered is sent again, and only then all else. Pure bookkeeping.
//
// Invariant: while it is under way nothing leaves but what is in its queue, by the metadata lane. What is to be sent
// again is in the order of its numbers, and not charged.
class Restoration {
public:
    // What gives ids their meaning.
    OutgoingQueue queue{metadata_lane};

    // Its number. One that was under way is over.
    std::uint64_t begin() {
        under_way_ = true;
        return ++latest_;
    }
    bool is_under_way() const { return under_way_; }
    bool is_latest(std::uint64_t number) const { return under_way_ && number == latest_; }
    void end() { under_way_ = false; }

    // By lane, the numbers of batches that are to be sent again as far as the server's grants allow.
    std::array<std::deque<RequestId>, lane_count> again;
    void move_lane(std::size_t from, std::size_t to) {
        again[to].insert(again[to].end(), again[from].begin(), again[from].end());
        again[from].clear();
        std::ranges::sort(again[to]);
    }
    bool is_to_be_sent_again(std::size_t lane, RequestId first_id) const {
        return !again[lane].empty() && first_id >= again[lane].front();
    }

private:
    bool under_way_ = false;
    std::uint64_t latest_ = 0;
};

}  // namespace remofile::client
