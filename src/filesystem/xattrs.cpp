// SPDX-License-Identifier: MIT
// Extended attributes, and ACLs, which are two of them.
#include <algorithm>
#include <string_view>

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

// A list of names, each with a zero byte after it, without the security modules'.
std::string visible_names(std::string_view names) {
    std::string visible;
    while (!names.empty()) {
        const std::size_t end = std::min(names.find('\0'), names.size());
        const std::string_view name = names.substr(0, end);
        if (!name.empty() && !is_security(name))
            visible.append(name).push_back('\0');
        names.remove_prefix(std::min(end + 1, names.size()));
    }
    return visible;
}

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

Task<Result<Xattr>> FileSystem::getxattr(Operation& operation, InodeNumber inode, std::string name, std::size_t room) {
    if (is_security(name) || xattr_unsupported(inode, name))
        co_return Result<Xattr>(Status::not_supported);
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<Xattr>(node.error());
    const wire::Getxattr message{*node, name, size_to_ask_for(room)};
    auto reply = co_await call(operation, message);
    remember_xattr(inode, name, reply.status());
    if (!reply)
        co_return Result<Xattr>(reply.error());
    co_return Result<Xattr>(Xattr{reply->body.size, std::move(reply->bulk)});
}

Task<Result<>> FileSystem::setxattr(Operation& operation, InodeNumber inode, std::string name, Buffer value,
                                    std::uint32_t flags) {
    if (is_security(name) || xattr_unsupported(inode, name))
        co_return Result<>(Status::not_supported);
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<>(node.error());
    const wire::Setxattr message{*node, name, flags};
    const auto reply = co_await call_with_bulk(operation, message, std::move(value));
    changed_here(inode);
    remember_xattr(inode, name, reply.status());
    co_return outcome_of(reply);
}

Task<Result<Xattr>> FileSystem::listxattr(Operation& operation, InodeNumber inode, std::size_t room) {
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<Xattr>(node.error());
    const wire::Listxattr message{*node, size_to_ask_for(room)};
    const auto reply = co_await call(operation, message);
    if (!reply)
        co_return Result<Xattr>(reply.error());
    // The size stated may count names that are left out: callers must expect that anyway, for lists change.
    const std::string names = visible_names(reply->bulk.text());
    co_return Result<Xattr>(Xattr{reply->body.size, Buffer::copy_of(names)});
}

Task<Result<>> FileSystem::removexattr(Operation& operation, InodeNumber inode, std::string name) {
    if (is_security(name) || xattr_unsupported(inode, name))
        co_return Result<>(Status::not_supported);
    const auto node = co_await node_for(operation, inode);
    if (!node)
        co_return Result<>(node.error());
    const wire::Removexattr message{*node, name};
    const auto reply = co_await call(operation, message);
    changed_here(inode);
    remember_xattr(inode, name, reply.status());
    co_return outcome_of(reply);
}

}  // namespace remofile::filesystem
