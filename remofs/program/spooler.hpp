// SPDX-License-Identifier: MIT
// What a mount with -o spool= keeps on the disk when it ends, and sends when it begins.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/counters.hpp"
#include "base/task.hpp"
#include "base/unique_fd.hpp"
#include "client/session.hpp"
#include "filesystem/file_system.hpp"
#include "spool/directory.hpp"
#include "transport/reactor.hpp"

namespace remofile::remofs {

// One thread: the session's.
class Spooler {
public:
    // `source`: as the mount is given it; what mounts of another have kept is theirs.
    Spooler(spool::Directory directory, std::string source, Counters& counters);

    // Carries out what mounts of this source have kept, before anything is mounted. `tell` is called with lines for the
    // person who mounts, besides the log's: what is kept under another name, and what stays where it is, with the
    // reason. Ends when all is at the server, or cannot be now.
    Task<void> send(client::Session& session, transport::Reactor& reactor, std::function<void(std::string_view)> tell);

    // The mount is about to end: one that begins meanwhile waits for what may be kept.
    void announce_end();
    // Takes what the server has not got, and logs what became of it.
    void keep(filesystem::FileSystem& files);

    // How many files of this source are left to be sent.
    std::size_t left() const { return left_; }

private:
    using Tell = std::function<void(std::string_view)>;
    // Whether nothing stands in the way of what was kept later.
    Task<bool> send_file(client::Session& session, std::string name, spool::Contents contents, Tell tell);
    Task<void> wait_for_turn(transport::Reactor& reactor);

    spool::Directory directory_;
    std::string source_;
    Counters& counters_;
    std::optional<UniqueFd> turn_;
    std::size_t left_ = 0;
};

}  // namespace remofile::remofs
