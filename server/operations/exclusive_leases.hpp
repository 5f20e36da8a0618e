// SPDX-License-Identifier: MIT
#pragma once

#include "server/operations/operation.hpp"

namespace remofile::server {

// Whether the server itself may make and remove any name in the directory, an open one. Takes system calls.
bool may_change(const Context::Held& directory, const OwnIdentity& own);

// The directories that a request looks at or changes, as far as its ids tell: of a file, those in which it is known to
// be. A body that cannot be decoded concerns nothing.
LeaseTable::Concerned concerned_by_ids(const InodeTable& inodes, SessionFiles& files, wire::Opcode opcode,
                                       std::span<const std::byte> body);
// The same for the entries that it names, if they may be another directory's affair. Takes system calls.
void add_concerned_by_names(InodeTable& inodes, SessionFiles& files, wire::Opcode opcode,
                            std::span<const std::byte> body, LeaseTable::Concerned& concerned);

}  // namespace remofile::server
