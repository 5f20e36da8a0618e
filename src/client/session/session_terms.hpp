// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// What the server granted in its latest answer to HELLO, and which session that is. Pure bookkeeping.
//
// Invariant: features in force are among those that were asked for. The epoch is 0 before there is a session, and rises
// by one with each that is not the one before: ids of another epoch mean nothing.
class SessionTerms {
public:
    // The answer to a HELLO that asked for these features. True if the session is the one before.
    bool adopt(wire::HelloReply reply, std::uint64_t asked_features) {
        const bool resumed = epoch_ > 0 && reply.resumed && reply.session == hello_.session;
        hello_ = std::move(reply);
        hello_.features &= asked_features;
        if (!resumed)
            ++epoch_;
        return resumed;
    }

    const wire::HelloReply& hello() const { return hello_; }
    std::uint64_t epoch() const { return epoch_; }
    std::uint64_t features() const { return hello_.features; }
    bool has(std::uint64_t feature) const { return (hello_.features & feature) != 0; }
    // As often as the server asks for, and so often that leases stay in force: for 0.9 terms after a request.
    Duration ping_interval() const {
        std::uint32_t interval_ms = hello_.ping_interval_ms;
        if (has(wire::feature_leases))
            interval_ms = std::min(interval_ms, hello_.lease_term_ms / 3 * 2);
        return std::chrono::milliseconds(std::max<std::uint32_t>(interval_ms, 300));
    }

private:
    wire::HelloReply hello_;
    std::uint64_t epoch_ = 0;
};

// Numbers that the client gives to nodes and handles, each once for as long as the session lives.
class NewIds {
public:
    // Those up to `last_known` stand for something already.
    explicit NewIds(NodeId last_known) : last_node_(last_known.value) {}

    // The first of `count` in a row.
    NodeId nodes(std::uint32_t count) {
        const NodeId first{last_node_ + 1};
        last_node_ += count;
        return first;
    }
    HandleId handle() { return HandleId{++last_handle_}; }

private:
    std::uint64_t last_node_;
    std::uint64_t last_handle_ = 0;
};

}  // namespace remofile::client
