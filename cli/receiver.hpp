// SPDX-License-Identifier: MIT
// Files of the server on their way to this machine, one at a time. What a server says is written into the directory
// that the caller has opened and nowhere else.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/unique_fd.hpp"
#include "cli/transfer.hpp"
#include "cli/xattrs.hpp"
#include "client/remote_tree.hpp"

namespace remofile::cli {

// A remote file, and the name that its copy gets.
struct RemoteItem {
    client::RemoteFile file;
    std::string name;
    std::string shown;          // in messages
    std::string relative = {};  // its path below the transfer's root
};

timespec to_timespec(const wire::Timestamp& time);

// One thread; must outlive its coroutines. Options and progress must outlive it. Directories are descriptors, which
// stay open until the coroutine has ended.
class FileReceiver {
public:
    FileReceiver(client::RemoteTree& tree, const TransferOptions& options, Progress& progress)
        : session_(tree.session()), options_(options), progress_(progress) {}

    // A regular file of at most small_file_bytes. Errors: try_again, if the file or what its copy was to replace has
    // changed meanwhile.
    Task<Result<>> receive_small(int into, const RemoteItem& item, Occupant occupant = {});
    // A regular file of any size, in chunks; an incomplete copy is taken up. With `options.delta`, what the file that
    // is to be replaced has in common with it is copied here.
    Task<Result<>> receive_large(int into, const RemoteItem& item, Occupant occupant = {});
    // A symbolic link itself.
    Task<Result<>> receive_symlink(int into, const RemoteItem& item, Occupant occupant = {});

    // Mode and times of an open file or directory and, with `options.archive` and if one may, owner and extended
    // attributes.
    Result<> set_attributes(int fd, const wire::Attributes& attributes, const Xattrs& xattrs,
                            const std::string& shown) const;

private:
    class PartialFile;
    Task<Result<UniqueFd>> open_base(int into, const RemoteItem& item, HandleId handle, Origins& origins);
    Task<Result<>> receive_chunks(const RemoteItem& item, HandleId handle, const PartialFile& partial, int base,
                                  const Origins& origins);
    Task<void> receive_chunk(wire::Read read, int fd, bool sparse, Result<>& outcome);
    Task<Result<>> complete(const RemoteItem& item, const PartialFile& partial, Occupant occupant);
    Task<Result<>> set_link_attributes(int into, std::string name, client::RemoteFile link, std::string shown);
    void remove_other_partials(int into, const RemoteItem& item);

    client::Session& session_;
    const TransferOptions& options_;
    Progress& progress_;
};

}  // namespace remofile::cli
