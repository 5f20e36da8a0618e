// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

namespace remofile {

// Has malloc keep up to about `bytes` of freed memory, in each of its arenas, for the next blocks of its size. Unless
// told so, glibc gives the kernel back what held a block of bulk data and asks for it again with the next one, at a
// page fault for every 4 KiB: a quarter of the time that it takes to move the data (docs/adr/0006). Call it first in
// main(), before there are threads.
void keep_freed_memory(std::size_t bytes);

}  // namespace remofile
