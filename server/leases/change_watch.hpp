// SPDX-License-Identifier: MIT
// Changes that programs on the server make in leased directories, as fanotify(7) tells of them.
//
// Each leased directory has a mark of its own, as root's server and an ordinary user's may both have. A mark on whole
// file systems would tell the same, and of whatever else is written there: on a busy machine some thousand events a
// second of logs, compilers and databases, each of which delays its writer and wakes the server.
//
// What is not noticed: what other machines change on a network file system (its directories are not watched); what a
// program changes through a mapping, until it closes it; a further name that a program gives to a file in a directory
// that is not watched, and what it changes by that name.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/counters.hpp"
#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "server/file_service.hpp"
#include "server/leases/mount_watch.hpp"

namespace remofile::server {

class ChangeWatch {
public:
    // `root` is the export's. What the kernel tells is tried out there, by a file of a moment, if `may_write` and one
    // can be made. Error: not_supported, with the reason.
    static Result<std::unique_ptr<ChangeWatch>> open(int root, bool may_write, Counters& counters);
    ChangeWatch(const ChangeWatch&) = delete;
    ChangeWatch& operator=(const ChangeWatch&) = delete;

    // From now on changes in the directory, to which `descriptor` leads, are told of; it may be watched already. False
    // if they cannot be. Any thread.
    bool add(const InodePtr& directory, int descriptor);
    // No longer, unless `needed` says so; it is asked when no other thread can add the directory. Any thread.
    void remove(const InodePtr& directory, int descriptor, const std::function<bool()>& needed);

    // Readable when there is something to read().
    int descriptor() const { return queue_.get(); }
    struct Seen {
        std::vector<Touched> touched;  // by others than this process
        bool lost = false;             // there was more than the kernel keeps
    };
    // What has happened since the last call, or the first of it. One thread.
    Seen read();

    std::size_t directories() const;
    MountWatch& mounts() { return *mounts_; }

private:
    ChangeWatch(UniqueFd queue, std::unique_ptr<MountWatch> mounts, Counters& counters);
    Result<> try_out(int root, bool may_write);
    void take_event(const void* event, Seen& seen);

    struct Watched {
        InodePtr directory;
        std::string handle;  // what the kernel calls it
    };
    // Held across fanotify_mark(2), which waits for nothing: whoever finds the directory in the list finds it marked.
    struct State {
        std::unordered_map<const Inode*, Watched> directories;
        // Of different file systems two may have the same name.
        std::unordered_multimap<std::string, const Inode*> by_handle;
    };

    const UniqueFd queue_;
    const std::unique_ptr<MountWatch> mounts_;
    Counters::Counter& watched_;
    Counters::Counter& unwatched_;  // that could not be watched
    Counters::Counter& events_;
    mutable Guarded<State> state_;
    std::vector<char> buffer_;  // read()'s
};

// Whether a file system, by its number of statfs(2), changes only by what is done on this machine.
bool is_watchable_file_system(unsigned long type);

}  // namespace remofile::server
