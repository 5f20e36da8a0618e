// SPDX-License-Identifier: MIT
// The signals that end a command, so that it can say good-bye before: a server that serves one client at a time would
// wait for it in vain.
#pragma once

#include <csignal>
#include <functional>
#include <thread>

#include "base/unique_fd.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {

// SIGINT, SIGTERM and SIGHUP; those that the program was told to ignore stay ignored. SIGPIPE, which tells that the
// reader of a pipe has gone, waits until this object's end. One at a time, before other threads start: they must not
// get the signals.
class EndingSignals {
public:
    EndingSignals();
    // Lets them through again, and with them one that nobody has taken yet.
    ~EndingSignals();
    EndingSignals(const EndingSignals&) = delete;
    EndingSignals& operator=(const EndingSignals&) = delete;

    // From now on to unwatch(), `on_signal` is called by the reactor with the first one's number, and is to end the
    // process. If it does not within two seconds, be it that the reactor's thread waits for a disk, the process ends as
    // the signal would have ended it. The reactor must live until unwatch().
    void watch(transport::Reactor& reactor, std::function<void(int signal)> on_signal);
    void unwatch();

private:
    void wait(transport::Reactor& reactor, const std::function<void(int signal)>& on_signal);

    sigset_t before_{};
    UniqueFd signals_;
    UniqueFd over_;  // readable from unwatch() on
    int came_ = 0;   // the thread's until it is joined
    std::thread thread_;
};

// Ends the process as the signal would have.
[[noreturn]] void die_of(int signal);

}  // namespace remofile::cli
