// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "client/requests/lanes.hpp"
#include "client/requests/outgoing_queue.hpp"

namespace remofile::client {

// The requests of a session that were sent and are not answered, under the numbers by which the server knows them.
// Pure bookkeeping.
//
// Invariant: numbers rise by one from request to request, over all epochs, and none is used twice; a batch is here from
// its numbering until it is taken out, each of its records under a number of its own. So whatever is below
// answered_below() has been answered, or never will be.
class UnansweredRequests {
public:
    // Numbers the batch's records and takes it in. Strong guarantee: if memory fails, it stays with the caller and has
    // no number.
    void enter(std::unique_ptr<Batch>& batch);
    // HELLO or ATTACH goes by the lane; it counts as unanswered until end_greeting().
    RequestId enter_greeting(std::size_t lane);
    bool is_greeting(std::size_t lane, RequestId id) const { return greetings_[lane] && greetings_[lane] == id; }
    void end_greeting(std::size_t lane) { greetings_[lane] = {}; }
    // Of a request that is never answered.
    RequestId number_of_unanswerable() { return take_numbers(1); }

    // Which record a reply that came by the lane belongs to; none if it went by another, is answered, or never was.
    struct Place {
        Batch* batch;
        std::size_t index;
    };
    std::optional<Place> find(RequestId id, std::size_t lane) const;
    // Of a batch's first number.
    Batch* find_batch(RequestId first_id) const;
    // In the order in which they were sent.
    std::vector<Batch*> of_lane(std::size_t lane) const;
    // Whether a batch of that kind goes by the lane.
    bool has(std::size_t lane, LaneKind kind) const;
    // The message says so: the server keeps nothing of what is below.
    RequestId answered_below() const;

    std::unique_ptr<Batch> take(const Batch& batch);
    std::vector<std::unique_ptr<Batch>> take_lane(std::size_t lane);
    std::vector<std::unique_ptr<Batch>> take_all();
    // All that went by `from` goes by `to`. True if there was any.
    bool move_lane(std::size_t from, std::size_t to);

private:
    RequestId take_numbers(std::size_t count);

    RequestId last_id_;
    std::map<RequestId, std::unique_ptr<Batch>> batches_;  // by their first number
    std::array<RequestId, lane_count> greetings_{};        // 0: none is unanswered
};

}  // namespace remofile::client
