// SPDX-License-Identifier: MIT
// Speaking HTTP to a port of this machine, or what is not HTTP.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.hpp"
#include "harness/patience.hpp"

namespace remofile::test {

// A connection to 127.0.0.1. Not connected if nobody listens.
UniqueFd connect_to(std::uint16_t port);
// False if the other end has gone.
bool say(const UniqueFd& to, std::string_view text);
// All that comes until the other end closes; none if it does not before the deadline (times slowness()).
std::optional<std::string> hear(const UniqueFd& from, Milliseconds deadline = Milliseconds{20'000});

// The whole answer to a request; empty if there is none.
std::string http(std::uint16_t port, std::string_view request);
// What is at an address as programs announce it ("http://127.0.0.1:9100/metrics"): the body, empty unless it was found.
std::string http_get(std::string_view url);

}  // namespace remofile::test
