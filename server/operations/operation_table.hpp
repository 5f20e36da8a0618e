// SPDX-License-Identifier: MIT
// Which ids each operation uses, and what carries it out. What else is known of it stands in wire/opcode_table.hpp.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "server/file_service.hpp"
#include "server/operations/operation.hpp"

namespace remofile::server {

struct OperationRow {
    wire::Opcode opcode;
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
