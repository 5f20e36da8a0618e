// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string_view>

namespace remofile::filesystem {

// symlinks=contain: whether a symlink with this target, in a directory `depth` levels below the root, stays
// within the mount whatever the server's other names are. Absolute targets do not; relative ones may climb at most
// `depth` levels, and only at their beginning: after a name, ".." could follow another symlink to anywhere.
bool stays_within(std::string_view target, std::size_t depth);

}  // namespace remofile::filesystem
