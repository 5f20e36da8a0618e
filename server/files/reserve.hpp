// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include "base/unique_fd.hpp"

namespace remofile::server {

// Room of a file system that is kept for what clients have told their programs and not sent yet: whoever else fills it
// meanwhile does not make a lie of that. It is a file without a name, which goes with the process however that ends.
// Callable from any thread; takes system calls.
class Reserve {
public:
    // Keeps 64 MiB of the file system of the directory, which is open in any way, unless it does so already. A file
    // system that cannot (no O_TMPFILE, no fallocate(2), no room) is not asked again.
    void keep(int directory);
    // Gives a MiB of it back; no more at a time, for whoever fills the file system takes what is left of it. False if
    // there is none.
    bool give_up_part();
    // Gives all of it back if nobody needs it at that moment.
    void give_up_if(const std::function<bool()>& is_unneeded);
    std::uint64_t kept_bytes() const { return kept_bytes_; }  // without a system call

private:
    void close();

    std::mutex mutex_;
    UniqueFd file_;                              // none: nothing is kept
    std::atomic<std::uint64_t> kept_bytes_ = 0;  // those of the file
    bool has_failed_ = false;
};

}  // namespace remofile::server
