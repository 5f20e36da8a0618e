// SPDX-License-Identifier: MIT
#include "server/sessions/session_batch.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/exception.hpp"
#include "server/sessions/answer_again.hpp"

namespace remofile::server {
namespace {

// A reply without bulk data: a record header and a structure of attributes.
constexpr std::size_t small_reply_bytes = 256;

Outcome failure(Status status) {
    Outcome outcome;
    outcome.status = status;
    return outcome;
}

void encode(Outcome& outcome, const BulkCoding& coding) {
    if (outcome.bulk.encoding == wire::BulkEncoding::raw) {
        outcome.bulk =
            wire::encode_bulk(std::move(outcome.bulk.data), coding.plan, outcome.stream.get(), *coding.meter);
    } else if (coding.plan.zeros) {
        coding.meter->zero_bytes.add(outcome.bulk.size);
    } else {
        Buffer zeros = Buffer::allocate(outcome.bulk.size);
        std::memset(zeros.data(), 0, zeros.size());
        outcome.bulk = wire::EncodedBulk::of_raw(std::move(zeros));
    }
}

// The boundary at which exceptions end: a worker goes on whatever one request did.
std::optional<Outcome> carry_out(BatchRecord& record, const std::shared_ptr<SessionFiles>& files, FileService& service,
                                 const BulkCoding& coding, const std::function<void(RequestId, Outcome)>& later) {
    try {
        const RequestId request = record.header.id;
        auto bulk = wire::decode_bulk(record.header, std::move(record.bulk), coding.features, wire::max_bulk_bytes);
        if (!bulk)
            return failure(bulk.error().status);
        AnswerJournal::Note* note = record.note.get();
        const auto* before = note != nullptr && note->before() ? &*note->before() : nullptr;
        // An answer of before stays as it is, for whoever asks the next server.
        const bool is_noted = note != nullptr && (before == nullptr || !before->status);
        const auto carry_out_as = [&](wire::Opcode opcode, std::span<const std::byte> body, Buffer data,
                                      std::optional<std::uint64_t> begun_at) {
            Asked asked(request, (record.header.flags & wire::flag_in_order) != 0);
            asked.begun_at = begun_at;
            return service.carry_out(files, asked, opcode, body, std::move(data), *record.caller,
                                     [later, request](Outcome late) { later(request, std::move(late)); });
        };
        const Ask ask = [&](wire::Opcode opcode, std::span<const std::byte> body) {
            return carry_out_as(opcode, body, {}, {}).value_or(failure(Status::io_error));
        };
        const auto carry_out_now = [&](std::optional<std::uint64_t> begun_at) {
            if (is_noted)
                note->begin(record.header.opcode, request,
                            before != nullptr && before->attributes
                                ? before->attributes
                                : attributes_before(record.header.opcode, record.body, ask));
            return carry_out_as(record.header.opcode, record.body, std::move(*bulk), begun_at);
        };
        std::optional<Outcome> outcome;
        if (before != nullptr)
            outcome = answer_again(*before, record.header.opcode, record.body, bulk->bytes(), ask,
                                   [&](std::optional<std::uint64_t> begun_at) {
                                       return carry_out_now(begun_at).value_or(failure(Status::io_error));
                                   });
        else
            outcome = carry_out_now({});
        if (is_noted && outcome)
            note->finish(outcome->status, outcome->body);
        if (outcome && outcome->has_bulk)
            encode(*outcome, coding);
        return outcome;
    } catch (...) {
        return failure(status_of_exception(record.facts->name));
    }
}

// Another boundary of the same kind: what it concerns cannot be found out, so that it must not be carried out.
Result<Passage> let_through(const BatchRecord& record, const std::shared_ptr<SessionFiles>& files,
                            FileService& service) {
    try {
        return service.pass(files, record.header.opcode, record.body);
    } catch (...) {
        return status_of_exception(record.facts->name);
    }
}

template <class Lock>
bool is_unlocking(std::span<const std::byte> body) {
    const auto lock = wire::decode_body<Lock>(body);
    if constexpr (requires { lock->range; })
        return lock && lock->range.type == wire::LockType::unlock;
    else
        return lock && lock->type == wire::LockType::unlock;
}

// Others may wait for what gives back or frees, and a client that has lost its session for what it had.
bool is_limited(const BatchRecord& record) {
    switch (record.header.opcode) {
        case wire::Opcode::flush:
        case wire::Opcode::reclaim_locks:
            return false;
        case wire::Opcode::setlk:
            return !is_unlocking<wire::Setlk>(record.body);
        case wire::Opcode::flock:
            return !is_unlocking<wire::Flock>(record.body);
        default:
            return record.facts->account != wire::Account::control;
    }
}

// `reply_bytes`: of content, as far as is known.
RequestCost cost_of(const BatchRecord& record, std::size_t reply_bytes) {
    if (!is_limited(record))
        return {};
    RequestCost cost{.requests = 1};
    if (record.header.opcode == wire::Opcode::write)
        cost.bytes = record.header.bulk_size;
    if (record.header.opcode == wire::Opcode::read || record.header.opcode == wire::Opcode::fetch)
        cost.bytes = static_cast<double>(reply_bytes);
    return cost;
}

}  // namespace

SessionBatch::SessionBatch(wire::ParsedMessage message)
    : frames(std::move(message.frames)), records(message.records.size()) {
    for (std::size_t i = 0; i < records.size(); ++i) {
        records[i].header = message.records[i].header;
        records[i].body = message.records[i].body;
        records[i].bulk = std::move(message.records[i].bulk);
    }
}

std::optional<Status> decided_status(const SessionBatch& batch) {
    const BatchRecord& record = batch.records[batch.next];
    if (record.settled)
        return record.settled;
    if (batch.chain_broken)
        return Status::cancelled;
    if (record.interrupted.load())
        return Status::interrupted;
    return std::nullopt;
}

void advance(SessionBatch& batch, Status status) {
    const bool linked = (batch.records[batch.next].header.flags & wire::flag_link) != 0;
    batch.chain_broken = linked && status != Status::ok;
    ++batch.next;
}

Slice run_slice(SessionBatch& batch, const std::shared_ptr<SessionFiles>& files, FileService& service,
                const Clock& clock, const BulkCoding& coding, const std::function<void(RequestId, Outcome)>& later) {
    Slice slice;
    slice.answers.reserve(batch.records.size());  // what has been carried out must be answered
    std::size_t bytes = 0;
    const TimePoint begun = clock.now();
    TimePoint now = begun;
    while (!batch.finished() && bytes < slice_bytes) {
        BatchRecord& record = batch.records[batch.next];
        const std::size_t index = batch.next;
        // The session's own, even if the chain decides about it: what follows it has been given no caller yet.
        if (record.facts == nullptr && !record.settled)
            break;
        if (const auto status = decided_status(batch)) {
            advance(batch, *status);
            if (!record.answered_elsewhere)
                slice.answers.push_back({.record = index, .outcome = failure(*status)});
            continue;
        }
        Result<Passage> passage = let_through(record, files, service);
        if (passage && !passage->awaited.empty()) {
            slice.awaited = std::move(passage->awaited);
            break;
        }
        std::optional<Outcome> outcome =
            passage ? carry_out(record, files, service, coding, later) : failure(passage.error().status);
        record.bulk = Buffer();
        if (!outcome) {
            // A CANCEL that came before the wait began has found nothing to cancel.
            if (record.interrupted.load())
                service.cancel(files, record.header.id);
            advance(batch, Status::ok);
            slice.waiting = true;
            break;
        }
        advance(batch, outcome->status);
        bytes += outcome->bulk.data.size();
        const TimePoint record_begun = std::exchange(now, clock.now());
        slice.answers.push_back({.record = index, .outcome = std::move(*outcome), .begun = record_begun, .ended = now});
        if (now - begun >= slice_time)
            break;
    }
    return slice;
}

std::size_t expected_reply_bytes(const BatchRecord& record) {
    return small_reply_bytes + wire::reply_bulk_limit(record.facts, record.body);
}

RequestCost cost_of_next(const SessionBatch& batch) {
    RequestCost cost;
    for (std::size_t i = batch.next; i < batch.records.size() && cost.bytes < slice_bytes; ++i) {
        const BatchRecord& record = batch.records[i];
        if (record.settled)
            continue;
        if (record.facts == nullptr)
            break;
        cost += cost_of(record, wire::reply_bulk_limit(record.facts, record.body));
    }
    return cost;
}

RequestCost cost_of(const SessionBatch& batch, const Slice& slice) {
    RequestCost cost;
    for (const Answered& answered : slice.answers) {
        const BatchRecord& record = batch.records[answered.record];
        if (answered.begun != TimePoint{})
            cost += cost_of(record, answered.outcome.bulk.size);
    }
    // Whatever comes of it.
    if (slice.waiting)
        cost += cost_of(batch.records[batch.next - 1], 0);
    return cost;
}

}  // namespace remofile::server
