// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/clock.hpp"
#include "remofs/fuse.hpp"

namespace remofile::remofs {

// The supplementary groups in the text of a /proc/PID/status, of which the end may be missing: as many as a request may
// carry.
std::vector<std::uint32_t> groups_in(std::string_view status);

// The supplementary groups of callers. The kernel's requests do not carry them; they are read from /proc.
class CallerGroups {
public:
    explicit CallerGroups(const Clock& clock) : clock_(clock) {}

    // Of the process behind `request`; remembered for a second, since reading them costs two system calls. None if
    // they cannot be read.
    const std::vector<std::uint32_t>& of(fuse_req_t request);

private:
    using Key = std::tuple<pid_t, uid_t, gid_t>;
    struct Known {
        std::vector<std::uint32_t> groups;
        TimePoint until;
    };
    const Clock& clock_;
    std::map<Key, Known> known_;
};

}  // namespace remofile::remofs
