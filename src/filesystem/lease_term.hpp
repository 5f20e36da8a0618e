// SPDX-License-Identifier: MIT
// For how long the leases of a session may be trusted.
#pragma once

#include <algorithm>

#include "base/clock.hpp"

namespace remofile::filesystem {

// The server keeps a session's leases for one term after it has last heard of the session. It hears of a request no
// earlier than we send it, so leases hold for a term from the sending of the latest request that was answered: an
// answer proves that the server had them then. A tenth of the term is left to clocks that run at different speeds.
//
// One thread: that of the session.
class LeaseTerm {
public:
    explicit LeaseTerm(const Clock& clock) : clock_(clock) {}
    LeaseTerm(const LeaseTerm&) = delete;
    LeaseTerm& operator=(const LeaseTerm&) = delete;

    // What HELLO's reply says; zero: there are no leases.
    void agree(Duration term) { term_ = term - term / 10; }

    // A request that was sent at that time on the lane of pushes has been answered.
    void heard(TimePoint sent_at) {
        if (term_ > Duration::zero())
            trusted_until_ = std::max(trusted_until_, sent_at + term_);
    }
    // The leases are gone, whatever time was left.
    void end() { trusted_until_ = TimePoint::min(); }

    bool in_force() const { return left() > Duration::zero(); }
    // What is left of the term: nobody may be told that something holds for longer. Zero if nothing is.
    Duration left() const {
        const TimePoint now = clock_.now();
        return trusted_until_ > now ? trusted_until_ - now : Duration::zero();
    }
    // How often something must be sent so that leases last.
    Duration renewal_interval() const { return term_ / 3; }

private:
    const Clock& clock_;
    Duration term_ = Duration::zero();
    TimePoint trusted_until_ = TimePoint::min();
};

}  // namespace remofile::filesystem
