// SPDX-License-Identifier: MIT
/// @file
/// Attributes of remote files, and open ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "remofile/error.hpp"

#if defined(__GNUC__)
#define LIBREMOFILE_PUBLIC __attribute__((visibility("default")))
#else
#define LIBREMOFILE_PUBLIC
#endif

namespace libremofile {

/// A point in time, since 1970 in UTC.
struct Timestamp {
    std::int64_t seconds = 0;       ///< Negative before 1970.
    std::uint32_t nanoseconds = 0;  ///< 0 to 999,999,999
};

/// As an argument of Client::utimes(): whatever the server's clock says.
inline constexpr Timestamp server_now{0, 0x3fff'ffff};

/// What stat(2) says of a file; the numbers are those of the server.
struct Attributes {
    std::uint64_t inode = 0;       ///< Number of the file in its file system.
    std::uint64_t device = 0;      ///< Number of that file system on the server; both together tell files apart.
    std::uint32_t mode = 0;        ///< Type and permission bits, with Linux's numbers.
    std::uint32_t links = 0;       ///< How many names it has.
    std::uint32_t uid = 0;         ///< Its owner.
    std::uint32_t gid = 0;         ///< Its group.
    std::uint64_t size = 0;        ///< Bytes.
    std::uint64_t blocks = 0;      ///< 512-byte units.
    std::uint32_t block_size = 0;  ///< Bytes that are good to transfer at once.
    Timestamp access;              ///< When it was last read, as far as the server keeps account.
    Timestamp modification;        ///< When its contents last changed.
    Timestamp change;              ///< When its contents or attributes last changed.

    /// The type, by `mode`.
    bool is_directory() const { return (mode & 0170000U) == 0040000U; }
    /// The type, by `mode`.
    bool is_regular() const { return (mode & 0170000U) == 0100000U; }
    /// The type, by `mode`.
    bool is_symlink() const { return (mode & 0170000U) == 0120000U; }
};

/// How to open a file; combine with |.
enum class Open : unsigned {
    read = 1U << 0,
    write = 1U << 1,
    append = 1U << 2,     ///< Every write goes to the end of the file. Implies nothing else: add write.
    create = 1U << 3,     ///< Make the file if it is not there.
    exclusive = 1U << 4,  ///< With create: fail if it is there, even as a symbolic link.
    truncate = 1U << 5,   ///< Empty the file. Needs write.
};
/// Both.
constexpr Open operator|(Open a, Open b) {
    return static_cast<Open>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
/// Whether any of `flag` is in `set`.
constexpr bool has(Open set, Open flag) {
    return (static_cast<unsigned>(set) & static_cast<unsigned>(flag)) != 0;
}

namespace detail {
struct FileState;
}

/// An open file of the server. Made by Client::open(). It may outlive the Client, but then answers ErrorCode::closed.
///
/// Threads: all functions but close(), moving and destroying may be called by several threads at once.
class LIBREMOFILE_PUBLIC File {
public:
    /// Not open: every call answers ErrorCode::bad_handle.
    File();
    /// `other` is not open afterwards.
    File(File&& other) noexcept;
    /// As destroying this one, and making it of `other`.
    File& operator=(File&& other) noexcept;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    /// Closes it without waiting. An error of the closing is lost: call close() to hear of it.
    ~File();

    /// True until close(), or until it is moved from.
    bool is_open() const;

    /// Reads up to buffer.size() bytes from `offset`, of any size: large ones travel in parts, several under way at
    /// once. Fewer than asked for only at the end of the file; 0 at or behind it.
    Result<std::size_t> pread(std::span<std::byte> buffer, std::uint64_t offset) const;

    /// Writes all of `data` at `offset` (with Open::append: at the end), or says why not; part of it may then be
    /// written. When it returns, the server's kernel has the data; sync() makes it durable.
    Result<> pwrite(std::span<const std::byte> data, std::uint64_t offset) const;

    /// Cuts or extends (with zeros) the file.
    Result<> truncate(std::uint64_t size) const;

    /// When it returns, the file survives a loss of power of the server.
    Result<> sync() const;

    /// Of the open file, whatever its name is by now.
    Result<Attributes> stat() const;

    /// Closes it and says whether the server kept an error for it. The object is not open afterwards, in any case.
    Result<> close();

private:
    friend class Client;
    explicit File(std::unique_ptr<detail::FileState> state);
    std::unique_ptr<detail::FileState> state_;
};

}  // namespace libremofile
