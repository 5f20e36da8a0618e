// SPDX-License-Identifier: MIT
// What --archive keeps beside owner and mode: extended attributes and, through them, ACLs.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/session.hpp"

namespace remofile::cli {

using Xattrs = std::map<std::string, std::string, std::less<>>;  // name to value

// What a file of another directory's default ACL may have got when it was made.
inline constexpr std::string_view access_acl = "system.posix_acl_access";

// All that belong to a copy, of what `fd` is open on (which O_PATH does for links too). None where there are none to
// be had.
Xattrs local_xattrs(int fd);
// Gives it these and takes away what else a copy may have, as far as one may.
void set_local_xattrs(int fd, const Xattrs& wanted, const std::string& shown);

// The same of a file of the server. Errors: those of the connection.
Task<Result<Xattrs>> remote_xattrs(client::Session& session, NodeId node);
Task<std::vector<std::string>> remote_xattr_names(client::Session& session, NodeId node);
// Requests that give a file of the server these and, of the names that it has already, take away the others. What
// becomes of them is of no concern: an ordinary user may not do everything.
std::vector<client::EncodedRequest> xattr_requests(NodeId node, const Xattrs& wanted,
                                                   std::span<const std::string> there);

}  // namespace remofile::cli
