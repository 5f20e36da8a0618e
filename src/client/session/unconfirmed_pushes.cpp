// SPDX-License-Identifier: MIT
#include "client/session/unconfirmed_pushes.hpp"

#include <algorithm>

namespace remofile::client {

bool UnconfirmedPushes::add(std::uint64_t sequence) {
    if (std::ranges::find(pushes_, sequence, &Push::sequence) != pushes_.end())
        return false;
    pushes_.push_back({sequence, false});
    return true;
}

std::optional<std::uint64_t> UnconfirmedPushes::done(std::uint64_t sequence) {
    const auto found = std::ranges::find(pushes_, sequence, &Push::sequence);
    if (found == pushes_.end())
        return std::nullopt;
    found->done = true;
    const auto first_open = std::ranges::find(pushes_, false, &Push::done);
    if (first_open == pushes_.begin())
        return std::nullopt;
    const auto latest = std::max_element(pushes_.begin(), first_open, [](const Push& one, const Push& other) {
                            return one.sequence < other.sequence;
                        })->sequence;
    pushes_.erase(pushes_.begin(), first_open);
    return latest;
}

}  // namespace remofile::client
