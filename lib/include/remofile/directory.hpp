// SPDX-License-Identifier: MIT
/// @file
/// Directories, entry by entry.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "remofile/file.hpp"

namespace libremofile {

/// One name of a directory.
struct DirectoryEntry {
    std::string name;       ///< One component: never empty, ".", "..", or with a slash in it.
    Attributes attributes;  ///< Of the name itself: a symbolic link is not followed.
};

namespace detail {
struct DirectoryState;
}

/// A directory that is being read. Made by Client::open_directory(). It may outlive the Client, but then answers
/// ErrorCode::closed.
///
/// Threads: one at a time.
class LIBREMOFILE_PUBLIC Directory {
public:
    /// Not open: next() answers ErrorCode::bad_handle.
    Directory();
    /// `other` is not open afterwards.
    Directory(Directory&& other) noexcept;
    /// As destroying this one, and making it of `other`.
    Directory& operator=(Directory&& other) noexcept;
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    /// Closes it without waiting.
    ~Directory();

    /// The next entry but "." and "..", in the server's order; nothing at the end. Entries come in portions of many, so
    /// that most calls ask nobody, and memory has room for one portion. A change meanwhile may or may not show.
    Result<std::optional<DirectoryEntry>> next();

private:
    friend class Client;
    explicit Directory(std::unique_ptr<detail::DirectoryState> state);
    std::unique_ptr<detail::DirectoryState> state_;
};

}  // namespace libremofile
