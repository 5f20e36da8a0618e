// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "connection.hpp"

namespace libremofile::detail {

// What an open file or directory is to its session.
struct Opened {
    std::uint64_t epoch = 0;  // of the session in which the ids mean something
    remofile::NodeId node;
    remofile::HandleId handle;
    bool append = false;

    // On the connection's thread.
    bool is_stale(Connection& connection) const { return epoch != connection.session().epoch(); }
};

// Constant while the file is open; used on any thread.
struct FileState {
    std::shared_ptr<Connection> connection;  // shared with the Client and what else it has opened
    Opened opened;
};

// As a FileState, but for one thread.
struct DirectoryState {
    std::shared_ptr<Connection> connection;
    Opened opened;
    remofile::client::DirectoryPart part;  // read last; the first has been when the directory is given out
    std::size_t next = 0;                  // of its entries
};

}  // namespace libremofile::detail
