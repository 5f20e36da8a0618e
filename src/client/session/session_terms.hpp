// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <tuple>

#include "base/clock.hpp"
#include "wire/kept_answers.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// What the server granted in its latest answer to HELLO, and which session that is. Pure bookkeeping.
//
// Invariant: features in force are among those that were asked for. The epoch is 0 before there is a session, and rises
// when what was known by ids is lost: ids of another epoch mean nothing.
class SessionTerms {
public:
    enum class Adopted : std::uint8_t {
        resumed,   // the session is the one before
        half,      // so it is, but only some of its ids have their meaning: nothing can be asked of it
        likewise,  // another, of the same root and the same terms: ids of the one before can be given their meaning
        anew,      // another, or the first
    };
    // The answer to a HELLO that asked for these features.
    Adopted adopt(wire::HelloReply reply, std::uint64_t asked_features) {
        reply.features &= asked_features;
        const bool resumed = epoch_ > 0 && reply.resumed && reply.session == hello_.session;
        if (resumed && !is_whole_) {
            is_half_there_ = true;
            return Adopted::half;
        }
        is_half_there_ = false;
        // It did not have the locks of the one before, nor could it.
        if (!is_whole_ && !has(wire::feature_reclaim_locks))
            reply.features &= ~wire::feature_reclaim_locks;
        const bool likewise = epoch_ > 0 && are_like(hello_, reply);
        hello_ = std::move(reply);
        is_whole_ = resumed;
        return resumed ? Adopted::resumed : likewise ? Adopted::likewise : Adopted::anew;
    }
    // What ids stand for is known to the server.
    void is_whole() { is_whole_ = true; }
    // The ids of before mean nothing any more.
    void begin_epoch() {
        ++epoch_;
        is_whole_ = true;
    }

    const wire::HelloReply& hello() const { return hello_; }
    std::uint64_t epoch() const { return epoch_; }
    // Whether it can be gone on with after a lost connection. Not one in which ids have yet to be given their meaning.
    bool may_resume() const { return epoch_ > 0 && is_whole_; }
    // Whether the server is told of it: one that has lost it may know its answers.
    bool may_be_told() const {
        return may_resume() || (epoch_ > 0 && has(wire::feature_kept_answers) && !is_half_there_);
    }
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
    // What a session has for being in the place of another, or for one that will be in its own.
    static constexpr std::uint64_t of_place = wire::feature_reclaim_locks | wire::feature_kept_answers |
                                              wire::feature_known_answers | wire::feature_kept_files;
    static bool are_like(const wire::HelloReply& one, const wire::HelloReply& other) {
        const auto terms = [](const wire::HelloReply& reply) {
            return std::tuple(reply.version, reply.features & ~of_place, reply.read_only, reply.client_identity,
                              reply.server_uid, reply.server_gid, reply.root, reply.root_attributes.identity);
        };
        return terms(one) == terms(other);
    }

    wire::HelloReply hello_;
    std::uint64_t epoch_ = 0;
    bool is_whole_ = false;
    bool is_half_there_ = false;
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
