// SPDX-License-Identifier: MIT
#include "client/requests/lock_owners.hpp"

#include "wire/frame.hpp"

namespace remofile::client {

std::optional<LockChange> lock_change_of(wire::Opcode opcode, std::span<const std::byte> body) {
    if (opcode == wire::Opcode::setlk) {
        const auto request = wire::decode_body<wire::Setlk>(body);
        if (!request)
            return std::nullopt;
        return LockChange{.party = {.whole = false, .id = request->owner.value},
                          .handle = request->handle,
                          .unlocks = request->range.type == wire::LockType::unlock,
                          .all = request->range.start == 0 && request->range.end == INT64_MAX};
    }
    if (opcode == wire::Opcode::flock) {
        const auto request = wire::decode_body<wire::Flock>(body);
        if (!request)
            return std::nullopt;
        return LockChange{.party = {.whole = true, .id = request->handle.value},
                          .handle = request->handle,
                          .unlocks = request->type == wire::LockType::unlock,
                          .all = true};
    }
    return std::nullopt;
}

void LockOwners::answered(LockParty party) {
    const auto found = parties_.find(party);
    if (found == parties_.end() || found->second.asking == 0)
        return;  // of an earlier session
    --found->second.asking;
    if (found->second.nothing())
        parties_.erase(found);
}

void LockOwners::granted(const LockChange& change) {
    parties_[change.party].through.insert(change.handle);
    by_handle_[change.handle].insert(change.party);
}

void LockOwners::dropped(LockParty party, HandleId handle) {
    if (const auto through = by_handle_.find(handle); through != by_handle_.end()) {
        through->second.erase(party);
        if (through->second.empty())
            by_handle_.erase(through);
    }
    const auto found = parties_.find(party);
    if (found == parties_.end())
        return;
    found->second.through.erase(handle);
    if (found->second.nothing())
        parties_.erase(found);
}

void LockOwners::closed(HandleId handle) {
    const auto through = by_handle_.extract(handle);
    if (through.empty())
        return;
    for (const LockParty& party : through.mapped())
        dropped(party, handle);
}

void LockOwners::clear() {
    parties_.clear();
    by_handle_.clear();
}

void LockOwners::note_request(wire::Opcode opcode, std::span<const std::byte> body) {
    if (const auto change = lock_change_of(opcode, body); change && !change->unlocks)
        asked(change->party);
}

void LockOwners::note_given_up(wire::Opcode opcode, std::span<const std::byte> body) {
    if (const auto change = lock_change_of(opcode, body); change && !change->unlocks)
        answered(change->party);
}

// All those that are not named are had.
void LockOwners::reclaimed(std::span<const std::byte> body, std::span<const std::byte> reply) {
    const auto asked = wire::decode_body<wire::ReclaimLocks>(body);
    const auto answer = wire::decode_body<wire::ReclaimLocksReply>(reply);
    if (!asked || !answer)
        return;
    const std::set<std::uint32_t> lost(answer->lost.begin(), answer->lost.end());
    for (std::uint32_t i = 0; i < asked->locks.size(); ++i) {
        const wire::HeldLock& lock = asked->locks[i];
        if (!lost.contains(i))
            granted({.party = {.whole = lock.whole, .id = lock.whole ? lock.handle.value : lock.owner.value},
                     .handle = lock.handle});
    }
}

void LockOwners::note_answer(wire::Opcode opcode, std::span<const std::byte> body, Status status, bool awaited,
                             std::span<const std::byte> reply) {
    const bool ok = status == Status::ok;
    if (const auto change = lock_change_of(opcode, body)) {
        if (!change->unlocks && awaited) {
            if (ok)
                granted(*change);
            answered(change->party);
        } else if (change->unlocks && change->all && ok) {
            dropped(change->party, change->handle);
        }
        return;
    }
    if (opcode == wire::Opcode::reclaim_locks && ok)
        return reclaimed(body, reply);
    if (empty() || !ok)
        return;
    if (opcode == wire::Opcode::flush) {
        if (const auto flush = wire::decode_body<wire::Flush>(body))
            dropped({.whole = false, .id = flush->owner.value}, flush->handle);
    } else if (opcode == wire::Opcode::release) {
        if (const auto release = wire::decode_body<wire::Release>(body))
            closed(release->handle);
    }
}

bool LockOwners::may_take_back(wire::Opcode opcode, std::span<const std::byte> body) const {
    const auto change = lock_change_of(opcode, body);
    return !change || (!change->unlocks && !may_hold(change->party));
}

}  // namespace remofile::client
