// SPDX-License-Identifier: MIT
// What waits to be sent on one lane, in order, and how it is joined into messages. Pure bookkeeping.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/buffer.hpp"
#include "base/strong_id.hpp"
#include "client/outgoing_bulk.hpp"
#include "client/request_traits.hpp"
#include "client/session.hpp"
#include "wire/frame.hpp"

namespace remofile::client {

// The server carries out the records of a message one after the other, so joining saves messages and costs
// parallelism. More than so many requests that somebody waits for do not share one.
inline constexpr std::size_t max_joined_requests = 8;

// Batches at the head of a queue whose data is being, or has been, encoded: enough to keep the codec thread busy while
// the one before is sent, and few enough to be decided by what the link has shown by then.
inline constexpr std::size_t max_prepared_batches = 16;

// One request until it is answered.
struct PendingRecord {
    const RequestTraits* traits = nullptr;
    std::vector<std::byte> body;
    OutgoingBulk bulk;
    bool link = false;
    bool answered = false;
    Status status = Status::ok;  // once answered
};

// The requests of one call, which travel in one message; their ids follow each other.
struct Batch {
    std::vector<PendingRecord> records;
    std::uint32_t credential = 0;
    wire::SetId set_id = wire::SetId::as_caller;
    LaneKind kind = LaneKind::metadata;
    std::size_t lane = 0;  // by which it goes: not that of its kind while lanes are merged

    // Known once it is sent; 0 before.
    RequestId first_id;
    TimePoint sent_at{};  // for the first time, by SessionOptions::lease_clock
    std::size_t unanswered = 0;

    // Who waits for it: none for a told one and an abandoned one. Cleared by the call when it ends.
    detail::Call* call = nullptr;
    bool abandoned = false;  // somebody waited, and gave up: what late replies bring is given back
    bool cancel_sent = false;

    // As they travel. Precondition: all of it is encoded.
    std::size_t bulk_bytes() const;
    std::size_t head_bytes() const;
    // Not counted against max_requests.
    bool unlimited() const;
    RequestId id_of(std::size_t index) const { return RequestId{first_id.value + index}; }
};

// What the server lets us send now.
struct SendingAllowance {
    std::size_t requests = 0;
    std::size_t bulk_bytes = 0;
    bool no_requests_unanswered = false;  // then one batch goes even if it is larger than all that was granted
    bool no_bulk_unanswered = false;
};

// Unbounded by itself: each entry stands for a coroutine that waits, or for a node or handle that the caller had.
class OutgoingQueue {
public:
    using BatchPtr = std::unique_ptr<Batch>;

    // Of this lane: whatever is pushed goes by it.
    explicit OutgoingQueue(std::size_t lane) : lane_(lane) {}

    void push(BatchPtr batch);
    // Goes before everything else, and is not held back by the allowance: CANCEL and PING, whose delay would cost more.
    void push_urgent(BatchPtr batch);
    // Adds to the FORGETs at the end, which are joined into as few records as possible.
    void push_forget(wire::ForgetNode node, LaneKind kind);

    // The first record whose data is plain; none if enough of those that wait to be sent are not.
    PendingRecord* next_plain();

    // The batches of the next message, in order; none if the first in line is not allowed out yet or not yet encoded.
    // Batches are joined as long as nobody waits for those before, or all are quick.
    std::vector<BatchPtr> next_message(const SendingAllowance& allowance);

    // Takes out one that has not been sent.
    BatchPtr take(const Batch* batch);
    // Everything, in order, urgent ones first. What was encoded, or is being encoded, stays so.
    std::vector<BatchPtr> take_all();

    // Whether a batch of that kind is here.
    bool has(LaneKind kind) const;

    bool empty() const { return urgent_.empty() && waiting_.empty() && forgets_.empty(); }
    bool only_forgets() const { return urgent_.empty() && waiting_.empty() && !forgets_.empty(); }

private:
    void seal_forgets();

    std::deque<BatchPtr> urgent_;
    std::deque<BatchPtr> waiting_;
    std::vector<wire::ForgetNode> forgets_;  // behind everything in waiting_; of one kind
    LaneKind forgets_kind_ = LaneKind::metadata;
    const std::size_t lane_;
};

// A batch of one told request.
OutgoingQueue::BatchPtr make_told(EncodedRequest request, LaneKind kind);

// One message of the unanswered records of these batches, which have their ids.
wire::Message build_message(const std::vector<const Batch*>& batches, bool resent, RequestId answered_below,
                            std::uint64_t received_bytes);

}  // namespace remofile::client
