// SPDX-License-Identifier: MIT
#include <signal.h>
#include <unistd.h>

#include "catch.hpp"
#include "remofs/kernel/pending_signals.hpp"

using namespace remofile::remofs;

namespace {

std::string status(const char* pending, const char* shared, const char* blocked) {
    return std::string("Name:\tcat\nSigQ:\t1/100\nSigPnd:\t") + pending + "\nShdPnd:\t" + shared + "\nSigBlk:\t" +
           blocked + "\nSigIgn:\t0000000000000000\n";
}

}  // namespace

TEST_CASE("which signals ask a program to stop") {
    const char* none = "0000000000000000";
    CHECK(signal_wish(status(none, none, none)) == SignalWish::go_on);
    CHECK(signal_wish(status("0000000000000100", none, none)) == SignalWish::die);  // SIGKILL
    CHECK(signal_wish(status("0000000000000102", none, none)) == SignalWish::die);
    CHECK(signal_wish(status(none, "0000000000000002", none)) == SignalWish::stop);                 // SIGINT
    CHECK(signal_wish(status(none, "0000000000004000", none)) == SignalWish::stop);                 // SIGTERM
    CHECK(signal_wish(status(none, "0000000000002000", none)) == SignalWish::go_on);                // SIGALRM
    CHECK(signal_wish(status(none, "0000000008010000", none)) == SignalWish::go_on);                // SIGCHLD, SIGWINCH
    CHECK(signal_wish(status(none, "0000000000000002", "0000000000000002")) == SignalWish::go_on);  // blocked
    CHECK(signal_wish("") == SignalWish::go_on);
}

TEST_CASE("a thread that cannot be looked at counts as stopping") {
    CHECK(signal_wish_of(0, SignalWish::stop) == SignalWish::stop);
    CHECK(signal_wish_of(getpid(), SignalWish::stop) == SignalWish::go_on);
}
