// SPDX-License-Identifier: MIT
// The records of one message, carried out one after the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.hpp"
#include "server/file_service.hpp"
#include "server/sessions/answer_journal.hpp"
#include "server/sessions/client_rate.hpp"
#include "server/sessions/sequencer.hpp"
#include "wire/frame.hpp"

namespace remofile::server {

struct BatchRecord {
    wire::RecordHeader header;
    std::span<const std::byte> body;  // into the batch's frames
    Buffer bulk;
    const wire::OpcodeFacts* facts = nullptr;  // none: the session's own opcode, carried out by the session
    // The outcome where it is known without carrying it out: a refusal, or that of a resent record answered before.
    std::optional<Status> settled;
    // Another reply answers it: a resent record that is still under way, or whose kept reply is given again.
    bool answered_elsewhere = false;
    bool on_other_lane = false;  // it is under way there, and has its place in the order here as well
    // Whom it acts as: who its credential stood for when it came. Set for what is carried out.
    std::shared_ptr<const Caller> caller;
    // Where its answer is kept, if it is. Shared with the reply.
    std::shared_ptr<AnswerJournal::Note> note;
    bool had_to_wait = false;  // for others to share their exclusive leases
    // Set by CANCEL while a worker may look at it.
    std::atomic<bool> interrupted = false;
};

// Handed back and forth between the reactor's thread and one worker; never on both.
struct SessionBatch {
    explicit SessionBatch(wire::ParsedMessage message);

    wire::Message frames;
    std::vector<BatchRecord> records;
    std::size_t next = 0;
    bool chain_broken = false;  // the record before `next` failed and was linked to it
    TimePoint arrived{};
    std::uint8_t lane = 0;
    Sequencer::Ticket ticket = 0;
    bool at_worker = false;
    std::size_t expected_bytes = 0;  // what the lane was told to expect of the slice under way
    RequestCost charged;             // for that slice, to its client

    // Records that another lane's message has, from which they were sent again: what follows them on this lane waits
    // for them there. Messages that have some of this one's records, and wait for it; how many this one waits for; and
    // whether its turn has come otherwise.
    std::vector<std::shared_ptr<SessionBatch>> followers;
    std::size_t awaited = 0;
    bool has_turn = false;

    bool finished() const { return next == records.size(); }
};

struct Answered {
    std::size_t record;
    Outcome outcome;
    // When it was carried out; zero if it was decided without.
    TimePoint begun{};
    TimePoint ended{};
};

// What a worker brought about in one go.
struct Slice {
    std::vector<Answered> answers;
    bool waiting = false;  // the last record begun waits for a lock; its outcome comes later
    // The next record has not been begun: these directories are others' alone. See Passage.
    std::vector<InodePtr> awaited;
};

// One go ends after so much: a message of many reads neither fills the memory while the client does not take the
// replies, nor holds the first reply back.
inline constexpr std::size_t slice_bytes = wire::max_bulk_bytes;
inline constexpr Duration slice_time = std::chrono::milliseconds(2);

// The status of record `next` if it must not be carried out: settled, interrupted, or cancelled by the chain. Moves
// nothing.
std::optional<Status> decided_status(const SessionBatch& batch);

// Takes note of the outcome of record `next` and goes on to the one after it.
void advance(SessionBatch& batch, Status status);

// How bulk data is decoded and encoded for a session at the moment.
struct BulkCoding {
    std::uint64_t features = 0;  // in force
    wire::EncodingPlan plan{};
    std::shared_ptr<wire::CompressionMeter> meter;  // shared with all sessions
};

// Carries out records from `next` on until the end, a record of the session's own, one that waits or must not be begun,
// or the end of the slice. Runs on a worker, which also decodes and encodes bulk data. `later` is called as
// FileService::carry_out says, with the record's request id.
Slice run_slice(SessionBatch& batch, const std::shared_ptr<SessionFiles>& files, FileService& service,
                const Clock& clock, const BulkCoding& coding, const std::function<void(RequestId, Outcome)>& later);

// Bulk bytes that a record's reply may bring, at most; from READ's size and the like.
std::size_t expected_reply_bytes(const BatchRecord& record);

// What the next slice will take of its client's limits, at most; and what it has taken.
RequestCost cost_of_next(const SessionBatch& batch);
RequestCost cost_of(const SessionBatch& batch, const Slice& slice);

}  // namespace remofile::server
