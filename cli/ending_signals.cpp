// SPDX-License-Identifier: MIT
#include "cli/ending_signals.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <utility>

namespace remofile::cli {
namespace {

// Longer than good-bye takes to get out of this machine.
constexpr int patience_ms = 2000;

}  // namespace

EndingSignals::EndingSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action {};
        if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&signals, signal);
    }
    sigset_t blocked = signals;
    sigaddset(&blocked, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before_);
    signals_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    over_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

EndingSignals::~EndingSignals() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void EndingSignals::watch(transport::Reactor& reactor, std::function<void(int signal)> on_signal) {
    // Without one, signals wait for the end of the command.
    if (signals_ && over_)
        thread_ = std::thread([this, &reactor, on_signal = std::move(on_signal)] { wait(reactor, on_signal); });
}

void EndingSignals::unwatch() {
    if (!thread_.joinable())
        return;
    ::eventfd_write(over_.get(), 1);
    thread_.join();
    // Nobody has come to act upon it.
    if (came_ != 0)
        die_of(came_);
}

void EndingSignals::wait(transport::Reactor& reactor, const std::function<void(int signal)>& on_signal) {
    ::pthread_setname_np(::pthread_self(), "signals");
    std::array<pollfd, 2> events{{{over_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}}};
    signalfd_siginfo signal{};
    while (::read(signals_.get(), &signal, sizeof(signal)) != sizeof(signal)) {
        ::poll(events.data(), events.size(), -1);
        if (events[0].revents != 0)
            return;
    }
    came_ = static_cast<int>(signal.ssi_signo);
    reactor.post([number = came_, on_signal] { on_signal(number); });
    if (::poll(events.data(), 1, patience_ms) == 0)
        die_of(came_);
}

void die_of(int signal) {
    std::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
    std::raise(signal);
    ::_exit(128 + signal);
}

}  // namespace remofile::cli
