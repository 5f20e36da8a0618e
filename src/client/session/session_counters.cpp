// SPDX-License-Identifier: MIT
#include "client/session/session_counters.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace remofile::client {
namespace {

// As counters are named.
std::string in_small_letters(std::string_view name) {
    std::string small(name);
    std::ranges::transform(small, small.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
    return small;
}

}  // namespace

SessionCounters::SessionCounters(Counters& counters, std::uint64_t wakeups)
    : counters_(counters),
      messages_sent_(counters.at("client.messages_sent")),
      bytes_sent_(counters.at("client.bytes_sent")),
      messages_received_(counters.at("client.messages_received")),
      bytes_received_(counters.at("client.bytes_received")),
      round_trips_(counters.at("client.round_trips")),
      hand_offs_(counters.at("client.hand_offs")),
      seen_wakeups_(wakeups) {}

void SessionCounters::sent(const wire::Message& message) {
    messages_sent_.add();
    bytes_sent_.add(message.byte_count());
}

void SessionCounters::received(std::size_t bytes) {
    messages_received_.add();
    bytes_received_.add(bytes);
}

void SessionCounters::request(const wire::OpcodeFacts& facts) {
    Counters::Counter*& counter = requests_[facts.opcode];
    if (counter == nullptr)
        counter = &counters_.at("client.requests." + in_small_letters(facts.name));
    counter->add();
}

void SessionCounters::woken(std::uint64_t wakeups) {
    hand_offs_.add(wakeups - std::exchange(seen_wakeups_, wakeups));
}

}  // namespace remofile::client
