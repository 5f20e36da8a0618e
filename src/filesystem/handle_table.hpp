// SPDX-License-Identifier: MIT
// Open files and directories, by the numbers that were given out for them.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/buffer.hpp"
#include "base/status.hpp"
#include "base/strong_id.hpp"
#include "client/readahead.hpp"
#include "filesystem/directory_cache.hpp"
#include "filesystem/directory_positions.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/operation.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// An open file or directory between us and whoever we answer: never used twice. 0 is none.
using HandleNumber = StrongId<struct HandleNumberTag>;

struct FileHandle {
    HandleId handle;  // 0: the server has not been asked for one, as the content is known
    std::uint64_t epoch = 0;
    InodeNumber inode = 0;
    std::uint32_t flags = 0;   // of OPEN, by which it can be opened again
    bool past_cache = false;   // direct I/O
    bool reads = false;        // opened for reading
    bool maps = false;         // opened for reading and writing, which a mapping that is written to needs
    bool written = false;      // since the last flush or fsync
    bool made_behind = false;  // by a request that nobody waited for
    bool opening = false;      // without a handle: it has been asked for, and nobody waits
    bool locked = false;       // a lock was taken through it, which its release may end
    // Opened to be read alone, for this identity: whoever opens the file next may have the handle.
    std::optional<std::uint32_t> lasting_for;
    Status write_error = Status::ok;  // of a write that was accepted before, until it has been reported
    // What a write or a close has reported of it: each close does again, until fsync has. The kernel sends a write(2)
    // in parts, and where the first was accepted, an error of the next is a short write to the program. And a child
    // that the program starts closes its copies of what is open.
    Status told_error = Status::ok;
    // Who opened it, for pages that are written for nobody in particular; null if the server acts as itself.
    std::unique_ptr<const CallerIdentity> opener;
    client::Readahead readahead;
    // Without a handle: the whole content, of that generation and as of that event (see FileContents), and the
    // attributes that belong to it.
    struct Known {
        std::shared_ptr<const Buffer> content;
        std::uint64_t generation = 0;
        std::uint64_t at = 0;
        wire::Attributes attributes;
    };
    Known known;
};

// A listing under way. Entries wait here until they are asked for.
struct DirectoryHandle {
    HandleId handle;  // 0: the server has not been asked for one, as the names are known
    std::uint64_t epoch = 0;
    InodeNumber inode = 0;
    std::deque<wire::DirectoryEntry> entries;
    DirectoryPositions positions;
    std::uint64_t number = DirectoryPositions::start;  // of the position after which `entries` begin
    std::uint64_t position = 0;                        // the cookie of it
    std::uint64_t asked_at = 0;                        // when `entries` were; see FileContents
    bool end = false;                                  // nothing comes after `entries`
    DirectoryCache::Names names;                       // without a handle: what is listed, since its beginning
    bool lent = false;                                 // whoever is in front may keep what it reads
};

// One thread. References stay valid until the handle is removed.
template <class Open>
class HandleTable {
public:
    HandleNumber add(Open open) {
        const HandleNumber handle{next_++};
        open_.emplace(handle, std::move(open));
        return handle;
    }
    Open* find(HandleNumber handle) {
        const auto found = open_.find(handle);
        return found == open_.end() ? nullptr : &found->second;
    }
    void remove(HandleNumber handle) { open_.erase(handle); }
    std::size_t size() const { return open_.size(); }
    template <class Visit>
    void for_each(Visit visit) {
        for (auto& [handle, open] : open_)
            visit(open);
    }

    template <class Visit>
    void for_each_numbered(Visit visit) {
        for (auto& [handle, open] : open_)
            visit(handle, open);
    }

private:
    std::uint64_t next_ = 1;
    std::unordered_map<HandleNumber, Open> open_;
};

}  // namespace remofile::filesystem
