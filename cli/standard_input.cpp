// SPDX-License-Identifier: MIT
#include "cli/standard_input.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace remofile::cli {

Task<void> StandardInput::readable() {
    Completion<bool> done;
    reactor_.watch(STDIN_FILENO, [&] {
        reactor_.unwatch(STDIN_FILENO);
        done.deliver(true);
    });
    co_await done;
}

Task<Result<Buffer>> StandardInput::read(std::size_t bytes) {
    Buffer data = Buffer::allocate(bytes);
    std::size_t done = 0;
    while (done < bytes) {
        co_await readable();
        const ssize_t size = ::read(STDIN_FILENO, data.data() + done, bytes - done);
        if (size < 0 && errno != EINTR && errno != EAGAIN)
            co_return Result<Buffer>(errno_error());
        if (size == 0)
            break;
        done += static_cast<std::size_t>(std::max(size, ssize_t{0}));
    }
    data.shrink(done);
    co_return Result<Buffer>(std::move(data));
}

}  // namespace remofile::cli
