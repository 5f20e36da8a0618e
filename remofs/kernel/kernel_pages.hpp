// SPDX-License-Identifier: MIT
// When the kernel is told to drop the pages that it keeps of files.
//
// A notification does more than that: the kernel takes neither size nor times from any answer whose request began
// before it. stat(2) then tells its caller of the new size, while mmap(2) goes on by the old one. Hence four rules.
// Where no page can be, nothing is told. While the kernel asks for a file's attributes, the answer comes first. An
// answer that tells of another size than before makes the kernel drop the pages by itself: no notification follows,
// unless that size is told once more, for it may have missed the first (two answers may pass each other on their way
// into the kernel). And for a while after a notification, the kernel may refuse an answer because it asked before: then
// the last byte of a file that has grown is stored in its page cache first, which tells it of the size in any case.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/task.hpp"
#include "client/session.hpp"
#include "filesystem/front_cache.hpp"
#include "filesystem/inode_map.hpp"
#include "remofs/kernel/notifier.hpp"
#include "transport/reactor.hpp"

namespace remofile::remofs {

using filesystem::Inode;
using filesystem::InodeMap;
using filesystem::InodeNumber;

// One thread: the event loop's.
class KernelPages : public filesystem::FrontCache {
public:
    // Both must outlive it.
    KernelPages(transport::Reactor& reactor, InodeMap& inodes) : reactor_(reactor), inodes_(inodes) {}
    KernelPages(const KernelPages&) = delete;
    KernelPages& operator=(const KernelPages&) = delete;

    // Stores a byte at an offset of a file in the kernel's page cache. Runs on the notifier's thread and may block.
    using Store = std::function<void(InodeNumber, std::uint64_t offset, std::byte byte)>;

    // Makes the kernel forget a file's attributes. Does not block.
    using DropAttributes = std::function<void(InodeNumber)>;

    // Until then no page is kept anywhere.
    void notify_by(Notifier& notifier, Store store, DropAttributes drop_attributes) {
        notifier_ = &notifier;
        store_ = std::move(store);
        drop_attributes_ = std::move(drop_attributes);
    }

    // Whether the whole content of a file of this size may be stored in the page cache from the event loop: nobody
    // reads the file, so that no page of it is locked until we answer, and the kernel knows its size.
    bool may_store_whole(InodeNumber inode, std::uint64_t size) const;

    // Pages may be kept of what is being read or written.
    void filled(InodeNumber inode);
    // An answer that tells the kernel of a file's size is about to be written.
    void telling(InodeNumber inode, std::uint64_t size);
    // The kernel knows that the file reaches to there, from a write of its own.
    void extended(InodeNumber inode, std::uint64_t end);
    // The answer that is about to be written gives the file this size, which the kernel takes in any case: it drops all
    // pages if that is another one than before.
    void truncated(InodeNumber inode, std::uint64_t size);
    // The kernel drops all pages because of an answer that it has been given.
    void dropped(InodeNumber inode);

    // What is kept of the file is void. `done`, if given, is called, now or later, once the kernel has dropped it.
    // Pages of a file that nobody has open need not go: opening it drops them.
    void drop(InodeNumber inode, std::function<void()> done = nullptr) override;
    void drop_attributes(InodeNumber inode) override;

    // Whether the kernel may refuse this size, larger than what it knows, from the answer to a request that it has
    // made.
    bool may_refuse(InodeNumber inode, std::uint64_t size) const;
    // Tells it of the size by the file's last byte. Errors: interrupted.
    Task<Status> store_last(InodeNumber inode, std::uint64_t size, std::byte last, client::Cancellation* cancellation);

    // Ends once no page is kept that drop() was called for. Errors: interrupted.
    Task<Status> current(InodeNumber inode, client::Cancellation* cancellation) override;

    // Ends once all that programs have written to mappings of the file before is at the server: the kernel writes it
    // before it drops the pages. Not to be awaited by a request that changes the file's size, which the kernel lets no
    // page overtake. Errors: interrupted.
    Task<Status> mappings_written(InodeNumber inode, client::Cancellation* cancellation) override;

    // The kernel asks for the attributes of a file, as long as this object lives.
    class Question {
    public:
        Question(KernelPages& pages, InodeNumber inode);
        ~Question();
        Question(const Question&) = delete;
        Question& operator=(const Question&) = delete;

    private:
        KernelPages& pages_;
        InodeNumber inode_;
    };

private:
    void schedule(InodeNumber inode);
    void notify(InodeNumber inode);
    void notified(InodeNumber inode);
    bool in_doubt(const Inode::Pages& pages) const;
    std::vector<std::function<void()>> take_waiting(InodeNumber inode);

    transport::Reactor& reactor_;
    InodeMap& inodes_;
    Notifier* notifier_ = nullptr;
    Store store_;
    DropAttributes drop_attributes_;
    std::vector<InodeNumber> scheduled_;  // for the end of the turn
    std::unordered_map<InodeNumber, std::vector<std::function<void()>>> waiting_;
};

}  // namespace remofile::remofs
