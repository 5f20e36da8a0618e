// SPDX-License-Identifier: MIT
// Answers that a server still knows after it was killed and started again: docs/PROTOCOL.md, "Kept answers".
#pragma once

#include <cstdint>
#include <span>

#include "wire/frame.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::wire {

// The answers of this session are kept.
inline constexpr std::uint64_t feature_kept_answers = 1U << 7;
// In the reply to a HELLO with `resume` that begins another session: the answers of the one before are known.
inline constexpr std::uint64_t feature_known_answers = 1U << 8;

// Whether the answer to a request is kept. Not where carrying it out twice does no harm, and not of changes that are
// sent behind, of which the names tell.
inline bool is_answer_kept(const OpcodeFacts& facts, std::uint8_t record_flags, std::span<const std::byte> body) {
    return (record_flags & flag_in_order) == 0 && !facts.of_session && facts.account == Account::request &&
           !may_be_done_again(facts, body);
}

}  // namespace remofile::wire
