// SPDX-License-Identifier: MIT
// A terminal that is drawn over.
#pragma once

#include <string>
#include <string_view>

namespace remofile::cli {

// What draws as many lines and columns of `text` as there is room for over what a terminal shows, and clears the rest.
// The last row is left to the cursor.
std::string screenful(std::string_view text, unsigned rows, unsigned columns);

}  // namespace remofile::cli
