// SPDX-License-Identifier: MIT
// The thread "notify": tells the kernel to drop cached pages and attributes. Such a notification can wait for a page
// lock that is only released once the event loop has answered a read, so it must not be sent from there.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <semaphore>
#include <thread>
#include <unordered_set>
#include <vector>

#include "base/counters.hpp"
#include "base/guarded.hpp"
#include "filesystem/inode_number.hpp"
#include "transport/reactor.hpp"

struct fuse_session;

namespace remofile::remofs {

using filesystem::InodeNumber;

class Notifier {
public:
    // Sends one notification; runs on the notifier's thread and may block.
    using Send = std::function<void(InodeNumber)>;

    Notifier(transport::Reactor& reactor, Counters& counters, Send send);
    // Precondition: nothing that the thread may wait for is waiting for the caller; see stop().
    ~Notifier();
    Notifier(const Notifier&) = delete;
    Notifier& operator=(const Notifier&) = delete;

    // Queues files whose pages and attributes are void. `done`, if given, runs on the reactor's thread once the kernel
    // has dropped them. The queue holds a file once however often it is named, and is bounded by the number of open
    // files; the caller names no others. Reactor's thread.
    void invalidate(std::vector<InodeNumber> inodes, std::function<void()> done);

    // Runs `done` on the reactor's thread once no invalidation of the file is queued or under way: now, if there is
    // none.
    void when_settled(InodeNumber inode, std::function<void()> done);

    // Runs work on the thread after what is queued: for what blocks as notifications do (unmounting).
    void run(std::function<void()> work);

    // Takes nothing in any more (later invalidations count as done) and runs `done` on the reactor's thread once the
    // thread has nothing left to do. Until then the kernel's requests must go on being answered.
    void finish(std::function<void()> done);

    // Ends the thread after the notification that it is busy with, and waits for it. That one comes to an end when
    // the kernel's connection is closed, if not before.
    void stop();

private:
    struct Batch {
        std::vector<InodeNumber> inodes;
        std::vector<std::function<void()>> done;
        std::function<void()> work;
    };
    struct Queue {
        std::deque<Batch> batches;
        std::unordered_set<InodeNumber> pending;  // in `batches`
        std::unordered_set<InodeNumber> sending;  // in the batch that the thread is busy with
        bool finishing = false;
        bool stopped = false;
    };

    void serve();
    bool next(Batch& batch);
    void carry_out(Batch& batch);

    transport::Reactor& reactor_;
    Counters::Counter& notifications_;
    Send send_;
    Guarded<Queue> queue_;
    std::counting_semaphore<> ready_{0};
    std::thread thread_;
};

}  // namespace remofile::remofs
