// SPDX-License-Identifier: MIT
#include "cli/ending_signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <utility>

namespace remofile::cli {

EndingSignals::EndingSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
        struct sigaction action {};
        if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&signals, signal);
    }
    ::pthread_sigmask(SIG_BLOCK, &signals, &before_);
    // Without one, signals wait for the end of the command.
    fd_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

EndingSignals::~EndingSignals() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void EndingSignals::watch(transport::Reactor& reactor, std::function<void(int signal)> on_signal) {
    if (!fd_)
        return;
    reactor.watch(fd_.get(), [this, on_signal = std::move(on_signal)] {
        signalfd_siginfo signal{};
        if (::read(fd_.get(), &signal, sizeof(signal)) == sizeof(signal))
            on_signal(static_cast<int>(signal.ssi_signo));
    });
}

void EndingSignals::unwatch(transport::Reactor& reactor) {
    if (fd_)
        reactor.unwatch(fd_.get());
}

void die_of(int signal) {
    std::signal(signal, SIG_DFL);
    sigset_t all;
    sigemptyset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    std::raise(signal);
    ::_exit(128 + signal);
}

}  // namespace remofile::cli
