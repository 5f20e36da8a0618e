// SPDX-License-Identifier: MIT
#include "remofs/kernel/kernel_pages.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "client/waiters.hpp"

namespace remofile::remofs {
namespace {

// How long a request of the kernel may lie unread, or an answer unnoticed by whoever asked, on a machine under load.
constexpr auto doubt = std::chrono::seconds(1);

// Something that the notifier's thread has done. Shared by that and a coroutine, which a signal may end before.
struct Settled {
    bool already = false;
    client::Waiters waiters;

    void now() {
        already = true;
        waiters.wake(Status::ok);
    }
    Task<Status> wait(client::Cancellation* cancellation) {
        if (already)
            co_return Status::ok;
        co_return co_await waiters.wait(cancellation);
    }
};

void forget(Inode::Pages& pages) {
    pages.kept = pages.outdated = pages.doubtful = false;
}

}  // namespace

bool KernelPages::may_store_whole(InodeNumber id, std::uint64_t size) const {
    const Inode* inode = inodes_.find(id);
    if (notifier_ == nullptr || inode == nullptr || inode->type != S_IFREG || inode->open_count > 1)
        return false;
    const Inode::Pages& pages = inode->pages;
    return pages.size == size && !pages.outdated && !pages.doubtful && !in_doubt(pages);
}

void KernelPages::filled(InodeNumber id) {
    if (Inode* inode = inodes_.find(id); inode != nullptr)
        inode->pages.kept = true;
}

void KernelPages::telling(InodeNumber id, std::uint64_t size) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || inode->type != S_IFREG)
        return;
    Inode::Pages& pages = inode->pages;
    if (pages.outdated && pages.size != size && !in_doubt(pages)) {
        pages.outdated = false;
        pages.doubtful = true;
        for (const auto& done : take_waiting(id))
            done();
    } else if (pages.doubtful && pages.size == size) {
        schedule(id);
    }
    pages.size = size;
    pages.sure_size = std::min(pages.sure_size, size);
}

void KernelPages::extended(InodeNumber id, std::uint64_t end) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->pages.size = std::max(inode->pages.size, end);
    inode->pages.sure_size = std::max(inode->pages.sure_size, end);
}

void KernelPages::truncated(InodeNumber id, std::uint64_t size) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    inode->pages.sure_size = size;
    if (std::exchange(inode->pages.size, size) != size)
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

void KernelPages::drop_attributes(InodeNumber id) {
    Inode* inode = inodes_.find(id);
    if (notifier_ == nullptr || inode == nullptr)
        return;
    drop_attributes_(id);
    inode->pages.notified_at = reactor_.clock().now();
}

Task<Status> KernelPages::current(InodeNumber id, client::Cancellation* cancellation) {
    if (notifier_ == nullptr)
        co_return Status::ok;
    if (const Inode* inode = inodes_.find(id); inode != nullptr && (inode->pages.outdated || inode->pages.doubtful))
        notify(id);
    const auto settled = std::make_shared<Settled>();
    notifier_->when_settled(id, [settled] { settled->now(); });
    co_return co_await settled->wait(cancellation);
}

bool KernelPages::may_refuse(InodeNumber id, std::uint64_t size) const {
    const Inode* inode = inodes_.find(id);
    return inode != nullptr && inode->type == S_IFREG && size > inode->pages.sure_size && in_doubt(inode->pages);
}

bool KernelPages::in_doubt(const Inode::Pages& pages) const {
    const bool was_notified = pages.notified_at != TimePoint{};
    return pages.notifying > 0 || (was_notified && reactor_.clock().now() - pages.notified_at < doubt);
}

Task<Status> KernelPages::store_last(InodeNumber id, std::uint64_t size, std::byte last,
                                     client::Cancellation* cancellation) {
    // A page that is kept ends where the file ended before, with zeros behind it.
    if (const Status status = co_await current(id, cancellation); status != Status::ok)
        co_return status;
    const auto settled = std::make_shared<Settled>();
    notifier_->run([this, id, size, last, settled] {
        store_(id, size - 1, last);
        reactor_.post([settled] { settled->now(); });
    });
    const Status status = co_await settled->wait(cancellation);
    if (Inode* inode = inodes_.find(id); inode != nullptr && status == Status::ok) {
        inode->pages.kept = true;
        inode->pages.sure_size = std::max(inode->pages.sure_size, size);
    }
    co_return status;
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
    ++inode->pages.notifying;
    notifier_->invalidate({id}, [this, id, waiting = take_waiting(id)] {
        notified(id);
        for (const auto& done : waiting)
            done();
    });
}

void KernelPages::notified(InodeNumber id) {
    if (Inode* inode = inodes_.find(id); inode != nullptr && inode->pages.notifying > 0) {
        --inode->pages.notifying;
        inode->pages.notified_at = reactor_.clock().now();
    }
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
