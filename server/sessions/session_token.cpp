// SPDX-License-Identifier: MIT
#include "server/sessions/session_token.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "wire/protocol.hpp"

namespace remofile::server {
namespace {

constexpr std::string_view white_space = " \t\r\n";

Result<> check_token_file(int fd, const std::string& file) {
    struct stat status {};
    if (::fstat(fd, &status) != 0)
        return errno_error(fmt::format("cannot examine the token file {}", file));
    if (!S_ISREG(status.st_mode))
        return make_error(Status::access_denied, fmt::format("the token file {} is not a regular file", file));
    if ((status.st_mode & 077) != 0)
        return make_error(Status::access_denied,
                          fmt::format("others can read the token file {}; run: chmod 600 {}", file, file));
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
        return make_error(Status::access_denied,
                          fmt::format("the token file {} belongs to another user; make your own", file));
    return {};
}

}  // namespace

Result<std::string> load_token(const std::string& file) {
    const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd)
        return errno_error(fmt::format("cannot read the token file {}: {}", file, describe(from_errno(errno))));
    REMOFILE_CHECK(check_token_file(fd.get(), file));

    // White space around it, and one byte more to see that it is too long.
    std::array<char, wire::max_token_bytes + 65> buffer{};
    const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
    if (size < 0)
        return errno_error(fmt::format("cannot read the token file {}", file));
    std::string_view text(buffer.data(), static_cast<std::size_t>(size));
    const auto first = text.find_first_not_of(white_space);
    if (first == std::string_view::npos)
        return make_error(Status::invalid,
                          fmt::format("the token file {} is empty; make one with: remofile generate-token", file));
    text = text.substr(first, text.find_last_not_of(white_space) + 1 - first);
    if (text.size() > wire::max_token_bytes)
        return make_error(Status::invalid,
                          fmt::format("the token in {} is longer than {} bytes", file, wire::max_token_bytes));
    std::string token(text);
    sodium_memzero(buffer.data(), buffer.size());
    return token;
}

bool TokenGuard::matches(std::string_view offered) const {
    // Both are brought to one length, so that neither the time nor a branch depends on how much of it is right.
    std::array<char, wire::max_token_bytes> expected{};
    std::array<char, wire::max_token_bytes> given{};
    std::ranges::copy(token_, expected.begin());
    std::ranges::copy(offered.substr(0, given.size()), given.begin());
    const bool same_bytes = sodium_memcmp(expected.data(), given.data(), expected.size()) == 0;
    sodium_memzero(expected.data(), expected.size());
    sodium_memzero(given.data(), given.size());
    return same_bytes && offered.size() == token_.size();
}

bool TokenGuard::admit(std::string_view offered, const std::vector<std::string>& origins, TimePoint now) {
    if (token_.empty())
        return true;
    const bool locked = std::ranges::any_of(origins, [&](const std::string& name) {
        const auto found = origins_.find(name);
        return found != origins_.end() && now < found->second.locked_until;
    });
    if (locked)
        return false;
    if (matches(offered))
        return true;
    for (const std::string& name : origins)
        note_failure(name, now);
    return false;
}

void TokenGuard::note_failure(const std::string& name, TimePoint now) {
    if (origins_.size() >= max_remembered && !origins_.contains(name))
        origins_.erase(std::ranges::min_element(origins_, {}, [](const auto& entry) { return entry.second.touched; }));
    Origin& origin = origins_[name];
    origin.touched = now;
    origin.failures.push_back(now);
    while (origin.failures.front() + period <= now)
        origin.failures.pop_front();
    if (origin.failures.size() >= max_failures) {
        origin.locked_until = now + period;
        origin.failures.clear();
    }
}

}  // namespace remofile::server
