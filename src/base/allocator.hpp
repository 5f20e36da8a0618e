// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

namespace remofile {

// Has malloc keep up to about `bytes` of freed memory, in each of its arenas, for the next blocks of its size. Unless
// told so, glibc gives the kernel back what held a block of bulk data and asks for it again with the next one, at a
// page fault for every 4 KiB: a quarter of the time that it takes to move the data (docs/adr/0006). Call it first in
// main(), before there are threads.
void keep_freed_memory(std::size_t bytes);

// Has malloc give the kernel back all whole pages that are free, wherever they lie. Takes about as long as filling
// them with zeros would.
void give_back_freed_memory();

// What the process has in memory, as the kernel counts it (VmRSS). 0 if it does not tell.
std::size_t resident_bytes();

}  // namespace remofile
