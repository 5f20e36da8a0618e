// SPDX-License-Identifier: MIT
#include "client/resident_memory.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/allocator.hpp"

namespace remofile::client {
namespace {

// Long enough that a program that reads and thinks is not idle, short enough that nobody waits for the memory.
constexpr auto idle_time = std::chrono::seconds(1);

std::size_t beyond(std::size_t resident_bytes, std::size_t accounted_bytes) {
    return resident_bytes - std::min(resident_bytes, accounted_bytes);
}

}  // namespace

bool TrimPolicy::should_give_back(std::size_t resident_bytes, std::size_t accounted_bytes) const {
    return beyond(resident_bytes, accounted_bytes) > std::max(allowance_bytes, stubborn_bytes_ + step_bytes);
}

void TrimPolicy::gave_back(std::size_t resident_bytes, std::size_t accounted_bytes) {
    stubborn_bytes_ = beyond(resident_bytes, accounted_bytes);
}

ResidentMemory::System ResidentMemory::of_this_process() {
    return {.resident_bytes = remofile::resident_bytes, .give_back = remofile::give_back_freed_memory};
}

ResidentMemory::ResidentMemory(MemoryBudget& budget, transport::Reactor& reactor, System system)
    : budget_(budget), reactor_(reactor), system_(std::move(system)) {
    budget_.set_watch([this] { look(); });
}

ResidentMemory::~ResidentMemory() {
    budget_.set_watch(nullptr);
    if (timer_)
        reactor_.cancel(timer_);
}

void ResidentMemory::look() {
    if (policy_.should_give_back(system_.resident_bytes(), budget_.used_bytes()))
        give_back();
}

void ResidentMemory::give_back() {
    system_.give_back();
    policy_.gave_back(system_.resident_bytes(), budget_.used_bytes());
}

void ResidentMemory::busy() {
    was_busy_ = true;
    if (!timer_)
        timer_ = reactor_.after(idle_time, [this] { on_timer(); });
}

void ResidentMemory::on_timer() {
    timer_ = {};
    if (std::exchange(was_busy_, false))
        timer_ = reactor_.after(idle_time, [this] { on_timer(); });
    else
        give_back();
}

}  // namespace remofile::client
