// SPDX-License-Identifier: MIT
#include "cli/screen.hpp"

#include <algorithm>

namespace remofile::cli {
namespace {

// Bytes of the line's first `columns` characters, of UTF-8.
std::size_t cut(std::string_view line, unsigned columns) {
    std::size_t end = 0;
    for (unsigned column = 0; end < line.size(); ++end) {
        const bool begins = (static_cast<unsigned char>(line[end]) & 0xc0) != 0x80;
        if (begins && column++ == columns)
            break;
    }
    return end;
}

}  // namespace

std::string screenful(std::string_view text, unsigned rows, unsigned columns) {
    constexpr std::string_view home = "\x1b[H";
    constexpr std::string_view clear_line = "\x1b[K";
    constexpr std::string_view clear_below = "\x1b[J";
    std::string frame(home);
    for (unsigned row = 1; row < rows && !text.empty(); ++row) {
        const std::string_view line = text.substr(0, text.find('\n'));
        frame += line.substr(0, cut(line, columns));
        frame += clear_line;
        frame += '\n';
        text.remove_prefix(std::min(line.size() + 1, text.size()));
    }
    return frame += clear_below;
}

}  // namespace remofile::cli
