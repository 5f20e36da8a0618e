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

// The first error is the command's; what is wrong besides is said at once.
void note_error(Result<>& outcome, const Error& error);

// One after the other; what is wrong with one does not keep the rest from being done, as note_error().
using FileAction = std::function<Task<Result<>>(client::RemoteTree&, std::string path)>;
Task<Result<>> each(client::RemoteTree& tree, std::vector<std::string> paths, FileAction action);

// All of them, side by side.
Task<std::vector<Result<client::RemoteFile>>> find_all(client::RemoteTree& tree, std::vector<std::string> paths,
                                                       client::Symlinks symlinks);

}  // namespace remofile::cli
