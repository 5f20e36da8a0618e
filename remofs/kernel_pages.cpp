// SPDX-License-Identifier: MIT
#include "remofs/kernel_pages.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "client/waiters.hpp"

namespace remofile::remofs {
namespace {

void forget(Inode::Pages& pages) {
    pages.kept = pages.outdated = pages.doubtful = false;
}

}  // namespace

void KernelPages::filled(InodeNumber id) {
    if (Inode* inode = inodes_.find(id); inode != nullptr)
        inode->pages.kept = true;
}

void KernelPages::telling(InodeNumber id, std::uint64_t size) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || inode->type != S_IFREG)
        return;
    Inode::Pages& pages = inode->pages;
    if (pages.outdated && pages.size != size) {
        pages.outdated = false;
        pages.doubtful = true;
        for (const auto& done : take_waiting(id))
            done();
    } else if (pages.doubtful && pages.size == size) {
        schedule(id);
    }
    pages.size = size;
}

void KernelPages::extended(InodeNumber id, std::uint64_t end) {
    if (Inode* inode = inodes_.find(id); inode != nullptr)
        inode->pages.size = std::max(inode->pages.size, end);
}

void KernelPages::truncated(InodeNumber id, std::uint64_t size) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || inode->pages.size == size)
        return;
    inode->pages.size = size;
    dropped(id);
}

void KernelPages::dropped(InodeNumber id) {
    if (Inode* inode = inodes_.find(id); inode != nullptr)
        forget(inode->pages);
    for (const auto& done : take_waiting(id))
        done();
}

void KernelPages::drop(InodeNumber id, std::function<void()> done) {
    Inode* inode = inodes_.find(id);
    const bool needed = notifier_ != nullptr && inode != nullptr && inode->type == S_IFREG && inode->open_count > 0 &&
                        (inode->pages.kept || inode->pages.outdated);
    if (!needed) {
        if (done)
            done();
        return;
    }
    if (done)
        waiting_[id].push_back(std::move(done));
    inode->pages.outdated = true;
    if (inode->pages.questions == 0)
        schedule(id);
}

Task<Status> KernelPages::current(InodeNumber id, client::Cancellation* cancellation) {
    if (notifier_ == nullptr)
        co_return Status::ok;
    if (const Inode* inode = inodes_.find(id); inode != nullptr && (inode->pages.outdated || inode->pages.doubtful))
        notify(id);
    struct Settled {
        bool already = false;
        client::Waiters waiters;
    };
    const auto settled = std::make_shared<Settled>();  // shared with the notifier, which a signal does not stop
    notifier_->when_settled(id, [settled] {
        settled->already = true;
        settled->waiters.wake(Status::ok);
    });
    if (settled->already)
        co_return Status::ok;
    co_return co_await settled->waiters.wait(cancellation);
}

Task<Status> KernelPages::mappings_written(InodeNumber id, client::Cancellation* cancellation) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || !inode->pages.kept || inode->pages.mappable_by == 0)
        co_return Status::ok;
    inode->pages.outdated = true;
    co_return co_await current(id, cancellation);
}

// After the answer that is being made in this turn.
void KernelPages::schedule(InodeNumber id) {
    if (scheduled_.empty()) {
        reactor_.at_end_of_turn([this] {
            for (const InodeNumber scheduled : std::exchange(scheduled_, {}))
                notify(scheduled);
        });
    }
    if (std::ranges::find(scheduled_, id) == scheduled_.end())
        scheduled_.push_back(id);
}

void KernelPages::notify(InodeNumber id) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || (!inode->pages.outdated && !inode->pages.doubtful))
        return dropped(id);
    forget(inode->pages);
    std::function<void()> done;
    if (auto waiting = take_waiting(id); !waiting.empty()) {
        done = [waiting = std::move(waiting)] {
            for (const auto& each : waiting)
                each();
        };
    }
    notifier_->invalidate({id}, std::move(done));
}

std::vector<std::function<void()>> KernelPages::take_waiting(InodeNumber id) {
    const auto found = waiting_.find(id);
    if (found == waiting_.end())
        return {};
    auto taken = std::move(found->second);
    waiting_.erase(found);
    return taken;
}

KernelPages::Question::Question(KernelPages& pages, InodeNumber inode) : pages_(pages), inode_(inode) {
    if (Inode* asked = pages_.inodes_.find(inode_); asked != nullptr)
        ++asked->pages.questions;
}

KernelPages::Question::~Question() {
    Inode* asked = pages_.inodes_.find(inode_);
    if (asked != nullptr && --asked->pages.questions > 0)
        return;
    if (asked == nullptr || asked->pages.outdated)
        pages_.schedule(inode_);
}

}  // namespace remofile::remofs
