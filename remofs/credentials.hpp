// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/clock.hpp"
#include "filesystem/operation.hpp"

namespace remofile::remofs {

// The supplementary groups in the text of a /proc/PID/status, of which the end may be missing: as many as a request may
// carry.
std::vector<std::uint32_t> groups_in(std::string_view status);

// The supplementary groups of callers. The kernel's requests do not carry them; they are read from /proc.
class CallerGroups {
public:
    explicit CallerGroups(const Clock& clock) : clock_(clock) {}

    // Of the thread that asks; remembered for a second, since reading them costs two system calls. None if
    // they cannot be read.
    const std::vector<std::uint32_t>& of(const filesystem::Caller& caller);

private:
    using Key = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;
    struct Known {
        std::vector<std::uint32_t> groups;
        TimePoint until;
    };
    const Clock& clock_;
    std::map<Key, Known> known_;
};

}  // namespace remofile::remofs
