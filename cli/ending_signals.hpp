// SPDX-License-Identifier: MIT
// The signals that end a command, so that it can say good-bye before: a server that serves one client at a time would
// wait for it in vain.
#pragma once

#include <csignal>
#include <functional>

#include "base/unique_fd.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {

// SIGINT, SIGTERM, SIGHUP and, of a pipe whose reader has gone, SIGPIPE; those that the program was told to ignore
// stay ignored. One at a time, before threads start: they must not get the signals.
class EndingSignals {
public:
    EndingSignals();
    // Lets them through again, and with them one that nobody has taken yet.
    ~EndingSignals();
    EndingSignals(const EndingSignals&) = delete;
    EndingSignals& operator=(const EndingSignals&) = delete;

    // Calls `on_signal` with the first one's number.
    void watch(transport::Reactor& reactor, std::function<void(int signal)> on_signal);
    void unwatch(transport::Reactor& reactor);

private:
    sigset_t before_{};
    UniqueFd fd_;
};

// Ends the process as the signal would have.
[[noreturn]] void die_of(int signal);

}  // namespace remofile::cli
