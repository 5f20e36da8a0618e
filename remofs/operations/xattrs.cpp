// SPDX-License-Identifier: MIT
// Extended attributes, and ACLs, which are two of them; and the mount's own status, which is read like one.
#include <sys/xattr.h>

#include <string>
#include <string_view>

#include "remofs/operations/mount.hpp"
#include "remofs/operations/operations.hpp"
#include "remofs/operations/replies.hpp"

namespace remofile::remofs {
namespace {

bool is_acl(std::string_view name) {
    return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

// A value or a list, for a caller that has room for `room` bytes; none: it asks for the size.
void reply_value(Request& request, std::size_t room, const filesystem::Xattr& answer) {
    if (room == 0)
        request.xattr_size(answer.size);
    else if (answer.bytes.size() > room)
        request.error(Status::out_of_range);
    else
        request.data(answer.bytes.bytes());
}

Task<void> get(Mount& mount, Request request, fuse_ino_t inode, std::string name, std::size_t room) {
    auto value = co_await mount.file_system().getxattr(request.operation(), inode, name, room);
    if (!value)
        co_return request.error(value.error());
    if (is_acl(name))
        translate_acl(value->bytes.bytes(), mount.ids(), IdDirection::to_local);
    reply_value(request, room, *value);
}

void reply_text(Request& request, std::size_t room, const std::string& text) {
    filesystem::Xattr answer{.size = static_cast<std::uint32_t>(text.size()), .bytes = {}};
    if (room > 0)
        answer.bytes = Buffer::copy_of(text);
    reply_value(request, room, answer);
}

// Whether the server is silent shows a moment after somebody began to ask.
void reply_status_text(Mount& mount, Request& request, std::size_t room) {
    mount.suspect_server();
    reply_text(request, room, mount.status_text());
}

Task<void> list(Mount& mount, Request request, fuse_ino_t inode, std::size_t room) {
    const auto names = co_await mount.file_system().listxattr(request.operation(), inode, room);
    if (!names)
        co_return request.error(names.error());
    reply_value(request, room, *names);
}

}  // namespace

void op_getxattr(fuse_req_t handle, fuse_ino_t inode, const char* name, std::size_t size) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.getxattr");
    if (inode == FUSE_ROOT_ID && name == Mount::status_attribute)
        return reply_status_text(mount, request, size);
    if (inode == FUSE_ROOT_ID && name == Mount::options_attribute)
        return reply_text(request, size, mount.lasting_options());
    spawn(get(mount, std::move(request), inode, name, size));
}

void op_setxattr(fuse_req_t handle, fuse_ino_t inode, const char* name, const char* value, std::size_t size,
                 int flags) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.setxattr");
    Buffer copy = Buffer::copy_of(std::string_view(value, size));
    if (is_acl(name))
        translate_acl(copy.bytes(), mount.ids(), IdDirection::to_server);
    const std::uint32_t wire_flags = ((flags & XATTR_CREATE) != 0 ? wire::xattr_create : 0) |
                                     ((flags & XATTR_REPLACE) != 0 ? wire::xattr_replace : 0);
    auto answer = mount.file_system().setxattr(request.operation(), inode, name, std::move(copy), wire_flags);
    spawn(reply_status(std::move(request), std::move(answer)));
}

void op_listxattr(fuse_req_t handle, fuse_ino_t inode, std::size_t size) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.listxattr");
    spawn(list(mount, std::move(request), inode, size));
}

void op_removexattr(fuse_req_t handle, fuse_ino_t inode, const char* name) {
    Mount& mount = Mount::of(handle);
    Request request(mount, handle, "fuse.removexattr");
    auto answer = mount.file_system().removexattr(request.operation(), inode, name);
    spawn(reply_status(std::move(request), std::move(answer)));
}

}  // namespace remofile::remofs
