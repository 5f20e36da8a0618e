// SPDX-License-Identifier: MIT
#include "base/allocator.hpp"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>

#include "base/unique_fd.hpp"

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

void give_back_freed_memory() {
    malloc_trim(0);
}

std::size_t resident_bytes() {
    const UniqueFd file(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
    std::array<char, 128> text{};
    if (!file || ::read(file.get(), text.data(), text.size() - 1) <= 0)
        return 0;
    unsigned long pages = 0;
    if (std::sscanf(text.data(), "%*u %lu", &pages) != 1)
        return 0;
    return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace remofile
