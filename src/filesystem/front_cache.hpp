// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>

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

    // What it keeps of the attributes of the file, as it was allowed to, is void.
    virtual void drop_attributes(InodeNumber inode) = 0;

    // Ends once nothing is kept of the file that drop() was called for. Errors: interrupted.
    virtual Task<Status> current(InodeNumber inode, client::Cancellation* cancellation) = 0;

    // Ends once all that programs have written to mappings of the file before is at the server. Not to be awaited by an
    // operation that changes the file's size. Errors: interrupted.
    virtual Task<Status> mappings_written(InodeNumber inode, client::Cancellation* cancellation) = 0;
};

// Whoever keeps names in front of the file system for as long as it was told to. One thread: the session's.
class FrontNames {
public:
    virtual ~FrontNames() = default;

    // That the name stands for what it stood for (`meant`; 0 if that is not known), or for nothing, is void. So are the
    // attributes of what it stood for: whoever removes the name before it has been dropped thinks that this has a link
    // less.
    virtual void drop_name(InodeNumber directory, const std::string& name, InodeNumber meant) = 0;

    // The names that are kept of the directory as those that it has are void. None are kept of it when this returns,
    // but for those of an answer that is on its way.
    virtual void drop_listing(InodeNumber directory) = 0;

    // `done` is called, now or later, once no name is kept that drop_name() was called for; or before, where such a
    // name may be held by an operation that waits for our answer. It is called within a bounded time.
    virtual void when_names_dropped(std::function<void()> done) = 0;
};

}  // namespace remofile::filesystem
