// SPDX-License-Identifier: MIT
// The names of extended attributes, as clients get to see them.
#pragma once

#include <span>
#include <string_view>

namespace remofile::server {

// Whether it is one of those that are kept from clients: of security.* all but security.capability. They are labels
// that the server's own kernel acts upon (SELinux, AppArmor, IMA); a client's mean nothing here.
bool is_label(std::string_view name);

// Takes labels off a list of names that end in a zero byte; returns what is left of its size.
std::size_t hide_labels(std::span<char> list);

// Whether what the path names, a symlink itself, certainly has none that clients see, ACLs included.
bool has_no_xattrs(const char* path);
// Whether what is made in the directory inherits an ACL.
bool has_default_acl(const char* path);

}  // namespace remofile::server
