// SPDX-License-Identifier: MIT
#include "base/allocator.hpp"

#include <malloc.h>

#include <algorithm>
#include <climits>

namespace remofile {
namespace {

// Blocks up to here come from memory that is kept; longer than any bulk frame. Setting it also ends glibc's own
// adjustment, which learns from the first blocks freed.
constexpr int kept_block_bytes = 4 << 20;
// Arenas: the threads that move bulk data are few, and what each arena keeps adds up.
constexpr int max_arenas = 2;

}  // namespace

void keep_freed_memory(std::size_t bytes) {
    mallopt(M_MMAP_THRESHOLD, kept_block_bytes);
    mallopt(M_TRIM_THRESHOLD, static_cast<int>(std::min<std::size_t>(bytes, INT_MAX)));
    mallopt(M_ARENA_MAX, max_arenas);
}

}  // namespace remofile
