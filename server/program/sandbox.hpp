// SPDX-License-Identifier: MIT
// What the server's process can still reach once it has begun, whatever a client makes it do.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"

namespace remofile::server {

// Paths that the process needs from now on; those that are not there count for nothing.
struct Reach {
    std::vector<std::string> changes;  // files, and directories with all that is in them: may be read and changed
    std::vector<std::string> reads;    // files, and directories with all that is in them
    std::vector<std::string> tidies;   // directories in which it makes a socket, or removes that or its pid file
};

// Confines this thread, and all that it starts, to that (Landlock): other files cannot be opened, made, removed or
// renamed, no program can be started, and no TCP connection made where the kernel can forbid that. What is open already
// stays so. Before other threads start. Error: not_supported if this kernel cannot; those of the system otherwise.
Result<> confine(const Reach& reach);

}  // namespace remofile::server
