// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/file.h>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "transport/keys.hpp"
#include "transport/text_file.hpp"

namespace remofile::transport {
namespace {

// Nothing of a file that is not there.
Result<std::string> read_lines(const std::filesystem::path& file) {
    auto text = read_text_file(file, max_list_file_bytes);
    if (!text && text.error().status == Status::no_entry)
        return std::string();
    return text;
}

}  // namespace

Result<std::optional<PublicKey>> find_known_server(const std::filesystem::path& file, std::string_view host_and_port) {
    REMOFILE_TRY(content, read_lines(file));
    std::string_view text = content;
    std::optional<PublicKey> found;
    std::optional<Error> wrong;  // this server's line
    for (std::size_t number = 1; !text.empty(); ++number) {
        std::string_view rest = trimmed(take_line(text));
        if (is_comment(rest))
            continue;
        const std::string_view server = take_word(rest);
        const auto key = PublicKey::from_text(take_word(rest));
        if (key && !found && server == host_and_port)
            found = *key;
        if (key)
            continue;
        const std::string problem = fmt::format("{}, line {}: after {}, {}", file.native(), number,
                                                log::printable(server), key.error().message);
        if (server == host_and_port)
            wrong = wrong ? wrong : make_error(Status::invalid, problem);
        else
            log::warn("{}; the line is left out", problem);
    }
    if (!found && wrong)
        return *wrong;
    return found;
}

Result<> write_known_server(const std::filesystem::path& file, std::string_view host_and_port, const PublicKey& key) {
    // Somebody keeps the file elsewhere, and a link to it here.
    std::error_code failed;
    const std::filesystem::path linked = std::filesystem::weakly_canonical(file, failed);
    const std::filesystem::path& place = failed ? file : linked;
    const UniqueFd directory(::open(place.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || ::flock(directory.get(), LOCK_EX) != 0)
        return errno_error("cannot write " + file.native());
    REMOFILE_TRY(content, read_lines(place));
    std::string_view rest = content;
    std::string text;
    while (!rest.empty()) {
        const std::string_view line = take_line(rest);
        std::string_view words = line;
        if (take_word(words) != host_and_port)
            text.append(line).append("\n");
    }
    text += fmt::format("{} {}\n", host_and_port, key.to_text());
    if (text.size() > max_list_file_bytes)
        return make_error(Status::too_big,
                          fmt::format("{} would be longer than {} bytes", file.native(), max_list_file_bytes));
    return create_secret_file(place, text, true);
}

}  // namespace remofile::transport
