// SPDX-License-Identifier: MIT
#include "transport/reactor.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <zmq.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "base/exception.hpp"
#include "base/guarded.hpp"
#include "base/unique_fd.hpp"
#include "transport/spin_budget.hpp"

namespace remofile::transport {
namespace {

// Rounds of end-of-turn work before descriptors and timers get their chance again: work that always queues more of
// itself must not starve them.
constexpr int max_end_of_turn_rounds = 16;

// Watched by a descriptor or a ZeroMQ socket. `watched` turns false when it is unwatched, which may happen between
// poll() and its turn; the shared_ptr (shared with the dispatch loop) keeps a running handler alive that unwatches
// itself.
struct Watch {
    std::function<void()> handler;
    bool watched = true;
};

timespec to_timespec(Duration duration) {
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
    return {.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
}

int descriptor_of(void* zmq_socket) {
    int fd = -1;
    std::size_t size = sizeof(fd);
    REMOFILE_ASSERT(zmq_getsockopt(zmq_socket, ZMQ_FD, &fd, &size) == 0);
    return fd;
}

// Also makes libzmq process what other threads sent to the socket, which is what re-arms its edge-triggered descriptor.
bool can_receive(void* zmq_socket) {
    int events = 0;
    std::size_t size = sizeof(events);
    while (zmq_getsockopt(zmq_socket, ZMQ_EVENTS, &events, &size) != 0)
        REMOFILE_ASSERT(zmq_errno() == EINTR);
    return (events & ZMQ_POLLIN) != 0;
}

}  // namespace

struct Reactor::State {
    // What other threads touch.
    struct Inbox {
        std::vector<Work> work;
        bool reactor_may_sleep = false;  // then a post has to write to the eventfd
    };

    const Clock& clock;
    UniqueFd wake_fd;
    std::atomic<bool> stop_requested{false};
    std::atomic<std::uint64_t> wakeups{0};
    std::atomic<std::uint64_t> sleeps{0};
    Guarded<Inbox> inbox;

    // The rest is the reactor thread's.
    std::unordered_map<int, std::shared_ptr<Watch>> descriptors;
    std::unordered_map<void*, std::shared_ptr<Watch>> sockets;
    // What poll() is given: the eventfd, the descriptors, the sockets' own descriptors. Rebuilt after a change.
    std::vector<pollfd> polled;
    std::vector<std::shared_ptr<Watch>> polled_descriptors;
    struct PolledSocket {
        void* socket;
        std::shared_ptr<Watch> watch;
        bool ready;  // known to have a message before poll(), whose edge-triggered descriptor may be silent about it
    };
    std::vector<PolledSocket> polled_sockets;
    bool polled_is_stale = true;

    std::map<std::pair<TimePoint, std::uint64_t>, Work> timers;  // by due time, then by order of creation
    std::unordered_map<std::uint64_t, TimePoint> due_times;
    std::uint64_t last_timer = 0;

    std::vector<Work> end_of_turn;
    std::optional<SpinBudget> spins;

    explicit State(const Clock& given_clock) : clock(given_clock), wake_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        REMOFILE_ASSERT(wake_fd);
    }

    void wake() {
        const std::uint64_t one = 1;
        // EAGAIN means that the counter is full: the reactor wakes up all the same.
        [[maybe_unused]] const ssize_t written = ::write(wake_fd.get(), &one, sizeof(one));
    }

    void rebuild_polled() {
        polled.clear();
        polled_descriptors.clear();
        polled_sockets.clear();
        polled.push_back({.fd = wake_fd.get(), .events = POLLIN, .revents = 0});
        for (const auto& [fd, watch] : descriptors) {
            polled.push_back({.fd = fd, .events = POLLIN, .revents = 0});
            polled_descriptors.push_back(watch);
        }
        for (const auto& [socket, watch] : sockets) {
            polled.push_back({.fd = descriptor_of(socket), .events = POLLIN, .revents = 0});
            polled_sockets.push_back({.socket = socket, .watch = watch, .ready = false});
        }
        polled_is_stale = false;
    }

    // How long to wait: not at all if work is posted or a socket has a message, else until the first timer.
    std::optional<Duration> time_to_wait() {
        bool has_messages = false;
        for (PolledSocket& polled_socket : polled_sockets) {
            polled_socket.ready = can_receive(polled_socket.socket);
            has_messages |= polled_socket.ready;
        }
        const bool may_sleep = !has_messages && end_of_turn.empty();
        const bool has_work = inbox.with([&](Inbox& posted) {
            posted.reactor_may_sleep = may_sleep && posted.work.empty();
            return !posted.work.empty();
        });
        if (!may_sleep || has_work || stop_requested.load())
            return Duration::zero();
        if (timers.empty())
            return std::nullopt;
        return std::max(timers.begin()->first.first - clock.now(), Duration::zero());
    }

    void wait() {
        if (polled_is_stale)
            rebuild_polled();
        const std::optional<Duration> patience = time_to_wait();
        const int ready = patience == Duration::zero() ? poll_for(patience) : spin_or_sleep(patience);
        if (ready <= 0) {
            for (pollfd& entry : polled)
                entry.revents = 0;
        }
        if (polled.front().revents != 0) {
            std::uint64_t count = 0;
            [[maybe_unused]] const ssize_t taken = ::read(wake_fd.get(), &count, sizeof(count));
        }
    }

    // Without `patience` for ever. The number of descriptors that are ready; 0 or less if there are none.
    int poll_for(std::optional<Duration> patience) {
        timespec timeout{};
        if (patience)
            timeout = to_timespec(*patience);
        const int ready = ppoll(polled.data(), polled.size(), patience ? &timeout : nullptr, nullptr);
        REMOFILE_ASSERT(ready >= 0 || errno == EINTR);
        return ready;
    }

    int spin_or_sleep(std::optional<Duration> patience) {
        const TimePoint start = std::chrono::steady_clock::now();
        if (const Duration spin_time = spins ? spins->spin_time(start) : Duration::zero();
            spin_time > Duration::zero()) {
            const Duration longest = std::min(spin_time, patience.value_or(Duration::max()));
            TimePoint now = start;
            do {
                if (const int ready = poll_for(Duration::zero()); ready != 0) {
                    spins->found();
                    return ready;
                }
                sched_yield();
                now = std::chrono::steady_clock::now();
            } while (now - start < longest);
            if (patience && *patience <= now - start)
                return poll_for(Duration::zero());  // a timer is due
            if (patience)
                *patience -= now - start;
        }
        sleeps.fetch_add(1, std::memory_order_relaxed);
        const int ready = poll_for(patience);
        if (spins)
            spins->slept(start, std::chrono::steady_clock::now() - start);
        return ready;
    }

    // One handler that fails does not end the others.
    template <class Handler>
    static void call(Handler& handler) {
        try {
            handler();
        } catch (...) {
            status_of_exception("a handler of the event loop");
        }
    }

    void run_posted_work() {
        std::vector<Work> work = inbox.with([](Inbox& posted) {
            posted.reactor_may_sleep = false;
            return std::exchange(posted.work, {});
        });
        for (Work& item : work)
            call(item);
    }

    void run_due_timers() {
        if (timers.empty())
            return;
        // Those created meanwhile wait for the next turn, even if they are due at once.
        const auto limit = std::pair(clock.now(), last_timer);
        while (!timers.empty()) {
            const auto first = timers.begin();
            if (first->first.first > limit.first)
                return;
            if (first->first.second > limit.second)
                return;
            Work work = std::move(first->second);
            due_times.erase(first->first.second);
            timers.erase(first);
            call(work);
        }
    }

    void run_handlers() {
        // A handler may change what is watched, but `polled*` stay as they are until the next wait().
        for (std::size_t i = 0; i < polled_descriptors.size(); ++i) {
            const short events = polled[1 + i].revents;
            REMOFILE_ASSERT((events & POLLNVAL) == 0 || !polled_descriptors[i]->watched);
            if (events != 0 && polled_descriptors[i]->watched)
                call(polled_descriptors[i]->handler);
        }
        const std::size_t first_socket = 1 + polled_descriptors.size();
        for (std::size_t i = 0; i < polled_sockets.size(); ++i) {
            PolledSocket& entry = polled_sockets[i];
            if ((entry.ready || polled[first_socket + i].revents != 0) && entry.watch->watched)
                call(entry.watch->handler);
        }
    }

    void run_end_of_turn() {
        for (int round = 0; round < max_end_of_turn_rounds && !end_of_turn.empty(); ++round) {
            for (Work& work : std::exchange(end_of_turn, {}))
                call(work);
        }
    }
};

Reactor::Reactor(const Clock& clock) : state_(std::make_unique<State>(clock)) {}

Reactor::~Reactor() = default;

void Reactor::watch(int fd, std::function<void()> on_readable) {
    auto watch = std::make_shared<Watch>(Watch{.handler = std::move(on_readable)});
    const bool added = state_->descriptors.emplace(fd, std::move(watch)).second;
    REMOFILE_ASSERT(added);
    state_->polled_is_stale = true;
}

void Reactor::unwatch(int fd) {
    const auto found = state_->descriptors.find(fd);
    if (found == state_->descriptors.end())
        return;
    found->second->watched = false;
    state_->descriptors.erase(found);
    state_->polled_is_stale = true;
}

void Reactor::watch_socket(void* zmq_socket, std::function<void()> on_ready) {
    auto watch = std::make_shared<Watch>(Watch{.handler = std::move(on_ready)});
    const bool added = state_->sockets.emplace(zmq_socket, std::move(watch)).second;
    REMOFILE_ASSERT(added);
    state_->polled_is_stale = true;
}

void Reactor::unwatch_socket(void* zmq_socket) {
    const auto found = state_->sockets.find(zmq_socket);
    if (found == state_->sockets.end())
        return;
    found->second->watched = false;
    state_->sockets.erase(found);
    state_->polled_is_stale = true;
}

TimerId Reactor::after(Duration delay, Work work) {
    const std::uint64_t id = ++state_->last_timer;
    // A delay that would overflow is as good as for ever.
    const TimePoint now = state_->clock.now();
    const TimePoint due = delay > TimePoint::max() - now ? TimePoint::max() : now + delay;
    state_->timers.emplace(std::pair(due, id), std::move(work));
    state_->due_times.emplace(id, due);
    return TimerId{id};
}

void Reactor::cancel(TimerId timer) {
    const auto found = state_->due_times.find(timer.value);
    if (found == state_->due_times.end())
        return;
    // Out of the maps before it is destroyed: what the work holds may itself cancel timers.
    const auto node = state_->timers.extract(std::pair(found->second, timer.value));
    state_->due_times.erase(found);
}

void Reactor::post(Work work) {
    const bool must_wake = state_->inbox.with([&](State::Inbox& inbox) {
        inbox.work.push_back(std::move(work));
        return std::exchange(inbox.reactor_may_sleep, false);
    });
    if (must_wake) {
        state_->wakeups.fetch_add(1, std::memory_order_relaxed);
        state_->wake();
    }
}

void Reactor::at_end_of_turn(Work work) {
    state_->end_of_turn.push_back(std::move(work));
}

void Reactor::spin_before_sleeping(Duration longest_spin) {
    state_->spins.reset();
    if (longest_spin > Duration::zero())
        state_->spins.emplace(longest_spin);
}

void Reactor::moved(std::size_t bytes) {
    if (state_->spins && bytes >= SpinBudget::bulk_bytes)
        state_->spins->moved(bytes, std::chrono::steady_clock::now());
}

void Reactor::run() {
    for (bool stopping = false; !stopping;) {
        state_->wait();
        // Before the posted work is taken: what was posted before stop() still runs.
        stopping = state_->stop_requested.exchange(false);
        state_->run_posted_work();
        state_->run_due_timers();
        state_->run_handlers();
        state_->run_end_of_turn();
    }
}

void Reactor::stop() {
    state_->stop_requested.store(true);
    state_->wake();
}

const Clock& Reactor::clock() const {
    return state_->clock;
}

std::uint64_t Reactor::wakeups() const {
    return state_->wakeups.load(std::memory_order_relaxed);
}

std::uint64_t Reactor::sleeps() const {
    return state_->sleeps.load(std::memory_order_relaxed);
}

}  // namespace remofile::transport
