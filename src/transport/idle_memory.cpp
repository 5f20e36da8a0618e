// SPDX-License-Identifier: MIT
#include "transport/idle_memory.hpp"

#include <chrono>
#include <utility>

namespace remofile::transport {
namespace {

// Long enough that a program that reads and thinks is not idle, short enough that nobody waits for the memory.
constexpr auto turn = std::chrono::seconds(1);
// As often as giving back does not matter, whatever there is.
constexpr int most_busy_turns = 60;

}  // namespace

IdleMemory::IdleMemory(Reactor& reactor, std::function<void()> give_back)
    : reactor_(reactor), give_back_(std::move(give_back)) {}

IdleMemory::~IdleMemory() {
    if (timer_)
        reactor_.cancel(timer_);
}

void IdleMemory::busy() {
    was_busy_ = true;
    if (!timer_)
        wait();
}

void IdleMemory::wait() {
    timer_ = reactor_.after(turn, [this] { on_timer(); });
}

void IdleMemory::on_timer() {
    timer_ = {};
    const bool goes_on = std::exchange(was_busy_, false);
    if (goes_on)
        wait();
    if (goes_on && ++busy_turns_ < most_busy_turns)
        return;
    busy_turns_ = 0;
    give_back_();
}

}  // namespace remofile::transport
