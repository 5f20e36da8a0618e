// SPDX-License-Identifier: MIT
#include "server/sessions/worker_pool.hpp"

#include <atomic>
#include <catch.hpp>
#include <condition_variable>
#include <latch>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

using namespace remofile;
using namespace remofile::server;
using namespace std::chrono_literals;

namespace {

// A gate that work waits at until the test opens it.
class Gate {
public:
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void pass() {
        std::unique_lock lock(mutex_);
        ++waiting_;
        changed_.notify_all();
        changed_.wait(lock, [&] { return open_; });
    }
    // Whether so many have come to wait before the deadline.
    bool await(int count, std::chrono::milliseconds deadline = 30s) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, deadline, [&] { return waiting_ >= count; });
    }
    int waiting() {
        const std::lock_guard lock(mutex_);
        return waiting_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int waiting_ = 0;
    bool open_ = false;
};

constexpr WorkerPool::Options small{.threads = 4, .max_running_per_group = 3};

}  // namespace

TEST_CASE("all work is done, whatever the workers do between") {
    Counters counters;
    std::atomic<int> done = 0;
    WorkerPool pool(small, counters);
    for (int round = 0; round < 100; ++round) {
        std::latch all(50);
        for (int i = 0; i < 50; ++i)
            pool.submit(static_cast<std::uint64_t>(i % 7), [&] {
                ++done;
                all.count_down();
            });
        all.wait();
    }
    CHECK(done == 5000);
}

TEST_CASE("an exception ends the work that it comes from, and nothing else") {
    Counters counters;
    std::latch done(1);
    WorkerPool pool({.threads = 1, .max_running_per_group = 1}, counters);
    pool.submit(1, [] { throw std::bad_alloc(); });
    pool.submit(1, [] { throw std::runtime_error("broken"); });
    pool.submit(1, [&] { done.count_down(); });
    done.wait();
}

TEST_CASE("one group cannot have all workers") {
    Counters counters;
    Gate gate;
    std::latch served(1);
    WorkerPool pool(small, counters);
    for (int i = 0; i < 20; ++i)
        pool.submit(1, [&] { gate.pass(); });
    CHECK(gate.await(3));
    pool.submit(2, [&] { served.count_down(); });
    served.wait();
    CHECK(gate.waiting() == 3);
    gate.open();
}

TEST_CASE("groups take turns") {
    Counters counters;
    Gate gate;
    std::mutex mutex;
    std::vector<int> order;
    std::latch done(40);
    WorkerPool pool({.threads = 1, .max_running_per_group = 1}, counters);
    pool.submit(9, [&] { gate.pass(); });
    CHECK(gate.await(1));
    for (int group = 1; group <= 2; ++group) {
        for (int i = 0; i < 20; ++i)
            pool.submit(static_cast<std::uint64_t>(group), [&, group] {
                const std::lock_guard lock(mutex);
                order.push_back(group);
                done.count_down();
            });
    }
    gate.open();
    done.wait();
    for (std::size_t i = 1; i < order.size(); ++i)
        CHECK(order[i] != order[i - 1]);
}

TEST_CASE("stopping drops what waits and reports what does not end") {
    Counters counters;
    Gate gate;
    std::atomic<int> begun = 0;
    WorkerPool pool({.threads = 1, .max_running_per_group = 1}, counters);
    pool.submit(1, [&] { gate.pass(); });
    CHECK(gate.await(1));
    pool.submit(1, [&] { ++begun; });
    CHECK_FALSE(pool.stop(1ms));
    gate.open();
    CHECK(pool.stop(30s));
    CHECK(begun == 0);
}
