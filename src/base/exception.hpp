// SPDX-License-Identifier: MIT
// Where exceptions end. Fallible calls of this program return Result<T>; what libraries throw, and memory that is
// exhausted, ends the request that it happens to, and nothing else.
#pragma once

#include <string_view>

#include "base/status.hpp"

namespace remofile {

// The status for the exception that is being handled: out_of_memory, or io_error for any other. It is logged with what
// was `doing`. For catch clauses.
Status status_of_exception(std::string_view doing) noexcept;

}  // namespace remofile
