// SPDX-License-Identifier: MIT
// One request at a time changes which file a name leads to: between a look at that and the removal of the name nobody
// else puts another file there, for whose handles nothing would have been made ready (InodeTable::begin_removal).
#pragma once

#include <xxhash.h>

#include <array>
#include <mutex>
#include <string_view>

namespace remofile::server {

class Inode;

// Callable from any thread. Held across system calls on the directories, like the kernel's own locks of these, and
// never while another lock is waited for, other than a second of these.
class NameLocks {
public:
    using Lock = std::unique_lock<std::mutex>;
    struct TwoLocks {
        Lock first;
        Lock second;  // none where both names share a lock
    };

    Lock lock(const Inode& directory, std::string_view name) { return Lock(of(directory, name)); }

    TwoLocks lock(const Inode& directory, std::string_view name, const Inode& other_directory,
                  std::string_view other_name) {
        std::mutex& first = of(directory, name);
        std::mutex& second = of(other_directory, other_name);
        if (&first == &second)
            return {.first = Lock(first), .second = {}};
        TwoLocks both{.first = Lock(first, std::defer_lock), .second = Lock(second, std::defer_lock)};
        std::lock(both.first, both.second);
        return both;
    }

private:
    // Names share them: whoever changes another name waits in vain, and rarely.
    static constexpr std::size_t count = 256;

    std::mutex& of(const Inode& directory, std::string_view name) {
        const auto seed = reinterpret_cast<std::uintptr_t>(&directory);
        return mutexes_[XXH3_64bits_withSeed(name.data(), name.size(), seed) % count];
    }

    std::array<std::mutex, count> mutexes_;
};

}  // namespace remofile::server
