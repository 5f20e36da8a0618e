// SPDX-License-Identifier: MIT
// How far the times that a file system keeps tell one state of a file from the next.
#pragma once

#include <time.h>

#include <chrono>

namespace remofile {

// The steps in which a file system keeps times, told from one of them: two seconds (FAT), one (ext3, ext4 with inodes
// of 128 bytes, HFS+, SFTP), 10 ms, 100 ns and the like, by what is zero at its end. Asking the file system
// would not do: ext4 has both kinds of inodes side by side. Never too small; too large by chance, once in a thousand
// million for a second.
std::chrono::nanoseconds step_of(const timespec& time);

// Whether a file that was last changed at `change` and looked at at `now` (or later) can be changed after that and
// keep this time. `now` is of the clock that the file system takes its times from: coarse_now() for one of this
// machine.
bool may_recur(const timespec& change, const timespec& now);

// The clock of the kernel's file times, which ticks every 1 to 10 ms. (Linux 6.13 has finer ones where somebody looked
// between two changes, which are then told apart whatever this says.)
timespec coarse_now();

}  // namespace remofile
