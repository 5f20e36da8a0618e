// SPDX-License-Identifier: MIT
// The life of a call: how it starts, is given up, and ends. See session_state.hpp.
#include "client/session.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "client/session/session_state.hpp"
#include "transport/endpoint_address.hpp"

namespace remofile::client {

// ---------------------------------------------------------------- Cancellation

Cancellation::Cancellation() : state_(std::make_shared<detail::CancellationState>()) {}

void Cancellation::cancel() {
    const auto state = state_;  // a coroutine that is resumed may destroy this object
    state->cancelled = true;
    while (!state->calls.empty()) {
        Call* call = *state->calls.begin();
        state->calls.erase(state->calls.begin());
        const auto session = call->state;
        session->cancel(*call);
    }
    while (!state->watches.empty()) {
        auto first = state->watches.extract(state->watches.begin());
        first.mapped()();
    }
}

bool Cancellation::cancelled() const {
    return state_->cancelled;
}

Cancellation::Watch Cancellation::watch(std::function<void()> give_up) {
    Watch watch;
    watch.state_ = state_;
    watch.number_ = ++state_->last_watch;
    state_->watches.emplace(watch.number_, std::move(give_up));
    return watch;
}

Cancellation::Watch::~Watch() {
    if (state_)
        state_->watches.erase(number_);
}

detail::Call::~Call() {
    if (!ended)
        state->give_up(*this);
}

// ---------------------------------------------------------------- Session

Session::Session() = default;

Session::~Session() {
    if (!state_)
        return;
    state_->owner = nullptr;
    close();
}

Task<Result<std::unique_ptr<Session>>> Session::open(transport::Context& context, transport::Reactor& reactor,
                                                     SessionOptions options, Counters& counters,
                                                     std::vector<wire::Client>* holders) {
    using Opened = Result<std::unique_ptr<Session>>;
    std::unique_ptr<Session> session(new Session);
    session->state_ = std::make_shared<State>(context, reactor, std::move(options), counters);
    State& state = *session->state_;
    state.owner = session.get();
    state.begin();
    const Result<> outcome = co_await state.admission.outcome();
    if (holders != nullptr)
        *holders = outcome ? state.terms.hello().others : state.admission.holders();
    if (!outcome)
        co_return Opened(outcome.error());
    co_return Opened(std::move(session));
}

Task<EncodedReply> Session::call_encoded(EncodedRequest request, CallOptions options, Cancellation* cancellation) {
    Call call(state_);
    std::vector<EncodedRequest> requests;
    requests.push_back(std::move(request));
    state_->start(call, std::move(requests), options, cancellation);
    co_await call.finished;
    if (!call.encoded.empty())
        co_await state_->decode_replies(call);
    co_return std::move(call.replies.front());
}

Task<std::vector<EncodedReply>> Session::call_batch(std::vector<EncodedRequest> requests, CallOptions options,
                                                    Cancellation* cancellation) {
    Call call(state_);
    if (requests.empty()) {
        call.ended = true;
        co_return std::vector<EncodedReply>();
    }
    state_->start(call, std::move(requests), options, cancellation);
    co_await call.finished;
    if (!call.encoded.empty())
        co_await state_->decode_replies(call);
    co_return std::move(call.replies);
}

void Session::tell_encoded(wire::Opcode opcode, std::vector<std::byte> body, LaneKind lane) {
    state_->tell({.opcode = opcode, .body = std::move(body)}, lane);
}

Status Session::reject_reply(wire::Opcode opcode) {
    state_->count("client.rejected_replies");
    log::warn("the server answered opcode {} with a body that is rejected", static_cast<unsigned>(opcode));
    return Status::io_error;
}

Task<Result<std::uint32_t>> Session::credential(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups,
                                                Cancellation* cancellation) {
    const auto state = state_;  // the question is asked through it
    CredentialTable::Identity identity{uid, gid, std::move(groups)};
    co_return co_await state->identities->number_of(std::move(identity), cancellation);
}

std::vector<std::uint32_t> Session::credentials() const {
    std::vector<std::uint32_t> numbers;
    for (const wire::Credential& known : state_->identities->known())
        numbers.push_back(known.number);
    if (!hello().client_identity)
        numbers = {0};
    return numbers;
}

std::shared_ptr<const void> Session::hold(std::uint32_t credential) {
    return state_->identities->hold(credential);
}

Task<Result<>> Session::act_as(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups) {
    const auto state = state_;
    CredentialTable::Identity identity{uid, gid, std::move(groups)};
    co_return co_await state->identities->act_as(std::move(identity));
}

Task<Result<>> Session::act_as_process() {
    if (!hello().client_identity)
        co_return Result<>();
    std::vector<std::uint32_t> groups(static_cast<std::size_t>(std::max(0, ::getgroups(0, nullptr))));
    static_assert(sizeof(gid_t) == sizeof(std::uint32_t));
    const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
    groups.resize(static_cast<std::size_t>(std::max(0, count)));
    co_return co_await act_as(::geteuid(), ::getegid(), std::move(groups));
}

const std::string& Session::path() const {
    return state_->path();
}

const wire::HelloReply& Session::hello() const {
    return state_->terms.hello();
}

bool Session::is_bandwidth_limited() const {
    return state_->bandwidth.is_limited();
}

std::uint64_t Session::epoch() const {
    return state_->terms.epoch();
}

TimePoint Session::lost_at() const {
    return state_->contact.lost_at();
}

bool Session::connected() const {
    return state_->connections[metadata_lane].is_ready() && !state_->restoration.is_under_way();
}

bool Session::stopping() const {
    return state_->connections[metadata_lane].is_stopping();
}

std::optional<Duration> Session::quickest_answer() const {
    return state_->quickest_answer;
}

bool Session::silent() const {
    return state_->silent();
}

void Session::suspect(TimePoint since) {
    state_->suspect(since);
}

void Session::hurry() {
    if (!state_->closed)
        state_->flushes->hurry();
}

Task<Status> Session::data_lane_ready(Cancellation* cancellation) {
    if (state_->closed)
        co_return Status::shutting_down;
    if (state_->data.is_merged() || state_->connections[data_lane].is_ready())
        co_return Status::ok;
    co_return co_await state_->data.wait(cancellation);
}

const Clock& Session::clock() const {
    return state_->reactor.clock();
}

NodeId Session::new_node_id() {
    return new_node_ids(1);
}

NodeId Session::new_node_ids(std::uint32_t count) {
    return state_->new_ids.nodes(count);
}

HandleId Session::new_handle_id() {
    return state_->new_ids.handle();
}

void Session::close() {
    const auto state = state_;
    state->close(Status::shutting_down);
}

// ---------------------------------------------------------------- calls

namespace {

std::size_t total_head_bytes(const std::vector<EncodedRequest>& requests) {
    std::size_t bytes = wire::MessageHeader::encoded_bytes;
    for (const EncodedRequest& request : requests)
        bytes += wire::RecordHeader::encoded_bytes + request.body.size();
    return bytes;
}

std::unique_ptr<Batch> make_batch(std::vector<EncodedRequest> requests) {
    auto batch = std::make_unique<Batch>();
    batch->unanswered = requests.size();
    batch->records.reserve(requests.size());
    for (EncodedRequest& request : requests) {
        PendingRecord& record = batch->records.emplace_back();
        record.traits = find_request_traits(request.opcode);
        REMOFILE_ASSERT(record.traits != nullptr);
        record.account = wire::account_of(request.opcode, request.body);
        record.body = std::move(request.body);
        record.link = request.link;
        REMOFILE_ASSERT(request.bulk.size() <= wire::max_bulk_bytes);
        if (request.has_bulk)
            record.bulk = OutgoingBulk(std::move(request.bulk));
    }
    // The next record of the message may be another call's.
    batch->records.back().link = false;
    return batch;
}

std::vector<transport::PublicKey> keys_of(const SessionOptions& options) {
    std::vector<transport::PublicKey> keys;
    if (options.lane.server_key) {
        keys.push_back(*options.lane.server_key);
        keys.insert(keys.end(), options.more_server_keys.begin(), options.more_server_keys.end());
    }
    return keys;
}

}  // namespace

Session::State::State(transport::Context& given_context, transport::Reactor& given_reactor,
                      SessionOptions given_options, Counters& given_counters)
    : context(given_context),
      reactor(given_reactor),
      options(std::move(given_options)),
      counters(given_counters, given_reactor.wakeups()),
      identities(std::make_shared<Identities>(
          given_reactor, options.request_timeout,
          [this](wire::Credential question) { return ask_credential(std::move(question)); })),
      server_keys(keys_of(options)),
      connections{Connection(given_reactor, metadata_lane), Connection(given_reactor, data_lane)},
      admission(given_reactor),
      new_ids(root_node),
      bandwidth(options.bandwidth_limit, given_reactor.clock().now()),
      flushes(std::make_shared<FlushSchedule>(given_reactor, [this] { flush(); })),
      coder(std::make_shared<BulkCoder>(given_reactor, given_counters, options.compression,
                                        transport::is_local_address(options.lane.endpoint))) {}

Session::State::~State() = default;

void Session::State::start(Call& call, std::vector<EncodedRequest> requests, const CallOptions& call_options,
                           Cancellation* cancellation, bool urgent) {
    REMOFILE_ASSERT(requests.size() <= wire::max_records);
    call.replies.resize(requests.size());
    if (closed)
        return end_call(call, Status::shutting_down);
    if (cancellation != nullptr && cancellation->cancelled())
        return end_call(call, Status::interrupted);
    if (call_options.restores && !restoration.is_under_way())
        return end_call(call, Status::no_session);
    if (options.gives_up_at_once && contact.is_given_up() && options.request_timeout && !call_options.timeout)
        return end_call(call, Status::timed_out);
    auto carried = identities->carry(call_options.credential);
    if (!carried)
        return end_call(call, Status::no_session);
    if (total_head_bytes(requests) > wire::max_head_bytes)
        return end_call(call, Status::limit_exceeded);

    auto batch = make_batch(std::move(requests));
    batch->kind = call_options.lane;
    batch->ahead = call_options.ahead;
    batch->in_order = call_options.in_order && terms.has(wire::feature_exclusive_leases);
    batch->unhurried = batch->in_order && batch->ahead;
    batch->restores = call_options.restores;
    batch->change_number = call_options.change;
    batch->credential = carried->number;
    if (terms.has(wire::feature_set_id))
        batch->set_id = call_options.set_id;
    if (carried->use)
        batch->credential_use.emplace(std::move(*carried->use));
    // It would wait for others to get their locks, and what those wait for might come behind it.
    if (batch->waits_for_lock()) {
        auto wait = accounts.wait_for_lock();
        if (!wait)
            return end_call(call, Status::no_locks);
        batch->lock_wait.emplace(std::move(*wait));
    }
    batch->call = &call;
    if (cancellation != nullptr) {
        call.cancellation = cancellation->state_;
        call.cancellation->calls.insert(&call);
    }
    // A lock that another holds may take any time; only a lost connection makes waiting for it time out.
    const std::optional<Duration> timeout = call_options.timeout ? call_options.timeout : options.request_timeout;
    if (timeout && *timeout < Duration::max())
        call.timeout_timer = reactor.after(*timeout, [this, &call, timeout] { on_time_out(call, *timeout); });
    flushes->soon();
    // The last that may fail for want of memory: the call ends with what it has not been given.
    for (const PendingRecord& record : batch->records)
        lock_owners.note_request(record.traits->opcode(),
                                 record.body);  // and stays so if the rest fails: then a lock too few is given back
    call.batch = batch.get();
    try {
        OutgoingQueue& queue =
            call_options.restores ? restoration.queue : connections[data.lane_for(batch->kind)].queue;
        if (urgent)
            queue.push_urgent(std::move(batch));
        else
            queue.push(std::move(batch));
    } catch (...) {
        call.batch = nullptr;
        throw;
    }
}

void Session::State::tell(EncodedRequest request, LaneKind kind) {
    if (closed)
        return;
    OutgoingQueue& queue = connections[data.lane_for(kind)].queue;
    if (request.opcode == wire::Opcode::forget) {
        const auto forget = wire::decode_body<wire::Forget>(request.body);
        REMOFILE_ASSERT(forget.has_value());
        for (const wire::ForgetNode& node : forget->nodes)
            queue.push_forget(node, kind);
    } else {
        queue.push(make_told(std::move(request), kind));
    }
    flushes->soon();
}

void Session::State::suspect(TimePoint since) {
    if (closed)
        return;
    contact.suspect(since);
    if (connections[metadata_lane].is_ready() && !contact.has_something_to_answer())
        ping();
}

void Session::State::cancel(Call& call) {
    if (call.ended || call.cancelling)
        return;
    Batch& batch = *call.batch;
    const bool was_sent = static_cast<bool>(batch.first_id);
    if (!was_sent || !connections[batch.lane].is_ready() || silent())
        return end_call(call, Status::interrupted);

    call.cancelling = true;
    ask_to_cancel(batch);
    call.grace_timer = reactor.after(cancel_grace, [this, &call] { end_call(call, Status::interrupted); });
}

void Session::State::ask_to_cancel(Batch& batch) {
    if (std::exchange(batch.cancel_sent, true))
        return;
    for (std::size_t i = 0; i < batch.records.size(); ++i) {
        if (batch.records[i].answered)
            continue;
        EncodedRequest request{.opcode = wire::Opcode::cancel, .body = wire::encode_body(wire::Cancel{batch.id_of(i)})};
        connections[batch.lane].queue.push_urgent(make_told(std::move(request), batch.kind));
    }
    flushes->soon();
}

void Session::State::on_time_out(Call& call, Duration timeout) {
    const Batch& batch = *call.batch;
    const bool under_way = batch.first_id && connections[batch.lane].is_ready();
    if (under_way && batch.waits_for_lock()) {
        call.timeout_timer = reactor.after(timeout, [this, &call, timeout] { on_time_out(call, timeout); });
        return;
    }
    // It waits for what the session itself allows.
    if (const Duration held_up = bandwidth.wait(reactor.clock().now()); !batch.first_id && held_up > Duration::zero()) {
        call.timeout_timer = reactor.after(held_up + timeout, [this, &call, timeout] { on_time_out(call, timeout); });
        return;
    }
    // Where megabytes are on their way a request waits for its turn, and the server is not silent.
    const Duration silence = reactor.clock().now() - connections[batch.lane].traffic.last_answer();
    if (batch.lane == data_lane && silence < timeout) {
        call.timeout_timer = reactor.after(timeout - silence, [this, &call, timeout] { on_time_out(call, timeout); });
        return;
    }
    count("client.timed_out_calls");
    contact.gave_up(reactor.clock().now(), timeout);
    suspect(reactor.clock().now());
    end_call(call, Status::timed_out);
}

Task<void> Session::State::decode_replies(Call& call) {
    const auto self = call.state;
    for (Call::EncodedBulk& encoded : std::exchange(call.encoded, {})) {
        EncodedReply& reply = call.replies[encoded.index];
        if (reply.status != Status::ok)
            continue;
        auto decoded = co_await coder->decode_elsewhere(encoded.header, std::move(encoded.bulk), terms.features());
        if (decoded) {
            reply.bulk = std::move(*decoded);
            continue;
        }
        const Status status = decoded.error().status;
        if (status != Status::shutting_down) {
            count("client.rejected_replies");
            log::warn("the server's answer is rejected: {}", decoded.error().to_string());
        }
        const bool is_ours = status == Status::shutting_down || status == Status::out_of_memory;
        reply = {.status = is_ours ? status : Status::io_error};
    }
}

void Session::State::end_call(Call& call, Status status) {
    const auto self = shared_from_this();
    if (call.batch != nullptr) {
        for (std::size_t i = 0; i < call.replies.size(); ++i) {
            if (!call.batch->records[i].answered)
                call.replies[i].status = status;
        }
    } else {
        for (EncodedReply& reply : call.replies)
            reply.status = status;
    }
    give_up(call);
    call.finished.deliver(true);
}

void Session::State::give_up(Call& call) {
    call.ended = true;
    reactor.cancel(call.timeout_timer);
    reactor.cancel(call.grace_timer);
    if (call.cancellation)
        call.cancellation->calls.erase(&call);
    Batch* batch = std::exchange(call.batch, nullptr);
    if (batch == nullptr)
        return;
    batch->call = nullptr;
    for (const PendingRecord& record : batch->records) {
        if (!record.answered)
            lock_owners.note_given_up(record.traits->opcode(), record.body);
    }
    if (!batch->first_id) {
        (batch->restores ? restoration.queue : connections[batch->lane].queue).take(batch);
        return;
    }
    if (batch->unanswered == 0 || closed)
        return;
    batch->abandoned = true;
    count("client.abandoned_calls");
    if (connections[batch->lane].is_ready())
        ask_to_cancel(*batch);
}

// Not given up, as another one of its number could be bound late: those who wait for it may.
Task<Status> Session::State::ask_credential(wire::Credential question) {
    const auto self = shared_from_this();
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(question));
    const CallOptions as_long_as_it_takes{.timeout = Duration::max(), .restores = restoration.is_under_way()};
    Call call(self);
    start(call, std::move(requests), as_long_as_it_takes, nullptr, true);
    co_await call.finished;
    co_return call.replies.front().status;
}

// ---------------------------------------------------------------- the end

void Session::State::close(Status status) {
    if (closed)
        return;
    closed = true;
    const auto self = shared_from_this();
    Connection& first = connections[metadata_lane];
    if (first.is_ready()) {
        auto bye = make_told({.opcode = wire::Opcode::bye}, LaneKind::metadata);
        const RequestId below = sent.answered_below();  // BYE itself is not answered
        bye->first_id = sent.number_of_unanswerable();
        send_message(metadata_lane, build_message({bye.get()}, 0, below, first.traffic.received_bytes()));
    }
    admission.stop_waiting();
    flushes->stop();
    reactor.cancel(tick_timer);
    reactor.cancel(bandwidth_timer);
    std::vector<std::unique_ptr<Batch>> unfinished = sent.take_all();
    for (Connection& connection : connections) {
        connection.close();
        std::ranges::move(connection.queue.take_all(), std::back_inserter(unfinished));
    }
    restoration.end();
    std::ranges::move(restoration.queue.take_all(), std::back_inserter(unfinished));
    // The coroutines that go on from here find the session closed.
    for (const auto& batch : unfinished) {
        if (batch->call != nullptr)
            end_call(*batch->call, status);
    }
    coder->stop();
    data.wake(status);
}

}  // namespace remofile::client
