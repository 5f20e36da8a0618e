// SPDX-License-Identifier: MIT
#include "server/files/open_description.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace remofile::server {

OpenDescription::OpenDescription(InodeTable& inodes, InodePtr inode, int flags, DescriptorBudget::Share share,
                                 const std::optional<HolderTag>& holder)
    // The file is there, and what it lost at the first opening is not to be lost again.
    : inodes_(inodes),
      inode_(std::move(inode)),
      flags_(flags & ~(O_CREAT | O_EXCL | O_TRUNC)),
      share_(std::move(share)),
      holder_(holder) {}

std::shared_ptr<OpenDescription> OpenDescription::make(InodeTable& inodes, InodePtr inode, UniqueFd opened, int flags,
                                                       const DescriptorBudget::Share& share,
                                                       const std::optional<HolderTag>& holder) {
    std::shared_ptr<OpenDescription> made(new OpenDescription(inodes, std::move(inode), flags, share, holder));
    made->inode_->add_open(*made);
    made->adopt(std::move(opened));
    return made;
}

OpenDescription::~OpenDescription() {
    inode_->remove_open(*this);
}

Descriptor OpenDescription::held() {
    touch();
    auto state = inode_->state_.lock();
    return descriptor_;
}

Result<Descriptor> OpenDescription::hold() {
    if (Descriptor descriptor = held())
        return descriptor;
    // Whatever comes of it: what is open goes on working.
    static_cast<void>(inodes_.budget().make_room(share_));
    REMOFILE_TRY(path, inodes_.descriptor(inode_));
    REMOFILE_TRY(opened, inodes_.with_room([&] { return open_for_io(path->get(), inode_->type(), flags_); }));
    inodes_.count_reopening();
    return adopt(std::move(opened));
}

Descriptor OpenDescription::adopt(UniqueFd opened) {
    auto descriptor = std::make_shared<const UniqueFd>(std::move(opened));
    auto slot = inodes_.budget().take(share_, weak_from_this());
    auto state = inode_->state_.lock();
    // Another request may have been quicker.
    if (!descriptor_) {
        descriptor_ = std::move(descriptor);
        std::swap(slot_, slot);
    }
    return descriptor_;
}

void OpenDescription::set_locked(bool locked) {
    auto state = inode_->state_.lock();
    locked_ = locked;
}

void OpenDescription::set_unsynced(bool unsynced) {
    if ((flags_ & O_DSYNC) != 0)  // a bit of O_SYNC too
        return;
    auto state = inode_->state_.lock();
    unsynced_ = unsynced;
}

void OpenDescription::set_midway(bool midway) {
    auto state = inode_->state_.lock();
    midway_ = midway;
}

Status OpenDescription::take_deferred_error() {
    auto state = inode_->state_.lock();
    return std::exchange(deferred_error_, Status::ok);
}

bool OpenDescription::could_be_opened_again(int descriptor) const {
    const int access = flags_ & O_ACCMODE;
    const int mask = access == O_RDONLY ? R_OK : access == O_WRONLY ? W_OK : R_OK | W_OK;
    return inodes_.can_find_again(inode_, descriptor) && check_access(descriptor, mask);
}

bool OpenDescription::let_go(bool thorough) {
    Descriptor descriptor;
    std::uint64_t removals = 0;
    bool sync = false;
    {
        auto state = inode_->state_.lock();
        if (!descriptor_ || locked_ || state->removing > 0 || ((unsynced_ || midway_) && !thorough))
            return false;
        descriptor = descriptor_;
        removals = state->removals;
        sync = std::exchange(unsynced_, false);
    }
    // An error of writing back is told to descriptors that were open when it happened.
    if (sync && fdatasync(descriptor->get()) != 0) {
        const Status status = from_errno(errno);
        auto state = inode_->state_.lock();
        deferred_error_ = status;
        return false;
    }
    if (!could_be_opened_again(descriptor->get()))
        return false;
    DescriptorBudget::Slot slot;
    auto state = inode_->state_.lock();
    // Whoever else has it may be about to lock it, and what was found out may no longer be so.
    const bool idle = descriptor_ == descriptor && descriptor.use_count() == 2;
    if (!idle || locked_ || unsynced_ || state->removing > 0 || state->removals != removals)
        return false;
    slot = std::move(slot_);
    descriptor_.reset();
    return true;  // the lock goes first, then the slot and the descriptor
}

}  // namespace remofile::server
