// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.hpp"
#include "base/result.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// The entries of a READDIR or LIST reply: `count` is the reply's and `cookie` the request's, 0 for LIST. Trusts
// nothing: io_error (logged) for a name that is empty, longer than wire::max_name_bytes or contains '/' or a zero byte,
// for bytes that are missing or left over, and for a cookie that would lead back to the start, to the request's place
// or to the entry before.
// "." and ".." are passed on as they come. The type is that of the attributes, if there are any: the file may be
// another by the time at which the server looks at it.
Result<std::vector<wire::DirectoryEntry>> decode_directory(const Buffer& bulk, std::uint16_t count,
                                                           std::uint64_t cookie = 0);

// True for what may stand as one component of a path: not empty, ".", "..", over-long, or with '/' or a zero byte.
bool is_valid_name(std::string_view name);

}  // namespace remofile::client
