// SPDX-License-Identifier: MIT
#pragma once

#include <functional>

#include "base/task.hpp"
#include "client/session.hpp"
#include "filesystem/inode_number.hpp"

namespace remofile::filesystem {

// Whoever keeps, in front of the file system, what it was told: the kernel, for a mount. One thread: the session's.
class FrontCache {
public:
    virtual ~FrontCache() = default;

    // What it keeps of the content of the file is void. `done`, if given, is called, now or later, once none is left.
    // What is kept of a file that nobody has open need not go: opening the file drops it.
    virtual void drop(InodeNumber inode, std::function<void()> done) = 0;

    // Ends once nothing is kept of the file that drop() was called for. Errors: interrupted.
    virtual Task<Status> current(InodeNumber inode, client::Cancellation* cancellation) = 0;

    // Ends once all that programs have written to mappings of the file before is at the server. Not to be awaited by an
    // operation that changes the file's size. Errors: interrupted.
    virtual Task<Status> mappings_written(InodeNumber inode, client::Cancellation* cancellation) = 0;
};

}  // namespace remofile::filesystem
