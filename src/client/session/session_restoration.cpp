// SPDX-License-Identifier: MIT
// Going on where the server has lost the session. See session_state.hpp.
//
// Ids are the client's own choice, so they can be given the same meaning in another session: handles and nodes by
// whoever uses them (Session::on_session_lost), identities here. Then requests that were not answered mean what they
// meant, and are sent again under their numbers, in their order.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "client/session/session_state.hpp"
#include "wire/kept_answers.hpp"

namespace remofile::client {
namespace {

// It may be the request itself that the server's end comes of.
constexpr std::uint32_t max_times_sent_again = 100;

}  // namespace

bool Session::State::may_restore() const {
    return owner != nullptr && owner->on_session_lost && terms.epoch() > 0;
}

// Precondition: HELLO has been answered, by another session.
void Session::State::begin_restoring() {
    log::warn(
        "the server has lost this session (it was restarted, or unreachable for too long); taking it up in another");
    count("client.restorations");
    drop_unawaited();
    drop_data_connection();
    data.begin_epoch();
    contact.begin_epoch();
    pushes.clear();
    plan_resending();
    become_usable();
    if (closed)
        return;
    const std::uint64_t number = restoration.begin();
    spawn(restore(number), [this, self = shared_from_this(), number](Status) { end_restoring(number, false); });
}

Task<void> Session::State::restore(std::uint64_t number) {
    const auto self = shared_from_this();
    const bool has_meaning = co_await give_ids_meaning();
    end_restoring(number, has_meaning);
}

Task<bool> Session::State::give_ids_meaning() {
    const auto self = shared_from_this();
    for (const wire::Credential& known : identities->known()) {
        std::vector<EncodedRequest> requests;
        requests.push_back(encoded(known));
        Call call(self);
        const CallOptions before_all_else{.timeout = Duration::max(), .restores = true};
        start(call, std::move(requests), before_all_else, nullptr);
        co_await call.finished;
        if (call.replies.front().status != Status::ok)
            co_return false;
    }
    if (owner == nullptr || !owner->on_session_lost)
        co_return false;
    const auto handler = owner->on_session_lost;
    co_return co_await handler();
}

// All that goes by ids goes on, or none of it.
void Session::State::end_restoring(std::uint64_t number, bool has_meaning) {
    if (closed || !restoration.is_latest(number))
        return;
    const auto self = shared_from_this();
    restoration.end();
    if (has_meaning)
        terms.is_whole();
    else
        start_epoch();
    settle_doubts();
    if (closed || !connections[metadata_lane].is_ready())
        return;
    begin_second_connection();
    flushes->soon();
    if (has_meaning && owner != nullptr && owner->on_reconnected) {
        const auto handler = owner->on_reconnected;
        handler();
    }
}

// Answers those changes that had been carried out, as the server would have done; those of which that is not known end.
void Session::State::settle_doubts() {
    for (const std::deque<RequestId>& again : restoration.again) {
        for (const RequestId first_id : std::deque(again)) {
            Batch* batch = closed ? nullptr : sent.find_batch(first_id);
            if (batch == nullptr || batch->call == nullptr || batch->change_number == 0)
                continue;
            Fate fate = fate_of(*batch);
            if (fate.replies) {
                for (std::size_t i = 0; i < batch->records.size(); ++i)
                    settle(*batch, i, std::move((*fate.replies)[i]));
                retire(*batch);
            } else if (!fate.is_known && !batch->is_untouched && !batch->may_be_done_again() &&
                       !is_answer_known(*batch)) {
                const std::unique_ptr<Batch> lost = sent.take(*batch);
                end_lost(*lost);
            }
        }
    }
}

// Whether the server says, when it is asked again, what came of it; but of what it has once answered it does not.
bool Session::State::is_answer_known(const Batch& batch) const {
    return !batch.is_in_doubt && !batch.in_order &&
           std::ranges::none_of(batch.records, [](const PendingRecord& record) {
               return (record.answered || record.was_answered) &&
                      !wire::may_be_done_again(*record.traits->facts, record.body);
           });
}

Fate Session::State::fate_of(const Batch& batch) {
    if (owner == nullptr || !owner->on_change_in_doubt)
        return {};
    std::vector<EncodedRequest> requests;
    for (const PendingRecord& record : batch.records)
        requests.push_back({.opcode = record.traits->opcode(), .body = record.body});
    const auto handler = owner->on_change_in_doubt;
    Fate fate = handler(batch.change_number, requests);
    REMOFILE_ASSERT(!fate.replies || fate.replies->size() == batch.records.size());
    return fate;
}

// The connection is lost: the next one begins another session, for what this one knows is half of it.
void Session::State::give_up_restoring() {
    const auto self = shared_from_this();
    restoration.end();
    std::vector<std::unique_ptr<Batch>> given_up = restoration.queue.take_all();
    for (const Batch* batch : sent.of_lane(metadata_lane)) {
        if (batch->restores)
            given_up.push_back(sent.take(*batch));
    }
    for (const auto& batch : given_up) {
        accounts.release_unanswered(*batch);
        end_lost(*batch);
    }
}

void Session::State::drop_data_connection() {
    Connection& second = connections[data_lane];
    if (!second.has_greeted())
        return;
    second.disconnect();
    second.go_down();
    sent.end_greeting(data_lane);
}

// What was told, or given back, was of the session that is lost; and what nobody waits for any more is not begun now.
void Session::State::drop_unawaited() {
    for (std::size_t lane = 0; lane < lane_count; ++lane) {
        connections[lane].queue.drop_unawaited();
        for (const Batch* batch : sent.of_lane(lane)) {
            if (batch->call == nullptr) {
                const std::unique_ptr<Batch> dropped = sent.take(*batch);
                accounts.release_unanswered(*dropped);
            }
        }
    }
}

// Of what is unanswered, what may be done again is, as soon as it can be sent; the rest ends.
void Session::State::plan_resending() {
    std::vector<std::unique_ptr<Batch>> lost;
    lock_owners.clear();
    for (std::deque<RequestId>& again : restoration.again)
        again.clear();
    for (std::size_t lane = 0; lane < lane_count; ++lane) {
        for (Batch* batch : sent.of_lane(lane)) {
            accounts.release_unanswered(*batch);
            batch->is_in_doubt |= !terms.has(wire::feature_known_answers);
            batch->is_untouched |= std::ranges::all_of(batch->records, &PendingRecord::refused);
            const bool may_be_sent = batch->is_untouched || batch->may_be_done_again() || batch->change_number != 0 ||
                                     is_answer_known(*batch);
            if (!may_be_sent || ++batch->times_sent_again > max_times_sent_again) {
                lost.push_back(sent.take(*batch));
                continue;
            }
            // The answers that are there name what is not there any more.
            for (PendingRecord& record : batch->records) {
                record.was_answered |= record.answered;
                record.answered = false;
                lock_owners.note_request(record.traits->opcode(), record.body);
            }
            batch->call->encoded.clear();
            batch->unanswered = batch->records.size();
            batch->cancel_sent = false;
            batch->lane = data.lane_for(batch->kind);
            restoration.again[batch->lane].push_back(batch->first_id);
        }
    }
    for (std::deque<RequestId>& again : restoration.again)
        std::ranges::sort(again);
    for (const auto& batch : lost)
        end_lost(*batch);
}

void Session::State::end_lost(Batch& batch) {
    batch.unanswered = 0;  // there is nothing to cancel
    if (batch.call != nullptr)
        end_call(*batch.call, Status::no_session);
}

// False as long as something has to go before all else and may not go yet.
bool Session::State::send_again(std::size_t lane) {
    std::deque<RequestId>& again = restoration.again[lane];
    for (; !again.empty(); again.pop_front()) {
        Batch* batch = sent.find_batch(again.front());
        if (batch == nullptr)
            continue;
        if (batch->call == nullptr) {  // given up meanwhile, and never begun
            sent.take(*batch);
            continue;
        }
        if (!accounts.allowance(lane, terms.hello()).takes(*batch))
            return false;
        accounts.charge(*batch);
        batch->is_untouched = false;
        for (PendingRecord& record : batch->records)
            record.refused = false;
        batch->sent_at = options.lease_clock->now();
        count("client.resent_requests", batch->unanswered);
        send_message(lane, build_message({batch}, wire::flag_resent, sent.answered_below(),
                                         connections[lane].traffic.received_bytes()));
    }
    return true;
}

}  // namespace remofile::client
