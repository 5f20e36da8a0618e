// SPDX-License-Identifier: MIT
#include "remofs/kernel/notifier.hpp"

#include <pthread.h>

#include <utility>

namespace remofile::remofs {

Notifier::Notifier(transport::Reactor& reactor, Counters& counters, Send send)
    : reactor_(reactor),
      notifications_(counters.at("fuse.notifications")),
      send_(std::move(send)),
      thread_([this] { serve(); }) {}

Notifier::~Notifier() {
    stop();
}

void Notifier::invalidate(std::vector<InodeNumber> inodes, std::function<void()> done) {
    auto queue = queue_.lock();
    if (queue->finishing) {
        if (done)
            reactor_.post(std::move(done));
        return;
    }
    std::erase_if(inodes, [&](InodeNumber inode) { return !queue->pending.insert(inode).second; });
    if (inodes.empty() && !queue->batches.empty()) {
        // All of them are in the queue already: they are dropped when its last batch is done.
        if (done)
            queue->batches.back().done.push_back(std::move(done));
        return;
    }
    Batch batch{.inodes = std::move(inodes)};
    if (done)
        batch.done.push_back(std::move(done));
    queue->batches.push_back(std::move(batch));
    ready_.release();
}

void Notifier::when_settled(InodeNumber inode, std::function<void()> done) {
    {
        auto queue = queue_.lock();
        if (queue->pending.contains(inode) || queue->sending.contains(inode)) {
            // Batches are carried out in order: after this empty one the file's is done.
            Batch marker;
            marker.done.push_back(std::move(done));
            queue->batches.push_back(std::move(marker));
            ready_.release();
            return;
        }
    }
    done();
}

void Notifier::run(std::function<void()> work) {
    queue_.lock()->batches.push_back(Batch{.work = std::move(work)});
    ready_.release();
}

void Notifier::finish(std::function<void()> done) {
    auto queue = queue_.lock();
    queue->finishing = true;
    Batch last;
    last.done.push_back(std::move(done));
    queue->batches.push_back(std::move(last));
    ready_.release();
}

void Notifier::stop() {
    if (!thread_.joinable())
        return;
    queue_.lock()->stopped = true;
    ready_.release();
    thread_.join();
}

void Notifier::serve() {
    pthread_setname_np(pthread_self(), "notify");
    Batch batch;
    while (next(batch))
        carry_out(batch);
}

bool Notifier::next(Batch& batch) {
    ready_.acquire();
    auto queue = queue_.lock();
    if (queue->stopped)
        return false;
    batch = std::move(queue->batches.front());
    queue->batches.pop_front();
    // From here on a file named again has changed again, and needs another notification.
    queue->sending = {batch.inodes.begin(), batch.inodes.end()};
    for (const InodeNumber inode : batch.inodes)
        queue->pending.erase(inode);
    return true;
}

void Notifier::carry_out(Batch& batch) {
    for (const InodeNumber inode : batch.inodes) {
        send_(inode);
        notifications_.add();
    }
    if (batch.work)
        batch.work();
    queue_.lock()->sending.clear();
    for (auto& done : batch.done)
        reactor_.post(std::move(done));
}

}  // namespace remofile::remofs
