// SPDX-License-Identifier: MIT
// Files of this machine on their way to the server, one at a time.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "cli/transfer.hpp"
#include "cli/xattrs.hpp"
#include "client/remote_tree.hpp"

namespace remofile::cli {

// What is known of a directory of the server before anything is put there.
struct RemoteDirectory {
    NodeId node;
    std::map<std::string, client::RemoteFile, std::less<>> entries;
};

struct LocalFile {
    std::string path;
    std::string name;           // that it gets
    std::string relative = {};  // its path below the transfer's root
    struct stat status {};
    // That it was found in, under `name`. Without, `path` is what a person named, and links in it are meant. Shared by
    // all that were found there: whoever may change the tree must not lead us elsewhere by links put into it since.
    std::shared_ptr<const UniqueFd> directory = {};

    // What the *at() functions take.
    int at() const { return directory ? directory->get() : AT_FDCWD; }
    const char* name_there() const { return directory ? name.c_str() : path.c_str(); }
    int open_flags() const { return O_RDONLY | O_CLOEXEC | O_NONBLOCK | (directory ? O_NOFOLLOW : 0); }
};

wire::Timestamp to_wire(const timespec& time);

// One thread; must outlive its coroutines. Options and progress must outlive it.
class FileSender {
public:
    FileSender(client::RemoteTree& tree, const TransferOptions& options, Progress& progress)
        : tree_(tree), session_(tree.session()), options_(options), progress_(progress) {}

    // A regular file of at most small_file_bytes. Afterwards `file.status` is that of what was sent. Errors:
    // try_again, if the file or what its copy was to replace has changed meanwhile.
    Task<Result<>> send_small(NodeId into, LocalFile& file, Occupant occupant = {});
    // A regular file of any size, in chunks; an incomplete copy is taken up. With `options.delta`, what the file that
    // is to be replaced has in common with it is copied on the server.
    Task<Result<>> send_large(const RemoteDirectory* into, LocalFile& file, Occupant occupant = {});
    // What comes piece by piece, the last one shorter than asked for. It cannot be taken up.
    using NextPiece = std::function<Task<Result<Buffer>>(std::size_t bytes)>;
    Task<Result<>> send_stream(NodeId into, std::string name, NextPiece next);
    // A symbolic link itself.
    Task<Result<>> send_symlink(NodeId into, const LocalFile& file, Occupant occupant = {});

    // What belongs to a directory in which nothing is made any more: mode and times and, with `options.archive`, owner
    // and extended attributes.
    Task<Result<>> finish_directory(NodeId node, Xattrs xattrs, struct stat status);

    // Times and mode as they are to be on the server.
    wire::Setattr mode_and_times(const struct stat& status, NodeId node, HandleId handle) const;
    // With `options.archive`: requests for the owner and extended attributes of what has those names of them already.
    // What an ordinary user may not do does not keep anything from being sent: their outcome is of no concern.
    std::vector<client::EncodedRequest> ownership(const struct stat& status, const Xattrs& xattrs, NodeId node,
                                                  std::span<const std::string> there) const;

private:
    struct Target;
    Task<Result<>> take_up(const RemoteDirectory* into, const LocalFile& file, int fd, Target& target,
                           Origins& origins);
    Task<HandleId> open_base(const RemoteDirectory* into, const LocalFile& file, int fd, Origins& origins);
    Task<Result<>> send_chunks(const LocalFile& file, int fd, const Target& target, HandleId base,
                               const Origins& origins);
    Task<Result<>> send_pieces(HandleId handle, NextPiece next);
    Task<void> send_chunk(HandleId handle, std::uint64_t offset, Buffer data, Result<>& outcome);
    Task<void> copy_range(HandleId from, HandleId to, std::uint64_t offset, std::uint64_t size, Result<>& outcome);
    Task<Result<>> check(NodeId directory, std::string name, Occupant occupant);
    Task<Result<>> give_name(const LocalFile& file, const Target& target, bool with_size, Occupant occupant);
    std::vector<client::EncodedRequest> ownership(const LocalFile& file, int fd, NodeId node) const;
    Task<void> remove(NodeId directory, std::string partial);
    void let_go(const Target& target);

    client::RemoteTree& tree_;
    client::Session& session_;
    const TransferOptions& options_;
    Progress& progress_;
};

}  // namespace remofile::cli
