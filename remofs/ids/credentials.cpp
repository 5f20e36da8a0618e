// SPDX-License-Identifier: MIT
#include "remofs/ids/credentials.hpp"

#include <fcntl.h>
#include <linux/capability.h>
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

// What follows `name` in the text of a /proc/PID/status; empty if it is not there.
std::string_view field_of(std::string_view status, std::string_view name) {
    const auto found = status.find(name);
    return found == std::string_view::npos ? std::string_view{} : status.substr(found + name.size());
}

// fuse_req_getgroups() of libfuse 3.14 searches a text that it does not end with a zero byte.
filesystem::CallerFacts read_facts(const filesystem::Caller& caller) {
    const UniqueFd file(::open(fmt::format("/proc/{0}/task/{0}/status", caller.thread).c_str(), O_RDONLY | O_CLOEXEC));
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
    text.resize(size);
    // Root of a user namespace has capabilities there, but not uid 0 here. Root that cannot be looked at is root.
    constexpr std::uint64_t keeps_set_id = std::uint64_t{1} << CAP_FSETID;
    return {.groups = groups_in(text),
            .keeps_set_id = caller.is_root && (capabilities_in(text).value_or(keeps_set_id) & keeps_set_id) != 0};
}

}  // namespace

std::vector<std::uint32_t> groups_in(std::string_view status) {
    std::vector<std::uint32_t> groups;
    status = field_of(status, "\nGroups:");
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

std::optional<std::uint64_t> capabilities_in(std::string_view status) {
    status = field_of(status, "\nCapEff:\t");
    std::uint64_t bits = 0;
    const auto [end, failure] = std::from_chars(status.data(), status.data() + status.size(), bits, 16);
    // As with groups, a number that the text breaks off in is none.
    if (failure != std::errc() || end == status.data() + status.size())
        return std::nullopt;
    return bits;
}

const filesystem::CallerFacts& KnownCallers::of(const filesystem::Caller& caller) {
    const TimePoint now = clock_.now();
    if (known_.size() >= max_known)
        std::erase_if(known_, [&](const auto& entry) { return entry.second.until <= now; });
    if (known_.size() >= max_known)
        known_.clear();
    Known& known = known_[{caller.thread, caller.uid, caller.gid}];
    if (known.until <= now)
        known = {read_facts(caller), now + lifetime};
    return known.facts;
}

}  // namespace remofile::remofs
