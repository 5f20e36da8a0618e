// SPDX-License-Identifier: MIT
// Extended attributes, and ACLs, which are two of them.
#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"

namespace remofile::filesystem {
namespace {

// Security modules' attributes mean something to one machine only. The kernel asks for security.capability before each
// write, so they are answered here: by "not supported", after which ls -l asks no more (after "no data" it asks for
// every file). Not by ENOSYS, which would make the kernel take ACLs for unsupported too.
bool is_security(std::string_view name) {
    return name.starts_with("security.");
}

// Shown to the administrator alone.
bool is_trusted(std::string_view name) {
    return name.starts_with("trusted.");
}

// A list of names, each with a zero byte after it, without some of them.
std::string names_without(std::string_view names, bool (*is_hidden)(std::string_view)) {
    std::string visible;
    while (!names.empty()) {
        const std::size_t end = std::min(names.find('\0'), names.size());
        const std::string_view name = names.substr(0, end);
        if (!name.empty() && !is_hidden(name))
            visible.append(name).push_back('\0');
        names.remove_prefix(std::min(end + 1, names.size()));
    }
    return visible;
}

std::string visible_names(std::string_view names) {
    return names_without(names, is_security);
}

std::string names_told_to_all(std::string_view names) {
    return names_without(visible_names(names), is_trusted);
}

// ls -ld asks for these of a mountpoint, and whoever sees a file may see them.
constexpr auto acl_names = std::to_array<std::string_view>({"system.posix_acl_access", "system.posix_acl_default"});

// Instead of the name of one, the list of them all.
constexpr std::string_view list_of_names;

bool is_told_to_all(std::string_view name) {
    return name == list_of_names || std::ranges::find(acl_names, name) != acl_names.end();
}

// What it says of a file that it has none of the name.
AbsentXattrs absence_of(std::string_view name) {
    if (name == list_of_names)
        return no_listed_xattrs;
    if (name == acl_names[0])
        return no_access_acl;
    return name == acl_names[1] ? no_default_acl : AbsentXattrs{};
}

// How long a new mount waits for what its root says.
constexpr auto root_patience = std::chrono::seconds(4);

std::uint32_t size_to_ask_for(std::size_t room) {
    return static_cast<std::uint32_t>(std::min(room, wire::max_xattr_bytes));
}

}  // namespace

// What is remembered about attributes is remembered of the file's device and type.
void FileSystem::remember_xattr(InodeNumber id, std::string_view name, Status status) {
    const Inode* inode = inodes_.find(id);
    if (inode != nullptr && status == Status::not_supported)
        xattr_memory_.remember_unsupported(inode->identity.device, inode->type, name);
}

bool FileSystem::xattr_unsupported(InodeNumber id, std::string_view name) {
    const Inode* inode = inodes_.find(id);
    return inode != nullptr && xattr_memory_.unsupported(inode->identity.device, inode->type, name);
}

bool FileSystem::lacks_xattr(InodeNumber id, std::string_view name) {
    const Inode* inode = inodes_.find(id);
    return inode != nullptr && (names_.absent_xattrs(*inode) & absence_of(name)) != 0;
}

void FileSystem::remember_absence(InodeNumber id, std::string_view name, std::uint64_t asked_at) {
    const AbsentXattrs absent = absence_of(name);
    if (const Inode* inode = inodes_.find(id); inode != nullptr && absent != 0)
        names_.lacks_xattrs(*inode, absent, asked_at);
}

// ---------------------------------------------------------------- the root of a silent server

// In one message, before the first program can ask.
Task<void> FileSystem::learn_root() {
    const NodeId root = inodes_.root().node;
    const std::uint32_t size = size_to_ask_for(wire::max_xattr_bytes);
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(wire::Statfs{root}));
    requests.push_back(client::encoded(wire::Listxattr{root, size}));
    for (const std::string_view acl : acl_names)
        requests.push_back(client::encoded(wire::Getxattr{root, std::string(acl), size}));
    const client::CallOptions options{.timeout = root_patience};
    const Statistics::Asked asked = statistics_.asking();
    const auto replies = co_await session_.call_batch(std::move(requests), options, nullptr);
    if (const auto statistics = client::decoded<wire::Statfs>(replies[0]))
        statistics_.learn(asked, *statistics);
    const auto list = client::decoded<wire::Listxattr>(replies[1]);
    remember_of_root(list_of_names, list.status(), list.value_or(wire::XattrReply{}), replies[1].bulk.text());
    for (std::size_t i = 0; i < acl_names.size(); ++i) {
        const auto& reply = replies[2 + i];
        const auto acl = client::decoded<wire::Getxattr>(reply);
        remember_of_root(acl_names[i], acl.status(), acl.value_or(wire::XattrReply{}), reply.bulk.text());
    }
}

void FileSystem::remember_of_root(std::string_view name, Status status, const wire::XattrReply& reply,
                                  std::string_view value) {
    if (!is_told_to_all(name))
        return;
    if (status == Status::ok && value.size() == reply.size)
        root_xattrs_[std::string(name)] = {.value =
                                               name == list_of_names ? names_told_to_all(value) : std::string(value)};
    else if (status == Status::no_data || status == Status::not_supported)
        root_xattrs_[std::string(name)] = {.status = status};
}

std::optional<Result<Xattr>> FileSystem::last_of_root(InodeNumber inode, std::string_view name) const {
    const auto found = inode == root_inode ? root_xattrs_.find(name) : root_xattrs_.end();
    if (found == root_xattrs_.end())
        return std::nullopt;
    if (found->second.status != Status::ok)
        return Result<Xattr>(found->second.status);
    const std::string& value = found->second.value;
    return Result<Xattr>(Xattr{static_cast<std::uint32_t>(value.size()), Buffer::copy_of(value)});
}

// ---------------------------------------------------------------- operations

Task<Result<Xattr>> FileSystem::getxattr(Operation& operation, InodeNumber inode, std::string name, std::size_t room) {
    if (is_security(name) || xattr_unsupported(inode, name))
        co_return Result<Xattr>(Status::not_supported);
    auto last = last_of_root(inode, name);
    if (!last)
        co_return co_await ask_for_xattr(operation, inode, std::move(name), room);
    if (session_.silent())
        co_return std::move(*last);
    Patience patience(session_, reactor_, operation);
    auto answer = co_await ask_for_xattr(patience.questions(), inode, std::move(name), room);
    co_return !answer && patience.is_over() ? std::move(*last) : std::move(answer);
}

Task<Result<Xattr>> FileSystem::ask_for_xattr(Operation& operation, InodeNumber inode, std::string name,
                                              std::size_t room) {
    if (const Status status = co_await settled(operation, inode); status != Status::ok)
        co_return Result<Xattr>(status);
    if (lacks_xattr(inode, name))
        co_return Result<Xattr>(Status::no_data);
    const std::uint64_t asked_at = contents_.now();
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<Xattr>(node.error());
    const wire::Getxattr message{*node, name, size_to_ask_for(room)};
    auto reply = co_await call(operation, message);
    remember_xattr(inode, name, reply.status());
    if (reply.status() == Status::no_data)
        remember_absence(inode, name, asked_at);
    if (inode == root_inode)
        remember_of_root(name, reply.status(), reply ? reply->body : wire::XattrReply{},
                         reply ? reply->bulk.text() : std::string_view());
    if (!reply)
        co_return Result<Xattr>(reply.error());
    co_return Result<Xattr>(Xattr{reply->body.size, std::move(reply->bulk)});
}

Task<Result<>> FileSystem::setxattr(Operation& operation, InodeNumber inode, std::string name, Buffer value,
                                    std::uint32_t flags) {
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<>(status);
    if (is_security(name) || xattr_unsupported(inode, name))
        co_return Result<>(Status::not_supported);
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<>(node.error());
    const wire::Setxattr message{*node, name, flags};
    const auto reply = co_await call_with_bulk(operation, message, std::move(value));
    xattr_changed_here(inode);
    remember_xattr(inode, name, reply.status());
    if (inode == root_inode) {
        root_xattrs_.erase(name);
        root_xattrs_.erase(std::string(list_of_names));
    }
    co_return outcome_of(reply);
}

Task<Result<Xattr>> FileSystem::listxattr(Operation& operation, InodeNumber inode, std::size_t room) {
    auto last = last_of_root(inode, list_of_names);
    if (!last)
        co_return co_await ask_for_xattr_names(operation, inode, room);
    if (session_.silent())
        co_return std::move(*last);
    Patience patience(session_, reactor_, operation);
    auto answer = co_await ask_for_xattr_names(patience.questions(), inode, room);
    co_return !answer && patience.is_over() ? std::move(*last) : std::move(answer);
}

Task<Result<Xattr>> FileSystem::ask_for_xattr_names(Operation& operation, InodeNumber inode, std::size_t room) {
    if (const Status status = co_await settled(operation, inode); status != Status::ok)
        co_return Result<Xattr>(status);
    if (lacks_xattr(inode, list_of_names))
        co_return Result<Xattr>(Xattr{});
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<Xattr>(node.error());
    const wire::Listxattr message{*node, size_to_ask_for(room)};
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<Xattr>(reply.error());
    if (inode == root_inode)
        remember_of_root(list_of_names, Status::ok, reply->body, reply->bulk.text());
    // The size stated may count names that are left out: callers must expect that anyway, for lists change.
    const std::string names = visible_names(reply->bulk.text());
    co_return Result<Xattr>(Xattr{reply->body.size, Buffer::copy_of(names)});
}

Task<Result<>> FileSystem::removexattr(Operation& operation, InodeNumber inode, std::string name) {
    if (const Status status = co_await all_settled(&operation.cancellation); status != Status::ok)
        co_return Result<>(status);
    if (is_security(name) || xattr_unsupported(inode, name))
        co_return Result<>(Status::not_supported);
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<>(node.error());
    const wire::Removexattr message{*node, name};
    const auto reply = co_await call(operation, message);
    xattr_changed_here(inode);
    remember_xattr(inode, name, reply.status());
    if (inode == root_inode) {
        root_xattrs_.erase(name);
        root_xattrs_.erase(std::string(list_of_names));
    }
    co_return outcome_of(reply);
}

}  // namespace remofile::filesystem
