// SPDX-License-Identifier: MIT
// The answer to a request that a server before this one had begun, or answered.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "server/file_service.hpp"
#include "server/sessions/answer_journal.hpp"

namespace remofile::server {

// Carries out another request as the same caller.
using Ask = std::function<Outcome(wire::Opcode, std::span<const std::byte> body)>;
// Carries out the request itself. `begun_at`: as Asked::begun_at.
using CarryOut = std::function<Outcome(std::optional<std::uint64_t> begun_at)>;

// What is to be noted when such a request is begun, so that another server can tell whether it was carried out: what is
// changed is like that before. Nothing where names, or times of birth, tell.
std::optional<wire::Attributes> attributes_before(wire::Opcode opcode, std::span<const std::byte> body, const Ask& ask);

// An answered request gets its answer, and what it made gets its ids. One that was only begun may have been carried
// out: that is told by what names stand for, and of what was made by its time of birth, which is not before the
// request was begun nor after the server's end. What was appended is looked for behind where the file ended, and of two
// names that are exchanged, which file the first stood for was noted. What is not there is made now. Where nothing
// tells, the answer is io_error. `bulk`: the request's own.
Outcome answer_again(const AnswerJournal::Note::Before& before, wire::Opcode opcode, std::span<const std::byte> body,
                     std::span<const std::byte> bulk, const Ask& ask, const CarryOut& carry_out);

}  // namespace remofile::server
