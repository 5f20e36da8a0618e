// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <string_view>

namespace remofile::remofs {

// What the signals that wait for a thread ask of it.
enum class SignalWish {
    go_on,  // none, or only such as programs use for their own purposes (SIGALRM, SIGCHLD, SIGWINCH, ...)
    stop,   // one by which people stop programs: SIGINT, SIGTERM, SIGHUP, SIGQUIT
    die,    // SIGKILL; the kernel turns other signals into it where they have their default, fatal, effect
};

// From the text of /proc/PID/status.
SignalWish signal_wish(std::string_view proc_status);

// Of a running thread. `if_unknown`: if it cannot be told (another PID namespace, or it may not be looked at).
SignalWish signal_wish_of(pid_t thread, SignalWish if_unknown);

}  // namespace remofile::remofs
