// SPDX-License-Identifier: MIT
// What a session's unanswered requests take of what its client was granted; docs/PROTOCOL.md, "Flow control".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "base/assert.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::server {

// Pure bookkeeping; one thread. What is above a limit is counted as well: it is refused, but until the refusal leaves
// it takes memory.
class SessionAccounts {
public:
    SessionAccounts(std::uint32_t max_requests, std::size_t max_lock_waits, std::size_t max_bulk_bytes)
        : limits_{max_requests, max_requests, max_lock_waits}, max_bulk_bytes_(max_bulk_bytes) {}

    bool has_room(wire::Account account) const { return unanswered_[index(account)] < limits_[index(account)]; }
    void enter(wire::Account account) { ++unanswered_[index(account)]; }
    void leave(wire::Account account) {
        REMOFILE_ASSERT(unanswered_[index(account)] > 0);
        --unanswered_[index(account)];
    }
    std::size_t unanswered() const { return std::accumulate(unanswered_.begin(), unanswered_.end(), std::size_t{0}); }

    // A client that respects a limit is never here; one with a bug gets its errors; one that floods is shut out.
    bool grossly_exceeded() const {
        for (std::size_t i = 0; i < wire::account_count; ++i) {
            if (unanswered_[i] > gross_excess * limits_[i])
                return true;
        }
        return false;
    }

    // Of a message. False if it is too much: none of its records is carried out. It is counted all the same, until
    // leave_head().
    bool enter_head(std::size_t bytes) {
        head_bytes_ += bytes;
        return head_bytes_ <= wire::max_unanswered_head_bytes;
    }
    void leave_head(std::size_t bytes) {
        REMOFILE_ASSERT(head_bytes_ >= bytes);
        head_bytes_ -= bytes;
    }

    // Bulk data of unanswered requests, of all lanes together.
    std::size_t bulk_bytes() const { return bulk_bytes_; }
    bool has_room_for(std::size_t bulk_bytes) const { return bulk_bytes_ + bulk_bytes <= max_bulk_bytes_; }
    void enter_bulk(std::size_t bytes) { bulk_bytes_ += bytes; }
    void leave_bulk(std::size_t bytes) {
        REMOFILE_ASSERT(bulk_bytes_ >= bytes);
        bulk_bytes_ -= bytes;
    }

    // The most replies that can be unanswered or on their way: of all lanes, for each acknowledges by itself.
    std::size_t max_replies() const {
        return wire::max_lanes * limits_[index(wire::Account::request)] + limits_[index(wire::Account::control)] +
               limits_[index(wire::Account::lock_wait)];
    }

private:
    static constexpr std::size_t gross_excess = 2;
    static std::size_t index(wire::Account account) { return static_cast<std::size_t>(account); }

    const std::array<std::size_t, wire::account_count> limits_;
    std::array<std::size_t, wire::account_count> unanswered_{};
    std::size_t head_bytes_ = 0;
    const std::size_t max_bulk_bytes_;
    std::size_t bulk_bytes_ = 0;
};

}  // namespace remofile::server
