// SPDX-License-Identifier: MIT
// The answer to a request that a server before this one had begun, or answered.
#pragma once

#include <functional>
#include <span>

#include "server/file_service.hpp"
#include "server/sessions/answer_journal.hpp"

namespace remofile::server {

// Carries out another request as the same caller.
using CarryOut = std::function<Outcome(wire::Opcode, std::span<const std::byte> body)>;

// An answered request gets its answer, and what it made gets its ids. One that was only begun may have been carried
// out: that is told by what names stand for, and of what was made by its time of birth, which is not before the
// request was begun nor after the server's end. What is not there is made now. Where nothing tells, the answer is
// io_error.
Outcome answer_again(const AnswerJournal::Note::Before& before, wire::Opcode opcode, std::span<const std::byte> body,
                     const CarryOut& carry_out);

}  // namespace remofile::server
