// SPDX-License-Identifier: MIT
#pragma once

#include "server/operations/operation.hpp"

namespace remofile::server {

// Whether the server itself may make and remove any name in the directory, an open one. Takes system calls.
bool may_change(const Context::Held& directory, const OwnIdentity& own);

// The directories that a request looks at or changes, as far as ids and names tell: of a file, those in which it is
// known to be. A body that cannot be decoded concerns nothing. Takes system calls.
LeaseTable::Concerned concerned_by(InodeTable& inodes, SessionFiles& files, wire::Opcode opcode,
                                   std::span<const std::byte> body);

}  // namespace remofile::server
