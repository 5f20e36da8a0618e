// SPDX-License-Identifier: MIT
#include "remofs/kernel/open_flags.hpp"

#include <fcntl.h>

#include <array>

#include "wire/messages.hpp"

namespace remofile::remofs {
namespace {

// FMODE_EXEC of linux/fs.h: the kernel sets it when a program is opened to be run.
constexpr int open_for_execution = 0x20;

struct Row {
    int mask;
    int value;  // of flags & mask
    std::uint32_t wire;
};

// Whoever may execute a program need not be allowed to read it, and the server reads it all the same for an open that
// asks for nothing else.
constexpr auto table = std::to_array<Row>({
    {O_ACCMODE | open_for_execution, O_RDONLY, wire::open_read},
    {O_ACCMODE | open_for_execution, O_RDONLY | open_for_execution, wire::open_execute},
    {O_ACCMODE, O_WRONLY, wire::open_write},
    {O_ACCMODE, O_RDWR, wire::open_read | wire::open_write},
    // Linux's fourth mode: it takes both permissions and then allows neither, for ioctl(2).
    {O_ACCMODE, O_ACCMODE, wire::open_read | wire::open_write},
    {O_APPEND, O_APPEND, wire::open_append},
    {O_TRUNC, O_TRUNC, wire::open_truncate},
    {O_EXCL, O_EXCL, wire::open_exclusive},
    {O_SYNC, O_SYNC, wire::open_sync},
    {O_SYNC, O_DSYNC, wire::open_dsync},  // O_SYNC contains O_DSYNC's bit
    {O_NOATIME, O_NOATIME, wire::open_noatime},
});

}  // namespace

std::uint32_t to_wire_open_flags(int flags) {
    std::uint32_t result = 0;
    for (const Row& row : table)
        if ((flags & row.mask) == row.value)
            result |= row.wire;
    return result;
}

bool needs_direct_io(int flags) {
    return (flags & (O_DIRECT | O_APPEND)) != 0;
}

}  // namespace remofile::remofs
