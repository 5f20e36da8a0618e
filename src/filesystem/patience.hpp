// SPDX-License-Identifier: MIT
#pragma once

#include "client/session.hpp"
#include "filesystem/operation.hpp"
#include "transport/reactor.hpp"

namespace remofile::filesystem {

// An operation's questions that can do without an answer: they are given up when the operation is, and when they have
// waited for as long as it takes to find the server silent. One thread: the session's.
class Patience {
public:
    // All must outlive it.
    Patience(client::Session& session, transport::Reactor& reactor, Operation& asked)
        : session_(session),
          reactor_(reactor),
          asked_(asked.cancellation),
          questions_(with_its_own_end(asked)),
          watch_(asked_.watch([cancellation = questions_.cancellation]() mutable { cancellation.cancel(); })) {
        if (asked_.cancelled())
            questions_.cancellation.cancel();
        timer_ = reactor_.after(client::silence_after, [this, asked_at = reactor_.clock().now()] { end(asked_at); });
    }
    ~Patience() { reactor_.cancel(timer_); }
    Patience(const Patience&) = delete;
    Patience& operator=(const Patience&) = delete;

    // What asks.
    Operation& questions() { return questions_; }
    // Whether they were given up because of the server alone.
    bool is_over() const { return over_ && !asked_.cancelled(); }

private:
    static Operation with_its_own_end(Operation operation) {
        operation.cancellation = client::Cancellation();
        return operation;
    }
    void end(TimePoint asked_at) {
        over_ = true;
        session_.suspect(asked_at);
        auto cancellation = questions_.cancellation;  // whoever is resumed may end this object
        cancellation.cancel();
    }

    client::Session& session_;
    transport::Reactor& reactor_;
    client::Cancellation asked_;
    Operation questions_;
    client::Cancellation::Watch watch_;
    transport::TimerId timer_;
    bool over_ = false;
};

}  // namespace remofile::filesystem
