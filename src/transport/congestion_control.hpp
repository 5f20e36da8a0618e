// SPDX-License-Identifier: MIT
// With which of the kernel's congestion controls (TCP_CONGESTION, tcp(7)) our connections send.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace remofile::transport {

// What a person chooses: "system", the name of one of the kernel's, or "auto", the default. That takes bbr in place of
// cubic and reno where packets take a while: those take each lost packet for a full link, and get 5 % of one of 100
// Mbit/s and 40 ms that loses 0.5 % of them. Any other that the system uses was chosen by somebody who knew it.
class CongestionControl {
public:
    CongestionControl() = default;
    // Error: bad_usage, in words that go on after the name of the option.
    static Result<CongestionControl> parse(std::string_view text);

    // Below this round trip `auto` changes nothing: a lost packet is made good soon enough there, and bbr paces what it
    // sends, so that it carries 1.4 GiB/s where cubic carries 4 (two namespaces of one machine, one connection).
    static constexpr Duration least_round_trip = std::chrono::milliseconds(1);

    struct Outcome {
        std::string in_force;  // as the kernel names it
        std::string replaced;  // what the system had chosen; empty: nothing was changed
        std::string missing;   // the one that cannot be had, and why; empty: nothing is missing
        friend bool operator==(const Outcome&, const Outcome&) = default;
    };
    // Chooses for a TCP connection that stands.
    Outcome apply(int fd) const;

    // Says of connections described by `which` what came of it: a warning if what a person asked for cannot be had.
    void report(std::string_view which, const Outcome& outcome) const;

    friend bool operator==(const CongestionControl&, const CongestionControl&) = default;

private:
    enum class Choice : std::uint8_t { automatic, system, named };
    Choice choice_ = Choice::automatic;
    std::string name_ = "bbr";
};

// Remembers what has been said of connections of one kind, so that it is said once. One thread.
class CongestionReports {
public:
    // True if this was not said before, or if so much was said that it is forgotten.
    bool is_new(const CongestionControl::Outcome& outcome);

private:
    std::vector<CongestionControl::Outcome> said_;
};

// libzmq tells of a connection by the number of its descriptor, which may stand for something else when that is heard.
// These say whether it is a TCP connection to that address, or one to us at one of those ports.
bool is_connected_to(int fd, const sockaddr_storage& address);
bool is_connected_at(int fd, std::span<const std::uint16_t> own_ports);

}  // namespace remofile::transport
