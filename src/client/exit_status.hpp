// SPDX-License-Identifier: MIT
// How remofs and remofile end: one number for each reason, so that a script can tell them apart. Both man pages list
// them.
#pragma once

#include "base/status.hpp"

namespace remofile::client {

enum class ExitStatus : int {
    success = 0,
    failure = 1,           // usage, configuration, or anything that has no number of its own
    unreachable = 2,       // no server answered
    wrong_server_key = 3,  // the server did not prove that it holds the expected key
    not_authorized = 4,    // the server does not know this client's key
    bad_token = 5,         // the token is missing or wrong
    in_use = 6,            // another client holds the server
    no_such_path = 7,      // the directory is not there, or is no directory
    version_mismatch = 8,  // the server speaks no protocol version that we do
    mountpoint = 9,        // remofs: the mountpoint is missing, busy or cannot be mounted on
};

// The exit status for the error of Session::open().
ExitStatus exit_status_for(Status status);
// The same for that of make_session_options(): a file of this machine that is missing is no path of the server.
ExitStatus exit_status_of_setup(Status status);

}  // namespace remofile::client
