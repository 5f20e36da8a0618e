// SPDX-License-Identifier: MIT
#include "client/requests/outgoing_queue.hpp"

#include <algorithm>
#include <iterator>

namespace remofile::client {
namespace {

bool is_quick(const Batch& batch) {
    return std::ranges::all_of(batch.records, [](const PendingRecord& record) { return record.traits->facts->quick; });
}

bool is_ready(Batch& batch) {
    return std::ranges::all_of(batch.records, [](PendingRecord& record) { return record.bulk.ready(); });
}

void deduct(const Batch& batch, SendingAllowance& room) {
    room.requests.take(batch.count_of(wire::Account::request));
    room.controls.take(batch.count_of(wire::Account::control));
    room.head_bytes.take(batch.head_bytes());
    room.bulk_bytes.take(batch.bulk_bytes());
    room.contents_sent.take(batch.contents_sent());
    room.contents_asked.take(batch.contents_asked());
}

// The message that is being put together.
struct Joined {
    std::size_t records = 0;
    std::size_t head_bytes = wire::MessageHeader::encoded_bytes;
    std::size_t awaited = 0;
    bool all_quick = true;
    bool all_ahead = true;
    bool all_in_order = true;
    bool waits_for_lock = false;

    bool takes(const Batch& batch) const {
        if (records == 0)
            return true;
        if (waits_for_lock || batch.waits_for_lock())
            return false;
        if (records + batch.records.size() > wire::max_records ||
            head_bytes + batch.head_bytes() > wire::max_head_bytes)
            return false;
        if (all_ahead && batch.ahead)
            return awaited < max_joined_ahead;
        if (all_in_order && batch.in_order)
            return awaited < max_joined_in_order;
        // Nobody may wait behind a slow one, and whoever waits must not do so for a slow one behind.
        return all_quick && (awaited == 0 || (is_quick(batch) && awaited < max_joined_requests));
    }
    void add(const Batch& batch) {
        records += batch.records.size();
        head_bytes += batch.head_bytes();
        awaited += batch.call != nullptr ? 1 : 0;
        all_quick = all_quick && is_quick(batch);
        all_ahead = all_ahead && batch.ahead;
        all_in_order = all_in_order && batch.in_order;
        waits_for_lock = batch.waits_for_lock();
    }
};

}  // namespace

std::size_t Batch::bulk_bytes() const {
    std::size_t bytes = 0;
    for (const PendingRecord& record : records)
        bytes += record.bulk.encoded_bytes();
    return bytes;
}

std::size_t Batch::head_bytes() const {
    std::size_t bytes = 0;
    for (const PendingRecord& record : records)
        bytes += wire::RecordHeader::encoded_bytes + record.body.size();
    return bytes;
}

std::size_t Batch::count_of(wire::Account account) const {
    return static_cast<std::size_t>(std::ranges::count(records, account, &PendingRecord::account));
}

std::size_t contents_asked(LaneKind kind, const PendingRecord& record) {
    return kind == LaneKind::data && record.traits->opcode() == wire::Opcode::read
               ? wire::reply_bulk_limit(record.traits->facts, record.body)
               : 0;
}

std::size_t Batch::contents_asked() const {
    std::size_t bytes = 0;
    for (const PendingRecord& record : records)
        bytes += client::contents_asked(kind, record);
    return bytes;
}

bool SendingAllowance::takes(const Batch& batch) const {
    return requests.takes(batch.count_of(wire::Account::request)) &&
           controls.takes(batch.count_of(wire::Account::control)) && head_bytes.takes(batch.head_bytes()) &&
           bulk_bytes.takes(batch.bulk_bytes()) && contents_sent.takes(batch.contents_sent()) &&
           contents_asked.takes(batch.contents_asked());
}

void OutgoingQueue::push(BatchPtr batch) {
    seal_forgets();
    batch->lane = lane_;
    waiting_.push_back(std::move(batch));
}

void OutgoingQueue::push_urgent(BatchPtr batch) {
    batch->lane = lane_;
    urgent_.push_back(std::move(batch));
}

void OutgoingQueue::push_confirmation(BatchPtr batch) {
    std::erase_if(urgent_, [](const BatchPtr& waiting) {
        return waiting->records.front().traits->opcode() == wire::Opcode::invalidated;
    });
    push_urgent(std::move(batch));
}

void OutgoingQueue::push_ping(BatchPtr batch) {
    batch->lane = lane_;
    pings_.push_back(std::move(batch));
}

void OutgoingQueue::push_forget(wire::ForgetNode node, LaneKind kind) {
    if (forgets_.size() == wire::max_forgets || kind != forgets_kind_)
        seal_forgets();
    forgets_.push_back(node);
    forgets_kind_ = kind;
}

void OutgoingQueue::seal_forgets() {
    if (forgets_.empty())
        return;
    const wire::Forget forget{std::exchange(forgets_, {})};
    BatchPtr batch = make_told({.opcode = wire::Opcode::forget, .body = wire::encode_body(forget)}, forgets_kind_);
    batch->lane = lane_;
    waiting_.push_back(std::move(batch));
}

PendingRecord* OutgoingQueue::next_plain() {
    const std::size_t looked_at = std::min(waiting_.size(), max_prepared_batches);
    for (std::size_t i = 0; i < looked_at; ++i) {
        for (PendingRecord& record : waiting_[i]->records) {
            if (record.bulk.state() == OutgoingBulk::State::plain)
                return &record;
        }
    }
    return nullptr;
}

std::vector<OutgoingQueue::BatchPtr> OutgoingQueue::next_message(const SendingAllowance& allowance, bool urgent_alone) {
    seal_forgets();
    std::vector<BatchPtr> batches;
    batches.reserve(wire::max_records);  // from here on nothing can get lost
    Joined joined;
    const auto add_front = [&](std::deque<BatchPtr>& queue) {
        joined.add(*queue.front());
        batches.push_back(std::move(queue.front()));
        queue.pop_front();
    };
    SendingAllowance left = allowance;
    while (!pings_.empty() && joined.takes(*pings_.front()))
        add_front(pings_);
    while (!urgent_.empty() && joined.takes(*urgent_.front()) && left.takes(*urgent_.front())) {
        deduct(*urgent_.front(), left);
        add_front(urgent_);
    }
    while (!urgent_alone && !waiting_.empty() && is_ready(*waiting_.front()) && joined.takes(*waiting_.front()) &&
           left.takes(*waiting_.front())) {
        deduct(*waiting_.front(), left);
        add_front(waiting_);
    }
    return batches;
}

void OutgoingQueue::drop_unawaited() {
    forgets_.clear();
    for (std::deque<BatchPtr>* queue : {&waiting_, &urgent_, &pings_})
        std::erase_if(*queue, [](const BatchPtr& batch) { return batch->call == nullptr; });
}

OutgoingQueue::BatchPtr OutgoingQueue::take(const Batch* batch) {
    for (std::deque<BatchPtr>* queue : {&waiting_, &urgent_, &pings_}) {
        const auto found = std::ranges::find(*queue, batch, [](const BatchPtr& entry) { return entry.get(); });
        if (found == queue->end())
            continue;
        BatchPtr taken = std::move(*found);
        queue->erase(found);
        return taken;
    }
    return nullptr;
}

std::vector<OutgoingQueue::BatchPtr> OutgoingQueue::take_all() {
    seal_forgets();
    std::vector<BatchPtr> all;
    std::ranges::move(std::exchange(pings_, {}), std::back_inserter(all));
    std::ranges::move(std::exchange(urgent_, {}), std::back_inserter(all));
    std::ranges::move(std::exchange(waiting_, {}), std::back_inserter(all));
    return all;
}

bool OutgoingQueue::may_grow() const {
    return pings_.empty() && urgent_.empty() && !waiting_.empty() && waiting_.size() < max_joined_in_order &&
           std::ranges::all_of(waiting_, [](const BatchPtr& batch) { return batch->unhurried; });
}

bool OutgoingQueue::has(LaneKind kind) const {
    const auto is_of_it = [&](const BatchPtr& batch) { return batch->kind == kind; };
    return std::ranges::any_of(pings_, is_of_it) || std::ranges::any_of(urgent_, is_of_it) ||
           std::ranges::any_of(waiting_, is_of_it) || (!forgets_.empty() && forgets_kind_ == kind);
}

bool Batch::is_worth_resending() const {
    return !abandoned || std::ranges::all_of(records, [](const PendingRecord& record) {
        return record.answered || record.traits->facts->harmless_late;
    });
}

bool Batch::may_be_done_again() const {
    return call != nullptr && std::ranges::all_of(records, [](const PendingRecord& record) {
               return wire::may_be_done_again(*record.traits->facts, record.body);
           });
}

OutgoingQueue::BatchPtr make_told(EncodedRequest request, LaneKind kind) {
    auto batch = std::make_unique<Batch>();
    const RequestTraits* traits = find_request_traits(request.opcode);
    REMOFILE_ASSERT(traits != nullptr);
    const wire::Account account = wire::account_of(request.opcode, request.body);
    batch->records.push_back({.traits = traits, .account = account, .body = std::move(request.body), .bulk = {}});
    batch->unanswered = 1;
    batch->kind = kind;
    batch->unhurried = traits->facts->gives_back;
    batch->ahead = batch->unhurried;
    return batch;
}

wire::Message build_message(const std::vector<const Batch*>& batches, std::uint8_t flags, RequestId answered_below,
                            std::uint64_t received_bytes) {
    wire::MessageWriter writer(wire::MessageKind::request);
    for (const Batch* batch : batches) {
        for (std::size_t i = 0; i < batch->records.size(); ++i) {
            const PendingRecord& record = batch->records[i];
            if (record.answered)
                continue;
            wire::RecordHeader header{.opcode = record.traits->opcode()};
            header.id = batch->id_of(i);
            header.detail = batch->credential;
            header.flags = static_cast<std::uint8_t>((record.link ? wire::flag_link : 0) | flags |
                                                     (batch->in_order ? wire::flag_in_order : 0) |
                                                     static_cast<std::uint8_t>(batch->set_id));
            if (!record.bulk || (flags & wire::flag_void) != 0) {
                writer.add_encoded(header, record.body);
                continue;
            }
            header.bulk_encoding = record.bulk.encoding();
            header.bulk_size = record.bulk.size();
            writer.add_encoded(header, record.body, record.bulk.share());
        }
    }
    return std::move(writer).finish(answered_below, received_bytes);
}

}  // namespace remofile::client
