// SPDX-License-Identifier: MIT
// What waits to be sent on one lane, in order, and how it is joined into messages. Pure bookkeeping.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/buffer.hpp"
#include "base/strong_id.hpp"
#include "client/requests/credential_table.hpp"
#include "client/requests/outgoing_bulk.hpp"
#include "client/requests/request_traits.hpp"
#include "client/session.hpp"
#include "wire/frame.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::client {

// The server carries out the records of a message one after the other, so joining saves messages and costs
// parallelism. More than so many requests that somebody waits for do not share one.
inline constexpr std::size_t max_joined_requests = 8;
// Of requests that nobody waits for yet.
inline constexpr std::size_t max_joined_ahead = 32;
// Of requests that are carried out one after the other anyway.
inline constexpr std::size_t max_joined_in_order = 32;

// Batches at the head of a queue whose data is being, or has been, encoded: enough to keep the codec thread busy while
// the one before is sent, and few enough to be decided by what the link has shown by then.
inline constexpr std::size_t max_prepared_batches = 16;

// One request until it is answered.
struct PendingRecord {
    const RequestTraits* traits = nullptr;
    wire::Account account = wire::Account::request;
    std::vector<std::byte> body;
    OutgoingBulk bulk;
    bool link = false;
    bool answered = false;
    bool was_answered = false;   // by a server that has been lost since
    bool refused = false;        // by a server that is about to end: as if it had not been sent
    Status status = Status::ok;  // once answered
};

// One more of something, as long as it lives.
class Tally {
public:
    explicit Tally(std::size_t& count, std::size_t amount = 1) : count_(&count), amount_(amount) { count += amount; }
    Tally(Tally&& other) noexcept : count_(std::exchange(other.count_, nullptr)), amount_(other.amount_) {}
    Tally& operator=(Tally&&) = delete;
    ~Tally() {
        if (count_ != nullptr)
            *count_ -= amount_;
    }

private:
    std::size_t* count_;
    std::size_t amount_;
};

// The requests of one call, which travel in one message; their ids follow each other.
struct Batch {
    std::vector<PendingRecord> records;
    std::uint32_t credential = 0;
    wire::SetId set_id = wire::SetId::as_caller;
    LaneKind kind = LaneKind::metadata;
    std::size_t lane = 0;             // by which it goes: not that of its kind while lanes are merged
    bool ahead = false;               // CallOptions::ahead
    bool in_order = false;            // CallOptions::in_order
    bool unhurried = false;           // nobody waits for it: what programs were told before, and what is given back
    bool restores = false;            // CallOptions::restores
    std::uint64_t change_number = 0;  // CallOptions::change

    // Known once it is sent; 0 before.
    RequestId first_id;
    TimePoint sent_at{};  // for the first time, by SessionOptions::lease_clock
    std::size_t unanswered = 0;
    std::uint32_t times_sent_again = 0;  // in sessions that took the place of lost ones
    bool is_in_doubt = false;            // it was sent to a server whose answers are not known
    bool is_untouched = false;           // the server that has been lost had begun nothing of it
    bool is_charged = false;             // its records count in RequestAccounts

    // Who waits for it: none for a told one and an abandoned one. Cleared by the call when it ends.
    detail::Call* call = nullptr;
    bool abandoned = false;  // somebody waited, and gave up: what late replies bring is given back
    bool cancel_sent = false;

    std::optional<CredentialTable::Use> credential_use;
    // Those that wait for locks, sent or not.
    std::optional<Tally> lock_wait;
    // Bytes of the head of its message, until all that came in it is answered: shared by the batches of the message.
    std::shared_ptr<const Tally> head;

    // As they travel. Precondition: all of it is encoded.
    std::size_t bulk_bytes() const;
    std::size_t head_bytes() const;
    // What of it a bandwidth limit has wait: bulk data, as it travels, and what its answers may bring.
    std::size_t contents_sent() const { return kind == LaneKind::data ? bulk_bytes() : 0; }
    std::size_t contents_asked() const;
    std::size_t count_of(wire::Account account) const;
    bool waits_for_lock() const { return records.back().account == wire::Account::lock_wait; }
    // After a lost connection, to be carried out, that is: one that somebody waits for, always. One whose caller has
    // gone only if carrying it out late does no harm: an UNLINK that its caller was told had timed out must not remove,
    // minutes later, the file that has taken the name since. It is sent again as void, so that its answer tells what
    // came of it.
    bool is_worth_resending() const;
    // In a session that takes the place of one that is lost with all that was known of what had been carried out.
    bool may_be_done_again() const;
    RequestId id_of(std::size_t index) const { return RequestId{first_id.value + index}; }
};

// Content that the answer to a record of such a batch may bring, at most. Listings are none.
std::size_t contents_asked(LaneKind kind, const PendingRecord& record);

// What the server lets us send now, of something that it counts. Where nothing is unanswered, one batch goes even if it
// is larger than all that was granted.
struct Room {
    std::size_t left = 0;
    bool nothing_unanswered = false;

    bool takes(std::size_t amount) const { return amount == 0 || amount <= left || nothing_unanswered; }
    void take(std::size_t amount) {
        left -= std::min(left, amount);
        nothing_unanswered = nothing_unanswered && amount == 0;
    }
};
struct SendingAllowance {
    Room requests;
    Room controls;
    Room head_bytes;
    Room bulk_bytes;
    // As far as a bandwidth limit goes.
    Room contents_sent{.left = SIZE_MAX};
    Room contents_asked{.left = SIZE_MAX};

    bool takes(const Batch& batch) const;
};

// Unbounded by itself: each entry stands for a coroutine that waits, or for a node or handle that the caller had.
class OutgoingQueue {
public:
    using BatchPtr = std::unique_ptr<Batch>;

    // Of this lane: whatever is pushed goes by it.
    explicit OutgoingQueue(std::size_t lane) : lane_(lane) {}

    void push(BatchPtr batch);
    // Goes before everything else, and waits for nothing but room for controls: CANCEL, CREDENTIAL and INVALIDATED, for
    // which others may wait.
    void push_urgent(BatchPtr batch);
    // An INVALIDATED, urgent as well. As it covers all before it, it takes the place of one that has not left: a server
    // that pushes and pushes and answers none of them does not make this queue grow.
    void push_confirmation(BatchPtr batch);
    // Goes at once: the server may have no room to answer until it has come. Its sender sends few at a time.
    void push_ping(BatchPtr batch);
    // Adds to the FORGETs at the end, which are joined into as few records as possible.
    void push_forget(wire::ForgetNode node, LaneKind kind);

    // The first record whose data is plain; none if enough of those that wait to be sent are not.
    PendingRecord* next_plain();

    // The batches of the next message, in order; none if the first in line is not allowed out yet or not yet encoded.
    // Batches are joined as long as nobody waits for those before, or all are quick. One that waits for a lock travels
    // alone: nothing may be held back because of it.
    // `urgent_alone`: only what goes before everything else.
    std::vector<BatchPtr> next_message(const SendingAllowance& allowance, bool urgent_alone = false);

    // Drops what tells, gives back, or takes back: it has no meaning in another session.
    void drop_unawaited();
    // Takes out one that has not been sent.
    BatchPtr take(const Batch* batch);
    // Everything, in order, urgent ones first. What was encoded, or is being encoded, stays so.
    std::vector<BatchPtr> take_all();

    // Whether a batch of that kind is here.
    bool has(LaneKind kind) const;

    // Whether nothing is here but what nobody waits for, and too little for a message of its own.
    bool may_grow() const;
    bool empty() const { return pings_.empty() && urgent_.empty() && waiting_.empty() && forgets_.empty(); }
    bool only_forgets() const { return pings_.empty() && urgent_.empty() && waiting_.empty() && !forgets_.empty(); }

private:
    void seal_forgets();

    std::deque<BatchPtr> pings_;
    std::deque<BatchPtr> urgent_;
    std::deque<BatchPtr> waiting_;
    std::vector<wire::ForgetNode> forgets_;  // behind everything in waiting_; of one kind
    LaneKind forgets_kind_ = LaneKind::metadata;
    const std::size_t lane_;
};

// A batch of one told request.
OutgoingQueue::BatchPtr make_told(EncodedRequest request, LaneKind kind);

// One message of the unanswered records of these batches, which have their ids; `flags` of all of them, in addition to
// their own. Those that are void travel without their data.
wire::Message build_message(const std::vector<const Batch*>& batches, std::uint8_t flags, RequestId answered_below,
                            std::uint64_t received_bytes);

}  // namespace remofile::client
