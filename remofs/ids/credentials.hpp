// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/clock.hpp"
#include "filesystem/operation.hpp"

namespace remofile::remofs {

// The supplementary groups in the text of a /proc/PID/status, of which the end may be missing: as many as a request may
// carry.
std::vector<std::uint32_t> groups_in(std::string_view status);

// The effective capabilities in such a text, as bits; none if it does not tell.
std::optional<std::uint64_t> capabilities_in(std::string_view status);

// Callers, whose facts are read from /proc.
class KnownCallers {
public:
    explicit KnownCallers(const Clock& clock) : clock_(clock) {}

    // With groups by this machine's numbers; none if they cannot be read. Remembered for a second, since reading them
    // costs two system calls.
    const filesystem::CallerFacts& of(const filesystem::Caller& caller);

private:
    using Key = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;
    struct Known {
        filesystem::CallerFacts facts;
        TimePoint until;
    };
    const Clock& clock_;
    std::map<Key, Known> known_;
};

}  // namespace remofile::remofs
