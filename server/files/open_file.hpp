// SPDX-License-Identifier: MIT
// Files and directories that some session has open.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/files/inode_table.hpp"
#include "server/files/open_description.hpp"
#include "wire/compression.hpp"

namespace remofile::server {

// An open regular file. Shared by the session that opened it, requests at work on it, and waits for its lock.
struct OpenFile {
    // Constant.
    InodePtr inode;
    OpenDescriptionPtr open;
    bool readable = false;
    bool writable = false;
    bool append = false;

    // Held by whoever moves a descriptor's file position: appending and seeking.
    std::mutex position;
    wire::Compressibility compressibility;
    // What can say whether a read would have to wait for the disk.
    enum class NoWait : std::uint8_t { file_system, page_cache, nothing };
    std::atomic<NoWait> no_wait = NoWait::file_system;
    // Whether a lock was ever asked for, so that others need not be given up.
    std::atomic<bool> locked = false;
};
using OpenFilePtr = std::shared_ptr<OpenFile>;

// An open file at work: its descriptor is not closed before this goes.
struct HeldFile {
    OpenFilePtr file;
    Descriptor descriptor;
    int fd() const { return descriptor->get(); }
    OpenFile& operator*() const { return *file; }
    OpenFile* operator->() const { return file.get(); }
};

// An open directory. Shared by the session that opened it and requests at work on it.
struct OpenDirectory {
    InodePtr inode;           // constant
    OpenDescriptionPtr open;  // constant

    struct Entry {
        std::uint64_t cookie = 0;
        std::uint64_t inode = 0;
        std::uint8_t type = 0;
        std::string name;
    };
    // Held across the system calls that read the directory: they move the one file position there is.
    std::mutex reading;
    // All guarded by `reading`: entries read from the kernel and not yet sent, and the cookie before the first; where
    // the kernel goes on, and the descriptor that stands there.
    std::vector<Entry> unsent;
    std::uint64_t unsent_cookie = 0;
    off_t position = 0;
    std::weak_ptr<const UniqueFd> positioned;
};
using OpenDirectoryPtr = std::shared_ptr<OpenDirectory>;

}  // namespace remofile::server
