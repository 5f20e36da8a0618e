// SPDX-License-Identifier: MIT
#include "transport/listener.hpp"

#include <sodium.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <deque>
#include <unordered_map>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "transport/ipc_socket.hpp"
#include "transport/lane_tickets.hpp"
#include "transport/socket_monitor.hpp"
#include "transport/token_bucket.hpp"
#include "transport/zap_handler.hpp"
#include "transport/zmq_socket.hpp"

namespace remofile::transport {
namespace {

// ZMQ_ZAP_ENFORCE_DOMAIN: in every libzmq from 4.3.0 on, but zmq.h still keeps its name to itself.
constexpr int zap_enforce_domain = 93;

constexpr std::string_view ipc = "ipc://";
constexpr std::string_view tcp = "tcp://";

// Messages that one clogged connection may have waiting here: a session's pushes and answers to a stranger, all small.
// Bulk data waits in its session.
constexpr std::size_t max_held_messages = 256;

// Sealed connections that may be forgotten whose keys are kept all the same: those that have just come, and those whose
// session has ended and that have yet to hear so.
constexpr std::size_t max_retired_connections = 256;

// libzmq says when a queue has room again, but not of which connection, and not always in a way that wakes the reactor.
constexpr Duration retry_interval = std::chrono::milliseconds(5);

Status bind_status(int errno_value) {
    switch (errno_value) {
        case EADDRINUSE:
            return Status::busy;
        case EACCES:
        case EPERM:
            return Status::access_denied;
        default:
            return Status::invalid;
    }
}

std::optional<std::uint16_t> tcp_port_of(std::string_view endpoint) {
    std::uint16_t port = 0;
    const char* end = endpoint.data() + endpoint.size();
    if (!endpoint.starts_with(tcp) || std::from_chars(endpoint.data() + endpoint.rfind(':') + 1, end, port).ptr != end)
        return std::nullopt;
    return port;
}

const char* bind_failure(int errno_value) {
    switch (errno_value) {
        case EADDRINUSE:
            return "the address is in use (is another server running?)";
        case EACCES:
        case EPERM:
            return "not allowed (ports below 1024 are root's)";
        case EADDRNOTAVAIL:
        case ENODEV:
            return "this machine has no such address";
        default:
            return zmq_strerror(errno_value);
    }
}

}  // namespace

struct Listener::State {
    Reactor& reactor;
    const ListenerOptions options;
    // Shared with the call under way, which may destroy the listener.
    std::shared_ptr<OnMessage> on_message;
    std::shared_ptr<OnUnclogged> on_unclogged;
    std::shared_ptr<OnLost> on_lost;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);

    std::unique_ptr<ZapHandler> zap;  // answers from before the first bind until after the socket is closed
    std::vector<IpcSocket> ipc_sockets;
    ZmqSocket socket;
    std::unique_ptr<SocketMonitor> monitor;
    std::vector<std::string> endpoints;
    std::vector<std::uint16_t> tcp_ports;
    CongestionReports congestion_reports;
    LogLimit log_limit;

    // By route: what waits until libzmq takes it. Bounded by the connections that there are.
    std::unordered_map<std::string, std::deque<wire::Message>> held;

    // By route: the sealed connections. Those not retired are kept by whoever uses the listener.
    struct Sealed {
        MessageCipher cipher;
        Peer holder;
    };
    std::unordered_map<std::string, Sealed> sealed;
    std::deque<std::string> retired;  // the oldest first
    std::optional<TimerId> retry_timer;

    State(Reactor& given_reactor, ListenerOptions given_options, OnMessage given_on_message,
          OnUnclogged given_on_unclogged, OnLost given_on_lost)
        : reactor(given_reactor),
          options(std::move(given_options)),
          on_message(std::make_shared<OnMessage>(std::move(given_on_message))),
          on_unclogged(std::make_shared<OnUnclogged>(std::move(given_on_unclogged))),
          on_lost(std::make_shared<OnLost>(std::move(given_on_lost))),
          log_limit(reactor.clock().now()) {}

    ~State() {
        *alive = false;
        if (retry_timer)
            reactor.cancel(*retry_timer);
        for (auto& [route, messages] : held)
            send_all(route, messages);
        if (monitor)
            reactor.unwatch_socket(socket.get());
        monitor.reset();
    }

    Result<> open(Context& context) {
        socket = ZmqSocket(context, ZMQ_ROUTER);
        socket.set_limits({.handshake_timeout = options.handshake_timeout,
                           .heartbeat_interval = options.heartbeat_interval,
                           .heartbeat_timeout = options.heartbeat_timeout,
                           .linger = options.linger,
                           .max_received_messages = max_queued_messages_per_client,
                           .max_unsent_messages = max_unsent_messages_per_client});
        socket.set(ZMQ_ROUTER_MANDATORY, 1);  // say so instead of dropping when a connection is gone
        socket.set(ZMQ_BACKLOG, options.backlog);
        if (options.server_key)
            REMOFILE_CHECK(encrypt(context));
        else if (options.tickets != nullptr)
            REMOFILE_CHECK(ask_for_tickets());
        // Before the first connection comes.
        monitor = std::make_unique<SocketMonitor>(
            context, reactor, socket.get(),
            ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_ACCEPT_FAILED,
            [this](int event, std::uint32_t value) { on_event(event, value); });
        for (const std::string& endpoint : options.endpoints)
            REMOFILE_CHECK(bind(endpoint));
        reactor.watch_socket(socket.get(), [this] {
            const auto still_here = alive;
            send_held();
            if (*still_here)
                receive();
        });
        return {};
    }

    // Without a server key, no domain is set: libzmq then asks no ZAP handler for plain clients, whatever else this
    // context serves.
    Result<> encrypt(Context& context) {
        REMOFILE_ASSERT(options.authorizer != nullptr);
        REMOFILE_TRY(handler, ZapHandler::start(context, *options.authorizer, options.tickets, options.strangers_per_s,
                                                reactor.clock()));
        zap = std::move(handler);
        socket.set(ZMQ_CURVE_SERVER, 1);
        std::string secret = options.server_key->secret_text();
        socket.set(ZMQ_CURVE_SECRETKEY, std::string_view(secret));
        sodium_memzero(secret.data(), secret.size());
        return enforce(zap_domain);
    }

    Result<> ask_for_tickets() {
        socket.set(ZMQ_PLAIN_SERVER, 1);
        return enforce(sealed_zap_domain);
    }

    Result<> enforce(std::string_view domain) {
        socket.set(ZMQ_ZAP_DOMAIN, domain);
        const int yes = 1;
        // Without it, libzmq lets everybody in whenever the handler cannot be reached.
        if (zmq_setsockopt(socket.get(), zap_enforce_domain, &yes, sizeof(yes)) != 0)
            return make_error(Status::not_supported, "this version of libzmq cannot enforce authorisation");
        return {};
    }

    Result<> bind(const std::string& endpoint) {
        if (endpoint.starts_with(ipc)) {
            REMOFILE_TRY(file, IpcSocket::listen(endpoint.substr(ipc.size()), options.backlog));
            socket.set(ZMQ_USE_FD, file.release_fd());
            ipc_sockets.push_back(std::move(file));
        } else {
            // IPv6 where the address wants it: "*" then means both, and an IPv4 address works without IPv6.
            const std::string_view host = std::string_view(endpoint).substr(0, endpoint.rfind(':'));
            const bool ipv6 = host.find_first_of("[*") != std::string_view::npos;
            socket.set(ZMQ_IPV6, ipv6 ? 1 : 0);
        }
        const int outcome = zmq_bind(socket.get(), endpoint.c_str());
        const int failure = zmq_errno();
        socket.set(ZMQ_USE_FD, -1);
        if (outcome != 0)
            return make_error(bind_status(failure),
                              fmt::format("cannot listen on {}: {}", endpoint, bind_failure(failure)));
        endpoints.push_back(socket.get_text(ZMQ_LAST_ENDPOINT));
        if (const auto port = tcp_port_of(endpoints.back()))
            tcp_ports.push_back(*port);
        return {};
    }

    void receive() {
        const auto still_here = alive;
        const auto kept = on_message;
        Received received;
        for (int i = 0; i < max_messages_per_turn && *still_here; ++i) {
            switch (receive_message(socket.get(), true, received)) {
                case ReceiveOutcome::nothing:
                    return;
                case ReceiveOutcome::received: {
                    reactor.moved(received.message.byte_count());
                    const RouteId route{options.route_prefix + received.routing_id};
                    if (seals() && !open_sealed(route, received))
                        break;
                    (*kept)(
                        route, [&] { return peer_of(route, received); }, std::move(received.message));
                    break;
                }
                case ReceiveOutcome::lost:
                    count("listener.lost_messages");
                    log::error("there was no memory for a message from {}",
                               readable_address(received.property("Peer-Address")));
                    if (const auto kept_on_lost = on_lost; *kept_on_lost)
                        (*kept_on_lost)(RouteId{options.route_prefix + received.routing_id});
                    break;
                case ReceiveOutcome::malformed:
                    count("listener.dropped_messages");
                    log_limit.pass(reactor.clock().now(), [&](const std::string& note) {
                        log::warn("dropped a message of too many frames from {}{}",
                                  readable_address(received.property("Peer-Address")), note);
                    });
                    break;
            }
        }
    }

    bool seals() const { return !options.server_key && options.tickets != nullptr; }

    // Replaces the message by what was sealed in it. False if that cannot be had: nothing more of this connection can.
    bool open_sealed(const RouteId& route, Received& received) {
        auto known = sealed.find(route.bytes);
        if (known == sealed.end()) {
            auto claim = options.tickets->claim(received.property("User-Id"));
            if (!claim) {
                count("listener.dropped_messages");
                return false;
            }
            known = sealed
                        .emplace(route.bytes, Sealed{.cipher = MessageCipher(claim->keys, MessageCipher::End::server),
                                                     .holder = std::move(claim->holder)})
                        .first;
            retire(route);
        }
        auto opened = known->second.cipher.open(std::move(received.message));
        if (opened) {
            received.message = std::move(*opened);
            return true;
        }
        count("listener.broken_seals");
        log_limit.pass(reactor.clock().now(), [&](const std::string& note) {
            log::warn("dropped a message from {}: {}{}", readable_address(received.property("Peer-Address")),
                      opened.error().to_string(), note);
        });
        return false;
    }

    void keep(const RouteId& route) { std::erase(retired, route.bytes); }

    void retire(const RouteId& route) {
        if (!sealed.contains(route.bytes))
            return;
        retired.push_back(route.bytes);
        if (retired.size() <= max_retired_connections)
            return;
        sealed.erase(retired.front());
        retired.pop_front();
    }

    std::string_view routing_id_of(const std::string& route) const {
        return std::string_view(route).substr(route.empty() ? 0 : 1);
    }

    Peer peer_of(const RouteId& route, const Received& received) const {
        const std::string address = received.property("Peer-Address");
        Peer peer{.address = readable_address(address), .process = process_at(address), .key = {}, .comment = {}};
        // A plain client can call itself what it likes.
        if (options.server_key)
            from_user_id(received.property("User-Id"), peer);
        if (const auto known = sealed.find(route.bytes); known != sealed.end()) {
            peer.key = known->second.holder.key;
            peer.comment = known->second.holder.comment;
        }
        return peer;
    }

    void count(std::string_view what) {
        if (options.counters != nullptr)
            options.counters->at(what).add();
    }

    bool send(const RouteId& route, wire::Message message) {
        reactor.moved(message.byte_count());
        if (seals()) {
            const auto known = sealed.find(route.bytes);
            if (known == sealed.end())
                return false;
            message = known->second.cipher.seal(message);
        }
        const auto waiting = held.find(route.bytes);
        if (waiting == held.end()) {
            switch (send_message(socket.get(), routing_id_of(route.bytes), message)) {
                case SendOutcome::sent:
                    return true;
                case SendOutcome::no_such_peer:
                    count("listener.undeliverable_messages");
                    return false;
                case SendOutcome::queue_full:
                    count("listener.clogged");
                    held[route.bytes].push_back(std::move(message));
                    arm_retry();
                    return true;
            }
        }
        if (waiting->second.size() >= max_held_messages) {
            count("listener.undeliverable_messages");
            return false;
        }
        waiting->second.push_back(std::move(message));
        return true;
    }

    void arm_retry() {
        if (!retry_timer)
            retry_timer = reactor.after(retry_interval, [this] {
                retry_timer.reset();
                send_held();
            });
    }

    // Takes out what is sent, up to the first that is not.
    SendOutcome send_all(const std::string& route, std::deque<wire::Message>& messages) {
        while (!messages.empty()) {
            const SendOutcome outcome = send_message(socket.get(), routing_id_of(route), messages.front());
            if (outcome != SendOutcome::sent)
                return outcome;
            messages.pop_front();
        }
        return SendOutcome::sent;
    }

    // Sends what libzmq takes by now. Connections that nothing is held for any more, or that are gone, are unclogged.
    void send_held() {
        std::vector<RouteId> unclogged;
        for (auto entry = held.begin(); entry != held.end();) {
            auto& [route, messages] = *entry;
            if (send_all(route, messages) == SendOutcome::queue_full) {
                ++entry;
                continue;
            }
            for (std::size_t lost = messages.size(); lost > 0; --lost)
                count("listener.undeliverable_messages");
            unclogged.push_back({route});
            entry = held.erase(entry);
        }
        if (!held.empty())
            arm_retry();
        const auto still_here = alive;
        const auto kept = on_unclogged;
        for (std::size_t i = 0; i < unclogged.size() && *still_here && *kept; ++i)
            (*kept)(unclogged[i]);
    }

    // libzmq's I/O thread may have closed the descriptor by now, and another connection may have got its number: if it
    // is one of ours all the same, the choice is right for it too.
    void choose_congestion_control(int fd) {
        if (!is_connected_at(fd, tcp_ports))
            return;
        const CongestionControl::Outcome outcome = options.congestion_control.apply(fd);
        if (congestion_reports.is_new(outcome))
            options.congestion_control.report(options.name, outcome);
    }

    void on_event(int event, std::uint32_t value) {
        if (event == ZMQ_EVENT_ACCEPTED)
            return choose_congestion_control(static_cast<int>(value));
        count(event == ZMQ_EVENT_ACCEPT_FAILED ? "listener.failed_accepts" : "listener.failed_handshakes");
        log_limit.pass(reactor.clock().now(), [&](const std::string& note) {
            if (event == ZMQ_EVENT_ACCEPT_FAILED)
                log::error("cannot accept a connection: {}{}", zmq_strerror(static_cast<int>(value)), note);
            else
                log::warn("refused a connection: {}{}", handshake_failure(value), note);
        });
    }

    std::string handshake_failure(std::uint32_t code) const {
        if (code == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH && seals())
            return "the client opens no sealed lane (and this port is for nothing else)";
        if (code == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
            return options.server_key ? "the client does not encrypt (and this server does)"
                                      : "the client encrypts (and this server was told not to)";
        if (code == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
            return "the client expects another server key";
        return fmt::format("the client broke ZeroMQ's protocol (code {:#x})", code);
    }
};

Listener::Listener() = default;

Listener::~Listener() = default;

Result<std::unique_ptr<Listener>> Listener::bind(Context& context, Reactor& reactor, ListenerOptions options,
                                                 OnMessage on_message, OnUnclogged on_unclogged, OnLost on_lost) {
    std::unique_ptr<Listener> listener(new Listener);
    listener->state_ = std::make_unique<State>(reactor, std::move(options), std::move(on_message),
                                               std::move(on_unclogged), std::move(on_lost));
    REMOFILE_CHECK(listener->state_->open(context));
    return listener;
}

const std::vector<std::string>& Listener::endpoints() const {
    return state_->endpoints;
}

bool Listener::send(const RouteId& route, wire::Message message) {
    return state_->send(route, std::move(message));
}

void Listener::keep(const RouteId& route) {
    state_->keep(route);
}

void Listener::retire(const RouteId& route) {
    state_->retire(route);
}

bool Listener::clogged(const RouteId& route) const {
    return state_->held.contains(route.bytes);
}

std::string Peer::describe_address() const {
    return process == 0 ? address : fmt::format("{}, pid {}", address, process);
}

}  // namespace remofile::transport
