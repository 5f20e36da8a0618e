// SPDX-License-Identifier: MIT
#include "remofs/operations/replies.hpp"

#include "remofs/operations/mount.hpp"

namespace remofile::remofs {

Task<void> reply_status(Request request, Task<Result<>> answer) {
    const auto done = co_await std::move(answer);
    request.error(done.status());
}

Task<void> reply_entry(Mount& mount, Request request, Task<Result<filesystem::Entry>> answer) {
    const auto entry = co_await std::move(answer);
    if (!entry)
        co_return request.error(entry.error());
    if (!request.entry(mount.tell_entry(*entry)))
        mount.file_system().forget(entry->inode);
}

}  // namespace remofile::remofs
