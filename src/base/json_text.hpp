// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace remofile {

// `text` as a JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD: JSON has no other way.
std::string json_text(std::string_view text);

}  // namespace remofile
