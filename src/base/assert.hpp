// SPDX-License-Identifier: MIT
#pragma once

namespace remofile {

// Ends the program with a message: our own invariant is broken. Never for what a peer or a user did.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace remofile

// Checked in release builds too.
#define REMOFILE_ASSERT(condition) \
    ((condition) ? static_cast<void>(0) : ::remofile::assertion_failed(#condition, __FILE__, __LINE__))
