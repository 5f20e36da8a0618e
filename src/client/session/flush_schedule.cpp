// SPDX-License-Identifier: MIT
#include "client/session/flush_schedule.hpp"

#include <utility>

namespace remofile::client {
namespace {

// How long a FORGET waits for a message to go along with.
constexpr Duration forget_delay = std::chrono::milliseconds(20);
// How long a change that nobody waits for does so for others: no longer than a program takes for a few.
constexpr Duration change_delay = std::chrono::milliseconds(1);

}  // namespace

FlushSchedule::FlushSchedule(transport::Reactor& reactor, std::function<void()> flush)
    : reactor_(reactor), flush_(std::move(flush)) {}

void FlushSchedule::soon() {
    if (stopped_ || soon_)
        return;
    reactor_.at_end_of_turn([weak = weak_from_this()] {
        const auto self = weak.lock();
        if (!self || self->stopped_)
            return;
        self->soon_ = false;
        self->flush_();
        self->changes_due_ = false;
    });
    soon_ = true;
}

void FlushSchedule::for_forgets() {
    if (stopped_ || later_)
        return;
    timer_ = reactor_.after(forget_delay, [weak = weak_from_this()] {
        if (const auto self = weak.lock())
            self->flush_forgets();
    });
    later_ = true;
}

void FlushSchedule::flush_forgets() {
    later_ = false;
    forgets_due_ = true;
    flush_();
    forgets_due_ = false;
}

void FlushSchedule::for_changes() {
    if (stopped_ || changes_later_)
        return;
    changes_timer_ = reactor_.after(change_delay, [weak = weak_from_this()] {
        if (const auto self = weak.lock())
            self->flush_changes();
    });
    changes_later_ = true;
}

void FlushSchedule::flush_changes() {
    changes_later_ = false;
    changes_due_ = true;
    flush_();
    changes_due_ = false;
}

void FlushSchedule::hurry() {
    changes_due_ = true;
    soon();
}

void FlushSchedule::stop() {
    stopped_ = true;
    reactor_.cancel(timer_);
    reactor_.cancel(changes_timer_);
}

}  // namespace remofile::client
