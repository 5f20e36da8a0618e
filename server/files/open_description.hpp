// SPDX-License-Identifier: MIT
// What a handle has open: a descriptor of its inode, which is closed when descriptors are short and nobody works with
// it, and opened again when somebody does.
//
// It is kept open while it has what only it has: a flock lock, a name-less file, data whose way to the disk is not
// certain. What is opened again is the same inode, opened as the first time (append, O_SYNC and the like); it is found
// as inodes are (inode_table.hpp), as the server itself. So a file that a process on the server removes meanwhile is
// stale, and one whose owner, the server's account, takes its own permission away, is refused.
#pragma once

#include "base/unique_fd.hpp"
#include "server/files/descriptor_budget.hpp"
#include "server/files/inode_table.hpp"

namespace remofile::server {

// Callable from any thread. Shared by its handle, requests at work on that, and, for a moment, whoever looks for
// descriptors to close.
class OpenDescription final : public DescriptorBudget::Holder, public std::enable_shared_from_this<OpenDescription> {
public:
    // Counts `opened` for `share`. `flags`: those of open(2). `holder`: for whom the file is kept if it loses its
    // names; none: for nobody. `inodes` outlives the requests, which alone call hold() and let_go().
    static std::shared_ptr<OpenDescription> make(InodeTable& inodes, InodePtr inode, UniqueFd opened, int flags,
                                                 const DescriptorBudget::Share& share,
                                                 const std::optional<HolderTag>& holder = {});
    ~OpenDescription() override;

    const InodePtr& inode() const { return inode_; }

    // Its descriptor, opened again if need be; it stays open as long as the result is kept. Errors: stale, and what
    // opening can give.
    Result<Descriptor> hold();
    // Null if it is closed at the moment.
    Descriptor held();

    // What follows is said by who has the descriptor from hold(), and before giving it back.
    // A flock lock is on it, or no longer.
    void set_locked(bool locked);
    // Data was written that fsync(2) has not been called for, or it has been.
    void set_unsynced(bool unsynced);
    // A directory was read, but not to its end: file systems without lasting cookies might list the rest anew.
    void set_midway(bool midway);
    // The error of a sync that nobody had asked for, once.
    Status take_deferred_error();

    bool let_go(bool thorough) override;

private:
    friend class Inode;
    friend class InodeTable;
    OpenDescription(InodeTable& inodes, InodePtr inode, int flags, DescriptorBudget::Share share,
                    const std::optional<HolderTag>& holder);
    Descriptor adopt(UniqueFd opened);
    bool could_be_opened_again(int descriptor) const;

    // Constant.
    InodeTable& inodes_;
    const InodePtr inode_;
    const int flags_;
    const DescriptorBudget::Share share_;
    const std::optional<HolderTag> holder_;

    // Guarded by the inode's state.
    Descriptor descriptor_;
    DescriptorBudget::Slot slot_;  // while there is a descriptor
    bool locked_ = false;
    bool unsynced_ = false;
    bool midway_ = false;
    Status deferred_error_ = Status::ok;
};
using OpenDescriptionPtr = std::shared_ptr<OpenDescription>;

}  // namespace remofile::server
