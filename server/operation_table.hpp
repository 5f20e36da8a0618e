// SPDX-License-Identifier: MIT
// The table of opcodes: what each operation is called, how it may be treated, which ids it uses, and what carries it
// out.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "server/operation.hpp"
#include "server/operations.hpp"

namespace remofile::server {

struct OperationRow {
    wire::Opcode opcode;
    OperationTraits traits;
    // Errors: malformed.
    Result<std::vector<Dependency>> (*dependencies)(std::span<const std::byte> body);
    // Empty if the request waits.
    std::optional<Outcome> (*carry_out)(Context& context, std::span<const std::byte> body);
};

// FileService::carry_out_at_once(), for READ and GETATTR of open files; the caller must be the server itself.
std::optional<Outcome> carry_out_at_once(Context& context, wire::Opcode opcode, std::span<const std::byte> body);

std::span<const OperationRow> operation_rows();
// Null for an opcode that is none of the files'.
const OperationRow* find_row(wire::Opcode opcode);

}  // namespace remofile::server
