// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace remofile::remofs {

// open(2)'s flags, as the kernel hands them to a FUSE file system, as the protocol's.
std::uint32_t to_wire_open_flags(int flags);

// Whether a handle with these flags must bypass the page cache: O_DIRECT asks for it, and for O_APPEND the kernel's
// idea of where the file ends may be behind what other clients have written.
bool needs_direct_io(int flags);

}  // namespace remofile::remofs
