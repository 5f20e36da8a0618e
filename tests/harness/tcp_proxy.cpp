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
#include <cerrno>
#include <deque>
#include <random>
#include <stdexcept>

namespace remofile::test {

namespace {

constexpr std::size_t capture_limit = 64 << 20;
constexpr std::size_t piece_size = 64 << 10;
// What may be under way in one direction of a connection: more than is sent in a delay at a gigabit a second. Without a
// delay nothing is: one piece is passed on before the next is read, so that who is not read from cannot send.
constexpr std::size_t under_way_limit = 16 << 20;

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

void poll_until(std::vector<pollfd>& waiting, std::chrono::steady_clock::time_point end) {
    timespec rest = {};
    if (end != std::chrono::steady_clock::time_point::max()) {
        const auto left = std::max(end - std::chrono::steady_clock::now(), std::chrono::steady_clock::duration{0});
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
        rest = {.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds(left - seconds).count()};
    }
    ppoll(waiting.data(), waiting.size(), end == std::chrono::steady_clock::time_point::max() ? nullptr : &rest,
          nullptr);
}

}  // namespace

// What one side has said and the other has not yet been told. Without bytes: that it has nothing more to say, or is
// gone.
struct TcpProxy::Piece {
    Clock::time_point due;
    std::string bytes;
    bool reset = false;
};

struct TcpProxy::Side {
    UniqueFd socket;
    std::deque<Piece> coming;  // to this side, in the order in which it was said
    std::size_t coming_bytes = 0;
    bool ended = false;     // this side has nothing more to say
    bool told_end = false;  // it knows that the other has nothing more to say
};

struct TcpProxy::Link {
    int port = 0;
    Side client;
    Side server;
};

TcpProxy::TcpProxy(const std::vector<int>& ports, Milliseconds delay) : delay_(delay) {
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

bool TcpProxy::takes_more(const Side& from, const Side& to) const {
    return !from.ended && (delay_.count() > 0 ? to.coming_bytes < under_way_limit : to.coming.empty());
}

bool TcpProxy::is_held(const Link& link, const Side& to) const {
    return &to == &link.client && link.port == held_port_ && let_pass_ == 0;
}

void TcpProxy::receive(Side& from, Side& to, Clock::time_point now) {
    std::array<char, piece_size> buffer;
    const ssize_t size = recv(from.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN)
        return;
    Piece piece = {.due = now + delay_, .bytes = {}, .reset = size < 0};
    if (size > 0) {
        piece.bytes.assign(buffer.data(), static_cast<std::size_t>(size));
        bytes_ += piece.bytes.size();
        auto captured = captured_.lock();
        captured->append(piece.bytes, 0, capture_limit - std::min(capture_limit, captured->size()));
    }
    from.ended = piece.bytes.empty();
    to.coming_bytes += piece.bytes.size();
    to.coming.push_back(std::move(piece));
}

// False: the link is broken.
bool TcpProxy::deliver(Side& to, Clock::time_point now) {
    if (to.coming.empty() || to.coming.front().due > now)
        return true;
    Piece& piece = to.coming.front();
    if (piece.reset)
        return false;
    if (piece.bytes.empty()) {
        shutdown(to.socket.get(), SHUT_WR);
        to.told_end = true;
        to.coming.pop_front();
        return true;
    }
    const ssize_t size = send(to.socket.get(), piece.bytes.data(), piece.bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0)
        return errno == EAGAIN;
    to.coming_bytes -= static_cast<std::size_t>(size);
    piece.bytes.erase(0, static_cast<std::size_t>(size));
    if (piece.bytes.empty())
        to.coming.pop_front();
    return true;
}

// Moves what can be moved one way without waiting. False: the link is broken.
bool TcpProxy::forward(Link& link, bool from_client, Clock::time_point now) {
    Side& from = from_client ? link.client : link.server;
    Side& to = from_client ? link.server : link.client;
    if (takes_more(from, to))
        receive(from, to, now);
    if (is_held(link, to)) {
        held_bytes_ = to.coming_bytes;
        return true;
    }
    const std::size_t before = to.coming_bytes;
    if (!deliver(to, now))
        return false;
    if (to.coming_bytes < before && !from_client && link.port == held_port_)
        --let_pass_;
    return !(link.client.told_end && link.server.told_end);
}

// What to wait for of one side, and, in `next_due`, until when at most.
pollfd TcpProxy::wait_for(const Link& link, bool client, Clock::time_point now, Clock::time_point& next_due) const {
    const Side& side = client ? link.client : link.server;
    short events = takes_more(side, client ? link.server : link.client) ? POLLIN : 0;
    if (!side.coming.empty() && !is_held(link, side)) {
        if (side.coming.front().due <= now)
            events |= POLLOUT;
        else
            next_due = std::min(next_due, side.coming.front().due);
    }
    // A socket that nothing is wanted of would go on telling that it is gone.
    return {.fd = events != 0 ? side.socket.get() : -1, .events = events, .revents = 0};
}

void TcpProxy::close_links() {
    for (auto& link : links_) {
        close_with_reset(link->client.socket);
        close_with_reset(link->server.socket);
    }
    links_.clear();
}

void TcpProxy::run() {
    while (!stopping_) {
        const State state = state_;
        if (state == State::cut)
            close_links();
        Clock::time_point next_due = Clock::time_point::max();
        std::vector<pollfd> waiting = {{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
        if (state != State::stalled) {
            for (const Listener& listener : listeners_)
                waiting.push_back({.fd = listener.socket.get(), .events = POLLIN, .revents = 0});
            const auto now = Clock::now();
            for (const auto& link : links_) {
                waiting.push_back(wait_for(*link, true, now, next_due));
                waiting.push_back(wait_for(*link, false, now, next_due));
            }
        }
        poll_until(waiting, next_due);
        std::uint64_t count;
        (void)!read(wake_.get(), &count, sizeof(count));
        if (state == State::stalled || state_ != state)
            continue;
        const auto now = Clock::now();
        std::erase_if(links_, [this, now](const auto& link) {
            return !forward(*link, true, now) || !forward(*link, false, now);
        });
        for (std::size_t i = 0; i < listeners_.size(); ++i) {
            if (waiting[1 + i].revents & POLLIN)
                accept_connection(listeners_[i].socket, listeners_[i].port, state);
        }
    }
}

}  // namespace remofile::test
