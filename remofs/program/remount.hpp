// SPDX-License-Identifier: MIT
// mount -o remount: changing a mount that is there.
#pragma once

#include "base/result.hpp"
#include "remofs/program/options.hpp"

namespace remofile::remofs {

// Changes what the kernel does with the mount at the mountpoint of `options`: "ro", "nodev", "suid", "noatime" and so
// on; what is not named stays. Options for remofs itself must be those that it was started with, or what the mount
// table shows, for mount(8) repeats both; the driver of the mount is asked if the table does not have them all. Errors,
// naming mountpoint or option: no_entry (no such mount), not_supported (an option that cannot be changed; "rw" of a
// mount that was made with "ro"), busy (to be read-only, and files are open for writing), not_permitted and others of
// mount(2).
Result<> remount(const Options& options);

}  // namespace remofile::remofs
