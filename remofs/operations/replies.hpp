// SPDX-License-Identifier: MIT
// What becomes of the file system's answers: each of these awaits one and gives it to the kernel.
#pragma once

#include "base/result.hpp"
#include "base/task.hpp"
#include "filesystem/entry.hpp"
#include "remofs/operations/request.hpp"

namespace remofile::remofs {

class Mount;

Task<void> reply_status(Request request, Task<Result<>> answer);
// An entry that the kernel does not take is given back.
Task<void> reply_entry(Mount& mount, Request request, Task<Result<filesystem::Entry>> answer);

}  // namespace remofile::remofs
