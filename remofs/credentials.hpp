// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/clock.hpp"
#include "remofs/fuse.hpp"

namespace remofile::remofs {

// The supplementary groups in the text of a /proc/PID/status, of which the end may be missing: as many as a request may
// carry.
std::vector<std::uint32_t> groups_in(std::string_view status);

// The effective capabilities in such a text, as bits; none if it does not tell.
std::optional<std::uint64_t> capabilities_in(std::string_view status);

// What the kernel's requests do not say of who made them.
struct CallerFacts {
    std::vector<std::uint32_t> groups;  // supplementary ones; none if they cannot be read
    bool keeps_set_id = false;          // writes without taking set-id bits away: root, if it has CAP_FSETID
};

// Callers, whose facts are read from /proc.
class KnownCallers {
public:
    explicit KnownCallers(const Clock& clock) : clock_(clock) {}

    // Of the process behind `request`; remembered for a second, since reading them costs two system calls.
    const CallerFacts& of(fuse_req_t request);

private:
    using Key = std::tuple<pid_t, uid_t, gid_t>;
    struct Known {
        CallerFacts facts;
        TimePoint until;
    };
    const Clock& clock_;
    std::map<Key, Known> known_;
};

}  // namespace remofile::remofs
