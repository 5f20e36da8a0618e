// SPDX-License-Identifier: MIT
// A stretch of network between a client and a server of this machine, which a test can listen to, cut, and repair.
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/guarded.hpp"
#include "base/unique_fd.hpp"
#include "harness/patience.hpp"

namespace remofile::test {

class TcpProxy {
public:
    // Listens on the same ports as a server at 127.0.0.1, at a loopback address of its own, and passes every connection
    // on. What either side says arrives `delay` later, as on a long line: however much is under way, and in order. Its
    // one thread runs until the destructor. Start child processes whose death is tied to their parent thread from
    // elsewhere.
    explicit TcpProxy(const std::vector<int>& ports, Milliseconds delay = {});
    ~TcpProxy();
    TcpProxy(const TcpProxy&) = delete;
    TcpProxy& operator=(const TcpProxy&) = delete;

    // "HOST:PORT" of the first of the ports.
    const std::string& address() const { return address_; }

    // A dead link: connections stay, but nothing moves, and new ones are not answered. Bytes wait and arrive after
    // pass().
    void stall() { order(State::stalled); }
    // A peer that is gone: every connection is reset, and so is each new one.
    void cut() { order(State::cut); }
    // As at the start.
    void pass() {
        held_port_ = 0;
        order(State::passing);
    }
    // What the server says by one of its ports, after the next `messages`, waits, 64 KiB of it, and arrives after
    // pass().
    void hold_answers_of(int port, int messages = 0) {
        let_pass_ = messages;
        held_port_ = port;
        order(State::passing);
    }
    std::size_t held_bytes() const { return held_bytes_.load(); }

    // Everything that passed so far in both directions, up to a limit of 64 MiB.
    std::string captured() const;
    std::uint64_t bytes() const { return bytes_.load(); }
    int connections() const { return connections_.load(); }

private:
    using Clock = std::chrono::steady_clock;
    enum class State { passing, stalled, cut };
    struct Piece;
    struct Side;
    struct Link;

    void order(State state);
    void run();
    void accept_connection(const UniqueFd& listener, int port, State state);
    bool takes_more(const Side& from, const Side& to) const;
    bool is_held(const Link& link, const Side& to) const;
    void receive(Side& from, Side& to, Clock::time_point now);
    static bool deliver(Side& to, Clock::time_point now);
    bool forward(Link& link, bool from_client, Clock::time_point now);
    pollfd wait_for(const Link& link, bool client, Clock::time_point now, Clock::time_point& next_due) const;
    void close_links();

    struct Listener {
        int port;
        UniqueFd socket;
    };

    const Milliseconds delay_;
    std::string address_;
    std::vector<Listener> listeners_;
    UniqueFd wake_;  // eventfd: the state has changed, or the end has come
    std::atomic<State> state_ = State::passing;
    std::atomic<int> held_port_ = 0;
    std::atomic<int> let_pass_ = 0;
    std::atomic<std::size_t> held_bytes_ = 0;
    std::atomic<bool> stopping_ = false;
    std::atomic<std::uint64_t> bytes_ = 0;
    std::atomic<int> connections_ = 0;
    mutable Guarded<std::string> captured_;
    std::vector<std::unique_ptr<Link>> links_;  // the thread's own
    std::thread thread_;
};

}  // namespace remofile::test
