// SPDX-License-Identifier: MIT
#include "harness/tcp_proxy.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>
#include <stdexcept>

namespace remofile::test {

namespace {

constexpr std::size_t capture_limit = 64 << 20;
constexpr std::size_t piece_size = 64 << 10;

sockaddr_in loopback(int port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
}

UniqueFd connect_to(int port) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(port);
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        fd.reset();
    return fd;
}

// None if somebody else does.
UniqueFd listen_at(in_addr host, int port) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address = loopback(port);
    address.sin_addr = host;
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 || listen(fd.get(), 64) != 0)
        fd.reset();
    return fd;
}

void close_with_reset(UniqueFd& fd) {
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    fd.reset();
}

}  // namespace

// One connection: bytes read from one side and not yet taken by the other wait in `pending`.
struct TcpProxy::Link {
    struct Side {
        UniqueFd socket;
        std::string pending;  // to be sent to this side
        bool ended = false;   // this side has nothing more to say
    };
    int port = 0;
    Side client;
    Side server;
};

TcpProxy::TcpProxy(const std::vector<int>& ports) {
    std::random_device random;
    constexpr int attempts = 100;
    for (int i = 0; i < attempts && listeners_.empty(); ++i) {
        const in_addr host = {.s_addr = htonl(0x7f010001U + random() % 0xf00000U)};
        for (const int port : ports)
            listeners_.push_back({port, listen_at(host, port)});
        if (std::ranges::any_of(listeners_, [](const Listener& listener) { return !listener.socket; }))
            listeners_.clear();
        std::array<char, INET_ADDRSTRLEN> text;
        address_ = inet_ntop(AF_INET, &host, text.data(), text.size()) + (":" + std::to_string(ports.front()));
    }
    if (listeners_.empty())
        throw std::runtime_error("cannot listen");
    wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "tcp-proxy");
        run();
    });
}

TcpProxy::~TcpProxy() {
    stopping_ = true;
    order(State::cut);
    thread_.join();
}

void TcpProxy::order(State state) {
    state_ = state;
    const std::uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof(one));
}

std::string TcpProxy::captured() const {
    return *captured_.lock();
}

void TcpProxy::accept_connection(const UniqueFd& listener, int port, State state) {
    auto link = std::make_unique<Link>();
    link->port = port;
    link->client.socket.reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!link->client.socket)
        return;
    ++connections_;
    if (state != State::cut)
        link->server.socket = connect_to(port);
    if (!link->server.socket) {
        close_with_reset(link->client.socket);
        return;
    }
    const int on = 1;
    setsockopt(link->client.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(link->server.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    links_.push_back(std::move(link));
}

// Moves what can be moved one way without waiting. False: the link is broken.
bool TcpProxy::forward(Link& link, bool from_client) {
    Link::Side& from = from_client ? link.client : link.server;
    Link::Side& to = from_client ? link.server : link.client;
    if (to.pending.empty() && !from.ended) {
        std::array<char, piece_size> piece;
        const ssize_t size = recv(from.socket.get(), piece.data(), piece.size(), MSG_DONTWAIT);
        if (size < 0 && errno != EAGAIN)
            return false;
        if (size == 0) {
            from.ended = true;
            shutdown(to.socket.get(), SHUT_WR);
        }
        if (size > 0) {
            to.pending.assign(piece.data(), static_cast<std::size_t>(size));
            bytes_ += static_cast<std::uint64_t>(size);
            auto captured = captured_.lock();
            captured->append(to.pending, 0, capture_limit - std::min(capture_limit, captured->size()));
        }
    }
    const bool answers = !from_client && link.port == held_port_;
    const bool held = answers && let_pass_ == 0;
    if (held)
        held_bytes_ = to.pending.size();
    if (!to.pending.empty() && !held) {
        const ssize_t size = send(to.socket.get(), to.pending.data(), to.pending.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size < 0 && errno != EAGAIN)
            return false;
        if (size > 0)
            to.pending.erase(0, static_cast<std::size_t>(size));
        if (size > 0 && answers)
            --let_pass_;
    }
    return !(link.client.ended && link.server.ended);
}

void TcpProxy::run() {
    while (!stopping_) {
        const State state = state_;
        if (state == State::cut) {
            for (auto& link : links_) {
                close_with_reset(link->client.socket);
                close_with_reset(link->server.socket);
            }
            links_.clear();
        }
        std::vector<pollfd> waiting = {{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
        if (state != State::stalled) {
            for (const Listener& listener : listeners_)
                waiting.push_back({.fd = listener.socket.get(), .events = POLLIN, .revents = 0});
            const auto interest = [](const Link::Side& side, const Link::Side& other) {
                const bool readable = !side.ended && other.pending.empty();
                return static_cast<short>((readable ? POLLIN : 0) | (side.pending.empty() ? 0 : POLLOUT));
            };
            for (const auto& link : links_) {
                const short unheld = link->port == held_port_ && let_pass_ == 0 ? ~POLLOUT : ~0;
                waiting.push_back(
                    {link->client.socket.get(), static_cast<short>(interest(link->client, link->server) & unheld), 0});
                waiting.push_back({link->server.socket.get(), interest(link->server, link->client), 0});
            }
        }
        poll(waiting.data(), waiting.size(), -1);
        std::uint64_t count;
        (void)!read(wake_.get(), &count, sizeof(count));
        if (state == State::stalled || state_ != state)
            continue;
        std::erase_if(links_, [this](const auto& link) { return !forward(*link, true) || !forward(*link, false); });
        for (std::size_t i = 0; i < listeners_.size(); ++i) {
            if (waiting[1 + i].revents & POLLIN)
                accept_connection(listeners_[i].socket, listeners_[i].port, state);
        }
    }
}

}  // namespace remofile::test
