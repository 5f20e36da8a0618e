// SPDX-License-Identifier: MIT
// How long requests take, from the arrival of their message to their outcome, by opcode.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <map>

#include "base/clock.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::server {

// One thread.
class RequestTimes {
public:
    // From what is in memory to what waits for a disk that is lost. Each bound is a line a scrape and opcode.
    static constexpr std::array<double, 7> bounds_s{0.0001, 0.0005, 0.002, 0.01, 0.1, 1, 10};

    struct Distribution {
        const wire::OpcodeFacts* facts = nullptr;
        std::array<std::uint64_t, bounds_s.size() + 1> counts{};  // the last: longer than all bounds
        double sum_s = 0;
    };

    void add(const wire::OpcodeFacts& facts, Duration time) {
        const double seconds = std::chrono::duration<double>(time).count();
        Distribution& distribution = by_opcode_[facts.opcode];
        distribution.facts = &facts;
        ++distribution.counts[static_cast<std::size_t>(std::ranges::lower_bound(bounds_s, seconds) - bounds_s.begin())];
        distribution.sum_s += seconds;
    }

    // In the order of opcodes; of those that have come.
    const std::map<wire::Opcode, Distribution>& by_opcode() const { return by_opcode_; }

private:
    std::map<wire::Opcode, Distribution> by_opcode_;  // bounded by the opcodes that there are
};

}  // namespace remofile::server
