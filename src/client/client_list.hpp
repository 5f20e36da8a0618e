// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wire/messages.hpp"

namespace remofile::client {

// Those whose name is another: a person knows of his own.
std::vector<wire::Client> others_than(std::string_view name, const std::vector<wire::Client>& clients);

// "2026-11-22 19:54" in local time, of seconds since 1970 that a server stated.
std::string local_time(std::uint64_t seconds);

// "alice@laptop (192.0.2.7) since 2026-11-22 19:54, exclusively", in local time, with control characters escaped:
// for a message to a person.
std::string describe(const wire::Client& client);

// The same of all, joined by "; "; only the first few by name.
std::string describe(std::span<const wire::Client> clients);

}  // namespace remofile::client
