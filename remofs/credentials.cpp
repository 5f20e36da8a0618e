// SPDX-License-Identifier: MIT
#include "remofs/credentials.hpp"

#include <algorithm>

#include "wire/protocol.hpp"

namespace remofile::remofs {
namespace {

constexpr auto lifetime = std::chrono::seconds(1);
// More callers than that within a second and the oldest are read again.
constexpr std::size_t max_known = 256;

std::vector<std::uint32_t> read_groups(fuse_req_t request) {
    std::vector<gid_t> groups(wire::max_groups);
    const int count = fuse_req_getgroups(request, static_cast<int>(groups.size()), groups.data());
    groups.resize(static_cast<std::size_t>(std::clamp(count, 0, static_cast<int>(groups.size()))));
    return {groups.begin(), groups.end()};
}

}  // namespace

const std::vector<std::uint32_t>& CallerGroups::of(fuse_req_t request) {
    const fuse_ctx& caller = *fuse_req_ctx(request);
    const TimePoint now = clock_.now();
    if (known_.size() >= max_known)
        std::erase_if(known_, [&](const auto& entry) { return entry.second.until <= now; });
    if (known_.size() >= max_known)
        known_.clear();
    Known& known = known_[{caller.pid, caller.uid, caller.gid}];
    if (known.until <= now)
        known = {read_groups(request), now + lifetime};
    return known.groups;
}

}  // namespace remofile::remofs
