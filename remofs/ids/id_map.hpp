// SPDX-License-Identifier: MIT
// Whose files are whose: user and group numbers of the server in this machine's terms, and back.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"

namespace remofile::remofs {

// One kind of number (users, or groups). A number that no pair names is the same on both sides.
class IdTable {
public:
    // Error: invalid when either number has a partner already.
    Result<> add(std::uint32_t server, std::uint32_t local);
    std::uint32_t to_local(std::uint32_t server) const;
    std::uint32_t to_server(std::uint32_t local) const;
    bool empty() const { return to_local_.empty(); }

private:
    std::unordered_map<std::uint32_t, std::uint32_t> to_local_;
    std::unordered_map<std::uint32_t, std::uint32_t> to_server_;
};

struct IdMap {
    IdTable users;
    IdTable groups;

    bool empty() const { return users.empty() && groups.empty(); }

    // idmap=user: what the server's account owns is seen as this account's own.
    static IdMap single_user(std::uint32_t server_uid, std::uint32_t server_gid, std::uint32_t uid, std::uint32_t gid);

    // idmap=FILE: lines of "uid SERVER LOCAL" and "gid SERVER LOCAL", optionally followed by a count for a range;
    // empty lines and lines that begin with # are skipped. Error: invalid, naming the line.
    static Result<IdMap> parse(std::string_view text);
};

enum class IdDirection { to_local, to_server };

// Translates the ids inside the value of a POSIX ACL (system.posix_acl_access, system.posix_acl_default) in place.
// The format is the kernel's (linux/posix_acl_xattr.h). A value that is none is left as it is.
void translate_acl(std::span<std::byte> value, const IdMap& map, IdDirection direction);

}  // namespace remofile::remofs
