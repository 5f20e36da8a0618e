// SPDX-License-Identifier: MIT
// What -o metrics tells; remofs(1).
#pragma once

#include <string>
#include <string_view>

#include "base/counters.hpp"
#include "remofs/operations/mount.hpp"

namespace remofile::remofs {

// In Prometheus' text format. Before the mount there are only counters.
std::string metrics_text(const Counters& counters, const Mount* mount);

}  // namespace remofile::remofs
