// SPDX-License-Identifier: MIT
// GETXATTR to REMOVEXATTR: extended attributes, and ACLs through them.
//
// The system calls take no O_PATH descriptor, so they go by DescriptorPath. For a symlink that is the symlink itself:
// trusted.* attributes work on it, and user.* are refused by the kernel as they are locally. Which namespaces the
// caller may use is the kernel's decision, with one exception: labels.
#include <sys/xattr.h>

#include <string_view>

#include "server/files/xattr_names.hpp"
#include "server/operations/operation.hpp"

namespace remofile::server::operations {
namespace {

using wire::Empty;

Result<> check_name(const std::string& name) {
    if (name.find('\0') != std::string::npos)
        return Status::invalid;
    // As setxattr(2) answers an empty or over-long name.
    if (name.empty() || name.size() > wire::max_name_bytes)
        return Status::out_of_range;
    if (is_label(name))
        return Status::not_supported;
    return {};
}

// `filled` bytes were found; sends them if the client has room for them, or their number if that is what it asked for.
Result<wire::XattrReply> answer(Context& context, Buffer value, std::uint32_t room) {
    const auto size = static_cast<std::uint32_t>(value.size());
    if (room == 0)
        return wire::XattrReply{size};
    if (size > room)
        return Status::out_of_range;
    context.reply_with(std::move(value));
    return wire::XattrReply{size};
}

// What InodeTable::hold_for_change() keeps open while an ACL changes.
std::vector<Descriptor> hold_for_acl(Context& context, std::string_view name, const InodePtr& inode) {
    return name == "system.posix_acl_access" ? context.inodes.hold_for_change(inode) : std::vector<Descriptor>{};
}

}  // namespace

Result<wire::XattrReply> getxattr(Context& context, const wire::Getxattr& request) {
    REMOFILE_TRY(file, context.hold(request.node));
    REMOFILE_CHECK(check_name(request.name));
    REMOFILE_TRY(acting, context.act());
    const DescriptorPath path(file.fd());
    if (request.size == 0) {
        const ssize_t size = ::getxattr(path.c_str(), request.name.c_str(), nullptr, 0);
        if (size < 0)
            return errno_error();
        return wire::XattrReply{static_cast<std::uint32_t>(size)};
    }
    Buffer value = Buffer::allocate(std::min<std::size_t>(request.size, wire::max_xattr_bytes));
    const ssize_t size = ::getxattr(path.c_str(), request.name.c_str(), value.data(), value.size());
    if (size < 0)
        return errno_error();
    value.shrink(static_cast<std::size_t>(size));
    return answer(context, std::move(value), request.size);
}

Result<Empty> setxattr(Context& context, const wire::Setxattr& request) {
    if ((request.flags & ~(wire::xattr_create | wire::xattr_replace)) != 0)
        return Status::invalid;
    REMOFILE_TRY(file, context.hold(request.node));
    REMOFILE_CHECK(check_name(request.name));
    if (context.bulk.size() > wire::max_xattr_bytes)
        return Status::too_big;
    const int flags = ((request.flags & wire::xattr_create) != 0 ? XATTR_CREATE : 0) |
                      ((request.flags & wire::xattr_replace) != 0 ? XATTR_REPLACE : 0);
    const auto kept_open = hold_for_acl(context, request.name, file.inode);
    {
        REMOFILE_TRY(acting, context.act());
        if (::setxattr(DescriptorPath(file.fd()).c_str(), request.name.c_str(), context.bulk.data(),
                       context.bulk.size(), flags) != 0)
            return errno_error();
    }
    context.note_change(file.inode);
    return Empty{};
}

Result<wire::XattrReply> listxattr(Context& context, const wire::Listxattr& request) {
    REMOFILE_TRY(file, context.hold(request.node));
    REMOFILE_TRY(acting, context.act());
    // All of it, whatever the client has room for: what is hidden must not count.
    Buffer list = Buffer::allocate(wire::max_xattr_bytes);
    auto* text = reinterpret_cast<char*>(list.data());
    const ssize_t size = ::listxattr(DescriptorPath(file.fd()).c_str(), text, list.size());
    if (size < 0)
        return errno_error();
    return answer(context, Buffer::copy_of(std::string_view(text, hide_labels({text, static_cast<std::size_t>(size)}))),
                  request.size);
}

Result<Empty> removexattr(Context& context, const wire::Removexattr& request) {
    REMOFILE_TRY(file, context.hold(request.node));
    REMOFILE_CHECK(check_name(request.name));
    const auto kept_open = hold_for_acl(context, request.name, file.inode);
    {
        REMOFILE_TRY(acting, context.act());
        if (::removexattr(DescriptorPath(file.fd()).c_str(), request.name.c_str()) != 0)
            return errno_error();
    }
    context.note_change(file.inode);
    return Empty{};
}

}  // namespace remofile::server::operations
