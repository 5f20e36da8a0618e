// SPDX-License-Identifier: MIT
#include "transport/text_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace remofile::transport {
namespace {

constexpr std::string_view blanks = " \t\r\n";

Error read_error(const std::filesystem::path& file) {
    const Status status = from_errno(errno);
    return make_error(status, fmt::format("cannot read {}: {}", file.native(), describe(status)));
}

}  // namespace

Result<std::string> read_text(int fd, const std::filesystem::path& file, std::size_t max_bytes) {
    std::string text(max_bytes + 1, '\0');  // one more, to notice a longer file; never reallocated, so nothing is left
    std::size_t size = 0;
    while (size < text.size()) {
        const ssize_t count = ::read(fd, text.data() + size, text.size() - size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return read_error(file);
        if (count == 0)
            break;
        size += static_cast<std::size_t>(count);
    }
    if (size > max_bytes)
        return make_error(Status::too_big, fmt::format("{} is longer than {} bytes", file.native(), max_bytes));
    text.resize(size);
    return text;
}

Result<std::string> read_text_file(const std::filesystem::path& file, std::size_t max_bytes) {
    // O_NONBLOCK: a fifo in the place of the file must not hang us.
    const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd)
        return read_error(file);
    return read_text(fd.get(), file, max_bytes);
}

bool is_comment(std::string_view line) {
    return line.empty() || line.front() == '#';
}

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::string_view take_line(std::string_view& rest) {
    const auto end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    return line;
}

std::string_view take_word(std::string_view& rest) {
    rest.remove_prefix(std::min(rest.find_first_not_of(blanks), rest.size()));
    const std::string_view word = rest.substr(0, rest.find_first_of(blanks));
    rest.remove_prefix(word.size());
    return word;
}

}  // namespace remofile::transport
