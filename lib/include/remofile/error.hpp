// SPDX-License-Identifier: MIT
/// @file
/// What the functions of libremofile answer when something went wrong. Needs C++23 for std::expected.
#pragma once

#include <expected>
#include <string>

/// Everything of the C++ interface.
namespace libremofile {

/// Why a call failed. The numbers are Linux's errno values, on every platform, and never change; a number that is not
/// listed here may appear too.
enum class ErrorCode : int {
    not_permitted = 1,       ///< EPERM
    no_entry = 2,            ///< ENOENT
    interrupted = 4,         ///< EINTR
    io_error = 5,            ///< EIO, and whatever has no number of its own
    bad_handle = 9,          ///< EBADF: the file is closed, or was not opened for that
    out_of_memory = 12,      ///< ENOMEM
    access_denied = 13,      ///< EACCES; of connect() also: the key is not authorised, or the token is wrong
    busy = 16,               ///< EBUSY; of connect() also: another client holds the server
    exists = 17,             ///< EEXIST
    cross_device = 18,       ///< EXDEV
    not_directory = 20,      ///< ENOTDIR
    is_directory = 21,       ///< EISDIR
    invalid = 22,            ///< EINVAL
    file_too_big = 27,       ///< EFBIG
    no_space = 28,           ///< ENOSPC
    read_only = 30,          ///< EROFS
    name_too_long = 36,      ///< ENAMETOOLONG
    not_empty = 39,          ///< ENOTEMPTY
    symlink_loop = 40,       ///< ELOOP; also an absolute symbolic link in a path, which means nothing here
    protocol = 71,           ///< EPROTO: the server speaks no version of the protocol that this library does
    not_supported = 95,      ///< EOPNOTSUPP
    closed = 108,            ///< ESHUTDOWN: the Client is gone, or the server is stopping
    timed_out = 110,         ///< ETIMEDOUT: no answer within Options::timeout
    unreachable = 113,       ///< EHOSTUNREACH: no connection to the server
    stale = 116,             ///< ESTALE: the session was lost, and with it this open file
    quota_exceeded = 122,    ///< EDQUOT
    wrong_server_key = 129,  ///< EKEYREJECTED: the server did not prove that it holds the expected key
};

/// An error: a code for the program, a line for the person.
struct Error {
    ErrorCode code = ErrorCode::io_error;  ///< For the program.
    std::string message;                   ///< Never empty.
};

/// A value, or why there is none.
template <class T = void>
using Result = std::expected<T, Error>;

}  // namespace libremofile
