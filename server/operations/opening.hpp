// SPDX-License-Identifier: MIT
// What the requests have in common that open files.
#pragma once

#include "server/files/open_description.hpp"
#include "server/operations/operation.hpp"

namespace remofile::server::operations {

// The open(2) flags of a request's. Errors: invalid.
Result<int> to_kernel_flags(std::uint32_t flags);
// `flags` have been through to_kernel_flags() already.
OpenFilePtr make_handle(Context& context, const InodePtr& inode, UniqueFd opened, std::uint32_t flags);

}  // namespace remofile::server::operations
