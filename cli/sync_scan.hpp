// SPDX-License-Identifier: MIT
// What is in the two trees that remofile sync works on.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "cli/sender.hpp"
#include "cli/sync_plan.hpp"
#include "client/remote_tree.hpp"

namespace remofile::cli {

// Says why something cannot be read; it is then unusable, and nothing is concluded from what is not seen.
using Complain = std::function<void(const std::string& path, const Error& error)>;

Item item_of(const struct stat& status, bool archive);
Item item_of(const wire::Attributes& attributes, bool archive);

// Incomplete copies of interrupted transfers are left out. Errors: those of the root.
Result<Tree> scan_local(const std::string& root, bool archive, const Complain& complain);

struct ServerTree {
    Tree items;
    // By their paths; the root's is empty. They hold the incomplete copies too, and the nodes of all entries.
    std::map<std::string, RemoteDirectory, std::less<>> directories;
};
Task<Result<ServerTree>> scan_server(client::RemoteTree& tree, NodeId root, bool archive, const Complain& complain);

}  // namespace remofile::cli
