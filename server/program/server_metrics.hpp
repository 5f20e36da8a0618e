// SPDX-License-Identifier: MIT
// What --metrics tells; remofile-server(8).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/counters.hpp"
#include "server/sessions/service.hpp"

namespace remofile::server {

// In Prometheus' text format.
std::string metrics_text(const Counters& counters, const Service& service, std::string_view version,
                         std::uint64_t started);

}  // namespace remofile::server
