// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace remofile::client {

// The pushes of one epoch that the server has no INVALIDATED for. Pure bookkeeping.
//
// INVALIDATED covers all that came before, so one push is confirmed only when it and all before it have been acted
// upon. Invariant: at most max_open, none twice, in the order in which they came, and the first is not done.
class UnconfirmedPushes {
public:
    // Servers stop at half as many (docs/PROTOCOL.md), and each may be as long as half a head frame.
    static constexpr std::size_t max_open = 16;

    bool full() const { return pushes_.size() >= max_open; }
    // One has come. False if it is here already: after a reconnect the server repeats what it has no confirmation of.
    bool add(std::uint64_t sequence);
    // It has been acted upon. What the server can be told now; none while one before it is not done.
    std::optional<std::uint64_t> done(std::uint64_t sequence);
    // The session that they belong to is no more.
    void clear() { pushes_.clear(); }

private:
    struct Push {
        std::uint64_t sequence;
        bool done;
    };
    std::vector<Push> pushes_;
};

}  // namespace remofile::client
