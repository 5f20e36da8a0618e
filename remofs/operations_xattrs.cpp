// SPDX-License-Identifier: MIT
// Extended attributes, and ACLs, which are two of them.
#include <sys/xattr.h>

#include <string>
#include <string_view>

#include "remofs/mount.hpp"
#include "remofs/operations.hpp"

namespace remofile::remofs {
namespace {

// Security modules' attributes mean something to one machine only. The kernel asks for security.capability before each
// write, so they are answered here: by "not supported", after which ls -l asks no more (after "no data" it asks for
// every file). Not by ENOSYS, which would make the kernel take ACLs for unsupported too.
bool is_security(std::string_view name) {
    return name.starts_with("security.");
}

bool is_acl(std::string_view name) {
    return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

// What is remembered about attributes is remembered of the file's device and type.
void remember(Mount& mount, InodeNumber inode, std::string_view name, Status status) {
    const Inode* known = mount.inodes().find(inode);
    if (known != nullptr && status == Status::not_supported)
        mount.xattr_memory().remember_unsupported(known->identity.device, known->type, name);
}

bool known_unsupported(Mount& mount, InodeNumber inode, std::string_view name) {
    const Inode* known = mount.inodes().find(inode);
    return known != nullptr && mount.xattr_memory().unsupported(known->identity.device, known->type, name);
}

void reply_value(Request& request, std::size_t asked_size, std::uint32_t stated_size,
                 std::span<const std::byte> value) {
    if (asked_size == 0)
        request.xattr_size(stated_size);
    else if (value.size() > asked_size)
        request.error(Status::out_of_range);
    else
        request.data(value);
}

Task<void> get(Mount& mount, Request request, InodeNumber inode, wire::Getxattr message) {
    const std::string name = message.name;
    const std::size_t asked_size = message.size;
    auto reply = co_await mount.call(request, std::move(message));
    remember(mount, inode, name, reply.status());
    if (!reply)
        co_return request.error(reply.error());
    if (is_acl(name))
        translate_acl(reply->bulk.bytes(), mount.ids(), IdDirection::to_local);
    reply_value(request, asked_size, reply->body.size, reply->bulk.bytes());
}

Task<void> set(Mount& mount, Request request, InodeNumber inode, wire::Setxattr message, Buffer value) {
    const std::string name = message.name;
    const auto reply = co_await mount.call_with_bulk(request, std::move(message), std::move(value));
    remember(mount, inode, name, reply.status());
    request.error(reply.status());
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

Task<void> list(Mount& mount, Request request, wire::Listxattr message) {
    const auto reply = co_await mount.call(request, message);
    if (!reply)
        co_return request.error(reply.error());
    // The size stated may count names that are left out: callers must expect that anyway, for lists change.
    const std::string names = visible_names(reply->bulk.text());
    reply_value(request, message.size, reply->body.size, std::as_bytes(std::span(names)));
}

Task<void> remove(Mount& mount, Request request, InodeNumber inode, wire::Removexattr message) {
    const std::string name = message.name;
    const auto reply = co_await mount.call(request, std::move(message));
    remember(mount, inode, name, reply.status());
    request.error(reply.status());
}

}  // namespace

void op_getxattr(fuse_req_t handle, fuse_ino_t inode, const char* name, std::size_t size) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.getxattr");
    if (is_security(name) || known_unsupported(mount, inode, name))
        return request.error(Status::not_supported);
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    const auto wanted = static_cast<std::uint32_t>(std::min(size, wire::max_xattr_bytes));
    spawn(get(mount, std::move(request), inode, {*node, name, wanted}));
}

void op_setxattr(fuse_req_t handle, fuse_ino_t inode, const char* name, const char* value, std::size_t size,
                 int flags) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.setxattr");
    if (is_security(name) || known_unsupported(mount, inode, name))
        return request.error(Status::not_supported);
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    Buffer copy = Buffer::copy_of(std::string_view(value, size));
    if (is_acl(name))
        translate_acl(copy.bytes(), mount.ids(), IdDirection::to_server);
    const std::uint32_t wire_flags = ((flags & XATTR_CREATE) != 0 ? wire::xattr_create : 0) |
                                     ((flags & XATTR_REPLACE) != 0 ? wire::xattr_replace : 0);
    spawn(set(mount, std::move(request), inode, {*node, name, wire_flags}, std::move(copy)));
}

void op_listxattr(fuse_req_t handle, fuse_ino_t inode, std::size_t size) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.listxattr");
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    spawn(list(mount, std::move(request), {*node, static_cast<std::uint32_t>(std::min(size, wire::max_xattr_bytes))}));
}

void op_removexattr(fuse_req_t handle, fuse_ino_t inode, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.removexattr");
    if (is_security(name) || known_unsupported(mount, inode, name))
        return request.error(Status::not_supported);
    const auto node = mount.node_of(inode);
    if (!node)
        return request.error(node.error());
    spawn(remove(mount, std::move(request), inode, {*node, name}));
}

}  // namespace remofile::remofs
