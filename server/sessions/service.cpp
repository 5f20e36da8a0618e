// SPDX-License-Identifier: MIT
#include "server/sessions/service.hpp"

#include <sodium.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/assert.hpp"
#include "base/exception.hpp"
#include "base/log.hpp"
#include "transport/endpoint_address.hpp"
#include "wire/export_path.hpp"
#include "wire/kept_answers.hpp"

namespace remofile::server {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

// A client's name for itself, in lists and in the log.
constexpr std::size_t max_client_name_bytes = 255;
// Clients that one reply lists, so that it fits a head frame; and counters of SERVER_STATUS.
constexpr std::size_t max_listed_clients = 128;
constexpr std::size_t max_listed_counters = 512;

// Data under way that the sessions share, and what each has at least in each direction: the server takes 64 MiB and 2
// MiB a client, of which it needs about 20 MiB for itself.
constexpr std::uint64_t shared_bytes = 36U << 20;
constexpr std::uint64_t min_granted_bytes = wire::max_bulk_bytes;

// How often the room is looked at while there are exclusive leases.
constexpr Duration room_period = milliseconds(250);
// Clients make things in directories that they have made and not been granted yet, whatever leases there are.
constexpr Duration reserve_grace = std::chrono::seconds(10);
// After a start, for those who had locks to have them again. They connect anew within a second or two of the server's
// return, unless their own link is away as well.
constexpr std::chrono::seconds lock_grace{10};

// Work of the service itself, in the executor's turns.
constexpr std::uint64_t service_group = 0;

SessionId new_session_id() {
    SessionId id;
    while (!id)
        randombytes_buf(&id.value, sizeof id.value);
    return id;
}

HolderTag tag_of(SessionId session, const SessionSecret& secret, const std::optional<transport::PublicKey>& key) {
    HolderTag tag{};
    crypto_generichash_state state;
    crypto_generichash_init(&state, nullptr, 0, tag.size());
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(&session.value), sizeof session.value);
    crypto_generichash_update(&state, secret.data(), secret.size());
    if (key)
        crypto_generichash_update(&state, key->bytes.data(), key->bytes.size());
    crypto_generichash_final(&state, tag.data(), tag.size());
    return tag;
}

// A Remofile 1 client speaks pickle, behind an empty frame if its socket is a REQ. Its first byte gives it away;
// nothing more of it is looked at.
bool looks_like_pickle(const wire::Message& message) {
    const Buffer& first = message.head.empty() && !message.bulk.empty() ? message.bulk.front() : message.head;
    return !first.empty() && first.bytes().front() == std::byte{0x80};
}

std::uint32_t to_ms(Duration duration) {
    return static_cast<std::uint32_t>(duration_cast<milliseconds>(duration).count());
}

}  // namespace

Service::Service(FileService& files, Executor& executor, ServiceThread& thread, Counters& counters,
                 ServiceOptions options)
    : files_(files),
      executor_(executor),
      thread_(thread),
      counters_(counters),
      options_(std::move(options)),
      started_(thread.unix_time()),
      slow_requests_(options_.slow_request),
      environment_(make_environment()),
      tokens_(options_.token),
      turns_(options_.limits),
      held_([this](SessionId author, RequestId request, Outcome outcome) {
          answer_held(author, request, std::move(outcome));
      }) {
    REMOFILE_ASSERT(!options_.leases || options_.leases->term() <= options_.grants.timeout);
    if (files_.has_unclaimed_files())
        arm_kept_files_timer();
}

SessionEnvironment Service::make_environment() {
    SessionEnvironment environment{
        .files = files_,
        .executor = executor_,
        .thread = thread_,
        .counters = counters_,
        .completions = std::make_shared<ServiceCompletions>(thread_, counters_),
        .compression = std::make_shared<wire::CompressionMeter>(counters_, "server.compression"),
        .request_times = request_times_,
        .slow_requests = slow_requests_,
        .next_keys = options_.next_keys,
        .leases = options_.leases.get(),
        .find = {},
        .flush_soon = {},
        .files_changed = {},
        .hold_back = {},
        .left_behind = {},
        .let_go = {},
        .end_soon = {},
        .status = {},
        .exports = {},
        .issue_ticket = {}};
    environment.find = [this](SessionId id) { return find(id); };
    environment.flush_soon = [this](Session& session) {
        to_flush_.push_back(session.terms().id);
        turn_has_work();
    };
    environment.files_changed = [this](Session& session, std::vector<InodePtr> changed) {
        // A lone client knows what it did.
        if (sessions_.size() < 2)
            return;
        changes_.push_back({session.terms().id, std::move(changed)});
        turn_has_work();
    };
    environment.hold_back = [this](Session& author, RequestId request, Outcome& outcome) {
        return hold_back(author, request, outcome);
    };
    environment.left_behind = [this](Outcome outcome) { left_behind(std::move(outcome)); };
    environment.let_go = [this](const Session& session, ToldNumber number) {
        held_.confirmed(session.terms().id, number);
    };
    environment.end_soon = [this](Session& session, std::string reason) {
        to_end_.emplace_back(session.terms().id, std::move(reason));
        turn_has_work();
    };
    environment.status = [this] { return status(); };
    environment.exports = [this](const Session& session) { return exports_for(session.terms().key); };
    environment.issue_ticket = [this](const Session& session, std::uint8_t lane) {
        return issue_ticket(session, lane);
    };
    return environment;
}

Service::~Service() {
    environment_.completions->close();
    if (journal_ != nullptr)
        journal_->when_lock_holders_are_back(nullptr);
    if (timer_)
        thread_.cancel(*timer_);
    if (lease_timer_)
        thread_.cancel(*lease_timer_);
    if (room_timer_)
        thread_.cancel(*room_timer_);
    if (stop_timer_)
        thread_.cancel(*stop_timer_);
    if (kept_files_timer_)
        thread_.cancel(*kept_files_timer_);
    for (auto& [id, member] : sessions_) {
        log_closed(*member.session, "the server stops");
        if (options_.leases)
            options_.leases->leave(member.session->files().get());
        if (!member.session->has_said_goodbye())
            files_.expect_back(member.session->files());
        files_.close_session(member.session->files());
    }
}

// ---------------------------------------------------------------- messages in

void Service::on_message(const transport::RouteId& route, const PeerOf& peer, wire::Message message) {
    try {
        take(route, peer, std::move(message));
    } catch (...) {
        // How far it got is unknown: whoever sent it begins anew. Strangers have nothing to lose.
        const Status status = status_of_exception("a client's message");
        if (const auto place = routes_.find(route.bytes); place != routes_.end())
            to_end_.emplace_back(place->second.session, describe(status));
        turn_has_work();
    }
}

void Service::take(const transport::RouteId& route, const PeerOf& peer, wire::Message message) {
    counters_.at("server.messages").add();
    const auto place = routes_.find(route.bytes);
    Session* session = place == routes_.end() ? nullptr : find(place->second.session);
    // A message that cannot be read is kept until it has been looked at for the log.
    const bool pickle = looks_like_pickle(message);
    Result<wire::ParsedMessage> parsed = make_error(Status::malformed, "pickle");
    if (!pickle) {
        try {
            parsed = wire::parse_message(std::move(message), wire::MessageKind::request);
        } catch (...) {
            status_of_exception("reading a client's message");
            return on_lost(route);
        }
    }
    if (!parsed) {
        refuse_unreadable(route, peer, pickle, parsed.error(), session);
        return;
    }
    if (session != nullptr)
        session->receive(place->second.lane, std::move(*parsed));
    else
        welcome(route, peer, std::move(*parsed));
}

void Service::on_unclogged(const transport::RouteId& route) {
    const auto place = routes_.find(route.bytes);
    if (place == routes_.end())
        return;
    to_flush_.push_back(place->second.session);
    turn_has_work();
}

void Service::refuse_unreadable(const transport::RouteId& route, const PeerOf& peer, bool pickle, const Error& error,
                                Session* session) {
    counters_.at(pickle ? "server.remofile1_messages" : "server.malformed").add();
    if (log_limiter_.allow(thread_.clock().now())) {
        const std::string more = log_limiter_.last() ? "; more such messages are not logged for a while" : "";
        if (pickle)
            log::warn(
                "a Remofile 1 client at {} was ignored: this server speaks protocol 2, so install a current "
                "client there{}",
                peer().describe_address(), more);
        else
            log::warn("a message from {} was dropped: {}{}", peer().describe_address(), error.to_string(), more);
    }
    if (session != nullptr)
        session->receive_malformed(routes_.at(route.bytes).lane, error.status);
    else if (!pickle)
        answer_stranger(route, {}, error.status);
}

void Service::answer_stranger(const transport::RouteId& route, const wire::RecordHeader& request, Status status,
                              std::span<const std::byte> body) {
    if (!strangers_.may_answer(route.bytes))
        return;
    wire::MessageWriter writer(wire::MessageKind::reply);
    writer.add_encoded({.opcode = request.opcode, .id = request.id, .detail = static_cast<std::uint32_t>(status)},
                       body);
    thread_.send(route, std::move(writer).finish());
}

// A message by a connection that belongs to no session.
void Service::welcome(const transport::RouteId& route, const PeerOf& peer, wire::ParsedMessage message) {
    const wire::Record& first = message.records.front();
    if (message.records.size() == 1 && !opening_routes_.contains(route.bytes)) {
        if (first.header.opcode == wire::Opcode::hello)
            return hello(route, peer, first);
        if (first.header.opcode == wire::Opcode::attach)
            return attach(route, peer, first);
    }
    for (const wire::Record& record : message.records)
        answer_stranger(route, record.header, Status::no_session);
}

// ---------------------------------------------------------------- sessions begin

void Service::hello(const transport::RouteId& route, const PeerOf& peer, const wire::Record& record) {
    counters_.at("server.hellos").add();
    auto decoded = wire::decode_body<wire::Hello>(record.body);
    if (!decoded || record.header.flags != 0) {
        answer_stranger(route, record.header, Status::malformed);
        return;
    }
    Opening opening{.visitor = ++last_visitor_,
                    .route = route,
                    .request = record.header.id,
                    .hello = std::move(*decoded),
                    .peer = peer(),
                    .owner = {},
                    .path = {}};
    opening.owner = opening.peer.key ? opening.peer.key->to_text() : opening.peer.address;
    opening.hello.client_name.resize(std::min(opening.hello.client_name.size(), max_client_name_bytes));
    Status status = check_hello(opening.hello, opening);
    if (status == Status::ok)
        status = enter_export(opening);
    if (status != Status::ok)
        refuse(opening, status);
    else
        begin(std::move(opening));
}

// Whoever may not use the export is told that there is none.
Status Service::enter_export(Opening& opening) {
    const auto admittance = admits(opening.peer.key);
    if (!admittance)
        return Status::no_entry;
    opening.read_only =
        options_.read_only || admittance->read_only || (opening.hello.flags & wire::hello_read_only) != 0;
    opening.callers = options_.callers;
    if (admittance->identity)
        opening.callers = {.client_identity = false, .allow_root = false, .account = admittance->identity};
    opening.path = opening.hello.path;
    if (options_.export_name.empty())
        return Status::ok;
    const auto [name, below] = wire::split_export_path(opening.hello.path);
    opening.path = below.empty() ? "/" : below;
    return name == options_.export_name ? Status::ok : Status::no_entry;
}

Status Service::check_hello(const wire::Hello& hello, const Opening& opening) {
    if (hello.min_version > wire::protocol_version || hello.max_version < wire::protocol_version)
        return Status::version_mismatch;
    if (stopping_)
        return Status::shutting_down;
    std::vector<std::string> origins{opening.peer.address};
    if (opening.peer.key)
        origins.push_back(opening.owner);
    if (!tokens_.admit(hello.token, origins, thread_.clock().now())) {
        counters_.at("server.bad_tokens").add();
        return Status::bad_token;
    }
    if ((hello.flags & ~(wire::hello_exclusive | wire::hello_read_only)) != 0 || !hello.root)
        return Status::invalid;
    if (hello.compression > wire::max_compression_level && hello.compression != wire::compression_automatic)
        return Status::invalid;
    return hello.path.size() > wire::max_path_bytes ? Status::name_too_long : Status::ok;
}

void Service::begin(Opening opening) {
    opening_routes_[opening.route.bytes] = opening.visitor;
    Session* session =
        opening.hello.resume ? prove(opening.hello.resume, opening.hello.session_secret, opening.peer) : nullptr;
    if (session != nullptr)
        resume(std::move(opening), *session);
    else
        ask_turn(std::move(opening));
}

// The session lives on; only the root's attributes may have changed.
void Service::resume(Opening opening, Session& session) {
    const wire::Getattr getattr{.node = session.terms().root, .handle = {}};
    executor_.submit(
        service_group, [this, completions = environment_.completions, files = session.files(), service = &files_,
                        body = wire::encode_body(getattr), opening = std::move(opening)]() mutable {
            auto outcome = service->carry_out(files, opening.request, wire::Opcode::getattr, body, {}, Caller{}, {});
            completions->push([this, opening = std::move(opening), outcome = std::move(outcome)]() mutable {
                resumed(std::move(opening), outcome ? std::move(*outcome) : Outcome{});
            });
        });
}

void Service::resumed(Opening opening, Outcome outcome) {
    Session* session = prove(opening.hello.resume, opening.hello.session_secret, opening.peer);
    if (session == nullptr) {  // it has ended meanwhile
        ask_turn(std::move(opening));
        return;
    }
    std::optional<wire::Attributes> attributes;
    if (outcome.status == Status::ok) {
        if (auto reply = wire::decode_body<wire::AttributesReply>(outcome.body))
            attributes = reply->attributes;
    }
    log::info("session resumed: {}", session->terms().describe());
    counters_.at("server.sessions_resumed").add();
    say_hello(*session, opening, true, attributes.value_or(session->terms().root_attributes));
}

void Service::ask_turn(Opening opening) {
    if (!takes_new_sessions_) {
        refuse(opening, Status::no_entry);
        return;
    }
    const bool exclusive = (opening.hello.flags & wire::hello_exclusive) != 0;
    std::optional<TimePoint> deadline;
    if (opening.hello.wait_ms != 0)
        deadline = thread_.clock().now() + milliseconds(opening.hello.wait_ms);
    switch (turns_.ask(opening.visitor, opening.owner, exclusive, deadline)) {
        case SessionTurns::Verdict::enter:
            open(std::move(opening));
            break;
        case SessionTurns::Verdict::wait:
            waiting_.emplace(opening.visitor, std::move(opening));
            arm_timer();
            break;
        case SessionTurns::Verdict::in_use:
            refuse(opening, Status::in_use);
            break;
        case SessionTurns::Verdict::too_many:
            if (log_limiter_.allow(thread_.clock().now()))
                log::warn("a session for {} was refused: too many sessions", opening.peer.describe_address());
            refuse(opening, Status::limit_exceeded);
            break;
    }
}

void Service::refuse(const Opening& opening, Status status) {
    opening_routes_.erase(opening.route.bytes);
    std::vector<std::byte> body;
    if (status == Status::in_use)
        body = wire::encode_body(wire::InUse{clients({})});
    if (status == Status::export_needed) {
        wire::ExportNeeded needed;
        for (wire::ExportEntry& entry : exports_for(opening.peer.key))
            needed.names.push_back(std::move(entry.name));
        // To whoever may use none there are none; and a client must know what is asked of it.
        if (needed.names.empty() || (opening.hello.features & wire::feature_exports) == 0)
            status = Status::no_entry;
        else
            body = wire::encode_body(needed);
    }
    answer_stranger(opening.route, {.opcode = wire::Opcode::hello, .id = opening.request}, status, body);
    log::debug("hello from {} refused: {}", opening.peer.describe_address(), describe(status));
}

// Looks the path up, on a worker: it may block.
void Service::open(Opening opening) {
    opening.session = new_session_id();
    randombytes_buf(opening.secret.data(), opening.secret.size());
    const bool keeps_files = (opening.hello.features & offered_features(opening.peer) & wire::feature_kept_files) != 0;
    // As NFS's mountd, the server itself looks up what a client asks for; what can be done there is each caller's. A
    // key that acts as one user gets no further than that user.
    const Caller whom =
        opening.callers.account ? *SessionCallers(opening.callers).find(0, wire::SetId::as_caller) : Caller{};
    executor_.submit(service_group, [this, completions = environment_.completions, service = &files_, whom,
                                     opening = std::move(opening), keeps_files]() mutable {
        Result<FileService::OpenedSession> result = Status::io_error;
        try {
            result = service->open_session(opening.path, opening.hello.root, whom, opening.read_only);
            if (result && keeps_files)
                keep_files_for(*service, opening, result->files);
        } catch (...) {
            result = status_of_exception("opening a session");
        }
        completions->push([this, opening = std::move(opening), result = std::move(result)]() mutable {
            opened(std::move(opening), std::move(result));
        });
    });
}

// On a worker. Only the client of a session has its secret: by it the next one finds what was kept for this one.
void Service::keep_files_for(FileService& service, const Opening& opening, const std::shared_ptr<SessionFiles>& files) {
    std::optional<HolderTag> before;
    if (opening.hello.resume)
        before = tag_of(opening.hello.resume, opening.hello.session_secret, opening.peer.key);
    service.keep_for(files, tag_of(opening.session, opening.secret, opening.peer.key), before);
}

void Service::opened(Opening opening, Result<FileService::OpenedSession> result) {
    if (!result || stopping_) {
        turns_.leave(opening.visitor);
        refuse(opening, result ? Status::shutting_down : result.error().status);
        if (result)
            files_.close_session(result->files);
        next_turns();
        return;
    }
    SessionTerms terms{
        .id = opening.session,
        .secret = opening.secret,
        .owner = opening.owner,
        .key = opening.peer.key,
        .client_name = opening.hello.client_name,
        .address = opening.peer.describe_address(),
        .key_comment = opening.peer.comment,
        .path = opening.hello.path,
        .exclusive = options_.limits.always_exclusive || (opening.hello.flags & wire::hello_exclusive) != 0,
        .read_only = opening.read_only,
        .callers = opening.callers,
        .grants = next_grants(),
        .local = transport::is_local_address(opening.peer.address),
        .features = opening.hello.features & offered_features(opening.peer),
        .compression = opening.hello.compression,
        .since = thread_.unix_time(),
        .opened = thread_.clock().now(),
        .root = opening.hello.root,
        .root_attributes = result->root_attributes};
    // What is answered before it is carried out is carried out as the server.
    if ((terms.features & wire::feature_leases) == 0 || terms.callers.account)
        terms.features &= ~wire::feature_exclusive_leases;
    if ((terms.features & wire::feature_exclusive_leases) == 0)
        terms.features &= ~wire::feature_lent_inodes;
    keep_answers(terms, opening.hello);
    take_place_of_lost(terms, opening, result->files);
    terms.rate = rate_of(terms.owner);
    log::info("session opened: {} on {}{}{}{}", terms.describe(), terms.path, terms.read_only ? ", read-only" : "",
              terms.exclusive ? ", exclusive" : "",
              terms.callers.account ? fmt::format(", as uid {}", terms.callers.account->uid) : "");
    counters_.at("server.sessions_opened").add();

    const SessionId id = terms.id;
    if ((terms.features & wire::feature_leases) != 0)
        options_.leases->enter(result->files.get(), id, (terms.features & wire::feature_exclusive_leases) != 0);
    auto session = std::make_unique<Session>(environment_, std::move(terms), std::move(result->files));
    Session& entered = *session;
    sessions_.emplace(id, Member{std::move(session), opening.visitor});
    say_hello(entered, opening, false, result->root_attributes);
    arm_timer();
    if (files_.has_unclaimed_files())
        arm_kept_files_timer();
}

void Service::keep_answers_in(std::shared_ptr<AnswerJournal> journal) {
    journal_ = std::move(journal);
    files_.before_first_lock([journal = journal_] { journal->grants_locks(); });
    if (const std::size_t holders = journal_->lock_holders_awaited(); holders > 0) {
        log::info("{} sessions of before had locks: others get none for {} s, or until those have theirs again",
                  holders, lock_grace.count());
        files_.begin_lock_grace(lock_grace);
        journal_->when_lock_holders_are_back([&files = files_] { files.end_lock_grace(); });
    }
}

// The session that the client had before, if it is known: this server ended it, or one before had it.
void Service::take_place_of_lost(SessionTerms& terms, const Opening& opening,
                                 const std::shared_ptr<SessionFiles>& files) {
    auto lost_at = opening.hello.resume
                       ? ended_.locks_lost_at(opening.hello.resume, opening.hello.session_secret, opening.peer.key)
                       : std::nullopt;
    if (terms.kept_answers != nullptr)
        files_.before_first_lock_of(files, [account = terms.kept_answers] { account->takes_locks(); });
    constexpr std::uint64_t before_all = 0;
    if (!lost_at && terms.kept_answers != nullptr && terms.kept_answers->may_have_locks_again())
        lost_at = before_all;
    if (!lost_at) {
        terms.features &= ~wire::feature_reclaim_locks;
        return;
    }
    files_.take_place_of(files, *lost_at, [account = terms.kept_answers] {
        if (account != nullptr)
            account->has_locks();
    });
}

// Those of a session whose place this one takes are gone on with, if they are known.
void Service::keep_answers(SessionTerms& terms, const wire::Hello& hello) {
    terms.features &= ~wire::feature_known_answers;
    if ((terms.features & wire::feature_kept_answers) == 0)
        return;
    const AnswerJournal::Name name{.session = terms.id, .secret = terms.secret, .key = terms.key};
    if (hello.resume)
        terms.kept_answers =
            journal_->take_up({.session = hello.resume, .secret = hello.session_secret, .key = terms.key}, name);
    if (terms.kept_answers != nullptr)
        terms.features |= hello.features & wire::feature_known_answers;
    else
        terms.kept_answers = journal_->begin(name);
    if (terms.kept_answers == nullptr)
        terms.features &= ~wire::feature_kept_answers;
}

// The first clients may fill a long and fast link (8 MiB are 200 ms at 330 Mbit/s); the more there are, the less each
// later one has under way, so that the server's memory stays within its bounds.
SessionGrants Service::next_grants() const {
    const std::uint64_t granted = options_.granted_by_all ? options_.granted_by_all() : granted_bytes();
    const std::uint64_t left = granted < shared_bytes ? shared_bytes - granted : 0;
    // Half of what is left, for both directions.
    const auto share = static_cast<std::uint32_t>(std::max<std::uint64_t>(left / 4, min_granted_bytes));
    SessionGrants grants = options_.grants;
    grants.request_bytes = std::min(grants.request_bytes, share);
    grants.reply_window_bytes = std::min(grants.reply_window_bytes, share);
    return grants;
}

std::shared_ptr<ClientRate> Service::rate_of(const std::string& owner) {
    std::erase_if(rates_, [](const auto& known) { return known.second.expired(); });
    std::shared_ptr<ClientRate> rate = rates_[owner].lock();
    if (rate == nullptr)
        rates_[owner] = rate = std::make_shared<ClientRate>(options_.rates, thread_.clock().now());
    return rate;
}

void Service::say_hello(Session& session, const Opening& opening, bool resumed, const wire::Attributes& attributes) {
    opening_routes_.erase(opening.route.bytes);
    const SessionTerms& terms = session.terms();
    const wire::HelloReply reply{
        .features = terms.features,
        .session = terms.id,
        .session_secret = terms.secret,
        .boot = options_.boot,
        .resumed = resumed,
        .read_only = terms.read_only,
        .client_identity = terms.callers.client_identity,
        .server_uid = terms.callers.account ? terms.callers.account->uid : ::geteuid(),
        .server_gid = terms.callers.account ? terms.callers.account->gid : ::getegid(),
        .root = terms.root,
        .root_attributes = attributes,
        .max_requests = terms.grants.max_requests,
        .request_bytes = terms.grants.request_bytes,
        .reply_window_bytes = terms.grants.reply_window_bytes,
        .session_timeout_ms = to_ms(options_.grants.timeout),
        .ping_interval_ms = to_ms(options_.grants.ping_interval()),
        .lease_term_ms = (terms.features & wire::feature_leases) != 0 ? to_ms(options_.leases->term()) : 0,
        .others = clients(terms.id)};
    take_lane(session, 0, opening.route);
    session.queue_reply(0, {.opcode = wire::Opcode::hello, .id = opening.request}, wire::encode_body(reply));
}

void Service::attach(const transport::RouteId& route, const PeerOf& peer, const wire::Record& record) {
    const auto body = wire::decode_body<wire::Attach>(record.body);
    if (!body || record.header.flags != 0) {
        answer_stranger(route, record.header, Status::malformed);
        return;
    }
    Session* session = prove(body->session, body->session_secret, peer());
    if (session == nullptr) {
        answer_stranger(route, record.header, Status::no_session);
    } else if (body->lane == 0 || body->lane >= wire::max_lanes) {
        answer_stranger(route, record.header, Status::invalid);
    } else {
        take_lane(*session, body->lane, route);
        session->queue_reply(body->lane, {.opcode = wire::Opcode::attach, .id = record.header.id}, {});
    }
}

void Service::take_lane(Session& session, std::uint8_t lane, const transport::RouteId& route) {
    if (const auto replaced = session.attach(lane, route))
        leave_lane(*replaced);
    routes_[route.bytes] = {session.terms().id, lane};
    thread_.keep(route);
}

void Service::leave_lane(const transport::RouteId& route) {
    routes_.erase(route.bytes);
    thread_.retire(route);
}

void Service::offer_sealed_lanes(transport::LaneTickets& tickets, std::uint16_t port) {
    tickets_ = &tickets;
    sealed_port_ = port;
}

std::uint64_t Service::offered_features(const transport::Peer& peer) const {
    std::uint64_t offered =
        wire::encoding_features | wire::feature_set_id | wire::feature_reclaim_locks | wire::feature_exports;
    // Tickets hold keys: only for connections that nobody can listen to.
    if (tickets_ != nullptr && peer.key)
        offered |= wire::feature_sealed_lanes;
    if (peer.key)
        offered |= wire::feature_next_keys;
    if (journal_ != nullptr)
        offered |= wire::feature_kept_answers;
    if (files_.keeps_files())
        offered |= wire::feature_kept_files;
    if (options_.leases)
        offered |= wire::feature_leases | wire::feature_exclusive_leases | wire::feature_lent_inodes;
    return offered;
}

wire::LaneTicketReply Service::issue_ticket(const Session& session, std::uint8_t lane) {
    counters_.at("server.lane_tickets").add();
    const SessionTerms& terms = session.terms();
    const transport::LaneTicket ticket = tickets_->issue(
        terms.id, lane, {.address = terms.address, .process = 0, .key = terms.key, .comment = terms.key_comment});
    return {.port = sealed_port_,
            .ticket = ticket.id,
            .key_to_server = ticket.keys.to_server,
            .key_to_client = ticket.keys.to_client};
}

// ---------------------------------------------------------------- sessions live and end

Session* Service::find(SessionId id) {
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : found->second.session.get();
}

// The session, if the peer knows its secret and has the key it was opened with.
Session* Service::prove(SessionId id, const SessionSecret& secret, const transport::Peer& peer) {
    Session* session = find(id);
    if (session == nullptr || session->terms().key != peer.key ||
        sodium_memcmp(session->terms().secret.data(), secret.data(), secret.size()) != 0)
        return nullptr;
    return session;
}

void Service::end(SessionId id, const std::string& reason) {
    auto ended = sessions_.extract(id);
    if (ended.empty())
        return;
    const Session& session = *ended.mapped().session;
    for (const transport::RouteId& route : session.routes())
        leave_lane(route);
    log_closed(session, reason);
    counters_.at("server.sessions_closed").add();
    if (options_.leases)
        options_.leases->leave(session.files().get());
    turn_has_work();  // others may have waited for its leases
    held_.let_go(id);
    if (!session.has_said_goodbye()) {
        ended_.remember(session.terms(), files_.locks_lost_at(session.files()));
        files_.expect_back(session.files());
        arm_kept_files_timer();
    }
    executor_.submit(service_group, [files = session.files(), service = &files_] { service->close_session(files); });
    turns_.leave(ended.mapped().visitor);
    next_turns();
}

void Service::log_closed(const Session& session, const std::string& reason) const {
    const auto seconds = duration_cast<std::chrono::seconds>(thread_.clock().now() - session.terms().opened).count();
    const Session::Totals& totals = session.totals();
    log::info("session closed: {}: {}; {} s, {} requests, {} bytes received, {} bytes sent", session.terms().describe(),
              reason, seconds, totals.requests, totals.bytes_received, totals.bytes_sent);
}

void Service::next_turns() {
    for (const SessionTurns::Visitor visitor : turns_.next_turns())
        open(std::move(waiting_.extract(visitor).mapped()));
}

std::vector<wire::Client> Service::clients(SessionId except) const {
    std::vector<wire::Client> listed;
    for (const auto& [id, member] : sessions_) {
        if (id != except && listed.size() < max_listed_clients)
            listed.push_back(member.session->as_client());
    }
    std::ranges::stable_sort(listed, {}, &wire::Client::since);
    return listed;
}

wire::ServerStatusReply Service::status() const {
    wire::ServerStatusReply reply{
        .version = options_.version, .started = started_, .clients = clients({}), .counters = gauges()};
    for (const auto& [name, value] : counters_.snapshot()) {
        if (reply.counters.size() < max_listed_counters)
            reply.counters.push_back({name, value});
    }
    std::ranges::sort(reply.counters, {}, &wire::CounterValue::name);
    return reply;
}

std::vector<wire::ExportEntry> Service::exports_for(const std::optional<transport::PublicKey>& key) const {
    if (options_.exports)
        return options_.exports(key);
    std::vector<wire::ExportEntry> exports;
    if (auto entry = entry_for(key))
        exports.push_back(std::move(*entry));
    return exports;
}

std::optional<Admittance> Service::admits(const std::optional<transport::PublicKey>& key) const {
    return options_.admits ? options_.admits(key) : Admittance{};
}

std::optional<wire::ExportEntry> Service::entry_for(const std::optional<transport::PublicKey>& key) const {
    const auto admittance = admits(key);
    if (!admittance)
        return std::nullopt;
    return wire::ExportEntry{
        .name = options_.export_name, .read_only = options_.read_only || admittance->read_only, .clients = clients({})};
}

std::uint64_t Service::granted_bytes() const {
    std::uint64_t granted = 0;
    for (const auto& [id, member] : sessions_)
        granted += member.session->terms().grants.bytes();
    return granted;
}

bool Service::is_idle() const {
    return sessions_.empty() && waiting_.empty() && opening_routes_.empty() && !turn_scheduled_;
}

std::vector<wire::CounterValue> Service::gauges() const {
    std::size_t bytes = 0;
    for (const auto& [id, member] : sessions_)
        bytes += member.session->open_request_bytes();
    return {{"server.request_bytes_open", bytes},
            {"server.requests_open", open_requests()},
            {"server.sessions", sessions_.size()},
            {"server.turns_waiting", waiting_.size()}};
}

std::size_t Service::open_requests() const {
    std::size_t open = 0;
    for (const auto& [id, member] : sessions_)
        open += member.session->open_requests();
    return open;
}

// ---------------------------------------------------------------- the end of a turn

void Service::turn_has_work() {
    if (!std::exchange(turn_scheduled_, true))
        thread_.at_end_of_turn([this] { end_of_turn(); });
}

void Service::end_of_turn() {
    turn_scheduled_ = false;
    if (options_.leases && options_.leases->newly_shared()) {
        for (const auto& [id, member] : sessions_) {
            try {
                member.session->leases_shared();
            } catch (...) {
                to_end_.emplace_back(id, describe(status_of_exception("going on with what has waited")));
            }
        }
    }
    spread_changes();
    std::vector<SessionId> to_flush = std::exchange(to_flush_, {});
    if (options_.leases) {
        const std::vector<SessionId> told = options_.leases->newly_told();
        to_flush.insert(to_flush.end(), told.begin(), told.end());
        if (!told.empty())
            arm_lease_timer();
        arm_room_timer();
        if (auto unleased = options_.leases->unleased(); !unleased.empty() && files_.change_watch() != nullptr)
            executor_.submit(service_group,
                             [unleased = std::move(unleased), files = &files_] { files->stop_watching(unleased); });
    }
    std::ranges::sort(to_flush);
    const auto repeated = std::ranges::unique(to_flush);
    to_flush.erase(repeated.begin(), repeated.end());
    for (const SessionId id : to_flush) {
        Session* session = find(id);
        if (session == nullptr)
            continue;
        std::vector<transport::RouteId> lost;
        try {
            lost = session->flush();
        } catch (...) {
            to_end_.emplace_back(id, describe(status_of_exception("sending to a client")));
        }
        for (const transport::RouteId& route : lost)
            leave_lane(route);
        // One that went while it waited for its turn holds up nobody.
        if (!lost.empty() && session->totals().requests == 0)
            to_end_.emplace_back(id, "the client has gone");
    }
    for (const auto& [id, reason] : std::exchange(to_end_, {}))
        end(id, reason);
    check_stopped();
}

// Tells every other session what it may have cached and is void now.
void Service::spread_changes() {
    const std::vector<Change> changes = std::exchange(changes_, {});
    if (changes.empty())
        return;
    for (const auto& [id, member] : sessions_) {
        try {
            tell_changes(*member.session, changes);
        } catch (...) {
            // What it keeps may be out of date.
            to_end_.emplace_back(id, describe(status_of_exception("telling a client of changes")));
        }
    }
}

void Service::tell_changes(Session& session, const std::vector<Change>& changes) {
    std::vector<InodePtr> changed;
    for (const Change& change : changes) {
        if (change.by != session.terms().id)
            changed.insert(changed.end(), change.files.begin(), change.files.end());
    }
    std::ranges::sort(changed);
    const auto repeated = std::ranges::unique(changed);
    changed.erase(repeated.begin(), repeated.end());
    if (changed.empty())
        return;
    if (const std::vector<NodeId> nodes = files_.known_as(*session.files(), changed); !nodes.empty())
        session.invalidate(nodes);
}

// ---------------------------------------------------------------- leases

// Whether its leases are worth nothing any more: the client trusts them for less than a term from when it last spoke.
bool Service::is_silent(const Session& session) const {
    return session.last_heard() + options_.leases->term() <= thread_.clock().now();
}

std::vector<LeaseTable::Wait> Service::tell_holders(LeaseHolder author, Outcome& outcome) {
    const std::vector<Touched> touched = std::exchange(outcome.touched, {});
    const std::vector<InodePtr> unplaced = std::exchange(outcome.touched_unplaced, {});
    if (!options_.leases)
        return {};
    std::vector<LeaseTable::Wait> waits = options_.leases->tell(author, touched);
    if (!unplaced.empty()) {
        // Which files its nodes are, only a live session can say.
        const auto nodes_of = [&](LeaseHolder holder) { return files_.known_as(*holder, unplaced); };
        for (const LeaseTable::Wait& more : options_.leases->tell_nodes(author, nodes_of)) {
            const auto known = std::ranges::find(waits, more.holder, &LeaseTable::Wait::holder);
            if (known == waits.end())
                waits.push_back(more);
            else
                known->number = std::max(known->number, more.number);
        }
    }
    turn_has_work();
    return waits;
}

bool Service::hold_back(Session& author, RequestId request, Outcome& outcome) {
    std::vector<LeaseTable::Wait> waits = tell_holders(author.files().get(), outcome);
    std::erase_if(waits, [&](const LeaseTable::Wait& wait) {
        Session* holder = find(wait.holder);
        if (holder != nullptr && !is_silent(*holder))
            return false;
        if (holder != nullptr)
            expire_leases(*holder, "nothing was heard of it");
        return true;
    });
    if (waits.empty() || stopping_)
        return false;
    counters_.at("leases.waits").add();
    held_.hold(author.terms().id, request, std::move(outcome), waits);
    return true;
}

void Service::left_behind(Outcome outcome) {
    tell_holders(nullptr, outcome);
    if (outcome.changed.empty())
        return;
    changes_.push_back({SessionId{}, std::move(outcome.changed)});
    turn_has_work();
}

void Service::changed_outside(std::span<const Touched> touched, bool lost) {
    if (!options_.leases)
        return;
    options_.leases->tell(nullptr, touched);
    if (lost) {
        options_.leases->end_all();
        counters_.at("leases.watch_overflows").add();
        const TimePoint now = thread_.clock().now();
        if (!loss_logged_ || now - *loss_logged_ >= std::chrono::minutes(1)) {
            loss_logged_ = now;
            log::warn("programs on this machine change more than can be followed: all leases have ended");
        }
    }
    turn_has_work();
}

// Whoever has listed a directory may answer for the file without anybody here knowing that it is there.
void Service::unknown_names_changed() {
    if (!options_.leases)
        return;
    options_.leases->end_all();
    counters_.at("leases.unknown_names").add();
    turn_has_work();
}

void Service::mounts_changed() {
    if (!options_.leases)
        return;
    log::info("file systems have been mounted or unmounted in the export: all leases have ended");
    options_.leases->end_all();
    turn_has_work();
}

void Service::answer_held(SessionId author, RequestId request, Outcome outcome) {
    if (Session* session = find(author))
        session->answer_held(request, std::move(outcome));
}

void Service::expire_leases(Session& holder, std::string_view why) {
    const SessionId id = holder.terms().id;
    const LeaseTable::Expired expired = options_.leases->expire(id);
    log::info("{} has lost its {} leases: {}{}", holder.terms().describe(), expired.leases, why,
              expired.too_often ? "; it gets none for a while" : "");
    held_.let_go(id);
    turn_has_work();
}

// What a holder does not confirm within a term is worth nothing to it any more, whether it listens or not.
void Service::check_leases() {
    const TimePoint now = thread_.clock().now();
    for (const LeaseTable::Outstanding& outstanding : options_.leases->outstanding()) {
        Session* holder = find(outstanding.session);
        if (holder == nullptr)
            continue;
        if (is_silent(*holder))
            expire_leases(*holder, "nothing was heard of it");
        else if (outstanding.since + options_.leases->term() > now)
            continue;
        else if (outstanding.is_recall)
            expire_leases(*holder, "it did not share what others waited for");
        else
            expire_leases(*holder, "it did not confirm that it let go of what others had changed");
    }
    arm_lease_timer();
}

void Service::arm_lease_timer() {
    std::optional<TimePoint> soonest;
    for (const LeaseTable::Outstanding& outstanding : options_.leases->outstanding()) {
        const Session* holder = find(outstanding.session);
        if (holder == nullptr)
            continue;
        const TimePoint end = std::min(outstanding.since, holder->last_heard()) + options_.leases->term();
        soonest = soonest ? std::min(*soonest, end) : end;
    }
    if (!soonest || (lease_timer_ && lease_timer_due_ <= *soonest))
        return;
    if (lease_timer_)
        thread_.cancel(*lease_timer_);
    lease_timer_due_ = *soonest;
    lease_timer_ = thread_.after(std::max(Duration::zero(), *soonest - thread_.clock().now()), [this] {
        lease_timer_.reset();
        check_leases();
    });
}

// Holders of exclusive leases answer for what they have not sent yet: there must be room for it. They have little to
// send in so short a time.
void Service::arm_room_timer() {
    if (room_timer_ || room_is_looked_at_)
        return;
    if (options_.leases->exclusive() != 0)
        last_exclusive_ = thread_.clock().now();
    else if (!files_.keeps_reserve())
        return;
    room_timer_ = thread_.after(room_period, [this] {
        room_timer_.reset();
        check_room();
    });
}

void Service::check_room() {
    const bool may_end_reserve =
        options_.leases->exclusive() == 0 && thread_.clock().now() - last_exclusive_ >= reserve_grace;
    room_is_looked_at_ = true;
    executor_.submit(service_group, [this, completions = environment_.completions, files = &files_, may_end_reserve] {
        bool has_room = false;
        try {
            if (may_end_reserve)
                files->end_reserve();
            has_room = files->has_room();
        } catch (...) {
            status_of_exception("looking at the room that there is");
        }
        completions->push([this, has_room] {
            room_is_looked_at_ = false;
            if (!has_room)
                options_.leases->recall_all();
            turn_has_work();
        });
    });
}

// ---------------------------------------------------------------- time

// What sessions have left that ended, or were of a server before this one, is there for one to two of these times.
void Service::arm_kept_files_timer() {
    if (!kept_files_timer_)
        kept_files_timer_ = thread_.after(options_.grants.timeout, [this] {
            kept_files_timer_.reset();
            remove_unclaimed_files();
        });
}

void Service::remove_unclaimed_files() {
    executor_.submit(service_group, [this, completions = environment_.completions, files = &files_] {
        bool are_left = false;
        try {
            files->remove_unclaimed_files();
            are_left = files->has_unclaimed_files();
        } catch (...) {
            status_of_exception("removing files that were kept");
        }
        completions->push([this, are_left] {
            if (are_left)
                arm_kept_files_timer();
        });
    });
}

void Service::arm_timer() {
    std::optional<TimePoint> soonest = turns_.next_deadline();
    for (const auto& [id, member] : sessions_) {
        const TimePoint expiry = member.session->last_heard() + options_.grants.timeout;
        soonest = soonest ? std::min(*soonest, expiry) : expiry;
    }
    if (timer_)
        thread_.cancel(*timer_);
    timer_.reset();
    if (soonest)
        timer_ = thread_.after(std::max(Duration::zero(), *soonest - thread_.clock().now()), [this] {
            timer_.reset();
            check_time();
        });
}

void Service::check_time() {
    const TimePoint now = thread_.clock().now();
    std::vector<SessionId> expired;
    for (const auto& [id, member] : sessions_) {
        if (member.session->last_heard() + options_.grants.timeout <= now)
            expired.push_back(id);
    }
    for (const SessionId id : expired)
        end(id, "nothing was heard of the client");
    for (const SessionTurns::Visitor visitor : turns_.expire(now))
        refuse(waiting_.extract(visitor).mapped(), Status::in_use);
    arm_timer();
}

void Service::change(SessionTurns::Limits limits, CallerPolicy callers, bool read_only, std::string token) {
    options_.limits = limits;
    options_.callers = std::move(callers);
    options_.read_only = read_only;
    turns_.change(limits);
    tokens_.change(std::move(token));
    next_turns();
}

void Service::change_rates(RateLimits rates) {
    if (std::exchange(options_.rates, rates) == rates)
        return;
    for (const auto& [owner, known] : rates_) {
        if (const auto rate = known.lock())
            rate->change(rates, thread_.clock().now());
    }
    for (const auto& [id, member] : sessions_)
        to_flush_.push_back(id);
    turn_has_work();
}

void Service::take_new_sessions(bool take) {
    takes_new_sessions_ = take;
    while (!take && !waiting_.empty()) {
        const Opening opening = std::move(waiting_.extract(waiting_.begin()).mapped());
        turns_.leave(opening.visitor);
        refuse(opening, Status::no_entry);
    }
}

void Service::stop(Duration deadline, std::function<void(bool)> stopped) {
    stopping_ = true;
    stopped_ = std::move(stopped);
    if (options_.leases) {
        options_.leases->close();
        options_.leases->end_all();
        held_.let_all_go();
    }
    while (!waiting_.empty()) {
        const Opening opening = std::move(waiting_.extract(waiting_.begin()).mapped());
        turns_.leave(opening.visitor);
        refuse(opening, Status::shutting_down);
    }
    for (const auto& [id, member] : sessions_)
        member.session->shut_down("the server is stopping");
    stop_timer_ = thread_.after(deadline, [this] {
        stop_timer_.reset();
        if (auto report = std::exchange(stopped_, nullptr))
            report(false);
    });
    turn_has_work();
}

void Service::check_stopped() {
    if (!stopped_)
        return;
    const bool busy =
        std::ranges::any_of(sessions_, [](const auto& entry) { return entry.second.session->pending_requests() != 0; });
    if (!busy)
        std::exchange(stopped_, nullptr)(true);
}

}  // namespace remofile::server
