// SPDX-License-Identifier: MIT
#include "server/sessions/worker_pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/assert.hpp"
#include "base/exception.hpp"

namespace remofile::server {

struct WorkerPool::State {
    State(Options given, Counters& counters)
        : options(given),
          handoffs(counters.at("handoff.reactor_to_worker")),
          wakeups(counters.at("workers.woken")),
          waiting(counters.at("workers.waiting")),
          busy(counters.at("workers.busy")) {}

    struct Group {
        std::deque<Work> waiting;
        unsigned running = 0;
        bool in_turns = false;
    };

    // With `mutex` held.
    void enqueue_turn(std::uint64_t id, Group& group) {
        if (!group.in_turns && !group.waiting.empty() && group.running < options.max_running_per_group) {
            group.in_turns = true;
            turns.push_back(id);
        }
    }
    // Wakes one worker, unless one is on its way to look already. It wakes the next one if it leaves work.
    void wake_one() {
        if (turns.empty() || looking || sleeping == 0)
            return;
        looking = true;
        wakeups.add();
        work_available.notify_one();
    }

    void serve();
    bool take(std::unique_lock<std::mutex>& lock, std::uint64_t& id, Work& work);

    const Options options;
    Counters::Counter& handoffs;
    Counters::Counter& wakeups;
    Counters::Counter& waiting;  // now, as the next
    Counters::Counter& busy;

    std::mutex mutex;
    std::condition_variable work_available;
    std::condition_variable idle;
    // Guarded by mutex.
    std::unordered_map<std::uint64_t, Group> groups;
    std::deque<std::uint64_t> turns;  // groups that may start work, in the order of their turns
    unsigned sleeping = 0;
    unsigned running = 0;
    bool looking = false;  // a worker has been woken and has not looked for work yet
    bool stopping = false;

    std::vector<std::thread> threads;
};

// Waits for work and takes it; false when it is time to end.
bool WorkerPool::State::take(std::unique_lock<std::mutex>& lock, std::uint64_t& id, Work& work) {
    while (turns.empty() && !stopping) {
        ++sleeping;
        work_available.wait(lock);
        --sleeping;
        looking = false;
    }
    if (stopping)
        return false;
    id = turns.front();
    turns.pop_front();
    Group& group = groups.at(id);
    group.in_turns = false;
    work = std::move(group.waiting.front());
    group.waiting.pop_front();
    ++group.running;
    ++running;
    waiting.subtract();
    busy.add();
    enqueue_turn(id, group);
    wake_one();
    return true;
}

void WorkerPool::State::serve() {
    std::unique_lock lock(mutex);
    std::uint64_t id = 0;
    Work work;
    while (take(lock, id, work)) {
        lock.unlock();
        try {
            work();
        } catch (...) {
            status_of_exception("a worker's work");
        }
        work = nullptr;  // what it owns goes without the lock held
        lock.lock();
        --running;
        busy.subtract();
        const auto group = groups.find(id);
        --group->second.running;
        enqueue_turn(id, group->second);
        if (group->second.running == 0 && group->second.waiting.empty())
            groups.erase(group);
        if (running == 0 && stopping)
            idle.notify_all();
    }
}

WorkerPool::Options WorkerPool::default_options() {
    const unsigned threads = std::max(4U, 2 * std::thread::hardware_concurrency());
    return {.threads = threads, .max_running_per_group = threads - std::max(1U, threads / 4)};
}

WorkerPool::WorkerPool(Options options, Counters& counters) : state_(std::make_unique<State>(options, counters)) {
    REMOFILE_ASSERT(options.threads > 0 && options.max_running_per_group > 0);
    for (unsigned i = 0; i < options.threads; ++i) {
        state_->threads.emplace_back([state = state_.get()] { state->serve(); });
        pthread_setname_np(state_->threads.back().native_handle(), ("worker-" + std::to_string(i)).c_str());
    }
}

WorkerPool::~WorkerPool() {
    stop(Duration::zero());
    for (std::thread& thread : state_->threads)
        thread.join();
}

void WorkerPool::submit(std::uint64_t id, Work work) {
    state_->handoffs.add();
    const std::lock_guard lock(state_->mutex);
    if (state_->stopping)
        return;
    State::Group& group = state_->groups[id];
    group.waiting.push_back(std::move(work));
    state_->waiting.add();
    state_->enqueue_turn(id, group);
    state_->wake_one();
}

bool WorkerPool::stop(Duration timeout) {
    std::vector<Work> dropped;  // goes without the lock held
    std::unique_lock lock(state_->mutex);
    state_->stopping = true;
    for (auto& [id, group] : state_->groups) {
        for (Work& work : group.waiting)
            dropped.push_back(std::move(work));
        state_->waiting.subtract(group.waiting.size());
        group.waiting.clear();
    }
    state_->work_available.notify_all();
    const bool stopped = state_->idle.wait_for(lock, timeout, [&] { return state_->running == 0; });
    lock.unlock();
    return stopped;
}

}  // namespace remofile::server
