// SPDX-License-Identifier: MIT
#include "cli/xattrs.hpp"

#include <sys/xattr.h>

#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "cli/local_files.hpp"

namespace remofile::cli {
namespace {

const client::CallOptions data_lane{.lane = client::LaneKind::data};

// Labels (SELinux and the like) are each machine's own.
bool is_copied(std::string_view name) {
    return !name.starts_with("security.") || name == "security.capability";
}

// Others may be what a file system keeps for itself.
bool is_taken_away(std::string_view name) {
    return name.starts_with("user.") || name.starts_with("system.posix_acl_");
}

// Of a list in which each name ends with a zero byte.
std::vector<std::string> copied_names(std::string_view list) {
    std::vector<std::string> names;
    while (!list.empty()) {
        std::string name(list.substr(0, list.find('\0')));
        list.remove_prefix(std::min(name.size() + 1, list.size()));
        if (is_copied(name))
            names.push_back(std::move(name));
    }
    return names;
}

std::vector<std::string> local_names(const std::string& path) {
    std::string list(wire::max_xattr_bytes, '\0');
    const ssize_t size = ::listxattr(path.c_str(), list.data(), list.size());
    return copied_names(std::string_view(list).substr(0, size < 0 ? 0 : static_cast<std::size_t>(size)));
}

}  // namespace

Xattrs local_xattrs(int fd) {
    const std::string path = path_of(fd);
    Xattrs found;
    for (std::string& name : local_names(path)) {
        std::string value(wire::max_xattr_bytes, '\0');
        const ssize_t size = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
        if (size >= 0)
            found.emplace(std::move(name), value.substr(0, static_cast<std::size_t>(size)));
    }
    return found;
}

void set_local_xattrs(int fd, const Xattrs& wanted, const std::string& shown) {
    const std::string path = path_of(fd);
    for (const std::string& name : local_names(path)) {
        if (!wanted.contains(name) && is_taken_away(name) && ::removexattr(path.c_str(), name.c_str()) != 0)
            log::debug("{}: the attribute {} stays: {}", shown, name, std::strerror(errno));
    }
    for (const auto& [name, value] : wanted) {
        if (::setxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) != 0)
            log::debug("{}: the attribute {} is not kept: {}", shown, name, std::strerror(errno));
    }
}

Task<std::vector<std::string>> remote_xattr_names(client::Session& session, NodeId node) {
    const wire::Listxattr list{node, static_cast<std::uint32_t>(wire::max_xattr_bytes)};
    const auto names = co_await session.call(list, data_lane);
    // Where there are none, none are lost.
    co_return names ? copied_names(names->bulk.text()) : std::vector<std::string>();
}

Task<Result<Xattrs>> remote_xattrs(client::Session& session, NodeId node) {
    const std::vector<std::string> names = co_await remote_xattr_names(session, node);
    Xattrs found;
    for (std::size_t first = 0; first < names.size(); first += wire::max_records) {
        const std::size_t count = std::min(wire::max_records, names.size() - first);
        std::vector<client::EncodedRequest> requests;
        for (std::size_t i = 0; i < count; ++i)
            requests.push_back(client::encoded(
                wire::Getxattr{node, names[first + i], static_cast<std::uint32_t>(wire::max_xattr_bytes)}));
        const auto values = co_await session.call_batch(std::move(requests), data_lane);
        for (std::size_t i = 0; i < count; ++i) {
            if (values[i].status == Status::ok)
                found.emplace(names[first + i], values[i].bulk.text());
            else if (values[i].status == Status::no_session || values[i].status == Status::shutting_down ||
                     values[i].status == Status::timed_out)
                co_return Result<Xattrs>(values[i].status);
        }
    }
    co_return Result<Xattrs>(std::move(found));
}

std::vector<client::EncodedRequest> xattr_requests(NodeId node, const Xattrs& wanted,
                                                   std::span<const std::string> there) {
    std::vector<client::EncodedRequest> requests;
    for (const std::string& name : there) {
        if (!wanted.contains(name) && is_taken_away(name))
            requests.push_back(client::encoded(wire::Removexattr{node, name}));
    }
    for (const auto& [name, value] : wanted)
        requests.push_back(client::encoded(wire::Setxattr{node, name, 0}, Buffer::copy_of(std::string_view(value))));
    // A message holds no more; a file system does not either.
    requests.resize(std::min(requests.size(), wire::max_records / 2));
    return requests;
}

}  // namespace remofile::cli
