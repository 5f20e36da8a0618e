// SPDX-License-Identifier: MIT
#include "remofs/credentials.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <string>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "wire/protocol.hpp"

namespace remofile::remofs {
namespace {

constexpr auto lifetime = std::chrono::seconds(1);
// More callers than that within a second and the oldest are read again.
constexpr std::size_t max_known = 256;

// Of /proc/PID/status: room for what precedes the groups, and for as many of them as the protocol takes.
constexpr std::size_t max_status_bytes = 4096 + 11 * wire::max_groups;

// fuse_req_getgroups() of libfuse 3.14 searches a text that it does not end with a zero byte.
std::vector<std::uint32_t> read_groups(std::uint32_t caller) {
    const UniqueFd file(::open(fmt::format("/proc/{0}/task/{0}/status", caller).c_str(), O_RDONLY | O_CLOEXEC));
    std::string text(max_status_bytes, '\0');
    std::size_t size = 0;
    while (file && size < text.size()) {
        const ssize_t piece = ::read(file.get(), text.data() + size, text.size() - size);
        if (piece < 0 && errno == EINTR)
            continue;
        if (piece <= 0)
            break;
        size += static_cast<std::size_t>(piece);
    }
    return groups_in({text.data(), size});
}

}  // namespace

std::vector<std::uint32_t> groups_in(std::string_view status) {
    constexpr std::string_view name = "\nGroups:";
    std::vector<std::uint32_t> groups;
    const auto found = status.find(name);
    if (found == std::string_view::npos)
        return groups;
    status.remove_prefix(found + name.size());
    while (groups.size() < wire::max_groups) {
        const auto start = status.find_first_not_of(" \t");
        if (start == std::string_view::npos)
            break;
        status.remove_prefix(start);
        std::uint32_t group = 0;
        const auto [end, failure] = std::from_chars(status.data(), status.data() + status.size(), group);
        status.remove_prefix(static_cast<std::size_t>(end - status.data()));
        // A number that the text breaks off in is none.
        if (failure != std::errc() || status.empty())
            break;
        groups.push_back(group);
    }
    return groups;
}

const std::vector<std::uint32_t>& CallerGroups::of(const filesystem::Caller& caller) {
    const TimePoint now = clock_.now();
    if (known_.size() >= max_known)
        std::erase_if(known_, [&](const auto& entry) { return entry.second.until <= now; });
    if (known_.size() >= max_known)
        known_.clear();
    Known& known = known_[{caller.thread, caller.uid, caller.gid}];
    if (known.until <= now)
        known = {read_groups(caller.thread), now + lifetime};
    return known.groups;
}

}  // namespace remofile::remofs
