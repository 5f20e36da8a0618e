// SPDX-License-Identifier: MIT
#include "remofs/kernel/kernel_request.hpp"

#include <linux/fuse.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "remofs/kernel/kernel_abi.hpp"

namespace remofile::remofs {
namespace {

// A structure of linux/fuse.h behind the header; of zeros if the message ends before it.
template <class Structure>
Structure body_of(std::span<const std::byte> message) {
    Structure body{};
    if (message.size() >= sizeof(fuse_in_header) + sizeof body)
        std::memcpy(&body, message.data() + sizeof(fuse_in_header), sizeof body);
    return body;
}

bool drops_set_id(std::uint32_t opcode, std::span<const std::byte> message) {
    switch (opcode) {
        case FUSE_WRITE:
            return (body_of<fuse_write_in>(message).write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
        case FUSE_OPEN:
            return (body_of<fuse_open_in>(message).open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
        case FUSE_CREATE:
            return (body_of<fuse_create_in>(message).open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
        case FUSE_SETATTR: {
            constexpr std::uint32_t both = FATTR_SIZE | FATTR_KILL_SUIDGID;
            return (body_of<fuse_setattr_in>(message).valid & both) == both;
        }
        default:
            return false;
    }
}

// Requests for which the kernel locks the directory that they name.
constexpr auto locking_table =
    std::to_array<std::uint32_t>({FUSE_LOOKUP, FUSE_READDIR, FUSE_READDIRPLUS, FUSE_CREATE, opcode_tmpfile, FUSE_MKNOD,
                                  FUSE_MKDIR, FUSE_SYMLINK, FUSE_LINK, FUSE_UNLINK, FUSE_RMDIR, FUSE_RENAME,
                                  FUSE_RENAME2, FUSE_SETATTR, FUSE_SETXATTR, FUSE_REMOVEXATTR, FUSE_FSYNCDIR});

std::array<filesystem::InodeNumber, 2> locks_of(const fuse_in_header& header, std::span<const std::byte> message) {
    if (std::ranges::find(locking_table, header.opcode) == locking_table.end())
        return {};
    switch (header.opcode) {
        case FUSE_RENAME:
            return {header.nodeid, body_of<fuse_rename_in>(message).newdir};
        case FUSE_RENAME2:
            return {header.nodeid, body_of<fuse_rename2_in>(message).newdir};
        default:
            return {header.nodeid};
    }
}

constexpr auto open_to_all_table = std::to_array<std::uint32_t>({FUSE_READ,
                                                                 FUSE_WRITE,
                                                                 FUSE_FLUSH,
                                                                 FUSE_FSYNC,
                                                                 FUSE_RELEASE,
                                                                 FUSE_LSEEK,
                                                                 FUSE_FALLOCATE,
                                                                 FUSE_COPY_FILE_RANGE,
                                                                 opcode_copy_file_range_64,
                                                                 FUSE_GETLK,
                                                                 FUSE_SETLK,
                                                                 FUSE_SETLKW,
                                                                 FUSE_READDIR,
                                                                 FUSE_READDIRPLUS,
                                                                 FUSE_FSYNCDIR,
                                                                 FUSE_RELEASEDIR,
                                                                 FUSE_INIT,
                                                                 FUSE_DESTROY,
                                                                 FUSE_FORGET,
                                                                 FUSE_BATCH_FORGET,
                                                                 FUSE_INTERRUPT,
                                                                 FUSE_NOTIFY_REPLY});

struct Familiar {
    std::uint32_t opcode;
    std::uint32_t familiar;
};

constexpr auto familiar_table = std::to_array<Familiar>({
    {opcode_tmpfile, FUSE_CREATE},
    {opcode_statx, FUSE_GETATTR},
    {opcode_copy_file_range_64, FUSE_COPY_FILE_RANGE},
});

}  // namespace

KernelRequest describe_request(std::span<const std::byte> message) {
    fuse_in_header header{};
    if (message.size() < sizeof header)
        return {};
    std::memcpy(&header, message.data(), sizeof header);
    return {.number = header.unique,
            .opcode = header.opcode,
            .uid = header.uid,
            .drops_set_id = drops_set_id(header.opcode, message),
            .locks = locks_of(header, message)};
}

bool is_open_to_all(std::uint32_t opcode) {
    return std::ranges::find(open_to_all_table, opcode) != open_to_all_table.end();
}

void make_familiar(std::span<std::byte> message) {
    fuse_in_header header{};
    if (message.size() < sizeof header)
        return;
    std::memcpy(&header, message.data(), sizeof header);
    const auto* found = std::ranges::find(familiar_table, header.opcode, &Familiar::opcode);
    if (found == familiar_table.end())
        return;
    header.opcode = found->familiar;
    std::memcpy(message.data(), &header, sizeof header);
}

}  // namespace remofile::remofs
