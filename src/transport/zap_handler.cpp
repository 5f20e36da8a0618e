// SPDX-License-Identifier: MIT
#include "transport/zap_handler.hpp"

#include <arpa/inet.h>
#include <pthread.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "transport/handshake_limit.hpp"
#include "transport/lane_tickets.hpp"
#include "transport/reactor.hpp"
#include "transport/token_bucket.hpp"
#include "transport/zmq_socket.hpp"

namespace remofile::transport {
namespace {

constexpr std::size_t max_user_id_bytes = 255;
constexpr std::size_t key_bytes = 32;

// The frames of a request, RFC 27: version, request id, domain, address, routing id, mechanism, credentials...
struct Request {
    std::string version;
    std::string id;
    std::string domain;
    std::string address;
    std::string mechanism;
    std::vector<std::string> credentials;
};

struct Answer {
    const char* status;  // 200 let in, 400 not authorised, 500 not now
    const char* text;
    std::string user_id;
};

std::string to_string(const Buffer& frame) {
    return std::string(frame.text());
}

std::optional<Request> parse(const wire::Message& message) {
    constexpr std::size_t fixed_frames = 6;  // the head among them
    if (message.bulk.size() + 1 < fixed_frames)
        return std::nullopt;
    Request request{.version = to_string(message.head),
                    .id = to_string(message.bulk[0]),
                    .domain = to_string(message.bulk[1]),
                    .address = to_string(message.bulk[2]),
                    .mechanism = to_string(message.bulk[4]),
                    .credentials = {}};
    for (std::size_t i = fixed_frames - 1; i < message.bulk.size(); ++i)
        request.credentials.push_back(to_string(message.bulk[i]));
    return request;
}

}  // namespace

struct ZapHandler::State {
    Authorizer& authorizer;
    LaneTickets* const tickets;
    Reactor reactor;
    ZmqSocket socket;  // the thread's from its start to its end
    HandshakeLimit strangers;
    LogLimit log_limit;
    std::thread thread;

    State(Context& context, Authorizer& given_authorizer, LaneTickets* given_tickets, int strangers_per_s,
          const Clock& clock)
        : authorizer(given_authorizer),
          tickets(given_tickets),
          reactor(clock),
          socket(context, ZMQ_REP),
          strangers(strangers_per_s),
          log_limit(clock.now()) {}

    void serve() {
        pthread_setname_np(pthread_self(), "zap");
        reactor.watch_socket(socket.get(), [this] { answer_requests(); });
        reactor.run();
        reactor.unwatch_socket(socket.get());
        socket.close();
    }

    void answer_requests() {
        Received received;
        for (int i = 0; i < max_messages_per_turn; ++i) {
            if (receive_message(socket.get(), false, received) != ReceiveOutcome::received)
                return;
            const auto request = parse(received.message);
            // Only libzmq itself can reach an inproc socket of this context.
            REMOFILE_ASSERT(request.has_value());
            reply(*request, judge(*request));
        }
    }

    Answer judge(const Request& request) {
        const std::string address = readable_address(request.address);
        if (request.domain == sealed_zap_domain)
            return judge_sealed(request, address);
        if (request.version != "1.0" || request.domain != zap_domain || request.mechanism != "CURVE" ||
            request.credentials.size() != 1 || request.credentials.front().size() != key_bytes)
            return refuse(address, "400", "not a CURVE client", "it does not use CURVE");
        PublicKey key;
        std::memcpy(key.bytes.data(), request.credentials.front().data(), key.bytes.size());
        if (const auto comment = authorizer.authorize(key, address))
            return {.status = "200", .text = "OK", .user_id = to_user_id(key, *comment)};
        // Whoever is known may come as often as he likes; whoever is not is told to come back later.
        if (!strangers.admit(host_of(address), reactor.clock().now()))
            return refuse(address, "500", "too many handshakes", "it connects too often with keys that are not known");
        return refuse(
            address, "400", "not authorized",
            fmt::format("its key is not authorised; to let it in, add to authorized_keys: {}", key.to_text()));
    }

    // Not counted as a handshake: there is none without a ticket, and a guess costs as little as a refusal.
    Answer judge_sealed(const Request& request, std::string_view address) {
        if (request.mechanism != "PLAIN" || request.credentials.empty() || tickets == nullptr ||
            !tickets->admit(request.credentials.front()))
            return refuse(address, "400", "not authorized", "it has no ticket for a sealed lane");
        return {.status = "200", .text = "OK", .user_id = request.credentials.front()};
    }

    Answer refuse(std::string_view address, const char* status, const char* text, std::string_view why) {
        log_limit.pass(reactor.clock().now(), [&](const std::string& note) {
            log::warn("refused a connection from {}: {}{}", address, why, note);
        });
        return {.status = status, .text = text, .user_id = {}};
    }

    void reply(const Request& request, const Answer& answer) {
        wire::Message message;
        message.head = Buffer::copy_of(std::string_view("1.0"));
        for (const std::string_view frame : std::initializer_list<std::string_view>{
                 request.id, answer.status, answer.text, answer.user_id, /* metadata */ ""})
            message.bulk.push_back(Buffer::copy_of(frame));
        // The connection may be gone by now.
        [[maybe_unused]] const SendOutcome outcome = send_message(socket.get(), std::nullopt, message);
    }
};

Result<std::unique_ptr<ZapHandler>> ZapHandler::start(Context& context, Authorizer& authorizer, LaneTickets* tickets,
                                                      int strangers_per_s, const Clock& clock) {
    std::unique_ptr<ZapHandler> handler(new ZapHandler);
    handler->state_ = std::make_unique<State>(context, authorizer, tickets, strangers_per_s, clock);
    State& state = *handler->state_;
    state.socket.set(ZMQ_LINGER, 0);
    if (zmq_bind(state.socket.get(), "inproc://zeromq.zap.01") != 0) {
        REMOFILE_ASSERT(zmq_errno() == EADDRINUSE);
        return make_error(Status::busy, "this program has an encrypted listener already");
    }
    try {
        state.thread = std::thread([&state] { state.serve(); });
    } catch (const std::system_error& failure) {
        return make_error(Status::out_of_memory, fmt::format("cannot start a thread: {}", failure.what()));
    }
    return handler;
}

ZapHandler::ZapHandler() = default;

ZapHandler::~ZapHandler() {
    if (!state_ || !state_->thread.joinable())
        return;
    state_->reactor.stop();
    state_->thread.join();
}

std::string to_user_id(const PublicKey& key, std::string_view comment) {
    return (key.to_text() + " " + std::string(comment)).substr(0, max_user_id_bytes);
}

void from_user_id(std::string_view user_id, Peer& peer) {
    const auto blank = user_id.find(' ');
    const auto key = PublicKey::from_text(user_id.substr(0, blank));
    if (!key)
        return;
    peer.key = *key;
    if (blank != std::string_view::npos)
        peer.comment = user_id.substr(blank + 1);
}

namespace {

// UID, GID and PID of an ipc socket's peer; nothing for other peers, and empty texts where libzmq does not know.
std::optional<std::array<std::string_view, 3>> ipc_credentials(std::string_view peer_address) {
    // An IPv6 address may begin with a colon too, but with two.
    const bool is_local = peer_address.empty() || peer_address.starts_with("localhost:") ||
                          (peer_address.front() == ':' && !peer_address.starts_with("::"));
    if (!is_local)
        return std::nullopt;
    std::array<std::string_view, 3> parts{};
    for (std::string_view& part : parts) {
        const auto colon = peer_address.find(':');
        if (colon == std::string_view::npos)
            break;
        peer_address.remove_prefix(colon + 1);
        part = peer_address.substr(0, peer_address.find(':'));
    }
    return parts;
}

}  // namespace

std::string readable_address(std::string_view peer_address) {
    constexpr std::string_view mapped = "::ffff:";
    if (const auto credentials = ipc_credentials(peer_address))
        return credentials->front().empty() ? "local" : fmt::format("local, uid {}", credentials->front());
    if (peer_address.starts_with(mapped) && peer_address.find('.') != std::string_view::npos)
        peer_address.remove_prefix(mapped.size());
    return std::string(peer_address);
}

pid_t process_at(std::string_view peer_address) {
    const auto credentials = ipc_credentials(peer_address);
    pid_t process = 0;
    if (credentials)
        std::from_chars(credentials->back().data(), credentials->back().data() + credentials->back().size(), process);
    return process;
}

std::string host_of(const std::string& readable_address) {
    in6_addr address{};
    if (inet_pton(AF_INET6, readable_address.substr(0, readable_address.find('%')).c_str(), &address) != 1)
        return readable_address;
    std::fill(std::begin(address.s6_addr) + 8, std::end(address.s6_addr), std::uint8_t{0});
    char prefix[INET6_ADDRSTRLEN];
    return inet_ntop(AF_INET6, &address, prefix, sizeof(prefix));
}

}  // namespace remofile::transport
