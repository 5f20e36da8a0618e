// SPDX-License-Identifier: MIT
// Starting in the background: the command returns when the mount is usable, or says why it is not.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "client/exit_status.hpp"

namespace remofile::remofs {

// How the process that serves tells the person who started it how the start went. In the foreground it is that
// person's process; else it is a child, and this its end of a pipe.
class StartReport {
public:
    StartReport() = default;
    explicit StartReport(UniqueFd pipe) : pipe_(std::move(pipe)) {}

    // A line of information.
    void note(std::string_view text);
    // The start failed, for this reason.
    void failed(client::ExitStatus status, std::string_view reason);
    // The mount is usable. A background process leaves its terminal and its directory.
    void ready();

private:
    void send(char kind, client::ExitStatus status, std::string_view text);
    UniqueFd pipe_;  // closed in the foreground
};

// Splits off the process that serves. In the parent: waits for the report, prints what it says, and returns the exit
// status for the program. In the child: nothing yet; `report` is its end. Call before any thread exists. Errors are
// printed too.
struct Fork {
    bool is_child = false;
    client::ExitStatus status = client::ExitStatus::success;  // of the parent
    StartReport report;                                       // of the child
};
Fork start_in_background();

// Splits off a process that waits for the end of this one and takes the mount away then, if it is still there: this one
// has been killed. Call before any thread exists. Errors: those of pidfd_open(2) and fork(2).
Result<> unmount_when_killed(const std::string& mountpoint);

}  // namespace remofile::remofs
