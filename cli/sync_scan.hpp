// SPDX-License-Identifier: MIT
// What is in the two trees that remofile sync works on.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "cli/file_filter.hpp"
#include "cli/sender.hpp"
#include "cli/sync_plan.hpp"
#include "client/remote_tree.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {

// Says why something cannot be read; it is then unusable, and nothing is concluded from what is not seen.
using Complain = std::function<void(const std::string& path, const Error& error)>;

Item item_of(const struct stat& status, bool archive);
Item item_of(const wire::Attributes& attributes, bool archive);

// A scan of a local tree, on a thread of its own: it may take minutes, in which the session has to be kept alive.
// Incomplete copies of interrupted transfers are left out. What the filter excludes is in the tree as such, without
// what it holds; the filter must outlive the object.
class LocalScan {
public:
    // Begins with it. The reactor must outlive the object.
    LocalScan(transport::Reactor& reactor, std::string root, bool archive, const FileFilter& filter);
    // Ends it soon, though not before the call of the file system that it is in.
    ~LocalScan();
    LocalScan(const LocalScan&) = delete;
    LocalScan& operator=(const LocalScan&) = delete;

    // Awaits its end, once; the object must outlive that. Complains on the thread that awaits. Errors: those of the
    // root.
    Task<Result<Tree>> result(Complain complain);

private:
    struct State;
    std::shared_ptr<State> state_;  // shared by the thread and what it has posted
    std::thread thread_;
};

struct ServerTree {
    Tree items;
    // By their paths; the root's is empty. They hold the incomplete copies too, and the nodes of all entries.
    std::map<std::string, RemoteDirectory, std::less<>> directories;
};
Task<Result<ServerTree>> scan_server(client::RemoteTree& tree, NodeId root, bool archive, const FileFilter& filter,
                                     const Complain& complain);

}  // namespace remofile::cli
