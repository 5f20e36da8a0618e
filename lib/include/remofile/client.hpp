// SPDX-License-Identifier: MIT
/// @file
/// A session with a server, and operations on its files by their paths.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "remofile/directory.hpp"
#include "remofile/error.hpp"
#include "remofile/file.hpp"

namespace libremofile {

/// Paths are std::filesystem::path: a value type that every C++ program knows, and on the systems that this library
/// runs on exactly the bytes that it was made of. None of its functions that ask the local file system means anything
/// for a remote path.
using Path = std::filesystem::path;

/// How to connect. Empty strings stand for "not given": what is missing is found as the other programs of Remofile do,
/// in the configuration directory (REMOFILE_CONFIG_DIR, or /etc/remofile for root, or ~/.config/remofile).
struct Options {
    std::string server_key;               ///< The server's public key, or the file that holds it.
    std::string identity;                 ///< File of this client's secret key.
    std::string token_file;               ///< File of the token that the server asks for.
    std::string token;                    ///< Itself, where no file is given.
    bool insecure = false;                ///< Plain text, for a server told the same.
    bool exclusive = false;               ///< Nobody else uses the server meanwhile; ErrorCode::busy if somebody does.
    bool read_only = false;               ///< Whatever would change something answers ErrorCode::read_only.
    std::optional<unsigned> compression;  ///< None: by the link's speed. 0: off. 1 to 12: always.
    std::chrono::milliseconds timeout{30'000};  ///< For an answer to one request, and for connecting (at most 10 s
                                                ///< there). At least 1 ms.
};

/// What statvfs(3) says of the server's file system.
struct Space {
    std::uint64_t block_size = 0;        ///< Bytes; the unit of the three that follow.
    std::uint64_t blocks = 0;            ///< In all.
    std::uint64_t blocks_free = 0;       ///< To root.
    std::uint64_t blocks_available = 0;  ///< To an ordinary user.
    std::uint64_t files = 0;             ///< How many files there may be.
    std::uint64_t files_free = 0;        ///< How many more.
    std::uint32_t name_max = 0;          ///< Bytes of one name.
};

namespace detail {
class Connection;
}

/// A session with a server.
///
/// Paths begin at the source's path, with or without a leading slash, and have at most 4095 bytes. "." and ".." are
/// taken out by name alone, so that none leads out of it. Symbolic links are followed within it, and only relative
/// ones: as the last component where the function does not say otherwise, as for a local path.
///
/// Threads: every function but moving and destroying may be called by any number of threads at once; their requests are
/// under way together. Each call returns when it is done; it waits for no single answer longer than Options::timeout.
/// The object has threads of its own, which take no signals. A process forked from this one cannot use it: its calls
/// answer ErrorCode::closed. So do those of an object that was moved from.
///
/// The server is told the process's user and groups once a session. It acts as that user if it was started to do so.
///
/// A lost connection is made anew behind the scenes. If the server has forgotten the session (it was restarted), calls
/// under way may answer ErrorCode::stale, later ones work again, and files that were open answer ErrorCode::stale.
class LIBREMOFILE_PUBLIC Client {
public:
    /// `source` is HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET.
    static Result<Client> connect(const std::string& source, const Options& options = {});

    /// `other` is closed afterwards.
    Client(Client&& other) noexcept;
    /// As destroying this one, and making it of `other`.
    Client& operator=(Client&& other) noexcept;
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    /// As close().
    ~Client();

    /// Ends the session: every call on it and its files that is under way, and every later one, answers
    /// ErrorCode::closed. Returns when none is under way (within a second, whatever the network does). Any thread, any
    /// number of times.
    void close();

    /// Of what the path leads to.
    Result<Attributes> stat(const Path& path) const;
    /// Of the path itself, if it is a symbolic link.
    Result<Attributes> lstat(const Path& path) const;
    /// False also where a component on the way is not there or no directory.
    Result<bool> exists(const Path& path) const;
    /// To read its entries one by one.
    Result<Directory> open_directory(const Path& path) const;
    /// All entries but "." and "..", sorted by name, however many there are.
    Result<std::vector<DirectoryEntry>> list(const Path& path) const;
    /// Makes a directory. `mode` is used as it is: there is no umask.
    Result<> mkdir(const Path& path, std::uint32_t mode = 0755) const;
    /// Removes an empty directory; ErrorCode::not_empty for others.
    Result<> rmdir(const Path& path) const;
    /// Removes a name that is no directory's; a symbolic link is not followed.
    Result<> unlink(const Path& path) const;
    /// What `to` names is replaced, as rename(2) does, unless `replace` is false: ErrorCode::exists then. Symbolic
    /// links are not followed.
    Result<> rename(const Path& from, const Path& to, bool replace = true) const;
    /// Makes a symbolic link that says `target`, whatever that is.
    Result<> symlink(const std::string& target, const Path& path) const;
    /// What a symbolic link says; ErrorCode::invalid for other files.
    Result<std::string> readlink(const Path& path) const;
    /// Gives the file `from` one more name; a symbolic link is not followed.
    Result<> link(const Path& from, const Path& to) const;
    /// Sets the permission bits; others of `mode` are ignored.
    Result<> chmod(const Path& path, std::uint32_t mode) const;
    /// What is not given stays.
    Result<> chown(const Path& path, std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid) const;
    /// What is not given stays. server_now stands for the server's present time.
    Result<> utimes(const Path& path, std::optional<Timestamp> access, std::optional<Timestamp> modification) const;
    /// As File::truncate().
    Result<> truncate(const Path& path, std::uint64_t size) const;
    /// Of the file system that the path is on.
    Result<Space> statfs(const Path& path = "/") const;

    /// `mode` is that of a file that is made, used as it is: there is no umask. ErrorCode::invalid: neither to read nor
    /// to write; to append or truncate, but not to write; or exclusive without create. A symbolic link that leads
    /// nowhere is not filled with a new file.
    Result<File> open(const Path& path, Open flags = Open::read, std::uint32_t mode = 0644) const;

private:
    explicit Client(std::shared_ptr<detail::Connection> connection);
    // Shared with what it has opened.
    std::shared_ptr<detail::Connection> connection_;
};

}  // namespace libremofile
