// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace remofile::server {

// Whether there is room for what clients have answered themselves and not sent yet. Two implementations: the file
// system's, and the tests' own. Callable from any thread.
class Room {
public:
    virtual ~Room() = default;
    // 256 MiB and 65,536 inodes at least, in the directory's file system and of the server's quotas of it, with the
    // bytes that are kept for it. False if it cannot be found out. `directory`: a descriptor. Takes system calls.
    virtual bool is_ample(int directory, std::uint64_t kept_bytes) const = 0;
};

class FileSystemRoom final : public Room {
public:
    bool is_ample(int directory, std::uint64_t kept_bytes) const override;
};

}  // namespace remofile::server
