// SPDX-License-Identifier: MIT
// The one directory below which a test program keeps all its files, sockets and mounts, and the watch that clears it
// away when the program ends in whatever way: returned, failed an assertion, crashed, or was killed.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.hpp"

namespace remofile::test {

class Scratch {
public:
    // Makes the directory and starts the sweeper, a process that waits for this one to end. Call it before any thread
    // exists. Throws std::runtime_error if either cannot be had.
    Scratch();
    // Has the sweeper do its work and waits for it.
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    const std::string& path() const { return path_; }

    // Makes a new directory below path(), named after `purpose`, mode 0755.
    std::string make_directory(std::string_view purpose);

    // Keeps `thing` until just before the directory is cleared away: a server and mount that several tests share.
    template <class T>
    T& keep(std::unique_ptr<T> thing) {
        T& kept = *thing;
        kept_.push_back(std::shared_ptr<void>(std::move(thing)));  // shared_ptr only for its type-erased deleter
        return kept;
    }

    // For a process forked from this one: without it the sweeper would wait for that process too.
    void let_go_in_child() { alive_.reset(); }

    // The program's own, made by main().
    static Scratch& instance();

private:
    std::string path_;
    UniqueFd alive_;  // write end of a pipe: the sweeper wakes when its last copy is closed
    pid_t sweeper_ = -1;
    int directories_ = 0;
    std::vector<std::shared_ptr<void>> kept_;
};

}  // namespace remofile::test
