// SPDX-License-Identifier: MIT
#include "client/requests/codec_thread.hpp"

#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/exception.hpp"

namespace remofile::client {

struct CodecThread::State {
    std::mutex mutex;
    std::condition_variable changed;
    // Guarded by mutex.
    std::deque<Work> waiting;
    bool stopping = false;

    std::thread thread;

    void serve() {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [this] { return stopping || !waiting.empty(); });
            if (stopping)
                return;
            Work work = std::exchange(waiting.front(), nullptr);
            waiting.pop_front();
            lock.unlock();
            try {
                work();
            } catch (...) {
                status_of_exception("encoding or decoding");
            }
            work = nullptr;  // what it owns goes without the lock held
            lock.lock();
        }
    }

    void start() {
        // Signals are the program's; its other threads wait for them.
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        thread = std::thread([this] { serve(); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        pthread_setname_np(thread.native_handle(), "codec");
    }
};

CodecThread::CodecThread() : state_(std::make_unique<State>()) {}

CodecThread::~CodecThread() {
    if (!state_->thread.joinable())
        return;
    std::deque<Work> dropped;  // goes without the lock held
    {
        const std::lock_guard lock(state_->mutex);
        state_->stopping = true;
        dropped.swap(state_->waiting);
    }
    state_->changed.notify_one();
    state_->thread.join();
}

void CodecThread::submit(Work work) {
    if (!state_->thread.joinable())
        state_->start();
    {
        const std::lock_guard lock(state_->mutex);
        state_->waiting.push_back(std::move(work));
    }
    state_->changed.notify_one();
}

}  // namespace remofile::client
