// SPDX-License-Identifier: MIT
// Counts of what the program does: requests, round trips, thread hand-offs, bytes. They do not depend on how fast the
// machine is, so that work can be judged by them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace remofile {

// A named set of counters with stable addresses. Creating a counter locks; adding to one does not.
class Counters {
public:
    Counters();
    ~Counters();
    Counters(const Counters&) = delete;
    Counters& operator=(const Counters&) = delete;

    class Counter {
    public:
        void add(std::uint64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
        void subtract(std::uint64_t amount = 1) { value_.fetch_sub(amount, std::memory_order_relaxed); }
        std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

    private:
        std::atomic<std::uint64_t> value_{0};
    };

    // The counter of that name, made at the first call; valid as long as this object. Callable from any thread.
    Counter& at(std::string_view name);

    // All counters in the order of their names. Callable from any thread; not one moment for all of them.
    std::vector<std::pair<std::string, std::uint64_t>> snapshot() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile
