// SPDX-License-Identifier: MIT
#pragma once

#include <ctime>
#include <string>
#include <string_view>

namespace remofile::client {

// Under which name what loses a conflict is kept, beside what wins: "notes.conflict-local-20260131-235959.txt" for
// "notes.txt", with "-2" behind the time for the second, and so on. `side`: whose it is, "local" or "server". Local
// time.
std::string conflict_name(std::string_view name, std::string_view side, std::time_t time, int number);

}  // namespace remofile::client
