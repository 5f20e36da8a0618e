// SPDX-License-Identifier: MIT
// Handles of files that were read and closed, kept at the server for who opens the same file next: git, make and
// editors open the same small files over and over. With the server's handle, what is opened so is open in every
// respect, whatever becomes of its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/strong_id.hpp"
#include "filesystem/inode_number.hpp"
#include "transport/reactor.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// One thread: the session's.
class KeptHandles {
public:
    using Release = std::function<void(HandleId)>;

    // Longer than a person looks at what git status has said.
    static constexpr Duration usual_life = std::chrono::seconds(120);

    // The reactor must outlive it. `release` closes a handle at the server. None is kept for longer than `life`.
    KeptHandles(transport::Reactor& reactor, Release release, Duration life = usual_life);
    ~KeptHandles();
    KeptHandles(const KeptHandles&) = delete;
    KeptHandles& operator=(const KeptHandles&) = delete;

    struct Kept {
        InodeNumber inode = 0;
        InodeNumber directory = 0;  // where the file was found
        std::string name;
        std::uint32_t credential = 0;  // for whom it was opened
        HandleId handle;
    };
    void put(Kept kept);
    // A handle of the file that was opened for the same identity. It is not kept any more.
    std::optional<HandleId> take(InodeNumber inode, std::uint32_t credential);

    // The file that has the name has changed, or lost it; all of a directory (an empty name), or of all (directory 0).
    void drop(InodeNumber directory, std::string_view name);
    // The session is another one, which knows none of them.
    void forget_all() { kept_.clear(); }

    static constexpr std::size_t max_kept = 256;

private:
    struct Timed {
        Kept kept;
        TimePoint ends{};
    };

    void expire();
    void wait_for_next();

    transport::Reactor& reactor_;
    Release release_;
    const Duration life_;
    std::list<Timed> kept_;  // the oldest first
    std::optional<transport::TimerId> timer_;
};

}  // namespace remofile::filesystem
