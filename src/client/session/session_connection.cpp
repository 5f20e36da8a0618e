// SPDX-License-Identifier: MIT
// How connections are made, greeted, lost and made again, and how one session follows another. See session_state.hpp.
#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "client/client_list.hpp"
#include "client/session/session_state.hpp"
#include "wire/compression.hpp"

namespace remofile::client {
namespace {

// The server is there, and will say the same again: there is no use in asking often.
bool is_refusal(Status status) {
    return status != Status::unreachable && status != Status::timed_out && status != Status::shutting_down &&
           status != Status::malformed;
}

std::string seconds_text(Duration duration) {
    return fmt::format("{:.1f} s", std::chrono::duration<double>(duration).count());
}

std::uint64_t asked_features(const SessionOptions& options) {
    std::uint64_t features = wire::encoding_features | wire::feature_set_id | wire::feature_reclaim_locks |
                             wire::feature_kept_answers | wire::feature_known_answers | wire::feature_exports |
                             wire::feature_kept_files;
    if (options.compression == wire::compression_off)
        features &= ~wire::feature_lz4;
    if (options.lane.server_key && options.on_server_keys)
        features |= wire::feature_next_keys;
    // The keys of a sealed lane come over an encrypted one.
    if (options.lane.identity && options.lane.endpoint.starts_with("tcp://") && transport::has_fast_cipher())
        features |= wire::feature_sealed_lanes;
    if (options.leases)
        features |= wire::feature_leases;
    // What was made before the server knows of it goes by the metadata lane, contents too.
    if (options.leases && options.bandwidth_limit == 0)
        features |= wire::feature_exclusive_leases | wire::feature_lent_inodes;
    return features;
}

// Of a connection to the server's second port, with a ticket from its first.
transport::LaneOptions sealed_lane_options(transport::LaneOptions options, const wire::LaneTicketReply& ticket) {
    options.endpoint = options.endpoint.substr(0, options.endpoint.rfind(':') + 1) + std::to_string(ticket.port);
    options.identity.reset();
    options.server_key.reset();
    options.connect_timeout = std::min(options.connect_timeout, sealed_connect_timeout);
    options.ticket.emplace();
    options.ticket->id = ticket.ticket;
    options.ticket->keys.to_server = ticket.key_to_server;
    options.ticket->keys.to_client = ticket.key_to_client;
    return options;
}

// Of the answer export_needed, for people.
std::string named_exports(std::span<const std::byte> body) {
    const auto needed = wire::decode_body<wire::ExportNeeded>(body);
    std::string text;
    for (std::size_t i = 0; needed && i < std::min(needed->names.size(), wire::max_exports); ++i)
        text += (i == 0 ? "; it has " : ", ") + log::printable(needed->names[i].substr(0, wire::max_export_name_bytes));
    return text;
}

bool is_acceptable(const wire::HelloReply& reply) {
    return reply.version == wire::protocol_version && reply.session && reply.root == root_node &&
           are_valid(reply.root_attributes);
}

}  // namespace

Error hello_error(Status status, const SessionOptions& options, const std::string& path) {
    switch (status) {
        case Status::no_entry:
            return make_error(status, fmt::format("the server has no directory {}", path));
        case Status::not_directory:
            return make_error(status, fmt::format("{} on the server is no directory", path));
        case Status::access_denied:
            return make_error(status, fmt::format("the server may not read {}", path));
        case Status::stale:
            return make_error(status, "the directory that the server serves has been removed");
        case Status::symlink_loop:
            return make_error(status,
                              fmt::format("{} on the server is, or leads through, a symlink, which a server does not "
                                          "follow; name the directory itself",
                                          path));
        case Status::bad_token:
            return make_error(status, options.token.empty()
                                          ? "the server asks for a token"
                                          : "the server does not accept the token (after several wrong ones it "
                                            "refuses all for a minute)");
        case Status::version_mismatch:
            return make_error(status, fmt::format("the server does not speak protocol version {}; one of the two "
                                                  "programs is too old",
                                                  wire::protocol_version));
        case Status::export_needed:
            return make_error(status, "the server has several exports: name one of them, as in HOST:/NAME");
        case Status::limit_exceeded:
            return make_error(status, "the server has as many clients as it takes");
        default:
            return make_error(status, fmt::format("the server refuses the session: {}", describe(status)));
    }
}

void Session::State::begin() {
    admission.begin(options.wait, options.first_connect_timeout, [this] {
        if (admission.waits()) {
            const std::string who = client::describe(std::span<const wire::Client>(admission.holders()));
            return finish_opening(
                make_error(Status::in_use, fmt::format("the server is in use by {}, and answers no more", who)));
        }
        const bool answers = connections[metadata_lane].is_connected();
        const std::string patience = seconds_text(options.first_connect_timeout);
        finish_opening(answers ? make_error(Status::timed_out,
                                            fmt::format("{} does not answer (waited {}); it hangs, or is no remofile "
                                                        "server",
                                                        options.lane.endpoint, patience))
                               : make_error(Status::unreachable,
                                            fmt::format("cannot reach {} within {}", options.lane.endpoint, patience)));
    });
    for (std::size_t lane = 0; lane < lane_count; ++lane)
        renew_lane(lane);
    connect(metadata_lane);
}

std::unique_ptr<transport::Lane> Session::State::make_lane(std::size_t lane, transport::LaneOptions lane_options) {
    return std::make_unique<transport::Lane>(
        context, reactor, std::move(lane_options),
        transport::Lane::Handlers{
            .on_connected = [this, lane] { guard(lane, [&] { on_connected(lane); }); },
            .on_message = [this,
                           lane](wire::Message message) { guard(lane, [&] { on_message(lane, std::move(message)); }); },
            .on_disconnected = [this, lane](const Error& error) { on_disconnected(lane, error); }});
}

// The key that the server is thought to have now; none without encryption.
std::optional<transport::PublicKey> Session::State::expected_key() const {
    return options.lane.server_key ? std::optional(server_keys.current()) : std::nullopt;
}

void Session::State::renew_lane(std::size_t lane) {
    transport::LaneOptions with_key = options.lane;
    with_key.server_key = lane_keys[lane] = expected_key();
    connections[lane].replace_lane(make_lane(lane, std::move(with_key)));
}

// Never called from a handler of the lane: a sealed one, and one for another key, is replaced by another.
void Session::State::connect(std::size_t lane) {
    Connection& connection = connections[lane];
    connection.begin_attempt();
    if (lane == data_lane && data.may_seal(terms.features())) {
        spawn(connect_sealed(), [this, self = shared_from_this()](Status status) {
            if (!closed && connections[data_lane].is(Connection::Stage::connecting))
                on_disconnected(data_lane, make_error(status));
        });
        return;
    }
    const bool was_sealed = lane == data_lane && data.unseal();
    if (was_sealed || lane_keys[lane] != expected_key())
        renew_lane(lane);
    connection.connect();
}

// A ticket and its keys are good for one connection.
Task<void> Session::State::connect_sealed() {
    const auto self = shared_from_this();
    const std::uint64_t attempt = data.begin_sealing();
    Call call(self);
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(wire::LaneTicket{.lane = static_cast<std::uint8_t>(data_lane)}));
    start(call, std::move(requests), {}, nullptr);
    co_await call.finished;
    if (closed || !data.is_latest_attempt(attempt) || !connections[data_lane].is(Connection::Stage::connecting))
        co_return;
    const auto ticket = decoded<wire::LaneTicket>(call.replies.front());
    if (ticket) {
        data.seal();
        connections[data_lane].replace_lane(make_lane(data_lane, sealed_lane_options(options.lane, *ticket)));
        connections[data_lane].connect();
    } else if (ticket.error().status == Status::no_session) {  // another session follows, which may well have one
        connections[data_lane].go_down();
        retry_later(data_lane, ticket.error());
    } else {
        on_disconnected(data_lane, make_error(ticket.error().status, "the server gives no ticket for a second port"));
    }
}

void Session::State::on_connected(std::size_t lane) {
    connections[lane].connected();
    connections[lane].report_congestion(
        options.lane.congestion_control,
        fmt::format("{}, {}", options.lane.endpoint, lane == data_lane ? "data" : "everything but data"));
    if (lane == metadata_lane) {
        server_keys.proved();
        send_hello();
    } else {
        send_attach();
    }
}

void Session::State::send_hello() {
    wire::Hello hello;
    hello.features = asked_features(options);
    hello.compression = options.compression;
    hello.flags = (options.exclusive ? wire::hello_exclusive : 0) | (options.read_only ? wire::hello_read_only : 0);
    hello.wait_ms = admission.hello_wait_ms();
    if (terms.may_be_told()) {
        hello.resume = terms.hello().session;
        hello.session_secret = terms.hello().session_secret;
    }
    hello.root = root_node;
    hello.path = path();
    hello.client_name = options.client_name;
    hello.token = options.token;
    send_greeting(metadata_lane, wire::Opcode::hello, wire::encode_body(hello));
}

// Nothing to do while the session itself is being made: become_ready() of the metadata lane calls again.
void Session::State::send_attach() {
    if (terms.epoch() == 0 || !connections[metadata_lane].is_ready())
        return;
    const wire::Attach attach{.session = terms.hello().session,
                              .session_secret = terms.hello().session_secret,
                              .lane = static_cast<std::uint8_t>(data_lane)};
    send_greeting(data_lane, wire::Opcode::attach, wire::encode_body(attach));
}

void Session::State::send_greeting(std::size_t lane, wire::Opcode opcode, std::vector<std::byte> body) {
    connections[lane].begin_greeting();
    wire::MessageWriter writer(wire::MessageKind::request);
    writer.add_encoded({.opcode = opcode, .id = sent.enter_greeting(lane)}, body);
    send_message(lane, std::move(writer).finish(sent.answered_below(), 0));
}

void Session::State::on_greeting_reply(std::size_t lane, const wire::Record& record) {
    const wire::Opcode expected = lane == metadata_lane ? wire::Opcode::hello : wire::Opcode::attach;
    sent.end_greeting(lane);
    if (record.header.opcode != expected)
        return drop_connection(lane, make_error(Status::malformed, "the server answered something else than asked"));
    const auto status = is_known(record.header.detail) ? static_cast<Status>(record.header.detail) : Status::io_error;
    if (lane == data_lane)
        return on_attach_reply(status);
    if (status == Status::ok)
        return on_hello_accepted(record.body);
    on_hello_refused(status, record.body);
}

void Session::State::on_hello_refused(Status status, std::span<const std::byte> body) {
    Error error = hello_error(status, options, path());
    if (status == Status::export_needed) {
        if (!in_export && !options.export_path.empty()) {
            in_export = true;
            return send_hello();
        }
        error.message += named_exports(body);
    }
    if (status == Status::in_use) {
        auto list = wire::decode_body<wire::InUse>(body);
        const bool waits = admission.refused_as_in_use(list ? std::move(list->holders) : admission.holders());
        const std::string who = client::describe(std::span<const wire::Client>(admission.holders()));
        error.message = fmt::format("the server is in use by {}", who);
        if (waits) {
            if (admission.announce_wait())
                log::info("the server is in use by {}; waiting for it", who);
            return send_hello();
        }
    }
    if (admission.opening())
        return finish_opening(error);
    drop_connection(metadata_lane, error);
}

void Session::State::on_hello_accepted(std::span<const std::byte> body) {
    auto reply = wire::decode_body<wire::HelloReply>(body);
    if (!reply || !is_acceptable(*reply)) {
        count("client.rejected_replies");
        const Error error = make_error(Status::malformed, "the server's answer to HELLO is rejected");
        return admission.opening() ? finish_opening(error) : drop_connection(metadata_lane, error);
    }
    const SessionTerms::Adopted adopted = terms.adopt(std::move(*reply), asked_features(options));
    if (adopted == SessionTerms::Adopted::half)
        return drop_connection(metadata_lane, make_error(Status::unreachable, "it has half of the session"));
    data.greeted();
    const auto self = shared_from_this();
    if (adopted == SessionTerms::Adopted::likewise && may_restore())
        return begin_restoring();
    const bool resumed = adopted == SessionTerms::Adopted::resumed;
    if (!resumed)
        start_epoch();
    if (closed || !connections[metadata_lane].is(Connection::Stage::greeting))
        return;
    become_ready(metadata_lane);
    if (closed)
        return;
    begin_second_connection();
    if (admission.opening())
        return finish_opening({});
    if (resumed && owner != nullptr && owner->on_reconnected) {
        const auto handler = owner->on_reconnected;
        handler();
    }
}

void Session::State::begin_second_connection() {
    Connection& second = connections[data_lane];
    if (second.is(Connection::Stage::connected)) {
        send_attach();
    } else if (second.is(Connection::Stage::down) && !data.is_merged()) {
        second.reset_pause();
        connect(data_lane);
    }
}

void Session::State::on_attach_reply(Status status) {
    if (status == Status::ok)
        return become_ready(data_lane);
    if (status == Status::no_session)
        return restart_session();
    connections[data_lane].disconnect();
    connections[data_lane].go_down();
    merge_lanes(describe(status));
}

void Session::State::become_ready(std::size_t lane) {
    if (lane == metadata_lane) {
        become_usable();
    } else {
        connections[lane].become_ready();
        if (data.is_sealed())
            count("client.sealed_lanes");
        if (data.part())
            log::info("{}: data has a connection of its own again", options.lane.endpoint);
    }
    resend(lane);
    flushes->soon();
    if (lane == data_lane)
        data.wake(Status::ok);
}

void Session::State::become_usable() {
    connections[metadata_lane].become_ready();
    quickest_answer.reset();
    admission.let_in();
    if (const auto away = contact.back(reactor.clock().now()))
        log::info("{}: back after {}", options.lane.endpoint, seconds_text(*away));
    schedule_tick();
}

// Everything that was asked of the old session is lost with it.
void Session::State::start_epoch() {
    terms.begin_epoch();
    std::vector<std::unique_ptr<Batch>> lost = sent.take_all();
    for (std::deque<RequestId>& again : restoration.again)
        again.clear();
    if (terms.epoch() > 1) {
        for (Connection& connection : connections)
            std::ranges::move(connection.queue.take_all(), std::back_inserter(lost));
    }
    accounts.clear();
    contact.begin_epoch();
    bandwidth.begin(reactor.clock().now());
    pushes.clear();
    identities->begin_epoch();
    lock_owners.clear();
    data.begin_epoch();
    if (terms.epoch() == 1)
        return;

    log::warn("the session with the server was lost (it was restarted, or unreachable for too long); a new one begins");
    drop_data_connection();
    const auto self = shared_from_this();
    if (owner != nullptr && owner->on_new_epoch) {
        const auto handler = owner->on_new_epoch;
        handler();
    }
    for (const auto& batch : lost) {
        if (batch->call != nullptr)
            end_call(*batch->call, Status::no_session);
    }
}

void Session::State::finish_opening(Result<> result) {
    if (!admission.decide())
        return;
    const auto self = shared_from_this();
    if (!result)
        close(result.error().status);
    admission.tell(std::move(result));
}

// At once, and each key once, before the server counts as another one.
bool Session::State::try_other_key(std::size_t lane, Status status) {
    if (lane != metadata_lane || status != Status::wrong_server_key || !server_keys.try_next())
        return false;
    connections[lane].try_after(Duration::zero(), [this, lane] { connect(lane); });
    return true;
}

// The lane knows only of the key that it was given.
Error Session::State::describe_failure(const Error& error) const {
    if (error.status != Status::wrong_server_key || server_keys.all().size() < 2)
        return error;
    std::string keys;
    for (const transport::PublicKey& key : server_keys.all())
        keys += (keys.empty() ? "" : ", ") + key.to_text();
    return make_error(error.status, fmt::format("{}; the keys that are known of it: {}", error.message, keys));
}

void Session::State::on_disconnected(std::size_t lane, const Error& cause) {
    const auto self = shared_from_this();
    Connection& connection = connections[lane];
    const bool was_ready = connection.is_ready();
    connection.go_down();
    sent.end_greeting(lane);
    if (lane == metadata_lane && restoration.is_under_way())
        give_up_restoring();
    if (try_other_key(lane, cause.status))
        return;
    const Error error = describe_failure(cause);
    if (admission.opening() && lane == metadata_lane)
        return finish_opening(error);

    if (was_ready) {
        count("client.lost_connections");
    } else if (lane == data_lane && data.may_seal(terms.features())) {
        data.sealing_failed();
        connection.reset_pause();
        if (connections[metadata_lane].is_ready())
            log::info("no sealed connection for data ({}); it is encrypted by CURVE, which is slower",
                      error.to_string());
    } else {
        connection.note_failure();
    }
    if (lane == metadata_lane) {
        if (contact.lost(reactor.clock().now()))
            log::warn("{}: unreachable ({}); trying again until it is back", options.lane.endpoint, error.to_string());
        suspect(reactor.clock().now());
    }
    retry_later(lane, error);

    // Those who have asked to be let go need not wait for the network.
    std::vector<Batch*> given_up = sent.of_lane(lane);
    std::erase_if(given_up, [](const Batch* batch) { return batch->call == nullptr || !batch->call->cancelling; });
    for (Batch* batch : given_up) {
        if (closed)
            return;
        if (batch->call != nullptr)
            end_call(*batch->call, Status::interrupted);
    }
}

void Session::State::drop_connection(std::size_t lane, const Error& error) {
    connections[lane].disconnect();
    on_disconnected(lane, error);
}

void Session::State::retry_later(std::size_t lane, const Error& error) {
    Connection& connection = connections[lane];
    if (lane == data_lane && data.is_merged())
        return retry_merged(error.to_string());
    if (lane == data_lane && connections[metadata_lane].is_ready() && connection.failures() >= max_data_lane_failures)
        return merge_lanes(error.to_string());
    Duration pause = connection.next_pause();
    if (is_refusal(error.status))
        pause = refused_retry_delay;
    connection.try_after(pause, [this, lane] {
        count("client.reconnects");
        connect(lane);
    });
}

// What was sent on the data lane and not answered is sent again on the other, where the server knows it by its number.
void Session::State::merge_lanes(std::string_view why) {
    if (data.is_merged())
        return retry_merged(why);
    log::warn("the server does not take a second connection ({}); all requests go by one for now", why);
    Connection& metadata = connections[metadata_lane];
    data.merge();
    for (auto& batch : connections[data_lane].queue.take_all())
        metadata.queue.push(std::move(batch));
    const bool must_resend = sent.move_lane(data_lane, metadata_lane);
    restoration.move_lane(data_lane, metadata_lane);
    accounts.move_lane(data_lane, metadata_lane);
    retry_merged(why);
    if (must_resend && metadata.is_ready())
        drop_connection(metadata_lane, make_error(Status::unreachable, "requests change to the one connection"));
    else
        flushes->soon();
    data.wake(Status::ok);
}

// Precondition: the data lane is down.
void Session::State::retry_merged(std::string_view why) {
    log::debug("still no second connection ({})", why);
    Connection& second = connections[data_lane];
    second.forget_failures();
    second.reset_pause();
    second.try_after(merged_retry_delay, [this] {
        count("client.reconnects");
        connect(data_lane);
    });
}

// Requests of one kind reach the server in their order. So those of the data lane wait, when they may leave the
// metadata lane, for all that still goes by it.
bool Session::State::may_use_own_lane() {
    if (!data.is_merged() && !data.is_parting())
        return true;
    if (data.is_merged() || connections[metadata_lane].queue.has(LaneKind::data) ||
        sent.has(metadata_lane, LaneKind::data))
        return false;
    data.parted();
    return true;
}

// The server does not know our session although the connection stands: HELLO finds out what is left of it.
void Session::State::restart_session() {
    const auto self = shared_from_this();
    for (std::size_t lane = 0; lane < lane_count && !closed; ++lane) {
        if (connections[lane].has_greeted())
            drop_connection(lane, make_error(Status::unreachable, "the server does not know the session any more"));
    }
}

void Session::State::schedule_tick() {
    reactor.cancel(tick_timer);
    // A third of it, so that a tick that comes late is still in time.
    tick_timer = reactor.after(terms.ping_interval() / 3, [this] { tick(); });
}

void Session::State::tick() {
    schedule_tick();
    const Connection& connection = connections[metadata_lane];
    if (!connection.is_ready() || !contact.may_ping())
        return;
    if (reactor.clock().now() - connection.traffic.last_sent() < terms.ping_interval() / 2)
        return;
    ping();
}

void Session::State::ping() {
    contact.pinged();
    connections[metadata_lane].queue.push_ping(make_told({.opcode = wire::Opcode::ping}, LaneKind::metadata));
    flushes->soon();
}

}  // namespace remofile::client
