// SPDX-License-Identifier: MIT
// The numbered outcomes of an operation, as docs/PROTOCOL.md lists them, and the one table in which they meet errno.
#pragma once

#include <cstdint>
#include <string_view>

namespace remofile {

// Numbers are part of the wire protocol: never reuse or renumber one. 0 is success; 1-199 mirror POSIX errors;
// 200 and above have no errno of their own.
enum class Status : std::uint32_t {
    ok = 0,
    not_permitted = 1,     // EPERM
    no_entry = 2,          // ENOENT
    io_error = 3,          // EIO, and every errno that the table does not know
    no_device = 4,         // ENXIO
    bad_handle = 5,        // EBADF
    try_again = 6,         // EAGAIN: a lock is held by another
    out_of_memory = 7,     // ENOMEM
    access_denied = 8,     // EACCES
    busy = 9,              // EBUSY
    exists = 10,           // EEXIST
    cross_device = 11,     // EXDEV
    not_directory = 12,    // ENOTDIR
    is_directory = 13,     // EISDIR
    invalid = 14,          // EINVAL
    too_many_files = 15,   // EMFILE, ENFILE
    file_too_big = 16,     // EFBIG
    no_space = 17,         // ENOSPC
    read_only = 18,        // EROFS
    too_many_links = 19,   // EMLINK
    out_of_range = 20,     // ERANGE
    deadlock = 21,         // EDEADLK
    name_too_long = 22,    // ENAMETOOLONG
    no_locks = 23,         // ENOLCK
    not_implemented = 24,  // ENOSYS
    not_empty = 25,        // ENOTEMPTY
    symlink_loop = 26,     // ELOOP
    no_data = 27,          // ENODATA: no such extended attribute
    overflow = 28,         // EOVERFLOW
    not_supported = 29,    // EOPNOTSUPP
    stale = 30,            // ESTALE: the node or handle is no longer what it was
    quota_exceeded = 31,   // EDQUOT
    text_busy = 32,        // ETXTBSY
    too_big = 33,          // E2BIG
    interrupted = 34,      // EINTR: cancelled at the client's request before it was carried out
    timed_out = 35,        // ETIMEDOUT
    not_a_terminal = 36,   // ENOTTY
    illegal_seek = 37,     // ESPIPE
    bad_sequence = 38,     // EILSEQ: the server's file system refuses the name's bytes

    cancelled = 200,         // an earlier request that this one was linked to failed; this one was not carried out
    malformed = 201,         // the peer's message broke the protocol
    version_mismatch = 202,  // no protocol version in common
    not_authorized = 203,    // the client's key is not authorised
    bad_token = 204,         // missing or wrong token, or too many attempts
    in_use = 205,            // another client holds the server exclusively, or exclusive use cannot be given
    no_session = 206,        // the session has expired or never was; send HELLO
    limit_exceeded = 207,    // a limit that HELLO stated was not respected
    shutting_down = 208,     // the server is stopping
    unreachable = 209,       // client side only: no connection to the server
    wrong_server_key = 210,  // client side only: the server did not prove that it holds the expected key
    bad_usage = 211,         // client side only: an option or a configuration is wrong
    export_needed = 212,     // the server has several exports, and HELLO's path names none
};

// True for a number that the enumeration lists; a peer may send any.
bool is_known(std::uint32_t number);

// The errno that a program on the mount sees. Statuses without an errno of their own become EIO, except unreachable
// (EHOSTUNREACH), no_session (ESTALE) and export_needed (ENOENT). ok becomes 0.
int to_errno(Status status);

// The status for an errno of a failed system call. An unknown one becomes io_error and is logged with its number.
Status from_errno(int errno_value);

// A short lower-case phrase ("no such file or directory") for messages to a person.
std::string_view describe(Status status);

}  // namespace remofile
