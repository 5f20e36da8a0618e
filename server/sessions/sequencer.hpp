// SPDX-License-Identifier: MIT
// Which requests of one lane must wait for which: docs/PROTOCOL.md, "Requests and replies".
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "server/file_service.hpp"

namespace remofile::server {

// Pure bookkeeping; one thread. Uses of one id may overlap; an exclusive use waits for all earlier ones of that id, and
// later ones wait for it. It outlives connections: requests sent again after a reconnect wait for those still running.
// Its size is bounded by the session's limits on requests and on bytes of queued messages.
class Sequencer {
public:
    using Ticket = std::uint64_t;  // one message's worth of records; never 0

    struct Added {
        Ticket ticket;
        bool ready;  // nothing is in its way
    };

    // Takes a message in, in the order of arrival. An id may be listed several times.
    Added add(std::span<const Dependency> dependencies);

    // A message whose turn has come waits for something else: what only uses an id, which it uses too and does not make
    // or change, need not wait for it. The tickets that became ready by that.
    std::vector<Ticket> let_pass(Ticket ticket);

    // Takes a message out once it has been carried out; the tickets that became ready by that, in order of arrival.
    // Precondition: it was ready. (One that is given up before stays until its turn: those behind it wait for those
    // before it only by way of it.)
    std::vector<Ticket> finish(Ticket ticket);

    std::size_t size() const { return entries_.size(); }

private:
    struct Key {
        Dependency::Kind kind;
        std::uint64_t id;
        friend auto operator<=>(const Key&, const Key&) = default;
    };
    struct Use {
        Key key;
        bool exclusive;
    };
    // Who waits, and for which id; once for each.
    struct Follower {
        Ticket ticket;
        Key key;
    };
    struct Entry {
        std::vector<Use> keys;
        std::vector<Follower> followers;
        std::size_t blockers = 0;
    };
    // Who uses an id: the latest exclusive use, and the shared ones after it. Finished ones are taken out.
    struct Uses {
        Ticket exclusive = 0;
        std::vector<Ticket> shared;
    };

    void wait_for(Ticket earlier, Ticket later, const Key& key);
    void take_out(Ticket ticket, const Key& key);
    std::vector<Ticket> set_free(std::span<const Follower> followers);

    Ticket last_ticket_ = 0;
    std::unordered_map<Ticket, Entry> entries_;
    std::map<Key, Uses> uses_;
};

}  // namespace remofile::server
