// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/task.hpp"
#include "client/requests/lanes.hpp"
#include "client/waiters.hpp"
#include "wire/protocol.hpp"

namespace remofile::client {

// Which way the requests of the data lane go, and whether its connection is sealed.
//
// Lanes have no order between them, but requests of one kind reach the server in theirs. Invariant: requests of the
// data lane go by one connection at a time. Own, until no second connection is to be had; then merged with those of the
// metadata lane; when it is to be had again, parting: what is new waits until all that went by the metadata lane is
// answered, and then own again.
class DataLane {
public:
    std::size_t lane_for(LaneKind kind) const {
        return kind == LaneKind::data && way_ != Way::merged ? data_lane : metadata_lane;
    }
    bool is_merged() const { return way_ == Way::merged; }
    bool is_parting() const { return way_ == Way::parting; }
    void merge() { way_ = Way::merged; }
    // A second connection is ready. True if there was none.
    bool part() {
        if (way_ != Way::merged)
            return false;
        way_ = Way::parting;
        return true;
    }
    // While parting: nothing goes by the metadata lane any more.
    void parted() { way_ = Way::own; }
    // Another session: nothing went any way yet.
    void begin_epoch() { way_ = Way::own; }

    // Ends when data can be sent at once, or with what end() says.
    Task<Status> wait(Cancellation* cancellation) { return waiters_.wait(cancellation); }
    void wake(Status status) { waiters_.wake(status); }

    // ---- sealing: with a ticket and keys that are good for one connection

    // Worth an attempt: the server knows how, and none has failed since the latest greeting.
    bool may_seal(std::uint64_t features) const {
        return (features & wire::feature_sealed_lanes) != 0 && !sealing_failed_;
    }
    std::uint64_t begin_sealing() { return ++attempts_; }
    bool is_latest_attempt(std::uint64_t attempt) const { return attempt == attempts_; }
    // The connection that is being made, or made, is sealed.
    bool is_sealed() const { return sealed_; }
    void seal() { sealed_ = true; }
    // The next one is not. True if the one before was.
    bool unseal() { return std::exchange(sealed_, false); }
    void sealing_failed() { sealing_failed_ = true; }
    void greeted() { sealing_failed_ = false; }

private:
    enum class Way : std::uint8_t { own, merged, parting };
    Way way_ = Way::own;
    bool sealed_ = false;
    bool sealing_failed_ = false;
    std::uint64_t attempts_ = 0;
    Waiters waiters_;
};

}  // namespace remofile::client
