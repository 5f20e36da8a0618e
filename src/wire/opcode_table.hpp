// SPDX-License-Identifier: MIT
// What both ends know of each request: the one table of opcodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "wire/protocol.hpp"

namespace remofile::wire {

// What an unanswered request is counted against, at both ends; docs/PROTOCOL.md, "Flow control". Nothing is counted
// nowhere. What others may have to wait for is never counted with them.
enum class Account : std::uint8_t {
    request,    // HELLO's max_requests
    control,    // what gives back, or tells: as many again
    lock_wait,  // SETLK and FLOCK that may take as long as another holds the lock: max_lock_waits
};
inline constexpr std::size_t account_count = 3;

struct OpcodeFacts {
    Opcode opcode;
    std::string_view name;               // as docs/PROTOCOL.md calls it
    Account account = Account::request;  // but see account_of()
    // No operation on files: the server's session itself carries it out.
    bool of_session = false;
    // Takes the server microseconds and waits for nothing: may share a message with others that somebody waits for,
    // because the server carries out the records of a message one after the other.
    bool quick = false;
    // The request owns a bulk frame.
    bool takes_bulk = false;
    // The most bulk data that its reply may bring, decoded. None: the reply has no bulk frame. See reply_bulk_limit().
    std::size_t (*reply_bulk)(std::span<const std::byte> body) = nullptr;
    // For a lock, if its body says so: its outcome can come late.
    bool may_wait = false;
    // Has no effect on files: may be carried out long after its caller has gone.
    bool harmless_late = false;
    // Gives back what an id stands for: nobody waits for that, and a client may keep it for a moment.
    bool gives_back = false;
    // Carrying it out twice is the same as once: its reply need not be kept for a resent request. LOOKUP and its like
    // count a reply to a node, so they are not.
    bool repeatable = false;
    // Changes something, and may be carried out again all the same if its body says so: it puts the same thing in the
    // same place. See may_be_done_again().
    bool (*puts_the_same)(std::span<const std::byte> body) = nullptr;
    // Refused with read_only on a read-only export or session. CREATE is not as such: it may open a file that is there.
    bool changes_files = false;
};

// In the order of opcodes.
std::span<const OpcodeFacts> opcode_table();
// Null for an opcode that is no request.
const OpcodeFacts* find_opcode(Opcode opcode);

// True for SETLK and FLOCK that wait. A body that cannot be decoded waits for nothing.
bool waits_for_lock(Opcode opcode, std::span<const std::byte> body);
// Whether a request may be carried out by a server that does not know whether one before it did.
bool may_be_done_again(const OpcodeFacts& facts, std::span<const std::byte> body);
// The most bulk data that the reply to a request may bring: what its body asks for, at most max_bulk_bytes. A body that
// cannot be decoded asks for nothing. `facts` may be null.
std::size_t reply_bulk_limit(const OpcodeFacts* facts, std::span<const std::byte> body);
// Of an unknown opcode: request.
Account account_of(Opcode opcode, std::span<const std::byte> body);

}  // namespace remofile::wire
