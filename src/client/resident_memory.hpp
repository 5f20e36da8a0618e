// SPDX-License-Identifier: MIT
// Sees to it that what the process has resident stays near what its budget accounts for.
//
// What is freed goes back to malloc, not to the kernel, for the next data (docs/adr/0006). malloc has two arenas, one
// for what ZeroMQ receives and one for what is decoded and written; each keeps what was freed in it between blocks that
// are not, and cannot lend it to the other. So where the kind of data changes, the cache was in memory twice.
#pragma once

#include <cstddef>
#include <functional>

#include "client/memory_budget.hpp"
#include "transport/idle_memory.hpp"

namespace remofile::client {

// When freed memory is to be given back. Values only, so that a test can ask.
class TrimPolicy {
public:
    // What may be resident beyond what is accounted for, before malloc is told to give back: half of the 64 MiB that
    // are promised. A program and what it needs without data take about 10 MiB, windows and buffers of requests some
    // 16; the other half is for what comes between two looks.
    static constexpr std::size_t allowance_bytes = 32U << 20;
    // Where giving back did not help, it is tried again when so much more is resident.
    static constexpr std::size_t step_bytes = 8U << 20;

    bool should_give_back(std::size_t resident_bytes, std::size_t accounted_bytes) const;
    // It has been given back.
    void gave_back(std::size_t resident_bytes, std::size_t accounted_bytes);

private:
    std::size_t stubborn_bytes_ = 0;  // beyond what is accounted for, after the last time
};

// One thread: the reactor's.
class ResidentMemory {
public:
    struct System {
        std::function<std::size_t()> resident_bytes;
        std::function<void()> give_back;
    };
    static System of_this_process();

    // All outlive it. Takes the budget's watch.
    ResidentMemory(MemoryBudget& budget, transport::Reactor& reactor, System system = of_this_process());
    ~ResidentMemory();
    ResidentMemory(const ResidentMemory&) = delete;
    ResidentMemory& operator=(const ResidentMemory&) = delete;

    // There is work; when there is none any more, all freed memory is given back.
    void busy() { idle_.busy(); }

private:
    void look();
    void give_back();

    MemoryBudget& budget_;
    System system_;
    TrimPolicy policy_;
    transport::IdleMemory idle_;
};

}  // namespace remofile::client
