// SPDX-License-Identifier: MIT
// Waiting on conditions with a deadline, in place of sleeps.
#pragma once

#include <chrono>
#include <functional>

namespace remofile::test {

using Milliseconds = std::chrono::milliseconds;

// How much slower than a plain build this one may be: deadlines are multiplied by it. The programs under test are built
// with the same sanitizers as the tests.
int slowness();

// Polls `condition` every few milliseconds until it holds, or until `deadline` (times slowness()) has passed.
// Returns whether it came to hold.
bool eventually(Milliseconds deadline, const std::function<bool()>& condition);

}  // namespace remofile::test
