// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>

#include "transport/reactor.hpp"

namespace remofile::client {

// When a session next sends what it has queued. One thread. Shared with nobody; what the reactor is to run holds it
// weakly, for the session may have gone by then.
//
// Invariant: however often it is asked for, at most one flush is to come at the end of this turn, and one later of each
// kind; none once it is stopped.
class FlushSchedule : public std::enable_shared_from_this<FlushSchedule> {
public:
    FlushSchedule(transport::Reactor& reactor, std::function<void()> flush);

    // At the end of the reactor's turn: what is queued in one turn shares messages.
    void soon();
    // A little later, for FORGETs alone: nobody waits for them, and a message that is sent anyway may take them along.
    void for_forgets();
    // During the flush that for_forgets() asked for.
    bool forgets_are_due() const { return forgets_due_; }
    // Sooner, for changes that nobody waits for and what is given back: more of them are likely to come and share the
    // message.
    void for_changes();
    // During the flush that for_changes() asked for, and until the end of the turn in which somebody waits.
    bool changes_are_due() const { return changes_due_; }
    // Somebody waits for changes.
    void hurry();
    void stop();

private:
    void flush_forgets();
    void flush_changes();

    transport::Reactor& reactor_;
    const std::function<void()> flush_;
    bool soon_ = false;
    bool later_ = false;
    bool forgets_due_ = false;
    bool changes_later_ = false;
    bool changes_due_ = false;
    bool stopped_ = false;
    transport::TimerId timer_;
    transport::TimerId changes_timer_;
};

}  // namespace remofile::client
