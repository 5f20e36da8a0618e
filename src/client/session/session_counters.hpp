// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <string_view>

#include "base/counters.hpp"
#include "wire/frame.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::client {

// What a session counts. The counters that every message changes are looked up once; the rest, by name, is rare.
class SessionCounters {
public:
    // `wakeups`: of the reactor, so far.
    SessionCounters(Counters& counters, std::uint64_t wakeups);

    void sent(const wire::Message& message);
    void received(std::size_t bytes);
    void request(const wire::OpcodeFacts& facts);
    // A message was sent that somebody waits for.
    void round_trip() { round_trips_.add(); }
    // Times that another thread woke the reactor: those since the last call.
    void woken(std::uint64_t wakeups);
    void count(std::string_view name, std::uint64_t amount = 1) { counters_.at(name).add(amount); }

private:
    Counters& counters_;
    Counters::Counter& messages_sent_;
    Counters::Counter& bytes_sent_;
    Counters::Counter& messages_received_;
    Counters::Counter& bytes_received_;
    Counters::Counter& round_trips_;
    Counters::Counter& hand_offs_;
    std::map<wire::Opcode, Counters::Counter*> requests_;
    std::uint64_t seen_wakeups_;
};

}  // namespace remofile::client
