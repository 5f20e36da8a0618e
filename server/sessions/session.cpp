// SPDX-License-Identifier: MIT
#include "server/sessions/session.hpp"

#include <algorithm>
#include <utility>

#include "base/exception.hpp"
#include "base/log.hpp"
#include "wire/kept_answers.hpp"

namespace remofile::server {
namespace {

using wire::Opcode;

// Breaches of the rules within `violation_period` that a session survives: a client with a bug gets its errors, one
// that floods is shut out.
constexpr std::size_t max_violations = 1024;
constexpr Duration violation_period = std::chrono::minutes(1);

bool is_in_force(wire::BulkEncoding encoding, std::uint64_t features) {
    switch (encoding) {
        case wire::BulkEncoding::raw:
            return true;
        case wire::BulkEncoding::lz4:
            return (features & wire::feature_lz4) != 0;
        case wire::BulkEncoding::zeros:
            return (features & wire::feature_zeros) != 0;
    }
    return false;
}

// What tells or gives back, takes no time, and has nothing to do with the records before it.
bool goes_ahead(Opcode opcode) {
    return opcode == Opcode::invalidated || opcode == Opcode::share_leases || opcode == Opcode::cancel ||
           opcode == Opcode::ping;
}

Outcome outcome_of(Status status) {
    Outcome outcome;
    outcome.status = status;
    return outcome;
}

ReplyPtr make_reply(const wire::RecordHeader& request, Outcome outcome) {
    auto reply = std::make_shared<Reply>();
    reply->header.opcode = request.opcode;
    reply->header.id = request.id;
    reply->header.detail = static_cast<std::uint32_t>(outcome.status);
    if (outcome.status == Status::ok) {
        reply->body = std::move(outcome.body);
        reply->has_bulk = outcome.has_bulk;
        if (outcome.has_bulk) {
            reply->header.bulk_encoding = outcome.bulk.encoding;
            reply->header.bulk_size = outcome.bulk.size;
            reply->bulk = std::move(outcome.bulk.data);
        }
    }
    return reply;
}

// A kept reply once more, for another connection.
ReplyPtr repeat(const ReplyPtr& kept) {
    auto again = std::make_shared<Reply>();
    again->header = kept->header;
    again->body = kept->body;
    again->bulk = share_bulk(kept);
    again->has_bulk = kept->has_bulk;
    again->kept = true;
    again->note = kept->note;
    return again;
}

// What fails half-way in a session ends that session, and all leases, as some change may not have been told. False if
// the session has ended.
template <class Work>
bool in_session(SessionEnvironment& environment, SessionId id, Work&& work) {
    Session* session = environment.find(id);
    if (session == nullptr)
        return false;
    try {
        work(*session);
    } catch (...) {
        environment.end_soon(*session, std::string(describe(status_of_exception("an answer"))));
        if (environment.leases != nullptr)
            environment.leases->end_all();
    }
    return true;
}

// Bulk data that the replies to the next slice of a message may bring: as far as run_slice() goes, over what is
// settled, an unknown opcode too, up to what the session does itself.
std::size_t expected_bytes(const SessionBatch& batch) {
    std::size_t expected = 0;
    for (std::size_t i = batch.next; i < batch.records.size(); ++i) {
        const BatchRecord& record = batch.records[i];
        if (record.settled)
            continue;
        if (record.facts == nullptr)
            break;
        expected += expected_reply_bytes(record);
    }
    return std::min(expected, slice_bytes + wire::max_bulk_bytes);
}

}  // namespace

std::uint64_t SessionGrants::bytes() const {
    return request_bytes + reply_window_bytes + wire::max_lanes * lane_share_bytes();
}

wire::Message message_lost() {
    wire::MessageWriter writer(wire::MessageKind::reply);
    writer.add_encoded({.detail = static_cast<std::uint32_t>(Status::out_of_memory)}, {});
    return std::move(writer).finish();
}

std::string SessionTerms::describe() const {
    const std::string who = client_name.empty() ? "a client without a name" : client_name;
    return key_comment.empty() ? fmt::format("{} from {}", who, address)
                               : fmt::format("{} (key \"{}\") from {}", who, key_comment, address);
}

Session::Session(SessionEnvironment& environment, SessionTerms terms, std::shared_ptr<SessionFiles> files)
    : environment_(environment),
      terms_(std::move(terms)),
      files_(std::move(files)),
      accounts_(terms_.grants.max_requests, terms_.grants.max_lock_waits, terms_.grants.request_bytes),
      // Twice what can be unacknowledged: those of lost connections stay until the client goes on.
      replies_(accounts_.max_replies(), 2 * terms_.grants.bytes()),
      callers_(terms_.callers),
      carried_out_at_once_(environment.counters.at("server.carried_out_at_once")),
      waits_for_others_(environment.counters.at("leases.exclusive_waits")),
      paced_messages_(environment.counters.at("server.paced_messages")),
      requests_(environment.counters.at("server.requests")),
      bytes_received_(environment.counters.at("server.bytes_received")),
      bytes_sent_(environment.counters.at("server.bytes_sent")),
      last_heard_(environment.thread.clock().now()),
      pushes_((terms_.features & wire::feature_leases) != 0 ? environment.leases : nullptr, files_.get()) {
    for (std::uint8_t number = 0; number < wire::max_lanes; ++number)
        lanes_.emplace_back(number);
}

Session::~Session() {
    if (pace_timer_)
        environment_.thread.cancel(*pace_timer_);
}

wire::Client Session::as_client() const {
    const auto leases =
        environment_.leases == nullptr ? LeaseTable::Figures{} : environment_.leases->figures(files_.get());
    return {.name = terms_.client_name.empty() ? terms_.key_comment : terms_.client_name,
            .address = terms_.address,
            .since = terms_.since,
            .exclusive = terms_.exclusive,
            .leases = leases.leases,
            .revoked = leases.revoked,
            .expired = leases.expired};
}

// ---------------------------------------------------------------- connections

std::optional<transport::RouteId> Session::attach(std::uint8_t number, transport::RouteId route) {
    SessionLane& attached = lane(number);
    std::optional<transport::RouteId> replaced = attached.route();
    lose(attached);
    attached.attach(std::move(route));
    last_heard_ = environment_.thread.clock().now();
    environment_.flush_soon(*this);
    return replaced;
}

std::vector<transport::RouteId> Session::routes() const {
    std::vector<transport::RouteId> all;
    for (const SessionLane& each : lanes_) {
        if (each.route())
            all.push_back(*each.route());
    }
    return all;
}

void Session::lose(SessionLane& lost) {
    for (const ReplyPtr& reply : lost.detach())
        credit(*reply);
}

void Session::credit(const Reply& reply) {
    if (reply.account)
        accounts_.leave(*reply.account);
    accounts_.leave_bulk(reply.request_bulk_bytes);
}

void Session::queue_reply(std::uint8_t number, wire::RecordHeader header, std::vector<std::byte> body) {
    auto reply = std::make_shared<Reply>();
    reply->header = header;
    reply->body = std::move(body);
    lane(number).queue(std::move(reply));
    environment_.flush_soon(*this);
}

// ---------------------------------------------------------------- messages in

void Session::note_violation(std::string_view what) {
    const TimePoint now = environment_.thread.clock().now();
    if (now - violations_since_ >= violation_period) {
        violations_since_ = now;
        violations_ = 0;
    }
    environment_.counters.at("server.violations").add();
    log::debug("{} broke the protocol: {}", terms_.describe(), what);
    if (++violations_ > max_violations)
        end_soon(fmt::format("too many violations of the protocol, the last: {}", what));
}

void Session::receive_malformed(std::uint8_t number, Status status) {
    last_heard_ = environment_.thread.clock().now();
    note_violation("an unreadable message");
    if (!ending_)
        queue_reply(number, {.detail = static_cast<std::uint32_t>(status)}, {});
}

void Session::count(wire::Account account) {
    accounts_.enter(account);
    if (accounts_.grossly_exceeded())
        end_soon("far more requests at a time than were granted");
}

void Session::end_soon(std::string reason) {
    if (!std::exchange(ending_, true))
        environment_.end_soon(*this, std::move(reason));
}

void Session::take_acknowledgements(SessionLane& by, const wire::MessageHeader& header) {
    for (const RequestId request : by.acknowledge(header.received_bytes))
        replies_.drop(request);
    by.speed.note_arrived(by.acknowledged_bytes(), last_heard_);
    answered_below_ = std::max(answered_below_, header.answered_below);
    replies_.drop_below(answered_below_);
    if (terms_.kept_answers != nullptr)
        terms_.kept_answers->drop_below(answered_below_);
}

void Session::receive(std::uint8_t number, wire::ParsedMessage message) {
    SessionLane& by = lane(number);
    last_heard_ = environment_.thread.clock().now();
    totals_.bytes_received += message.frames.head.size();
    bytes_received_.add(message.frames.head.size());
    if (ending_)
        return;
    take_acknowledgements(by, message.header);
    environment_.flush_soon(*this);
    auto batch = std::make_shared<SessionBatch>(std::move(message));
    batch->arrived = last_heard_;
    batch->lane = number;
    enter_records(by, batch);
    if (!ending_)
        sequence(by, batch);
    dispatch(by);  // the acknowledgements may have opened the window
}

void Session::enter_records(SessionLane& by, const BatchPtr& batch) {
    const bool head_fits = accounts_.enter_head(batch->frames.head.size());
    for (std::size_t i = 0; i < batch->records.size() && !ending_; ++i)
        enter_record(by, batch, i, head_fits);
}

void Session::enter_record(SessionLane& by, const BatchPtr& batch, std::size_t index, bool head_fits) {
    BatchRecord& record = batch->records[index];
    ++totals_.requests;
    requests_.add();
    totals_.bytes_received += record.bulk.size();
    bytes_received_.add(record.bulk.size());
    if (enter_known(by, batch, record))
        return;
    if ((record.header.flags & wire::flag_resent) == 0 && std::exchange(by.resending, false))
        replies_.drop_earlier(by.number(), by.generation());

    record.facts = find_operation(record.header.opcode);
    const wire::Account account = wire::account_of(record.header.opcode, record.body);
    record.settled = refusal(record, account, index + 1 == batch->records.size());
    if (!head_fits)
        record.settled = Status::limit_exceeded;
    if (!record.settled)
        record.settled = resolve_caller(*batch, index);
    if (record.settled == Status::limit_exceeded || record.settled == Status::malformed)
        note_violation(describe(*record.settled));
    if (record.settled)
        record.bulk = Buffer();
    else if (terms_.kept_answers != nullptr && record.facts != nullptr &&
             wire::is_answer_kept(*record.facts, record.header.flags, record.body))
        record.note = terms_.kept_answers->note(record.header.id, (record.header.flags & wire::flag_resent) != 0);

    count(account);
    accounts_.enter_bulk(record.bulk.size());
    pending_.emplace(record.header.id, Pending{.header = record.header,
                                               .facts = record.facts,
                                               .account = account,
                                               .batch = batch,
                                               .index = index,
                                               .lane = by.number(),
                                               .generation = by.generation(),
                                               .bulk_bytes = record.bulk.size()});
}

// A request whose number is taken: one sent again after a lost connection, or a broken client's.
bool Session::enter_known(SessionLane& by, const BatchPtr& batch, BatchRecord& record) {
    const RequestId id = record.header.id;
    const bool resent = (record.header.flags & wire::flag_resent) != 0;
    const auto pending = pending_.find(id);
    ReplyCache::Entry* kept = replies_.find(id);
    if (pending == pending_.end() && kept == nullptr && id && id >= answered_below_)
        return false;

    record.answered_elsewhere = true;
    record.bulk = Buffer();
    record.settled = Status::ok;
    if (resent && pending != pending_.end()) {
        // Still under way: its answer comes by this connection.
        if (pending->second.batch != nullptr && pending->second.batch->lane != by.number())
            follow(pending->second.batch, batch, record);
        if (pending->second.lane != by.number() || pending->second.generation != by.generation()) {
            pending->second.lane = by.number();
            pending->second.generation = by.generation();
        }
        if ((record.header.flags & wire::flag_void) != 0)
            cancel(id);
    } else if (resent && kept != nullptr) {
        record.settled = static_cast<Status>(kept->reply->header.detail);
        if (kept->lane == by.number() && kept->generation == by.generation())
            return true;
        kept->lane = by.number();
        kept->generation = by.generation();
        kept->reply = repeat(kept->reply);
        kept->reply->account = wire::account_of(record.header.opcode, record.body);
        by.queue(kept->reply);
        count(*kept->reply->account);
        environment_.counters.at("server.replies_repeated").add();
    } else {
        record.settled = Status::malformed;
        note_violation("a request number used twice");
        queue_reply(by.number(),
                    {.opcode = record.header.opcode, .id = id, .detail = static_cast<std::uint32_t>(Status::malformed)},
                    {});
    }
    return true;
}

// A lane was given up, and what was not answered on it comes again by another one. There, what comes after it must not
// overtake what the server is still carrying out or has queued.
void Session::follow(const BatchPtr& original, const BatchPtr& batch, BatchRecord& record) {
    record.on_other_lane = true;
    if (std::ranges::find(original->followers, batch) != original->followers.end())
        return;
    original->followers.push_back(batch);
    ++batch->awaited;
}

// A number means what it meant when the request came, however long that waits for its turn. So CREDENTIAL takes effect
// as it comes, too, and only its answer has a turn.
std::optional<Status> Session::resolve_caller(SessionBatch& batch, std::size_t index) {
    BatchRecord& record = batch.records[index];
    if (record.header.opcode == Opcode::credential) {
        const bool may_be_cancelled = index > 0 && (batch.records[index - 1].header.flags & wire::flag_link) != 0;
        const auto body = wire::decode_body<wire::Credential>(record.body);
        return body && !may_be_cancelled ? callers_.bind(*body).status() : Status::malformed;
    }
    if (record.facts == nullptr)
        return std::nullopt;
    record.caller = callers_.find(record.header.detail, record.header.set_id());
    return record.caller == nullptr ? std::optional(Status::invalid) : std::nullopt;
}

// Why a request is not to be carried out, if so.
std::optional<Status> Session::refusal(const BatchRecord& record, wire::Account account, bool last) const {
    const Opcode opcode = record.header.opcode;
    if ((record.header.flags & wire::flag_void) != 0)
        return Status::interrupted;
    if (!is_in_force(record.header.bulk_encoding, terms_.features))
        return Status::malformed;
    if ((record.header.flags & wire::flag_in_order) != 0 && (terms_.features & wire::feature_exclusive_leases) == 0)
        return Status::malformed;
    if (!accounts_.has_room(account))
        return account == wire::Account::lock_wait ? Status::no_locks : Status::limit_exceeded;
    if (!accounts_.has_room_for(record.bulk.size()))
        return Status::limit_exceeded;
    if (opcode == Opcode::hello || opcode == Opcode::attach)
        return Status::invalid;
    const wire::OpcodeFacts* facts = wire::find_opcode(opcode);
    const bool is_of_lent_inodes = opcode == Opcode::lend_inodes || opcode == Opcode::make_lent;
    if (facts == nullptr || (is_of_lent_inodes && (terms_.features & wire::feature_lent_inodes) == 0))
        return Status::not_implemented;
    if (((record.header.flags & wire::flag_bulk) != 0) != facts->takes_bulk)
        return Status::malformed;
    if (facts->of_session)
        return std::nullopt;
    if (stopping_)
        return Status::shutting_down;
    if (account == wire::Account::lock_wait && !last)
        return Status::malformed;
    return std::nullopt;
}

// Puts a message in its place behind those that it depends on.
void Session::sequence(SessionLane& by, const BatchPtr& batch) {
    std::vector<Dependency> uses;
    bool has_turn = false;
    for (BatchRecord& record : batch->records) {
        if (!record.on_other_lane && record.settled)
            continue;
        if ((record.header.flags & wire::flag_in_order) != 0) {
            has_turn = true;
            uses.push_back({Dependency::Kind::order, 0, true});
        }
        if (!record.on_other_lane && record.facts == nullptr)
            continue;
        auto found = dependencies_of(record.header.opcode, record.body);
        if (!found) {
            record.settled = found.error().status;
            continue;
        }
        has_turn = true;
        uses.insert(uses.end(), found->begin(), found->end());
    }
    if (!has_turn) {
        proceed(batch);
        return;
    }
    const auto [ticket, ready] = by.sequencer.add(uses);
    batch->ticket = ticket;
    batch->has_turn = ready;
    if (!ready)
        blocked_[by.number()].emplace(ticket, batch);
    if (ready && batch->awaited == 0)
        proceed(batch);
    else if (!waiting_.empty())
        carry_out_ahead(batch);
}

// ---------------------------------------------------------------- carrying out

// Goes on with a message whose turn has come, and with those that it held up.
void Session::proceed(BatchPtr first) {
    proceed_all(std::deque<BatchPtr>{std::move(first)});
}

void Session::proceed_all(std::deque<BatchPtr> ready) {
    while (!ready.empty()) {
        const BatchPtr batch = std::move(ready.front());
        ready.pop_front();
        if (proceed_here(batch)) {
            finish(batch, ready);
        } else if (take_rate(batch)) {
            ready_[batch->lane].push_back(batch);
            dispatch(lane(batch->lane));
        }
    }
}

// Carries out what is decided or the session's own; false when the next record is a worker's.
bool Session::proceed_here(const BatchPtr& batch) {
    while (!batch->finished()) {
        const BatchRecord& record = batch->records[batch->next];
        Outcome outcome;
        if (const auto status = decided_status(*batch))
            outcome = outcome_of(*status);
        else if (record.facts == nullptr)
            outcome = carry_out_own(record);
        else
            return false;
        advance(*batch, outcome.status);
        if (!record.answered_elsewhere)
            answer(record.header.id, std::move(outcome));
    }
    return true;
}

void Session::finish(const BatchPtr& batch, std::deque<BatchPtr>& ready) {
    accounts_.leave_head(batch->frames.head.size());
    // A record that waits for a lock, and so holds up nobody, is the last.
    if (const auto waiting = pending_.find(batch->records.back().header.id);
        waiting != pending_.end() && waiting->second.batch == batch)
        waiting->second.batch.reset();
    for (BatchPtr& follower : std::exchange(batch->followers, {})) {
        --follower->awaited;
        if (follower->has_turn)
            take_turn(std::move(follower), ready);
    }
    if (batch->ticket == 0)
        return;
    SessionLane& of = lane(batch->lane);
    release(of, of.sequencer.finish(batch->ticket), ready);
}

void Session::release(SessionLane& of, std::span<const Sequencer::Ticket> tickets, std::deque<BatchPtr>& ready) {
    for (const Sequencer::Ticket ticket : tickets) {
        auto released = blocked_[of.number()].extract(ticket);
        REMOFILE_ASSERT(!released.empty());
        take_turn(std::move(released.mapped()), ready);
    }
}

// Nothing of its own lane is in its way any more.
void Session::take_turn(BatchPtr batch, std::deque<BatchPtr>& ready) {
    batch->has_turn = true;
    if (batch->awaited == 0)
        ready.push_back(std::move(batch));
}

// How many bytes of replies the lane may send now. Always something where nothing is unacknowledged.
std::uint64_t Session::reply_room(const SessionLane& of) const {
    std::uint64_t unacknowledged = 0;
    for (const SessionLane& each : lanes_)
        unacknowledged += each.unacknowledged_bytes();
    if (unacknowledged < terms_.grants.reply_window_bytes || unacknowledged == 0)
        return UINT64_MAX;
    const std::uint64_t share = terms_.grants.lane_share_bytes();
    return share - std::min(share, of.unacknowledged_bytes());
}

// Whether a message may be worked on whose replies are to bring so much.
bool Session::may_start(const SessionLane& of, std::size_t expected_bytes) const {
    std::uint64_t open = 0;
    for (const SessionLane& each : lanes_)
        open += each.open_bytes();
    return open < terms_.grants.reply_window_bytes || open == 0 ||
           of.open_bytes() + expected_bytes <= terms_.grants.lane_share_bytes();
}

void Session::dispatch(SessionLane& of) {
    // What is carried out at once comes back here; the loop below goes on with what that has set free.
    if (std::exchange(dispatching_[of.number()], true))
        return;
    auto& ready = ready_[of.number()];
    while (!ready.empty()) {
        const std::size_t expected = expected_bytes(*ready.front());
        if (!may_start(of, expected))
            break;
        const BatchPtr batch = std::move(ready.front());
        ready.pop_front();
        if (!carry_out_at_once(batch))
            start(of, batch, expected);
    }
    dispatching_[of.number()] = false;
}

// A message of one record that cannot block needs no worker, whose two hand-offs take longer than the record itself.
// Compression is a worker's even so.
bool Session::carry_out_at_once(const BatchPtr& batch) {
    const BatchRecord& record = batch->records[batch->next];
    if (batch->records.size() != 1 || record.facts == nullptr || decided_status(*batch))
        return false;
    if (coding_of(lane(batch->lane)).plan.level != 0)
        return false;
    const TimePoint begun = environment_.thread.clock().now();
    std::optional<Outcome> outcome;
    try {
        outcome = environment_.files.carry_out_at_once(files_, record.header.opcode, record.body, *record.caller);
    } catch (...) {
        status_of_exception(record.facts->name);  // it is tried again, and answered, on a worker
    }
    if (!outcome)
        return false;
    carried_out_at_once_.add();
    Slice slice;
    slice.answers.push_back({.record = batch->next,
                             .outcome = std::move(*outcome),
                             .begun = begun,
                             .ended = environment_.thread.clock().now()});
    advance(*batch, Status::ok);
    slice_done(batch, std::move(slice));
    return true;
}

BulkCoding Session::coding_of(const SessionLane& of) const {
    const std::uint8_t automatic =
        wire::automatic_level(of.speed.bytes_per_s(), terms_.local, *environment_.compression);
    return {.features = terms_.features,
            .plan = wire::make_plan(terms_.features, terms_.compression, automatic),
            .meter = environment_.compression};
}

void Session::start(SessionLane& of, const BatchPtr& batch, std::size_t expected) {
    batch->expected_bytes = expected;
    batch->at_worker = true;
    of.expected_bytes += batch->expected_bytes;

    const BulkCoding coding = coding_of(of);
    // The environment is touched again only on the service's thread, while the service lives.
    const auto completions = environment_.completions;
    const SessionId id = terms_.id;
    auto later = [completions, environment = &environment_, id](RequestId request, Outcome outcome) {
        completions->push([environment, id, request, outcome = std::move(outcome)]() mutable {
            const auto conclude = [&](Session& session) { session.decided_later(request, std::move(outcome)); };
            if (!in_session(*environment, id, conclude))
                environment->left_behind(std::move(outcome));
        });
    };
    environment_.executor.submit(
        id.value, [batch, files = files_, service = &environment_.files, clock = &environment_.thread.clock(),
                   completions, environment = &environment_, id, coding, later = std::move(later)] {
            Slice slice = run_slice(*batch, files, *service, *clock, coding, later);
            completions->push([environment, id, batch, slice = std::move(slice)]() mutable {
                const auto take = [&](Session& session) { session.slice_done(batch, std::move(slice)); };
                if (in_session(*environment, id, take))
                    return;
                for (Answered& answered : slice.answers)
                    environment->left_behind(std::move(answered.outcome));
                if (!slice.awaited.empty())
                    environment->left_behind({});  // others have been told something
            });
        });
}

void Session::decided_later(RequestId request, Outcome outcome) {
    conclude(request, std::move(outcome));
}

void Session::slice_done(const BatchPtr& batch, Slice slice) {
    SessionLane& of = lane(batch->lane);
    // Once: a message that has waited for another client may be finished without a worker.
    of.expected_bytes -= std::exchange(batch->expected_bytes, 0);
    batch->at_worker = false;
    if (terms_.rate->limits())
        terms_.rate->charge(cost_of(*batch, slice) - std::exchange(batch->charged, {}),
                            environment_.thread.clock().now());
    for (Answered& answered : slice.answers) {
        if (answered.outcome.status == Status::malformed)
            note_violation("a request that cannot be decoded");
        if (answered.begun != TimePoint{}) {
            const wire::OpcodeFacts& facts = *batch->records[answered.record].facts;
            environment_.request_times.add(facts, answered.ended - batch->arrived);
            environment_.slow_requests.add(facts.name, terms_.client_name, answered.begun - batch->arrived,
                                           answered.ended - answered.begun, answered.ended);
        }
        conclude(batch->records[answered.record].header.id, std::move(answered.outcome));
    }
    if (slice.awaited.empty())
        proceed(batch);
    else
        wait_for_others(batch, std::move(slice.awaited));
    dispatch(of);
}

// ---------------------------------------------------------------- waiting for others' exclusive leases

// Nothing has been begun. Meanwhile nobody waits for it who only uses what it uses.
void Session::wait_for_others(const BatchPtr& batch, std::vector<InodePtr> awaited) {
    environment_.flush_soon(*this);  // others have been told something
    BatchRecord& record = batch->records[batch->next];
    if (!std::exchange(record.had_to_wait, true))
        waits_for_others_.add();
    if (stopping_)
        record.settled = Status::shutting_down;
    // A CANCEL may have come meanwhile, or the lease have been shared.
    if (decided_status(*batch) || environment_.leases->are_shared(files_.get(), awaited))
        return proceed(batch);
    waiting_.push_back({batch, std::move(awaited)});
    std::deque<BatchPtr> ready;
    SessionLane& of = lane(batch->lane);
    release(of, of.sequencer.let_pass(batch->ticket), ready);
    proceed_all(std::move(ready));
    std::vector<BatchPtr> held_up{batch};
    for (const auto& blocked : blocked_) {
        for (const auto& [ticket, behind] : blocked)
            held_up.push_back(behind);
    }
    for (const BatchPtr& each : held_up)
        carry_out_ahead(each);
}

// While a request waits for another client, that one may wait for what this one says in the same message, or in one
// that is behind it.
void Session::carry_out_ahead(const BatchPtr& batch) {
    // What goes ahead may let the message itself go on.
    if (batch->at_worker)
        return;
    for (std::size_t i = batch->next; i < batch->records.size(); ++i) {
        BatchRecord& record = batch->records[i];
        const bool may_be_cancelled = i > 0 && (batch->records[i - 1].header.flags & wire::flag_link) != 0;
        const bool in_order = (record.header.flags & wire::flag_in_order) != 0;
        if (record.settled || may_be_cancelled || in_order || !goes_ahead(record.header.opcode))
            continue;
        // Before it has an effect, which may be that the message goes on.
        record.settled = Status::ok;
        record.answered_elsewhere = true;
        Outcome outcome = record.facts == nullptr
                              ? carry_out_own(record)
                              : *environment_.files.carry_out(files_, record.header.id, record.header.opcode,
                                                              record.body, {}, *record.caller, {});
        const bool has_gone_on = batch->at_worker || batch->next > i;
        if (!has_gone_on)
            record.settled = outcome.status;
        answer(record.header.id, std::move(outcome));
        if (has_gone_on)
            return;
    }
}

bool Session::waits_for_others(const BatchPtr& batch) const {
    return std::ranges::find(waiting_, batch, &Waiting::batch) != waiting_.end();
}

void Session::wait_no_more(const BatchPtr& batch) {
    std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.batch == batch; });
    proceed(batch);
}

void Session::leases_shared() {
    std::vector<BatchPtr> shared;
    for (const Waiting& waiting : waiting_) {
        if (environment_.leases->are_shared(files_.get(), waiting.awaited))
            shared.push_back(waiting.batch);
    }
    for (const BatchPtr& batch : shared)
        wait_no_more(batch);
}

// The leases of a server that stops are not shared any more.
void Session::refuse_waiting() {
    for (const Waiting& waiting : std::vector(waiting_)) {
        waiting.batch->records[waiting.batch->next].settled = Status::shutting_down;
        wait_no_more(waiting.batch);
    }
}

// ---------------------------------------------------------------- waiting for the client's limits

// Others wait for what it has yet to send.
bool Session::is_to_share() const {
    return environment_.leases != nullptr && environment_.leases->is_to_share(files_.get());
}

// Whether the next slice of a message may be carried out as far as the client's limits go. If not it waits, behind
// those that do; what needs no bytes, though, for none that needs some.
bool Session::take_rate(const BatchPtr& batch) {
    if (!terms_.rate->limits() && paced_[0].empty() && paced_[1].empty())
        return true;
    const RequestCost cost = cost_of_next(*batch);
    const TimePoint now = environment_.thread.clock().now();
    auto& queue = paced_[cost.bytes > 0 ? 1 : 0];
    const bool waits = !queue.empty() || terms_.rate->wait(cost, now) != Duration::zero();
    if (cost.requests == 0 || !waits || is_to_share()) {
        batch->charged = cost;
        terms_.rate->charge(cost, now);
        return true;
    }
    paced_messages_.add();
    queue.push_back(batch);
    environment_.flush_soon(*this);
    return false;
}

void Session::go_on_paced() {
    const TimePoint now = environment_.thread.clock().now();
    std::optional<Duration> soonest;
    std::vector<BatchPtr> going_on;
    for (auto& queue : paced_) {
        while (!queue.empty()) {
            const RequestCost cost = cost_of_next(*queue.front());
            const Duration wait = is_to_share() ? Duration::zero() : terms_.rate->wait(cost, now);
            if (wait != Duration::zero()) {
                soonest = std::min(wait, soonest.value_or(wait));
                break;
            }
            queue.front()->charged = cost;
            terms_.rate->charge(cost, now);
            going_on.push_back(std::move(queue.front()));
            queue.pop_front();
        }
    }
    if (pace_timer_)
        environment_.thread.cancel(*std::exchange(pace_timer_, std::nullopt));
    if (soonest)
        pace_timer_ = environment_.thread.after(*soonest, [this] {
            pace_timer_.reset();
            environment_.flush_soon(*this);
        });
    for (const BatchPtr& batch : going_on) {
        ready_[batch->lane].push_back(batch);
        dispatch(lane(batch->lane));
    }
}

// Nothing of it is to be begun any more but what is left to be answered.
void Session::pace_no_more(const BatchPtr& batch) {
    for (auto& queue : paced_) {
        if (std::erase(queue, batch) != 0)
            return proceed(batch);
    }
}

void Session::refuse_paced() {
    for (auto& queue : paced_) {
        for (const BatchPtr& batch : std::exchange(queue, {})) {
            for (std::size_t i = batch->next; i < batch->records.size(); ++i) {
                if (!batch->records[i].settled && batch->records[i].facts != nullptr)
                    batch->records[i].settled = Status::shutting_down;
            }
            proceed(batch);
        }
    }
}

// ---------------------------------------------------------------- the session's own requests

Outcome Session::carry_out_own(const BatchRecord& record) {
    const auto outcome_of_body = [&]<class Body>(Body*, auto&& act) {
        const auto body = wire::decode_body<Body>(record.body);
        return outcome_of(body ? act(*body) : Status::malformed);
    };
    switch (record.header.opcode) {
        case Opcode::bye:
            return outcome_of_body(static_cast<wire::Bye*>(nullptr), [&](const auto&) {
                has_said_goodbye_ = true;
                end_soon("the client said goodbye");
                return Status::ok;
            });
        case Opcode::cancel:
            return outcome_of_body(static_cast<wire::Cancel*>(nullptr), [&](const wire::Cancel& body) {
                cancel(body.request);
                return Status::ok;
            });
        case Opcode::invalidated:
            return outcome_of_body(static_cast<wire::Invalidated*>(nullptr), [&](const wire::Invalidated& body) {
                return acknowledge_pushes(body.sequence) ? Status::ok : Status::invalid;
            });
        case Opcode::lane_ticket: {
            const auto body = wire::decode_body<wire::LaneTicket>(record.body);
            if (!body)
                return outcome_of(Status::malformed);
            if ((terms_.features & wire::feature_sealed_lanes) == 0)
                return outcome_of(Status::not_supported);
            if (body->lane == 0 || body->lane >= wire::max_lanes)
                return outcome_of(Status::invalid);
            Outcome outcome = outcome_of(Status::ok);
            outcome.body = wire::encode_body(environment_.issue_ticket(*this, body->lane));
            return outcome;
        }
        case Opcode::server_status: {
            Outcome outcome = outcome_of(record.body.empty() ? Status::ok : Status::malformed);
            if (outcome.status == Status::ok)
                outcome.body = wire::encode_body(environment_.status());
            return outcome;
        }
        case Opcode::exports: {
            if ((terms_.features & wire::feature_exports) == 0)
                return outcome_of(Status::not_implemented);
            Outcome outcome = outcome_of(record.body.empty() ? Status::ok : Status::malformed);
            if (outcome.status == Status::ok)
                outcome.body = wire::encode_body(wire::ExportsReply{environment_.exports(*this)});
            return outcome;
        }
        default:  // PING
            return outcome_of(record.body.empty() ? Status::ok : Status::malformed);
    }
}

void Session::cancel(RequestId request) {
    const auto found = pending_.find(request);
    if (found == pending_.end())
        return;
    found->second.cancelled = true;
    const BatchPtr batch = found->second.batch;
    if (batch == nullptr)
        return environment_.files.cancel(files_, request);
    const std::size_t index = found->second.index;
    BatchRecord& record = batch->records[index];
    if (!batch->at_worker && index >= batch->next) {
        // Not begun. It keeps its place in the order, for those behind it.
        record.settled = Status::interrupted;
        record.answered_elsewhere = true;
        answer(request, outcome_of(Status::interrupted));
        if (index == batch->next && waits_for_others(batch))
            wait_no_more(batch);
        else if (index == batch->next)
            pace_no_more(batch);
        return;
    }
    record.interrupted.store(true);
    environment_.files.cancel(files_, request);
}

// ---------------------------------------------------------------- answers out

// A request has been carried out. Others hear of what it changed; those who could rely on what was before must have let
// go of it when it is answered.
void Session::conclude(RequestId request, Outcome outcome) {
    if (!outcome.changed.empty())
        environment_.files_changed(*this, std::move(outcome.changed));
    if (outcome.touched.empty() && outcome.touched_unplaced.empty())
        return answer(request, std::move(outcome));
    if (!environment_.hold_back(*this, request, outcome))
        answer(request, std::move(outcome));
}

void Session::answer(RequestId request, Outcome outcome) {
    const auto found = pending_.find(request);
    if (found == pending_.end())
        return;
    const Pending pending = std::move(found->second);
    pending_.erase(found);
    SessionLane& to = lane(pending.lane);
    // Its wait was cut short by shut_down(): whoever asked is not to take that for a signal.
    if (outcome.status == Status::interrupted && stopping_ && !pending.cancelled)
        outcome.status = Status::shutting_down;

    ReplyPtr reply = make_reply(pending.header, std::move(outcome));
    reply->account = pending.account;
    if (pending.batch != nullptr)
        reply->note = pending.batch->records[pending.index].note;
    if (pending.facts != nullptr && !pending.facts->repeatable && !replies_.full()) {
        reply->kept = true;
        replies_.keep(request, {.reply = reply, .lane = pending.lane, .generation = pending.generation});
    }
    if (replies_.full())
        end_soon("replies are not acknowledged");
    deliver(to, pending, std::move(reply));
}

// Queues a reply, or drops it if its connection is lost: the client asks again.
void Session::deliver(SessionLane& to, const Pending& pending, ReplyPtr reply) {
    if (!to.route() || to.generation() != pending.generation) {
        accounts_.leave(pending.account);
        accounts_.leave_bulk(pending.bulk_bytes);
        environment_.flush_soon(*this);  // a stop may have waited for this request
        return;
    }
    reply->request_bulk_bytes = pending.bulk_bytes;
    to.queue(std::move(reply));
    environment_.flush_soon(*this);
}

bool Session::send(SessionLane& by, wire::Message message) {
    const std::size_t bytes = message.byte_count();
    totals_.bytes_sent += bytes;
    bytes_sent_.add(bytes);
    by.speed.note_sent(bytes, environment_.thread.clock().now());
    try {
        return environment_.thread.send(*by.route(), std::move(message));
    } catch (...) {
        status_of_exception("sending to a client");
        environment_.thread.send(*by.route(), message_lost());
        return false;
    }
}

std::vector<transport::RouteId> Session::flush() {
    std::vector<transport::RouteId> lost;
    const auto lose_route = [&](SessionLane& broken) {
        lost.push_back(*broken.route());
        lose(broken);
    };
    // What is void goes out before the reply that shows why.
    if (!flush_pushes())
        lose_route(lane(0));
    go_on_paced();
    for (SessionLane& each : lanes_) {
        // What a clogged connection does not take stays with the lane and counts towards its window.
        while (each.route() && !environment_.thread.clogged(*each.route())) {
            const bool overtakes = each.number() == 0 && pushes_.is_behind();
            auto outgoing = each.next_message(reply_room(each), overtakes ? wire::message_overtakes : 0);
            if (!outgoing)
                break;
            for (const ReplyPtr& reply : outgoing->replies)
                credit(*reply);
            if (!send(each, std::move(outgoing->message))) {
                lose_route(each);
                break;
            }
        }
        dispatch(each);
    }
    return lost;
}

// ---------------------------------------------------------------- pushes

void Session::invalidate(const std::vector<NodeId>& nodes) {
    pushes_.invalidate(nodes);
    if (pushes_.overflowed())
        end_soon("invalidations are not confirmed");
    environment_.flush_soon(*this);
}

template <class Push>
bool Session::send_push(const Push& push) {
    wire::MessageWriter writer(wire::MessageKind::push);
    writer.add({.opcode = Push::opcode}, push);
    wire::Message message = std::move(writer).finish();
    lane(0).count_sent(message.byte_count());
    return send(lane(0), std::move(message));
}

wire::PushNextKeys Session::next_keys() const {
    wire::PushNextKeys push;
    for (const transport::PublicKey& key : environment_.next_keys)
        push.keys.push_back(key.bytes);
    return push;
}

// False if the connection was found lost.
bool Session::flush_pushes() {
    SessionLane& first = lane(0);
    if (!first.route())
        return true;
    if (pushed_generation_ != first.generation()) {
        pushed_generation_ = first.generation();
        pushes_.start_again();
        if ((terms_.features & wire::feature_next_keys) != 0 && !send_push(next_keys()))
            return false;
    }
    while (const wire::PushInvalidate* push = pushes_.next()) {
        environment_.counters.at("server.invalidations").add(push->nodes.size());
        if (!send_push(*push))
            return false;
    }
    return shutdown_reason_.empty() || send_push(wire::PushShutdown{.reason = std::exchange(shutdown_reason_, {})});
}

bool Session::acknowledge_pushes(std::uint64_t sequence) {
    const auto told = pushes_.confirm(sequence);
    if (!told)
        return false;
    if (*told != 0)
        environment_.let_go(*this, *told);
    environment_.flush_soon(*this);
    return true;
}

void Session::shut_down(const std::string& reason) {
    stopping_ = true;
    shutdown_reason_ = reason;
    for (const auto& [request, pending] : pending_) {
        if (pending.facts == nullptr || !pending.facts->may_wait)
            continue;
        if (pending.batch != nullptr)
            pending.batch->records[pending.index].interrupted.store(true);
        environment_.files.cancel(files_, request);
    }
    refuse_waiting();
    refuse_paced();
    environment_.flush_soon(*this);
}

}  // namespace remofile::server
