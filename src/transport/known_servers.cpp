// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <thread>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "transport/keys.hpp"
#include "transport/text_file.hpp"

namespace remofile::transport {
namespace {

// Whoever writes there holds the lock for a few milliseconds, unless somebody is up to mischief.
constexpr int lock_attempts = 10;
constexpr auto lock_pause = std::chrono::milliseconds(5);

// Nothing of a file that is not there.
Result<std::string> read_lines(const std::filesystem::path& file) {
    auto text = read_text_file(file, max_list_file_bytes);
    if (!text && text.error().status == Status::no_entry)
        return std::string();
    return text;
}

// Somebody keeps the file elsewhere, and a link to it here.
std::filesystem::path place_of(const std::filesystem::path& file) {
    std::error_code failed;
    const std::filesystem::path linked = std::filesystem::weakly_canonical(file, failed);
    return failed ? file : linked;
}

UniqueFd open_directory_of(const std::filesystem::path& place) {
    return UniqueFd(::open(place.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

bool lock_soon(int directory) {
    for (int i = 0; i < lock_attempts; ++i) {
        if (::flock(directory, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        std::this_thread::sleep_for(lock_pause);
    }
    errno = EBUSY;
    return false;
}

// Under the lock of its directory.
Result<> replace_lines(const std::filesystem::path& place, std::string_view host_and_port,
                       std::span<const PublicKey> keys) {
    REMOFILE_TRY(content, read_lines(place));
    std::string_view rest = content;
    std::string text;
    while (!rest.empty()) {
        const std::string_view line = take_line(rest);
        std::string_view words = line;
        if (take_word(words) != host_and_port)
            text.append(line).append("\n");
    }
    for (const PublicKey& key : keys)
        text += fmt::format("{} {}\n", host_and_port, key.to_text());
    if (text.size() > max_list_file_bytes)
        return make_error(Status::too_big,
                          fmt::format("{} would be longer than {} bytes", place.native(), max_list_file_bytes));
    return create_secret_file(place, text, true);
}

}  // namespace

Result<std::vector<PublicKey>> find_known_server(const std::filesystem::path& file, std::string_view host_and_port) {
    REMOFILE_TRY(content, read_lines(file));
    std::string_view text = content;
    std::vector<PublicKey> found;
    std::optional<Error> wrong;  // this server's line
    for (std::size_t number = 1; !text.empty(); ++number) {
        std::string_view rest = trimmed(take_line(text));
        if (is_comment(rest))
            continue;
        const std::string_view server = take_word(rest);
        const auto key = PublicKey::from_text(take_word(rest));
        if (key && server == host_and_port && found.size() < max_known_keys &&
            std::ranges::find(found, *key) == found.end())
            found.push_back(*key);
        if (key)
            continue;
        const std::string problem = fmt::format("{}, line {}: after {}, {}", file.native(), number,
                                                log::printable(server), key.error().message);
        if (server == host_and_port)
            wrong = wrong ? wrong : make_error(Status::invalid, problem);
        else
            log::warn("{}; the line is left out", problem);
    }
    if (found.empty() && wrong)
        return *wrong;
    return found;
}

Result<> write_known_server(const std::filesystem::path& file, std::string_view host_and_port,
                            std::span<const PublicKey> keys) {
    const std::filesystem::path place = place_of(file);
    const UniqueFd directory = open_directory_of(place);
    if (!directory || ::flock(directory.get(), LOCK_EX) != 0)
        return errno_error("cannot write " + file.native());
    return replace_lines(place, host_and_port, keys);
}

Result<bool> update_known_server(const std::filesystem::path& file, std::string_view host_and_port,
                                 std::span<const PublicKey> keys) {
    const std::filesystem::path place = place_of(file);
    const UniqueFd directory = open_directory_of(place);
    if (!directory || !lock_soon(directory.get()))
        return errno_error("cannot write " + file.native());
    REMOFILE_TRY(known, find_known_server(place, host_and_port));
    if (std::ranges::find(known, keys.front()) == known.end() || std::ranges::equal(known, keys))
        return false;
    REMOFILE_CHECK(replace_lines(place, host_and_port, keys));
    return true;
}

}  // namespace remofile::transport
