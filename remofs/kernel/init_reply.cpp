// SPDX-License-Identifier: MIT
#include "remofs/kernel/init_reply.hpp"

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "remofs/operations/mount.hpp"

namespace remofile::remofs {

namespace {

// The kernel's ABI (linux/fuse.h of 6.6); older headers lack the number.
constexpr std::uint64_t direct_io_allow_mmap = std::uint64_t{1} << 36U;
constexpr std::uint64_t no_export_support = std::uint64_t{1} << 38U;  // of 6.8
constexpr std::uint64_t init_ext = std::uint64_t{1} << 30U;           // flags2 is in use
// ABORT_ERROR tells an aborted connection from an unmounted file system.
constexpr std::uint64_t wanted =
    direct_io_allow_mmap | no_export_support | FUSE_PARALLEL_DIROPS | FUSE_ABORT_ERROR | FUSE_HANDLE_KILLPRIV_V2;

// Where flags2 lies in fuse_init_in and fuse_init_out, after the headers.
constexpr std::size_t request_minor_offset = sizeof(fuse_in_header) + 4;
constexpr std::size_t request_flags_offset = sizeof(fuse_in_header) + 12;
constexpr std::size_t request_flags2_offset = sizeof(fuse_in_header) + 16;
constexpr std::size_t reply_flags_offset = sizeof(fuse_out_header) + 12;
constexpr std::size_t reply_flags2_offset = sizeof(fuse_out_header) + 32;
constexpr std::size_t reply_bytes = sizeof(fuse_out_header) + 64;

InitExchange& exchange_of(void* mount) {
    return static_cast<Mount*>(mount)->channel().init_exchange();
}

std::uint32_t load(const char* bytes) {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes, sizeof value);
    return value;
}

void note_request(InitExchange& exchange, const char* bytes, std::size_t size) {
    fuse_in_header header;
    if (exchange.answered || size < request_flags2_offset + 4)
        return;
    std::memcpy(&header, bytes, sizeof header);
    if (header.opcode != FUSE_INIT)
        return;
    exchange.unique = header.unique;
    exchange.minor = load(bytes + request_minor_offset);
    exchange.offered = load(bytes + request_flags_offset);
    if ((exchange.offered & init_ext) != 0)
        exchange.offered |= std::uint64_t{load(bytes + request_flags2_offset)} << 32U;
}

bool is_init_reply(const InitExchange& exchange, const std::vector<char>& bytes) {
    fuse_out_header header;
    if (exchange.unique == 0 || exchange.answered || bytes.size() != reply_bytes)
        return false;
    std::memcpy(&header, bytes.data(), sizeof header);
    return header.unique == exchange.unique && header.error == 0;
}

void complete(const InitExchange& exchange, std::vector<char>& bytes) {
    const std::uint64_t added = wanted & exchange.offered;
    const std::uint32_t flags = load(bytes.data() + reply_flags_offset) | static_cast<std::uint32_t>(added) |
                                static_cast<std::uint32_t>(exchange.offered & init_ext);
    const std::uint32_t flags2 = load(bytes.data() + reply_flags2_offset) | static_cast<std::uint32_t>(added >> 32U);
    std::memcpy(bytes.data() + reply_flags_offset, &flags, sizeof flags);
    std::memcpy(bytes.data() + reply_flags2_offset, &flags2, sizeof flags2);
}

ssize_t read_request(int fd, void* buffer, std::size_t size, void* mount) {
    const ssize_t got = ::read(fd, buffer, size);
    if (got > 0)
        note_request(exchange_of(mount), static_cast<const char*>(buffer), static_cast<std::size_t>(got));
    return got;
}

ssize_t write_reply(int fd, iovec* parts, int count, void* mount) {
    InitExchange& exchange = exchange_of(mount);
    if (exchange.unique == 0 || exchange.answered)
        return ::writev(fd, parts, count);
    std::vector<char> bytes;
    for (int i = 0; i < count; ++i) {
        const auto* start = static_cast<const char*>(parts[i].iov_base);
        bytes.insert(bytes.end(), start, start + parts[i].iov_len);
    }
    if (is_init_reply(exchange, bytes)) {
        complete(exchange, bytes);
        exchange.answered = true;
    }
    return ::write(fd, bytes.data(), bytes.size());
}

}  // namespace

bool complete_init_reply(fuse_session* session) {
    fuse_custom_io io{};  // newer versions have more members
    io.writev = write_reply;
    io.read = read_request;
    return fuse_session_custom_io(session, &io, fuse_session_fd(session)) == 0;
}

}  // namespace remofile::remofs
