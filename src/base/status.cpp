// SPDX-License-Identifier: MIT
#include "base/status.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.hpp"

namespace remofile {
namespace {

struct Row {
    Status status;
    int errno_value;
    std::string_view text;
};

// Where several statuses share an errno, or several errnos a status, the first row that matches decides.
constexpr auto table = std::to_array<Row>({
    {Status::ok, 0, "success"},
    {Status::not_permitted, EPERM, "operation not permitted"},
    {Status::no_entry, ENOENT, "no such file or directory"},
    {Status::io_error, EIO, "input/output error"},
    {Status::no_device, ENXIO, "no such device or address"},
    {Status::bad_handle, EBADF, "bad file handle"},
    {Status::try_again, EAGAIN, "temporarily unavailable"},
    {Status::out_of_memory, ENOMEM, "out of memory"},
    {Status::access_denied, EACCES, "permission denied"},
    {Status::busy, EBUSY, "device or resource busy"},
    {Status::exists, EEXIST, "file exists"},
    {Status::cross_device, EXDEV, "cross-device link"},
    {Status::not_directory, ENOTDIR, "not a directory"},
    {Status::is_directory, EISDIR, "is a directory"},
    {Status::invalid, EINVAL, "invalid argument"},
    // The server's want, not that of the program that asks: its own limit would be EMFILE.
    {Status::too_many_files, ENFILE, "too many open files"},
    {Status::too_many_files, EMFILE, "too many open files"},
    {Status::file_too_big, EFBIG, "file too large"},
    {Status::no_space, ENOSPC, "no space left on device"},
    {Status::read_only, EROFS, "read-only file system"},
    {Status::too_many_links, EMLINK, "too many links"},
    {Status::out_of_range, ERANGE, "result out of range"},
    {Status::deadlock, EDEADLK, "resource deadlock avoided"},
    {Status::name_too_long, ENAMETOOLONG, "file name too long"},
    {Status::no_locks, ENOLCK, "no locks available"},
    {Status::not_implemented, ENOSYS, "function not implemented"},
    {Status::not_empty, ENOTEMPTY, "directory not empty"},
    {Status::symlink_loop, ELOOP, "too many levels of symbolic links"},
    {Status::no_data, ENODATA, "no such attribute"},
    {Status::overflow, EOVERFLOW, "value too large"},
    {Status::not_supported, EOPNOTSUPP, "operation not supported"},
    {Status::stale, ESTALE, "stale file handle"},
    {Status::quota_exceeded, EDQUOT, "disk quota exceeded"},
    {Status::text_busy, ETXTBSY, "text file busy"},
    {Status::too_big, E2BIG, "argument list too long"},
    {Status::interrupted, EINTR, "interrupted"},
    {Status::timed_out, ETIMEDOUT, "timed out"},
    {Status::not_a_terminal, ENOTTY, "inappropriate ioctl for device"},
    {Status::illegal_seek, ESPIPE, "illegal seek"},
    {Status::bad_sequence, EILSEQ, "invalid byte sequence in name"},
    {Status::cancelled, EIO, "not carried out because an earlier request failed"},
    {Status::malformed, EIO, "malformed message"},
    {Status::version_mismatch, EIO, "no protocol version in common"},
    {Status::not_authorized, EIO, "key not authorised"},
    {Status::bad_token, EIO, "missing or wrong token"},
    {Status::in_use, EIO, "server in use"},
    {Status::no_session, ESTALE, "session expired"},
    {Status::limit_exceeded, EIO, "limit exceeded"},
    {Status::shutting_down, EIO, "server is shutting down"},
    {Status::unreachable, EHOSTUNREACH, "server unreachable"},
    {Status::wrong_server_key, EIO, "wrong server key"},
    {Status::bad_usage, EINVAL, "wrong usage"},
    {Status::export_needed, ENOENT, "no export named"},
});

const Row* find(Status status) {
    const auto* row = std::ranges::find(table, status, &Row::status);
    return row == table.end() ? nullptr : row;
}

}  // namespace

bool is_known(std::uint32_t number) {
    return find(static_cast<Status>(number)) != nullptr;
}

int to_errno(Status status) {
    const Row* row = find(status);
    if (row != nullptr)
        return row->errno_value;
    log::warn("status {} is unknown; reported as an input/output error", static_cast<std::uint32_t>(status));
    return EIO;
}

Status from_errno(int errno_value) {
    // The statuses from `cancelled` on say what happened between client and server, which no system call reports.
    const auto* row = std::ranges::find_if(table, [errno_value](const Row& candidate) {
        return candidate.errno_value == errno_value && candidate.status < Status::cancelled;
    });
    if (row != table.end())
        return row->status;
    log::warn("errno {} has no status of its own; reported as an input/output error", errno_value);
    return Status::io_error;
}

std::string_view describe(Status status) {
    const Row* row = find(status);
    return row == nullptr ? "unknown error" : row->text;
}

}  // namespace remofile
