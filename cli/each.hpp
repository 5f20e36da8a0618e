// SPDX-License-Identifier: MIT
// One action for many files of a server.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "client/remote_tree.hpp"

namespace remofile::cli {

// The error with the file that it is of.
Error at(const std::string& path, const Error& error);

// One after the other; what is wrong with one does not keep the rest from being done. The first error is the command's.
using FileAction = std::function<Task<Result<>>(client::RemoteTree&, std::string path)>;
Task<Result<>> each(client::RemoteTree& tree, std::vector<std::string> paths, FileAction action);

}  // namespace remofile::cli
