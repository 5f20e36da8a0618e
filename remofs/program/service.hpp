// SPDX-License-Identifier: MIT
// The life of the process that serves a mount: connect, mount, serve, unmount.
#pragma once

#include <optional>
#include <string>

#include "client/session.hpp"
#include "remofs/ids/id_map.hpp"
#include "remofs/program/options.hpp"
#include "remofs/program/startup.hpp"
#include "spool/directory.hpp"

namespace remofile::remofs {

// What the command line and the files it names have come to.
struct ServicePlan {
    Options options;
    std::string mountpoint;  // absolute
    client::SessionOptions session;
    IdMap ids;              // idmap=FILE
    bool map_user = false;  // idmap=user: the map depends on the server
    std::optional<spool::Directory> spool;
};

// Serves until the mount ends, by umount or by a signal. Call before any thread exists.
client::ExitStatus serve(ServicePlan plan, StartReport report);

}  // namespace remofile::remofs
