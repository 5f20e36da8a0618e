// SPDX-License-Identifier: MIT
// Answers to requests that have changed something, held back until those who could not know it yet have confirmed that
// they let go of what was true before.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "server/file_service.hpp"
#include "server/leases/lease_table.hpp"

namespace remofile::server {

// One thread: the service's. At most as many are held as requests may be unanswered.
class HeldReplies {
public:
    // Called with what is held no more, in the order in which it was held; the author may have gone meanwhile.
    using Answer = std::function<void(SessionId author, RequestId request, Outcome outcome)>;
    explicit HeldReplies(Answer answer) : answer_(std::move(answer)) {}
    HeldReplies(const HeldReplies&) = delete;
    HeldReplies& operator=(const HeldReplies&) = delete;

    // Precondition: there is somebody to wait for.
    void hold(SessionId author, RequestId request, Outcome outcome, std::span<const LeaseTable::Wait> waits);
    // The holder has confirmed all up to that number.
    void confirmed(SessionId holder, ToldNumber number);
    // Nobody waits for that holder any more.
    void let_go(SessionId holder);
    void let_all_go();

    std::size_t size() const { return held_; }

private:
    struct Held {
        SessionId author;
        RequestId request;
        Outcome outcome;
        std::uint64_t order = 0;
        std::size_t waits = 0;
    };
    // Shared by the holders that it waits for.
    using HeldPtr = std::shared_ptr<Held>;
    using Waiting = std::multimap<ToldNumber, HeldPtr>;

    void release(Waiting waiting);

    Answer answer_;
    std::unordered_map<SessionId, Waiting> waiting_;
    std::uint64_t last_order_ = 0;
    std::size_t held_ = 0;
};

}  // namespace remofile::server
