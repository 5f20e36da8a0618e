// SPDX-License-Identifier: MIT
// The socket file of an ipc endpoint. libzmq would remove whatever is in its place, a live server's socket too, and
// make it accessible as the umask happens to be; so this layer makes it. Internal to this layer.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace remofile::transport {

// A listening socket and its file, which is removed with this object unless somebody has replaced it.
class IpcSocket {
public:
    // The file gets mode 0600. One that nobody listens on any more is replaced. Errors: busy if a server listens there,
    // exists if there is something else, access_denied and so on; each names the path.
    static Result<IpcSocket> listen(const std::string& path, int backlog);
    IpcSocket(IpcSocket&& other) noexcept;
    IpcSocket& operator=(IpcSocket&&) = delete;
    ~IpcSocket();

    // The descriptor, which is the caller's from then on.
    int release_fd() { return fd_.release(); }

private:
    IpcSocket() = default;

    std::string path_;
    UniqueFd fd_;
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

}  // namespace remofile::transport
