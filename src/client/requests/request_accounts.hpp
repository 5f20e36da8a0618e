// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>

#include "client/requests/lanes.hpp"
#include "client/requests/outgoing_queue.hpp"
#include "wire/messages.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::client {

// What unanswered requests take of what the server lets a session have under way at a time (docs/PROTOCOL.md, "Flow
// control"). Pure bookkeeping.
//
// Invariant: each record of a charged batch that is not answered counts in its account, and its bulk data with its
// lane; nothing else does. Heads of messages and waits for locks count as long as what they handed out lives, which
// must not outlive this.
class RequestAccounts {
public:
    // One more request that may wait for a lock, sent or not; none if the server takes no more.
    std::optional<Tally> wait_for_lock();
    // The head of a message, to be shared by its batches.
    std::shared_ptr<const Tally> head(std::size_t bytes) { return std::make_shared<const Tally>(head_bytes_, bytes); }

    // All unanswered records of a batch are about to be sent, by its lane.
    void charge(Batch& batch);
    // One of them is answered.
    void release(const Batch& batch, const PendingRecord& record);
    // The rest of them will not be.
    void release_unanswered(Batch& batch);
    // All that went by `from` goes by `to` now.
    void move_lane(std::size_t from, std::size_t to);
    // The server has forgotten them all.
    void clear();

    // What may be sent by a lane now.
    SendingAllowance allowance(std::size_t lane, const wire::HelloReply& granted) const;

private:
    std::size_t& count_of(wire::Account account) { return unanswered_[static_cast<std::size_t>(account)]; }
    std::size_t count_of(wire::Account account) const { return unanswered_[static_cast<std::size_t>(account)]; }

    std::size_t lock_waits_ = 0;
    std::size_t head_bytes_ = 0;
    std::array<std::size_t, wire::account_count> unanswered_{};
    std::array<std::size_t, lane_count> bulk_bytes_{};
};

}  // namespace remofile::client
