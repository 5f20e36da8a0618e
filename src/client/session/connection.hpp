// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "client/requests/lanes.hpp"
#include "client/requests/outgoing_queue.hpp"
#include "client/session/connection_traffic.hpp"
#include "transport/lane.hpp"
#include "transport/reactor.hpp"

namespace remofile::client {

// One of a session's lanes, from one connection to the next: how far it has got, when it is tried again, what waits to
// be sent, and what has gone over it. One thread.
//
// Invariant: messages are sent only in the stages greeting and ready, and each greeting begins the traffic anew. The
// timer for the next attempt runs only while the lane is down, that for its end only while it is not.
class Connection {
public:
    enum class Stage : std::uint8_t {
        down,        // nothing; the retry timer may be running
        connecting,  // transport's work
        connected,   // the data lane waits for the session, to attach to it
        greeting,    // HELLO or ATTACH is on its way
        ready,
    };

    Connection(transport::Reactor& reactor, std::size_t number);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    OutgoingQueue queue;
    ConnectionTraffic traffic;

    // ---- from down to ready

    Stage stage() const { return stage_; }
    bool is(Stage stage) const { return stage_ == stage; }
    bool is_ready() const { return stage_ == Stage::ready; }
    // The transport's own view: the server's end is there, whether or not it answers.
    bool is_connected() const { return lane_->connected(); }
    // Says once how it sends. `which` describes it.
    void report_congestion(const transport::CongestionControl& control, std::string_view which);
    // Whether a greeting may have been sent on it.
    bool has_greeted() const { return stage_ == Stage::greeting || stage_ == Stage::ready; }

    // Never to be called from a handler of the lane that is replaced.
    void replace_lane(std::unique_ptr<transport::Lane> lane) { lane_ = std::move(lane); }
    // An attempt begins; connect() may follow only later.
    void begin_attempt();
    void connect() { lane_->connect(); }
    void connected() { stage_ = Stage::connected; }
    void begin_greeting();
    void become_ready();
    // It is lost, or not to be had.
    void go_down();
    // Ends the transport's connection, which says nothing of that.
    void disconnect() { lane_->disconnect(); }
    // For good.
    void close();

    void send(wire::Message message, TimePoint now);
    // True if it has not been said of this connection that the server is stopping.
    bool announce_stopping() { return !std::exchange(stopping_announced_, true); }
    bool is_stopping() const { return stopping_announced_; }
    // True if the server has not said of this connection which keys it will have.
    bool announce_keys() { return !std::exchange(keys_announced_, true); }
    // It should end by itself; if it has not by then, `end` is called. The first time on a connection counts.
    void end_after(Duration patience, std::function<void()> end);

    // ---- when it is tried again

    // Attempts in a row that did not get to `ready`.
    int failures() const { return failures_; }
    void note_failure() { ++failures_; }
    void forget_failures() { failures_ = 0; }
    // Pauses double from the first to the second, which a person who plugs a cable back in still finds quick.
    Duration next_pause();
    // The next loss is tried again soon.
    void reset_pause();
    void try_after(Duration pause, std::function<void()> attempt);
    // Instead of trying later.
    void stop_trying() { reactor_.cancel(retry_timer_); }

private:
    transport::Reactor& reactor_;
    std::unique_ptr<transport::Lane> lane_;
    Stage stage_ = Stage::down;
    bool stopping_announced_ = false;
    bool keys_announced_ = false;
    Duration pause_;
    transport::TimerId retry_timer_;
    transport::TimerId end_timer_;
    int failures_ = 0;
    transport::CongestionReports congestion_reports_;
};

}  // namespace remofile::client
