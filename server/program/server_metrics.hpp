// SPDX-License-Identifier: MIT
// What --metrics tells; remofile-server(8).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/counters.hpp"
#include "server/sessions/service.hpp"

namespace remofile::server {

struct ExportMetrics {
    std::string_view name;  // the label of what is told of it; empty: there is none, and its counters are the process's
    const Counters& counters;
    const Service& service;
};

// In Prometheus' text format. No two exports may have one name.
std::string metrics_text(const Counters& process, std::span<const ExportMetrics> exports, std::string_view version,
                         std::uint64_t started);

}  // namespace remofile::server
