// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "client/session.hpp"
#include "filesystem/fresh_look_ups.hpp"

namespace remofile::filesystem {

// Who asks, in the server's numbers.
struct Caller {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t umask = 0;
    std::uint32_t thread = 0;  // of this machine; 0: unknown
    bool is_root = false;      // the same
};

// What must be looked up of a caller.
struct CallerFacts {
    std::vector<std::uint32_t> groups = {};  // supplementary ones
    bool keeps_set_id = false;               // writes without taking set-id bits away
};

// Whom a server that acts as its callers acts as, by its own numbers.
struct CallerIdentity {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups = {};
};

// One request of a caller, made by FileSystem::begin().
struct Operation {
    Caller caller;
    std::uint64_t arrived_at = 0;  // as the file system's events are counted
    client::Cancellation cancellation;
    // What the server is told of set-id bits of the file that the operation changes: `drop` if whoever is in front says
    // that the caller may not keep them.
    wire::SetId set_id = wire::SetId::as_caller;
    // Of the change that it asks for next; see ChangesBehind::ask(). 0: none.
    std::uint64_t change = 0;
    // What the caller's thread was told last, if it was the answer to a look-up and just now.
    std::optional<FreshLookUps::Answer> just_looked_up;
    // Called, if given, when an operation that waits as long as others want (for a lock) has what it waited for: from
    // here on a wish to give up is no better than with any other. May replace `cancellation`.
    std::function<void()> on_wait_over;
};

}  // namespace remofile::filesystem
