// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace remofile::server {

// How the start of the server is reported to whoever waits for it: the shell, by way of the process that it started.
// Used before threads and after them, by one thread.
class StartReport {
public:
    // Goes on in a child process of its own session, with the standard descriptors on /dev/null. The parent does not
    // return: it waits for the child's report, prints it and exits with the code given there. Call before threads
    // start.
    static Result<StartReport> become_daemon();
    // Reports to standard error by way of the log; and that it listens to the service manager that waits for it, if one
    // does (sd_notify(3)).
    static StartReport in_foreground() { return StartReport(UniqueFd()); }

    bool is_daemon() const { return static_cast<bool>(pipe_); }

    // The server listens. `text`: lines for the person.
    void started(std::string_view text);
    // It cannot; the program must end with `exit_code`.
    void failed(std::string_view text, int exit_code);

private:
    explicit StartReport(UniqueFd pipe) : pipe_(std::move(pipe)) {}
    void report(char exit_code, std::string_view text);

    UniqueFd pipe_;
};

}  // namespace remofile::server
