// SPDX-License-Identifier: MIT
// Who may hold locks, as far as a session's requests tell; so that a lock that was granted to nobody can be given back
// without taking one from somebody.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "base/status.hpp"
#include "base/strong_id.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// One who has locks of one kind: an owner of byte ranges, in whichever files; or a handle, of whole files.
struct LockParty {
    bool whole = false;
    std::uint64_t id = 0;
    friend auto operator<=>(const LockParty&, const LockParty&) = default;
};

// What SETLK or FLOCK asks for.
struct LockChange {
    LockParty party;
    HandleId handle;
    bool unlocks = false;
    bool all = false;  // that the party has through the handle
};
// None for other requests.
std::optional<LockChange> lock_change_of(wire::Opcode opcode, std::span<const std::byte> body);

// Pure bookkeeping, on the safe side: a party that has let go through another handle may be taken for one that holds.
// Bounded by the requests under way and the open handles.
class LockOwners {
public:
    // A request whose answer somebody waits for from now on; one that nobody waits for any more, unanswered; and what
    // an answer says: who has been told that he has a lock, and who has one no more. Requests that have nothing to do
    // with locks change nothing.
    void note_request(wire::Opcode opcode, std::span<const std::byte> body);
    void note_given_up(wire::Opcode opcode, std::span<const std::byte> body);
    void note_answer(wire::Opcode opcode, std::span<const std::byte> body, Status status, bool awaited,
                     std::span<const std::byte> reply = {});
    // Whether what a request brought to nobody can be taken back. Who has another lock, or has asked again, would lose
    // it: it stays his until he lets go of all.
    bool may_take_back(wire::Opcode opcode, std::span<const std::byte> body) const;

    // Somebody waits for the answer to a request for a lock, and does so no more.
    void asked(LockParty party) { ++parties_[party].asking; }
    void answered(LockParty party);
    // Somebody was told that a lock is his.
    void granted(const LockChange& change);
    void dropped(LockParty party, HandleId handle);
    // RELEASE: whatever was locked through the handle.
    void closed(HandleId handle);

    // Whether the party has a lock, or a request for one under way.
    bool may_hold(LockParty party) const { return parties_.contains(party); }
    bool empty() const { return parties_.empty(); }
    void clear();

private:
    struct Holding {
        std::size_t asking = 0;
        std::set<HandleId> through;
        bool nothing() const { return asking == 0 && through.empty(); }
    };
    void reclaimed(std::span<const std::byte> body, std::span<const std::byte> reply);

    std::map<LockParty, Holding> parties_;
    std::map<HandleId, std::set<LockParty>> by_handle_;
};

}  // namespace remofile::client
