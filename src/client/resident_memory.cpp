// SPDX-License-Identifier: MIT
#include "client/resident_memory.hpp"

#include <algorithm>
#include <utility>

#include "base/allocator.hpp"

namespace remofile::client {
namespace {

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
    : budget_(budget), system_(std::move(system)), idle_(reactor, [this] { give_back(); }) {
    budget_.set_watch([this] { look(); });
}

ResidentMemory::~ResidentMemory() {
    budget_.set_watch(nullptr);
}

void ResidentMemory::look() {
    if (policy_.should_give_back(system_.resident_bytes(), budget_.used_bytes()))
        give_back();
}

void ResidentMemory::give_back() {
    system_.give_back();
    policy_.gave_back(system_.resident_bytes(), budget_.used_bytes());
}

}  // namespace remofile::client
