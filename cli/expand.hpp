// SPDX-License-Identifier: MIT
// Files of a server that a pattern names: HOST:/logs/*.txt, as shells do it with files that are here.
#pragma once

#include <string>
#include <vector>

#include "cli/connection.hpp"

namespace remofile::cli {

// The paths that are there and match, by name; the pattern itself if a file has that very name, or if nothing matches.
// `*` stands for no name that begins with a dot, nor for '/'. Errors: those of the session.
Task<Result<std::vector<std::string>>> expand(client::RemoteTree& tree, std::string pattern);
// The same of each, one after the other.
Task<Result<std::vector<std::string>>> expand_all(client::RemoteTree& tree, std::vector<std::string> patterns);

// The work with what its paths stand for as patterns.
FileWork expanding(FileWork work);

}  // namespace remofile::cli
