// SPDX-License-Identifier: MIT
// What is sent and when, and what becomes of what arrives. See session_state.hpp.
#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "client/directory.hpp"
#include "client/requests/reply_judge.hpp"
#include "client/session/session_state.hpp"

namespace remofile::client {

// ---------------------------------------------------------------- sending

void Session::State::flush() {
    const auto self = shared_from_this();
    for (std::size_t lane = 0; lane < lane_count; ++lane)
        guard(lane, [&] { flush_lane(lane); });
    flush_when_allowed();
    counters.woken(reactor.wakeups());
}

void Session::State::flush_when_allowed() {
    const Duration wait = bandwidth.wait(reactor.clock().now());
    if (closed || wait == Duration::zero() ||
        std::ranges::all_of(connections, [](const Connection& connection) { return connection.queue.empty(); }))
        return;
    reactor.cancel(bandwidth_timer);
    bandwidth_timer = reactor.after(wait, [this] { flushes->soon(); });
}

void Session::State::flush_lane(std::size_t lane) {
    Connection& connection = connections[lane];
    if (restoration.is_under_way()) {
        if (lane != metadata_lane || !connection.is_ready())
            return;
        do
            prepare(lane, restoration.queue);
        while (send_next(lane, restoration.queue));
        return acknowledge(lane, restoration.queue);
    }
    if (!connection.is_ready() || (lane == data_lane && !may_use_own_lane()))
        return;
    if (!send_again(lane)) {
        constexpr bool urgent_alone = true;
        while (send_next(lane, connection.queue, urgent_alone)) {
        }
        return acknowledge(lane, connection.queue);
    }
    if (connection.queue.only_forgets() && !flushes->forgets_are_due() && !must_acknowledge(lane))
        return flushes->for_forgets();
    if (connection.queue.may_grow() && !flushes->changes_are_due() && !must_acknowledge(lane))
        return flushes->for_changes();
    do
        prepare(lane, connection.queue);
    while (send_next(lane));
    acknowledge(lane, connection.queue);
}

// Also when requests wait for room: it may be this that the server waits for before it answers others.
void Session::State::acknowledge(std::size_t lane, OutgoingQueue& queue) {
    if (!must_acknowledge(lane))
        return;
    queue.push_ping(make_told({.opcode = wire::Opcode::ping}, kind_of(lane)));
    constexpr bool urgent_alone = true;
    send_next(lane, queue, urgent_alone);
}

void Session::State::prepare(std::size_t lane, OutgoingQueue& queue) {
    coder->prepare(queue, terms.features(), connections[lane].traffic.bytes_per_s(), [weak = weak_from_this()] {
        if (const auto self = weak.lock())
            self->flushes->soon();
    });
}

// Batches that have left their queue. Those that an exception keeps from being sent end with it.
struct Session::State::Unsent {
    State& state;
    std::vector<std::unique_ptr<Batch>>& batches;

    ~Unsent() {
        for (const std::unique_ptr<Batch>& batch : batches) {
            if (batch != nullptr && batch->call != nullptr)
                state.end_call(*batch->call, Status::out_of_memory);
        }
    }
};

bool Session::State::send_next(std::size_t lane, OutgoingQueue& queue, bool urgent_alone) {
    Connection& connection = connections[lane];
    const TimePoint now = reactor.clock().now();
    SendingAllowance allowance = accounts.allowance(lane, terms.hello());
    bandwidth.restrict(allowance, now);
    std::vector<std::unique_ptr<Batch>> batches = queue.next_message(allowance, urgent_alone);
    if (batches.empty())
        return false;
    const Unsent unsent{*this, batches};
    std::vector<const Batch*> parts;
    parts.reserve(batches.size());
    std::size_t bytes = wire::MessageHeader::encoded_bytes;
    for (const auto& batch : batches)
        bytes += batch->head_bytes();
    const auto head = accounts.head(bytes);
    bool awaited = false;
    for (auto& batch : batches) {
        batch->sent_at = options.lease_clock->now();
        for (const PendingRecord& record : batch->records)
            counters.request(*record.traits->facts);
        // One that waits for a lock may do so for ever, and the server keeps nothing of its message.
        if (!batch->waits_for_lock())
            batch->head = head;
        Batch& entered = *batch;
        sent.enter(batch);
        accounts.charge(entered);
        bandwidth.asked(entered.contents_asked(), now);
        awaited = awaited || entered.call != nullptr;
        parts.push_back(&entered);
    }
    if (awaited)
        counters.round_trip();
    send_message(lane, build_message(parts, 0, sent.answered_below(), connection.traffic.received_bytes()));
    return true;
}

void Session::State::send_message(std::size_t lane, wire::Message message) {
    counters.sent(message);
    bandwidth.sent(message.byte_count(), reactor.clock().now());
    connections[lane].send(std::move(message), reactor.clock().now());
}

// ---------------------------------------------------------------- after a lost connection

void Session::State::resend(std::size_t lane) {
    std::vector<RequestId> ids;
    for (const Batch* batch : sent.of_lane(lane))
        ids.push_back(batch->first_id);
    const auto self = shared_from_this();
    for (const RequestId id : ids) {
        Batch* const found = sent.find_batch(id);
        if (closed || !connections[lane].is_ready() || restoration.is_to_be_sent_again(lane, id))
            return;
        if (found == nullptr)
            continue;
        Batch& batch = *found;
        // The answers to those that a failed one took along may have been lost; they are known all the same.
        for (std::size_t i = 1; i < batch.records.size(); ++i) {
            const PendingRecord& before = batch.records[i - 1];
            if (!batch.records[i].answered && before.link && before.answered && before.status != Status::ok)
                settle(batch, i, {.status = Status::cancelled});
        }
        if (batch.unanswered == 0) {
            retire(batch);
            continue;
        }
        count("client.resent_requests", batch.unanswered);
        const bool is_void = !batch.is_worth_resending();
        const auto flags = static_cast<std::uint8_t>(wire::flag_resent | (is_void ? wire::flag_void : 0));
        send_message(lane,
                     build_message({&batch}, flags, sent.answered_below(), connections[lane].traffic.received_bytes()));
        if (is_void)
            continue;
        if (batch.abandoned || (batch.call != nullptr && batch.call->cancelling)) {
            batch.cancel_sent = false;
            ask_to_cancel(batch);
        }
    }
}

// ---------------------------------------------------------------- receiving

void Session::State::on_message(std::size_t lane, wire::Message message) {
    Connection& connection = connections[lane];
    const std::size_t bytes = message.byte_count();
    counters.received(bytes);
    bandwidth.received(bytes, reactor.clock().now());
    connection.traffic.note_received(bytes);
    if (lane == metadata_lane) {
        contact.heard(reactor.clock().now());
    }

    const bool is_push = message.head.size() > 3 && message.head.bytes()[3] == std::byte{3};
    auto parsed = wire::parse_message(std::move(message), is_push ? wire::MessageKind::push : wire::MessageKind::reply);
    if (!parsed)
        return reject_message(lane, parsed.error());
    if (is_push)
        on_push(lane, std::move(*parsed));
    else
        on_replies(lane, std::move(*parsed));
    if (closed)
        return;

    if (!connection.queue.empty() || !restoration.again[lane].empty() || must_acknowledge(lane))
        flushes->soon();
}

// What cannot be taken apart may have held any reply: a new connection asks for all of them again.
void Session::State::reject_message(std::size_t lane, const Error& error) {
    count("client.rejected_messages");
    if (admission.opening() && error.status == Status::version_mismatch)
        return finish_opening(hello_error(error.status, options, path()));
    log::warn("the server sent a message that is rejected: {}", error.to_string());
    drop_connection(lane, make_error(Status::malformed, "the server broke the protocol: " + error.to_string()));
}

void Session::State::on_replies(std::size_t lane, wire::ParsedMessage message) {
    const bool renews =
        lane == metadata_lane && (message.header.flags & wire::message_overtakes) == 0 && !restoration.is_under_way();
    for (wire::Record& record : message.records) {
        on_reply(lane, record, renews);
        if (closed)
            return;
    }
}

void Session::State::on_reply(std::size_t lane, wire::Record& record, bool renews) {
    Connection& connection = connections[lane];
    const RequestId id = record.header.id;
    if (sent.is_greeting(lane, id))
        return on_greeting_reply(lane, record);
    if (!id && record.header.detail == static_cast<std::uint32_t>(Status::out_of_memory))
        return drop_connection(lane, make_error(Status::unreachable, "the server had no memory for a message"));
    if (!id) {
        const bool is_version = record.header.detail == static_cast<std::uint32_t>(Status::version_mismatch);
        return on_rejected(lane, is_version ? Status::version_mismatch : Status::malformed);
    }
    if (!connection.is_ready())
        return count("client.unknown_replies");

    const auto found = sent.find(id, lane);
    if (!found)
        return count("client.unknown_replies");
    const auto [sent_batch, index] = *found;
    Batch& batch = *sent_batch;

    if (record.header.detail == static_cast<std::uint32_t>(Status::no_session))
        return restart_session();
    if (is_left_to_next_server(lane, batch, index, record.header))
        return;
    connection.reset_pause();
    if (renews) {
        const Duration taken = options.lease_clock->now() - batch.sent_at;
        quickest_answer = std::min(quickest_answer.value_or(taken), taken);
    }
    if (renews && owner != nullptr && owner->on_answered)
        owner->on_answered(batch.sent_at);
    EncodedReply reply;
    try {
        reply = judged(batch, index, record);
    } catch (...) {
        reply = {.status = status_of_exception("an answer to a request")};
    }
    settle(batch, index, std::move(reply));
    if (batch.unanswered == 0)
        retire(batch);
}

// A server that is stopping begins nothing any more, and ends soon. Where the session can be taken up by the next one,
// what it refuses waits for that one, as if it had not been sent.
bool Session::State::is_left_to_next_server(std::size_t lane, Batch& batch, std::size_t index,
                                            wire::RecordHeader& answer) {
    if (batch.call == nullptr || !may_restore())
        return false;
    const auto status = static_cast<Status>(answer.detail);
    const auto before = std::span(batch.records).first(index);
    const bool is_refused = status == Status::shutting_down ||
                            (status == Status::cancelled && std::ranges::any_of(before, &PendingRecord::refused));
    if (!is_refused)
        return false;
    if (batch.call->cancelling) {
        answer.detail = static_cast<std::uint32_t>(Status::interrupted);
        return false;
    }
    batch.records[index].refused = true;
    count("client.refused_by_stopping_server");
    connections[lane].end_after(stopping_patience, [this, lane] {
        drop_connection(lane, make_error(Status::unreachable, "the server says that it is stopping, and does not end"));
    });
    return true;
}

// The server could not make sense of a message of ours. It does not say which, so none of this lane may wait on.
void Session::State::on_rejected(std::size_t lane, Status status) {
    const auto self = shared_from_this();
    count("client.rejected_by_server");
    if (admission.opening())
        return finish_opening(hello_error(status, options, path()));
    log::error("the server rejects what it was sent: {}", describe(status));
    const std::vector<std::unique_ptr<Batch>> rejected = sent.take_lane(lane);
    for (const auto& batch : rejected)
        accounts.release_unanswered(*batch);
    for (const auto& batch : rejected) {
        batch->unanswered = 0;  // there is nothing to cancel
        if (batch->call != nullptr)
            end_call(*batch->call, status);
    }
}

// What the caller gets: the reply, or io_error in its place if it breaks the protocol.
EncodedReply Session::State::judged(const Batch& batch, std::size_t index, wire::Record& record) {
    auto judged = judge_reply(batch.records[index], record, terms.features(), batch.call != nullptr);
    if (!judged) {
        count("client.rejected_replies");
        log::warn("{}", judged.error().message);
        return {.status = judged.error().status};
    }
    if (judged->bulk_is_encoded)
        batch.call->encoded.push_back({.index = index, .header = record.header, .bulk = std::move(record.bulk)});
    return std::move(judged->reply);
}

void Session::State::settle(Batch& batch, std::size_t index, EncodedReply reply) {
    PendingRecord& record = batch.records[index];
    record.answered = true;
    record.status = reply.status;
    --batch.unanswered;
    accounts.release(batch, record);
    bandwidth.answered(contents_asked(batch.kind, record), reactor.clock().now());
    if (record.traits->opcode() == wire::Opcode::ping)
        contact.ping_answered();
    ConnectionTraffic& traffic = connections[batch.lane].traffic;
    if (record.bulk)
        traffic.note_bulk_arrived(record.bulk.encoded_bytes(), reactor.clock().now());
    const bool awaited = batch.call != nullptr;
    lock_owners.note_answer(record.traits->opcode(), record.body, record.status, awaited, reply.body);
    if (awaited) {
        traffic.note_awaited_answer(reactor.clock().now());
        batch.call->replies[index] = std::move(reply);
    }
    if (!awaited && batch.abandoned && reply.status == Status::ok)
        give_back(record, reply, batch.kind);
}

void Session::State::give_back(const PendingRecord& record, const EncodedReply& reply, LaneKind kind) {
    if (record.traits->give_back == nullptr || !lock_owners.may_take_back(record.traits->opcode(), record.body))
        return;
    for (EncodedRequest& request : record.traits->give_back(record.body, reply.body, reply.bulk))
        tell(std::move(request), kind);
}

void Session::State::retire(Batch& batch) {
    const std::unique_ptr<Batch> answered = sent.take(batch);
    if (data.is_parting())
        flushes->soon();
    if (answered->call != nullptr)
        end_call(*answered->call, Status::ok);
}

// ---------------------------------------------------------------- pushes

namespace {

bool makes_sense(const wire::LeaseChange& change) {
    using What = wire::LeaseChange::What;
    switch (change.what) {
        case What::content:
        case What::name:
            return is_valid_name(change.name);
        case What::ended:
        case What::directory:
        case What::shared:
            return change.name.empty();
    }
    return false;
}

bool makes_sense(const wire::PushInvalidate& push) {
    return (push.flags & ~wire::invalidate_all_leases) == 0 &&
           std::ranges::all_of(push.changes, [](const wire::LeaseChange& change) { return makes_sense(change); });
}

}  // namespace

void Session::State::on_push(std::size_t lane, wire::ParsedMessage message) {
    for (const wire::Record& record : message.records) {
        if (closed)
            return;
        if (pushes.full())
            return reject_message(lane, make_error(Status::malformed, "it does not wait for acknowledgements"));
        if (record.header.opcode == wire::Opcode::push_invalidate) {
            if (auto push = wire::decode_body<wire::PushInvalidate>(record.body); push && makes_sense(*push)) {
                on_invalidation(std::move(*push));
                continue;
            }
        } else if (record.header.opcode == wire::Opcode::push_shutdown) {
            if (const auto push = wire::decode_body<wire::PushShutdown>(record.body)) {
                if (connections[lane].announce_stopping())
                    on_stopping(lane, push->reason);
                continue;
            }
        } else if (record.header.opcode == wire::Opcode::push_next_keys && lane == metadata_lane) {
            const auto push = wire::decode_body<wire::PushNextKeys>(record.body);
            if (push && push->keys.size() <= wire::max_next_keys && connections[lane].announce_keys()) {
                on_next_keys(*push);
                continue;
            }
        }
        count("client.rejected_pushes");
    }
}

void Session::State::on_stopping(std::size_t lane, const std::string& reason) {
    log::warn("the server is stopping: {}", log::printable(reason));
    if (lane != metadata_lane || owner == nullptr || !owner->on_stopping)
        return;
    const auto handler = owner->on_stopping;
    handler();
}

void Session::State::on_next_keys(const wire::PushNextKeys& push) {
    if (!options.lane.server_key || !options.on_server_keys)
        return;
    std::vector<transport::PublicKey> next;
    for (const auto& bytes : push.keys)
        next.push_back({.bytes = bytes});
    if (server_keys.announced(next))
        options.on_server_keys(server_keys.all());
}

void Session::State::on_invalidation(wire::PushInvalidate push) {
    count("client.invalidations");
    if (!pushes.add(push.sequence))
        return;
    auto acknowledge = [weak = weak_from_this(), of_epoch = terms.epoch(), sequence = push.sequence] {
        if (const auto self = weak.lock())
            self->acknowledge_invalidation(of_epoch, sequence);
    };
    if (owner == nullptr || !owner->on_invalidate)
        return acknowledge();
    const auto handler = owner->on_invalidate;
    handler({.all_leases = (push.flags & wire::invalidate_all_leases) != 0,
             .nodes = std::move(push.nodes),
             .changes = std::move(push.changes)},
            std::move(acknowledge));
}

void Session::State::acknowledge_invalidation(std::uint64_t of_epoch, std::uint64_t sequence) {
    if (closed || of_epoch != terms.epoch())
        return;
    const auto confirmed = pushes.done(sequence);
    if (!confirmed)
        return;
    const wire::Invalidated body{.sequence = *confirmed};
    connections[data.lane_for(LaneKind::metadata)].queue.push_confirmation(
        make_told({.opcode = wire::Opcode::invalidated, .body = wire::encode_body(body)}, LaneKind::metadata));
    flushes->soon();
}

}  // namespace remofile::client
