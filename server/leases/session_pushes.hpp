// SPDX-License-Identifier: MIT
// What one session is told of the changes of others: from what is void to pushes that are sent, repeated on a new
// connection, and confirmed.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <vector>

#include "server/leases/lease_table.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

// One thread: the service's.
class SessionPushes {
public:
    // Without a table there are no leases.
    SessionPushes(LeaseTable* leases, LeaseHolder holder) : leases_(leases), holder_(holder) {}

    // What the client may have cached of these nodes is void.
    void invalidate(const std::vector<NodeId>& nodes) { invalid_.insert(nodes.begin(), nodes.end()); }
    // True if the client confirms nothing, and the list has become too long.
    bool overflowed() const;

    // Pushes go by another connection from now on: those not confirmed are due again.
    void start_again() { sent_ = 0; }
    // The next push to send, if there is one that may be sent now. It counts as sent. Valid until the next call.
    const wire::PushInvalidate* next();
    // Whether something that ends leases, or parts of them, must wait: the client does not confirm what it has.
    bool is_behind() const { return leases_ != nullptr && leases_->has_news(holder_); }

    // The client confirms all pushes up to that number. What it has let go of by that, as the table numbers it; 0:
    // nothing of leases. None if there was no such push.
    std::optional<ToldNumber> confirm(std::uint64_t sequence);

private:
    struct Push {
        wire::PushInvalidate body;
        ToldNumber told = 0;  // what has been confirmed with it; 0: nothing of leases
    };

    LeaseTable* leases_;
    LeaseHolder holder_;
    std::set<NodeId> invalid_;      // not pushed yet
    std::deque<Push> unconfirmed_;  // pushed, or to be pushed again
    std::size_t sent_ = 0;          // of them, by the connection that there is
    std::uint64_t last_ = 0;
};

}  // namespace remofile::server
