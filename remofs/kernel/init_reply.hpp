// SPDX-License-Identifier: MIT
#pragma once

#include "remofs/kernel/fuse.hpp"

namespace remofile::remofs {

// What is known of the exchange that begins a mount.
struct InitExchange {
    std::uint64_t unique = 0;   // the request's number, once it has been read
    std::uint32_t minor = 0;    // of the protocol's version, as the kernel has it
    std::uint64_t offered = 0;  // the kernel's flags
    bool answered = false;
};

// libfuse does not pass on all that a file system asks of the kernel when the mount begins. This adds, to its answer to
// INIT and only where the kernel offers it, what is missing: that we take set-id bits away where a write does
// (KernelRequest; without it the kernel reads an attribute before each write, to see what else there is to take away);
// the refusal of handles that could not be opened again (name_to_handle_at); an error of its own when the connection is
// aborted; and, which libfuse knows from 3.17 on, parallel operations in one directory (without it look-ups in one
// directory wait for each other's round trip) and shared mappings of files opened with O_APPEND or O_DIRECT. To be
// called for a session whose user data is its Mount, after fuse_session_mount and before the first request is read.
// False if this libfuse does not let us.
bool complete_init_reply(fuse_session* session);

}  // namespace remofile::remofs
