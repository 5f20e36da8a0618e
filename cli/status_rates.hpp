// SPDX-License-Identifier: MIT
// What a server or a mount does a second, from what it has counted at two moments.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"

namespace remofile::cli {

using CounterValues = std::map<std::string, std::uint64_t, std::less<>>;

enum class Observed : std::uint8_t { server, mount };

// All but `seconds` are a second. "In" is what the one observed has received.
struct Rates {
    double seconds = 0;  // between the two moments
    double requests = 0;
    double bytes_in = 0;
    double bytes_out = 0;
    // Of a mount only: blocks of contents, names and attributes, had from memory or not.
    double cache_hits = 0;
    double cache_misses = 0;
};

// None if no time has passed, or if it counts from zero again because it was started anew in between.
std::optional<Rates> rates_between(Observed observed, const CounterValues& before, const CounterValues& after,
                                   Duration time);

// The member "counters" of a mount's status, which is JSON of numbers and booleans (see remofs.status in
// remofs/operations/mount.hpp).
CounterValues counters_of_mount(std::string_view json);

// A JSON object, or null.
std::string json_of(Observed observed, const std::optional<Rates>& rates);
// Lines for a person.
std::string plain_text_of(Observed observed, const std::optional<Rates>& rates);

}  // namespace remofile::cli
