// SPDX-License-Identifier: MIT
// Distinct ids are distinct types: a HandleId cannot be passed where a NodeId is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace remofile {

template <class Tag>
struct StrongId {
    std::uint64_t value = 0;

    friend auto operator<=>(StrongId, StrongId) = default;
    explicit operator bool() const { return value != 0; }
};

using NodeId = StrongId<struct NodeTag>;          // a file of the export, as one session names it; chosen by the client
using HandleId = StrongId<struct HandleTag>;      // an open file or directory; chosen by the client
using RequestId = StrongId<struct RequestTag>;    // one request of a session; chosen by the client, ascending, never 0
using LockOwner = StrongId<struct LockOwnerTag>;  // whoever holds a lock, unique within the session
using SessionId = StrongId<struct SessionTag>;    // chosen by the server at random

}  // namespace remofile

template <class Tag>
struct std::hash<remofile::StrongId<Tag>> {
    std::size_t operator()(remofile::StrongId<Tag> id) const noexcept { return std::hash<std::uint64_t>{}(id.value); }
};
