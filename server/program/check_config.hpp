// SPDX-License-Identifier: MIT
// remofile-server check-config: what a server would make of a configuration file.
#pragma once

#include <string>
#include <vector>

namespace remofile::server {

struct ConfigCheck {
    std::vector<std::string> problems;  // each names a file, and the line if it is one line's; none: all is well
    std::string text;                   // the exports as they would be served, for people; empty if there are problems
};

// Reads the file, or the usual one if `file` is empty, and the files that it names. Changes nothing.
ConfigCheck check_config(const std::string& file);

}  // namespace remofile::server
