// SPDX-License-Identifier: MIT
// The files of an export by their paths.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/task.hpp"
#include "client/session.hpp"

namespace remofile::client {

// A file that a request has found. Whoever has it gives the node back (RemoteTree::forget), unless it is the root.
struct RemoteFile {
    NodeId node;
    wire::Attributes attributes;
};

// A place in a directory, which may be empty.
struct RemotePlace {
    NodeId directory;
    std::string name;
};

struct RemoteEntry {
    std::string name;
    RemoteFile file;
    // Why nothing else is known of it: the server may not look at it, or cannot. It is there all the same.
    Status problem = Status::ok;
};

// Why a list of entries is not all that could be known: the first one's problem; ok if there is none.
Status first_problem(const std::vector<RemoteEntry>& entries);

// Entries of one directory that are listed at once: servers give one session no more nodes. Ends a listing that a
// server goes on with for ever.
inline constexpr std::size_t max_listed_entries = 4U << 20;

// Some of a directory's entries, in the server's order.
struct DirectoryPart {
    std::vector<RemoteEntry> entries;
    std::uint64_t cookie = 0;  // where the next part begins
    bool end = false;          // there is none
};

enum class Symlinks : std::uint8_t { follow, keep };  // what becomes of the last component, if it is one

// Paths are absolute below the session's path, "." and ".." being taken out by name alone, so that none leads out of
// it. Symbolic links are followed here, for servers follow none: relative ones only, below the session's path
// as below a root directory. One thread:
// that of the session. Must outlive its coroutines.
class RemoteTree {
public:
    // `export_name`: what all paths begin with, and stands for the session's path; empty: nothing does.
    explicit RemoteTree(Session& session, std::size_t max_listed = max_listed_entries, std::string export_name = {})
        : session_(session), max_listed_(max_listed), export_name_(std::move(export_name)) {}

    // Errors: no_entry and the like, with the path in the message; symlink_loop also for an
    // absolute link.
    Task<Result<RemoteFile>> find(std::string path, Symlinks symlinks);
    // The directory of the path's last component. bad_usage for the root.
    Task<Result<RemotePlace>> find_place(std::string path);
    // The file of that name in a directory.
    Task<Result<RemoteFile>> find_entry(NodeId directory, std::string name);
    // All entries but "." and "..", by name.
    Task<Result<std::vector<RemoteEntry>>> list(NodeId directory);
    // The next entries but "." and "..", perhaps none, at most some thousand. `handle` is a new one, which this opens
    // if the cookie is 0, and whoever chose it closes (Releasedir), after an error too.
    Task<Result<DirectoryPart>> list_part(NodeId directory, HandleId handle, std::uint64_t cookie);

    // No node: nothing.
    void forget(NodeId node);
    void forget(const std::vector<RemoteEntry>& entries);

    Session& session() const { return session_; }

private:
    struct Walk;
    Result<std::vector<std::string>> components_of(std::string_view path) const;
    std::string shown(const std::vector<std::string>& components) const;
    Error path_error(const std::vector<std::string>& components, Status status) const;
    Task<Result<RemoteFile>> find_below(std::vector<std::string> first, Symlinks symlinks);
    Task<Result<Walk>> walk(std::vector<std::string> components);

    Session& session_;
    const std::size_t max_listed_;
    const std::string export_name_;
};

// The components of a path, "." and ".." taken out. name_too_long, or invalid for a zero byte.
Result<std::vector<std::string>> split_path(std::string_view path);
// "/a/b"
std::string join_path(const std::vector<std::string>& components);

}  // namespace remofile::client
