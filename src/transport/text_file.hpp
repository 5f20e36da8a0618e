// SPDX-License-Identifier: MIT
// Small files of text: reading them with a limit, and taking their lines apart. Internal to this layer.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace remofile::transport {

// The whole content. Errors: no_entry, access_denied, too_big beyond `max_bytes` and so on, naming the file.
Result<std::string> read_text_file(const std::filesystem::path& file, std::size_t max_bytes);
// The same from an open descriptor; `file` is for messages.
Result<std::string> read_text(int fd, const std::filesystem::path& file, std::size_t max_bytes);

// A file of keys, one a line: some 60,000 of them; parsed anew after each change.
inline constexpr std::size_t max_list_file_bytes = 4U << 20;
// Whether a trimmed line of such a file says nothing.
bool is_comment(std::string_view line);

// Without blanks, tabs and line ends at both ends.
std::string_view trimmed(std::string_view text);

// Cuts the first line, or the first blank-separated word, off `rest`.
std::string_view take_line(std::string_view& rest);
std::string_view take_word(std::string_view& rest);

}  // namespace remofile::transport
