// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "transport/reactor.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// Whether a session is let in: the first time, which open() waits for, and its turn, while others hold the server
// exclusively. One thread.
//
// Invariant: the first outcome is decided once, and told once after that. Time runs until it is decided; from when the
// server has answered that it is in use and we wait for it, as long as we wait, which may be for ever.
class Admission {
public:
    explicit Admission(transport::Reactor& reactor) : reactor_(reactor) {}
    Admission(const Admission&) = delete;
    Admission& operator=(const Admission&) = delete;

    // `turn`: how long to wait for exclusive use; none: not at all; Duration::max(): for ever. `on_timeout` is called
    // if the first outcome takes longer than `patience`, besides the turn.
    void begin(std::optional<Duration> turn, Duration patience, std::function<void()> on_timeout);
    // Nothing is decided yet.
    bool opening() const { return opening_; }
    // False if it was decided before. Otherwise tell() is to follow.
    bool decide();
    // Resumes who waits for outcome().
    void tell(Result<> result) { outcome_.deliver(std::move(result)); }
    Task<Result<>> outcome() { co_return co_await outcome_; }
    void stop_waiting() { reactor_.cancel(timer_); }

    // The server is in use by these. True if we wait for our turn; a session that was let in before has nothing else
    // to do.
    bool refused_as_in_use(std::vector<wire::Client> holders);
    const std::vector<wire::Client>& holders() const { return holders_; }
    // True if that has not been said of this wait.
    bool announce_wait() { return !std::exchange(waiting_, true); }
    bool waits() const { return waiting_; }
    // How long the server is to keep a HELLO waiting: not at all the first time, so that we learn at once whom we wait
    // for.
    std::uint32_t hello_wait_ms() const;
    void let_in() { waiting_ = false; }

private:
    transport::Reactor& reactor_;
    bool opening_ = true;
    Completion<Result<>> outcome_;
    transport::TimerId timer_;
    Duration patience_{};
    std::function<void()> on_timeout_;
    std::optional<TimePoint> wait_until_;  // max(): for ever
    std::vector<wire::Client> holders_;    // those of the latest in_use
    bool waiting_ = false;
};

}  // namespace remofile::client
