// SPDX-License-Identifier: MIT
#include "transport/lane.hpp"

#include <sodium.h>
#include <zmq.h>

#include <cstring>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "transport/connect_probe.hpp"
#include "transport/resolver.hpp"
#include "transport/socket_monitor.hpp"
#include "transport/zmq_socket.hpp"

namespace remofile::transport {
namespace {

// A server that ends the handshake cannot open what we encrypted for the key we expect – or is just stopping. Only one
// that does so again, this much later, is said to have the wrong key.
constexpr Duration second_handshake_delay = std::chrono::milliseconds(200);

// Longer than any lane waits before it closes the socket of a lost connection.
constexpr Duration never = std::chrono::hours(24);

constexpr int monitored_events = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_CLOSED |
                                 ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                                 ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                 ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

enum class Stage { idle, resolving, connecting, probing, handshaking, connected };

std::string display_name(std::string_view endpoint) {
    for (const std::string_view scheme : {"tcp://", "ipc://"}) {
        if (endpoint.starts_with(scheme))
            endpoint.remove_prefix(scheme.size());
    }
    return std::string(endpoint);
}

std::string seconds_text(Duration duration) {
    return fmt::format("{:g} s", std::chrono::duration<double>(duration).count());
}

// What the errno of a refused connection means to a person.
std::string connect_failure(int errno_value) {
    switch (errno_value) {
        case 0:
            return "the connection failed";
        case ECONNREFUSED:
            return "connection refused (no server is running there)";
        case ENOENT:
            return "there is no such socket (no server is running there)";
        default:
            return std::strerror(errno_value);
    }
}

}  // namespace

struct Lane::State {
    Context& context;
    Reactor& reactor;
    const LaneOptions options;
    const std::string name;  // of the server, in messages
    // Shared with the handler that is being called, which may destroy the lane.
    std::shared_ptr<Handlers> handlers;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);

    Stage stage = Stage::idle;
    std::uint64_t attempt = 0;  // rises with each connect() and disconnect()
    TimePoint deadline;         // of this attempt
    TimerId timer;              // of this stage
    Resolver resolver;
    std::vector<Candidate> candidates;
    std::size_t candidate = 0;
    bool handshake_was_ended = false;  // once already in this attempt
    std::unique_ptr<ConnectProbe> probe;
    ZmqSocket socket;
    std::unique_ptr<SocketMonitor> monitor;  // goes before the socket
    std::optional<MessageCipher> cipher;     // of a sealed lane
    std::optional<CongestionControl::Outcome> congestion;
    bool receiving = false;  // the socket is watched

    State(Context& given_context, Reactor& given_reactor, LaneOptions given_options, Handlers given_handlers)
        : context(given_context),
          reactor(given_reactor),
          options(std::move(given_options)),
          name(display_name(options.endpoint)),
          handlers(std::make_shared<Handlers>(std::move(given_handlers))),
          resolver(reactor, options.endpoint) {
        REMOFILE_ASSERT(options.identity.has_value() == options.server_key.has_value());
        REMOFILE_ASSERT(!(options.ticket && options.identity));
        if (options.ticket)
            cipher.emplace(options.ticket->keys, MessageCipher::End::client);
    }
    ~State() {
        *alive = false;
        close();
    }

    void start() {
        REMOFILE_ASSERT(stage == Stage::idle);
        ++attempt;
        deadline = reactor.clock().now() + options.connect_timeout;
        handshake_was_ended = false;
        enter(Stage::resolving, options.connect_timeout);
        resolver.resolve([this](Result<std::vector<Candidate>> found) {
            if (!found)
                return fail(found.error());
            candidates = std::move(*found);
            candidate = 0;
            try_candidate();
        });
    }

    void enter(Stage next, Duration patience) {
        reactor.cancel(timer);
        stage = next;
        timer = reactor.after(patience, [this] { on_time_out(); });
    }

    Duration time_left() const { return std::max(deadline - reactor.clock().now(), Duration::zero()); }

    void try_candidate() {
        close_socket();
        // An address that swallows packets must leave time for the ones after it.
        const auto shares = static_cast<int>(candidates.size() - candidate);
        open_socket();
        enter(Stage::connecting, time_left() / shares);
        const Candidate& target = candidates[candidate];
        if (zmq_connect(socket.get(), target.endpoint.c_str()) != 0)
            fail(make_error(Status::unreachable,
                            fmt::format("cannot connect to {}: {}", described_candidate(), zmq_strerror(zmq_errno()))));
    }

    void open_socket() {
        socket = ZmqSocket(context, ZMQ_DEALER);
        socket.set_limits({.handshake_timeout = options.connect_timeout,
                           .heartbeat_interval = options.heartbeat_interval,
                           .heartbeat_timeout = options.heartbeat_timeout,
                           .linger = Duration::zero(),
                           .max_received_messages = 0,
                           .max_unsent_messages = 0});
        socket.set(ZMQ_IPV6, candidates[candidate].address.ss_family == AF_INET6 ? 1 : 0);
        // libzmq never makes a new connection by itself: what was meant for the old one would be delivered over it.
        // Neither ZMQ_RECONNECT_IVL=-1 nor ZMQ_IMMEDIATE=1 will do for that: either throws away what has arrived and
        // was not taken yet when the connection ends, and those may be the server's last words.
        socket.set(ZMQ_RECONNECT_IVL, never);
        if (options.identity) {
            std::string secret = options.identity->secret_text();
            socket.set(ZMQ_CURVE_SECRETKEY, std::string_view(secret));
            sodium_memzero(secret.data(), secret.size());
            socket.set(ZMQ_CURVE_PUBLICKEY, std::string_view(options.identity->public_key().to_text()));
            socket.set(ZMQ_CURVE_SERVERKEY, std::string_view(options.server_key->to_text()));
        }
        if (options.ticket)
            socket.set(ZMQ_PLAIN_USERNAME, std::string_view(options.ticket->name()));
        monitor = std::make_unique<SocketMonitor>(context, reactor, socket.get(), monitored_events,
                                                  [this](int event, std::uint32_t value) { on_event(event, value); });
    }

    void close_socket() {
        probe.reset();
        monitor.reset();
        if (receiving)
            reactor.unwatch_socket(socket.get());
        receiving = false;
        socket.close();
    }

    void close() {
        ++attempt;
        stage = Stage::idle;
        reactor.cancel(timer);
        resolver.cancel();
        close_socket();
    }

    std::string described_candidate() const {
        const std::string numeric = display_name(candidates[candidate].endpoint);
        return numeric == name ? name : fmt::format("{} ({})", name, numeric);
    }

    void fail(Error error) {
        const auto kept = handlers;
        if (socket)
            socket.set(ZMQ_LINGER, 0);  // nobody is left to send to
        close();
        kept->on_disconnected(std::move(error));
    }

    void on_time_out() {
        switch (stage) {
            case Stage::resolving:
                return fail(make_error(Status::unreachable,
                                       fmt::format("cannot find the host of {}: no answer from the name service within "
                                                   "{}",
                                                   name, seconds_text(options.connect_timeout))));
            case Stage::connecting:
                return on_unreachable("no answer; the host may be down, or a firewall in between");
            case Stage::handshaking:
                return fail(make_error(Status::unreachable,
                                       fmt::format("{} accepted the connection and then stayed silent; it hangs, or is "
                                                   "no remofile server",
                                                   described_candidate())));
            case Stage::probing:
                return on_unreachable("no answer; the host may be down");
            case Stage::idle:
            case Stage::connected:
                break;
        }
    }

    // This candidate cannot be reached: on to the next.
    void on_unreachable(std::string_view why) {
        Error error = make_error(Status::unreachable, fmt::format("cannot reach {}: {}", described_candidate(), why));
        if (++candidate < candidates.size() && time_left() > Duration::zero())
            return try_candidate();
        fail(std::move(error));
    }

    void on_event(int event, std::uint32_t value) {
        switch (event) {
            case ZMQ_EVENT_CONNECTED:
                if (stage == Stage::connecting) {
                    choose_congestion_control(static_cast<int>(value));
                    enter(Stage::handshaking, time_left());
                }
                return;
            case ZMQ_EVENT_CLOSED:
            case ZMQ_EVENT_CONNECT_RETRIED:
                if (stage == Stage::connecting)
                    find_out_why();
                return;
            case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
                return on_handshake_succeeded();
            case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
                return on_refused(value);
            case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
                return on_protocol_failure(value);
            case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                return on_handshake_ended(static_cast<int>(value));
            case ZMQ_EVENT_DISCONNECTED:
                return on_disconnected();
            default:
                return;
        }
    }

    // libzmq's I/O thread may have closed the descriptor by now. That it does so, and that another thread is given its
    // number for a connection to another place, between the question and the choice, takes two events in a microsecond;
    // that connection would then send as we would. A duplicate would be a safer thing to ask, but closing one would
    // take away the program's locks on a file, were it that of one.
    void choose_congestion_control(int fd) {
        congestion.reset();
        if (is_connected_to(fd, candidates[candidate].address))
            congestion = options.congestion_control.apply(fd);
    }

    void find_out_why() {
        close_socket();
        enter(Stage::probing, time_left());
        probe = std::make_unique<ConnectProbe>(reactor, candidates[candidate], [this](int failure) {
            probe.reset();
            on_unreachable(connect_failure(failure));
        });
    }

    void on_handshake_succeeded() {
        reactor.cancel(timer);
        stage = Stage::connected;
        socket.set(ZMQ_LINGER, options.linger);
        receiving = true;
        reactor.watch_socket(socket.get(), [this] { receive(max_messages_per_turn); });
        const auto kept = handlers;
        kept->on_connected();
    }

    // The ZAP status of an answer that says no.
    void on_refused(std::uint32_t zap_status) {
        if (zap_status == 400 && options.ticket)
            return fail(make_error(Status::not_authorized, fmt::format("{} does not take the ticket", name)));
        if (zap_status == 400)
            return fail(
                make_error(Status::not_authorized,
                           fmt::format("{} does not let this key in: add the line \"{}\" to the server's "
                                       "authorized_keys",
                                       name, options.identity ? options.identity->public_key().to_text() : "")));
        fail(make_error(Status::unreachable,
                        fmt::format("{} takes no more connections for the moment (status {})", name, zap_status)));
    }

    void on_protocol_failure(std::uint32_t code) {
        if (code == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) {
            if (options.identity)
                return fail(
                    make_error(Status::wrong_server_key,
                               fmt::format("{} does not encrypt, so it cannot prove who it is (was it started with "
                                           "--insecure, or is it a server's second port, for data alone?)",
                                           name)));
            return fail(make_error(Status::not_authorized,
                                   fmt::format("{} demands encryption; connect without the option insecure", name)));
        }
        fail(make_error(Status::wrong_server_key,
                        fmt::format("{} does not prove who it is: the handshake went wrong (code {:#x})", name, code)));
    }

    // libzmq gives an errno: EPIPE if the server closed the connection, ECONNRESET if it was cut, EAGAIN if time ran
    // out.
    void on_handshake_ended(int errno_value) {
        if (errno_value == EAGAIN)
            return on_time_out();
        if (errno_value != EPIPE)
            return fail(make_error(Status::unreachable, fmt::format("{} cut the connection during the handshake: {}",
                                                                    name, std::strerror(errno_value))));
        if (handshake_was_ended || time_left() <= second_handshake_delay) {
            if (!options.identity)
                return fail(make_error(
                    Status::not_authorized,
                    fmt::format(
                        "{} ends each handshake: it demands encryption (connect without the option insecure) or "
                        "is no remofile server",
                        name)));
            return fail(make_error(Status::wrong_server_key,
                                   fmt::format("{} does not hold the key {} that is expected of it (or "
                                               "is the server's second port, for data alone)",
                                               name, options.server_key->to_text())));
        }
        handshake_was_ended = true;
        close_socket();
        reactor.cancel(timer);
        stage = Stage::connecting;
        timer = reactor.after(second_handshake_delay, [this] { try_candidate(); });
    }

    void on_disconnected() {
        // Whoever does not prove its key has the wrong one, even if it is a web server.
        if (stage == Stage::handshaking)
            return fail(make_error(
                options.identity ? Status::wrong_server_key : Status::unreachable,
                fmt::format("{} is no remofile server: it does not speak ZeroMQ's protocol", described_candidate())));
        if (stage != Stage::connected)
            return;
        // What arrived before the end is still to be had.
        const auto still_here = alive;
        const std::uint64_t this_attempt = attempt;
        receive(INT_MAX);
        if (*still_here && attempt == this_attempt)
            fail(make_error(Status::unreachable, fmt::format("the connection to {} was lost", name)));
    }

    void receive(int max_messages) {
        const auto still_here = alive;
        const auto kept = handlers;
        const std::uint64_t this_attempt = attempt;
        Received received;
        for (int i = 0; i < max_messages && *still_here && attempt == this_attempt; ++i) {
            switch (receive_message(socket.get(), false, received)) {
                case ReceiveOutcome::nothing:
                    return;
                case ReceiveOutcome::lost:
                    return fail(
                        make_error(Status::unreachable, fmt::format("there is no memory for a message from {}", name)));
                case ReceiveOutcome::received:
                    reactor.moved(received.message.byte_count());
                    if (cipher) {
                        auto opened = cipher->open(std::move(received.message));
                        if (!opened)
                            return fail(opened.error());
                        received.message = std::move(*opened);
                    }
                    kept->on_message(std::move(received.message));
                    break;
                case ReceiveOutcome::malformed:
                    return fail(
                        make_error(Status::malformed,
                                   fmt::format("{} sent a message of more frames than the protocol allows", name)));
            }
        }
    }
};

Lane::Lane(Context& context, Reactor& reactor, LaneOptions options, Handlers handlers)
    : state_(std::make_unique<State>(context, reactor, std::move(options), std::move(handlers))) {}

Lane::~Lane() = default;

void Lane::connect() {
    state_->start();
}

void Lane::disconnect() {
    state_->close();
}

bool Lane::connected() const {
    return state_->stage == Stage::connected;
}

const std::optional<CongestionControl::Outcome>& Lane::congestion() const {
    return state_->congestion;
}

void Lane::send(wire::Message message) {
    REMOFILE_ASSERT(connected());
    state_->reactor.moved(message.byte_count());
    // A message that no longer gets out is as lost as one lost on the way: on_disconnected follows.
    if (state_->cipher)
        message = state_->cipher->seal(message);
    [[maybe_unused]] const SendOutcome outcome = send_message(state_->socket.get(), std::nullopt, message);
}

}  // namespace remofile::transport
