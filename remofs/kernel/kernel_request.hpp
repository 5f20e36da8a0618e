// SPDX-License-Identifier: MIT
// What the kernel's requests say that libfuse keeps to itself, read off them before it sees them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "filesystem/inode_number.hpp"

namespace remofile::remofs {

struct KernelRequest {
    std::uint64_t number = 0;  // by which it is answered
    std::uint32_t opcode = 0;  // before make_familiar()
    std::uint32_t uid = 0;     // of its caller; 0 of what the kernel asks for by itself
    // The caller may not keep the set-id bits of what it changes: the kernel leaves it to us to take them away, because
    // the answer to INIT says so (HANDLE_KILLPRIV_V2). Said by writes, by OPEN and CREATE with O_TRUNC, and by SETATTR;
    // there it counts for a size alone, for it stands at every change of owner too, whoever makes it.
    bool drops_set_id = false;
    // Directories whose locks the kernel holds until it has the answer; 0: none.
    std::array<filesystem::InodeNumber, 2> locks{};
};

// Of one request, as it came.
KernelRequest describe_request(std::span<const std::byte> message);

// Whether such a request is let in whoever makes it, on a mount that others are kept out of: those about what is open
// already, which a program may have been given, and the kernel's own. The kernel does the same without allow_other.
bool is_open_to_all(std::uint32_t opcode);

// Makes of a request that this libfuse may not know one that it knows and that begins alike, so that it decodes it and
// its operation is called; that tells the two apart by KernelRequest::opcode. TMPFILE becomes CREATE, STATX GETATTR,
// and COPY_FILE_RANGE_64 COPY_FILE_RANGE.
void make_familiar(std::span<std::byte> message);

}  // namespace remofile::remofs
