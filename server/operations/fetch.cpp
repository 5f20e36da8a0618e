// SPDX-License-Identifier: MIT
// FETCH: a small file in one answer.
#include <fcntl.h>
#include <unistd.h>

#include "server/operations/operation.hpp"

namespace remofile::server::operations {
namespace {

using wire::Attributes;

// A file that is written to all the time cannot be had in one piece; it is read through a handle.
constexpr int max_attempts = 4;

Result<std::size_t> read_from_start(int fd, std::span<std::byte> into) {
    std::size_t done = 0;
    while (done < into.size()) {
        const ssize_t size = pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(done));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno_error();
        if (size == 0)
            break;
        done += static_cast<std::size_t>(size);
    }
    return done;
}

// The attributes of what has been opened, stamped; looked at anew if it became known that the file is here.
Result<Attributes> look_at(Context& context, int fd, const Context::Held& directory, const EntryName& name) {
    for (int attempt = 1;; ++attempt) {
        REMOFILE_TRY(attributes, stat_descriptor(fd));
        if (context.settle(attributes, directory.inode, name) || attempt == max_attempts)
            return attributes;
    }
}

bool is_same_state(const Attributes& before, const Attributes& after) {
    return (before.version | wire::version_is_fresh) == (after.version | wire::version_is_fresh) &&
           before.size == after.size;
}

// Content and attributes that belong together; false if they cannot be had.
Result<bool> read_whole(Context& context, int fd, const Context::Held& directory, const EntryName& name,
                        std::uint32_t limit, Attributes& attributes) {
    for (int attempt = 0; attempt < max_attempts; ++attempt) {
        if (attributes.size > limit)
            return false;
        Buffer content = Buffer::allocate(attributes.size);
        REMOFILE_TRY(size, read_from_start(fd, content.bytes()));
        REMOFILE_TRY(after, look_at(context, fd, directory, name));
        if (size == content.size() && is_same_state(attributes, after)) {
            context.reply_with(std::move(content));
            return true;
        }
        attributes = after;
    }
    return false;
}

}  // namespace

Result<wire::FetchReply> fetch(Context& context, const wire::Fetch& request) {
    if (request.size > wire::max_bulk_bytes)
        return Status::invalid;
    REMOFILE_TRY(directory, context.hold_directory(request.parent));
    REMOFILE_TRY(name, EntryName::check(request.name));
    context.asks(directory.inode, name);
    Result<UniqueFd> found = Status::no_entry;
    {
        REMOFILE_TRY(acting, context.act());
        found = context.inodes.with_room([&] { return open_entry(directory.fd(), name); });
    }
    if (!found)
        return found.error();
    wire::FetchReply reply;
    REMOFILE_TRY(attributes, look_at(context, found->get(), directory, name));
    reply.attributes = attributes;
    if (!S_ISREG(attributes.mode) || attributes.size > request.size)
        return reply;
    Result<UniqueFd> opened = Status::io_error;
    {
        REMOFILE_TRY(acting, context.act());
        opened = context.inodes.with_room([&] { return open_for_io(found->get(), S_IFREG, O_RDONLY); });
    }
    // Who may not read it may know its attributes.
    if (!opened)
        return reply;
    REMOFILE_TRY(complete, read_whole(context, opened->get(), directory, name, request.size, reply.attributes));
    reply.complete = complete;
    return reply;
}

}  // namespace remofile::server::operations
