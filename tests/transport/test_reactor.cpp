// SPDX-License-Identifier: MIT
#include "transport/reactor.hpp"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

#include "base/unique_fd.hpp"
#include "fixture.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

// Runs what is due and posted now, and comes back.
void run_one_turn(Reactor& reactor) {
    reactor.stop();
    reactor.run();
}

UniqueFd readable_descriptor() {
    return UniqueFd(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
}

}  // namespace

TEST_CASE("posted work runs in the order of posting") {
    Reactor reactor;
    std::vector<int> order;
    for (int i = 0; i < 5; ++i)
        reactor.post([&order, i] { order.push_back(i); });
    run_one_turn(reactor);
    REQUIRE(order == std::vector<int>{0, 1, 2, 3, 4});
}

TEST_CASE("work posted before stop() still runs") {
    Reactor reactor;
    bool ran = false;
    std::thread other([&] {
        reactor.post([&] { ran = true; });
        reactor.stop();
    });
    reactor.run();
    other.join();
    REQUIRE(ran);
}

TEST_CASE("timers run when they are due, by time and then by order of creation") {
    FakeClock clock;
    Reactor reactor(clock);
    std::string order;
    reactor.after(20ms, [&] { order += 'c'; });
    reactor.after(10ms, [&] { order += 'a'; });
    reactor.after(10ms, [&] { order += 'b'; });
    run_one_turn(reactor);
    REQUIRE(order.empty());
    clock.advance(10ms);
    run_one_turn(reactor);
    REQUIRE(order == "ab");
    clock.advance(1h);
    run_one_turn(reactor);
    REQUIRE(order == "abc");
}

TEST_CASE("a cancelled timer does not run, and cancelling one that has run has no effect") {
    FakeClock clock;
    Reactor reactor(clock);
    int runs = 0;
    const TimerId kept = reactor.after(1ms, [&] { ++runs; });
    const TimerId cancelled = reactor.after(1ms, [&] { runs += 100; });
    TimerId later{};
    reactor.after(0ms, [&] { reactor.cancel(later); });
    later = reactor.after(1ms, [&] { runs += 100; });
    reactor.cancel(cancelled);
    clock.advance(1ms);
    run_one_turn(reactor);
    reactor.cancel(kept);
    reactor.cancel(TimerId{12345});
    REQUIRE(runs == 1);
}

TEST_CASE("a timer that makes itself anew without delay does not starve the rest of the turn") {
    FakeClock clock;
    Reactor reactor(clock);
    int runs = 0;
    std::function<void()> again = [&] {
        ++runs;
        reactor.after(0ms, [&] { again(); });
    };
    again();
    run_one_turn(reactor);
    REQUIRE(runs == 2);
}

TEST_CASE("a delay beyond the end of time is waited for in peace") {
    Reactor reactor;
    bool ran = false;
    const TimerId timer = reactor.after(Duration::max(), [&] { ran = true; });
    run_one_turn(reactor);
    REQUIRE_FALSE(ran);
    reactor.cancel(timer);
}

TEST_CASE("a real timer wakes the reactor") {
    Reactor reactor;
    bool ran = false;
    const TimePoint start = reactor.clock().now();
    reactor.after(20ms, [&] {
        ran = true;
        reactor.stop();
    });
    reactor.run();
    REQUIRE(ran);
    REQUIRE(reactor.clock().now() - start >= 20ms);
}

TEST_CASE("a readable descriptor is reported at each turn until it is read") {
    Reactor reactor;
    const UniqueFd fd = readable_descriptor();
    int calls = 0;
    reactor.watch(fd.get(), [&] {
        if (++calls == 3) {
            std::uint64_t value = 0;
            REQUIRE(read(fd.get(), &value, sizeof(value)) == sizeof(value));
        }
    });
    for (int i = 0; i < 5; ++i)
        run_one_turn(reactor);
    REQUIRE(calls == 3);
    reactor.unwatch(fd.get());
}

TEST_CASE("a handler may unwatch itself and others") {
    Reactor reactor;
    const UniqueFd fds[] = {readable_descriptor(), readable_descriptor(), readable_descriptor()};
    int calls = 0;
    for (const UniqueFd& fd : fds) {
        // What it has captured must survive its own end.
        reactor.watch(fd.get(), [&, text = std::string(100, 'x')] {
            ++calls;
            for (const UniqueFd& other : fds)
                reactor.unwatch(other.get());
            REQUIRE(text == std::string(100, 'x'));
        });
    }
    run_one_turn(reactor);
    run_one_turn(reactor);
    REQUIRE(calls == 1);
}

TEST_CASE("a descriptor watched again under its old number is a new watch") {
    Reactor reactor;
    const UniqueFd first = readable_descriptor();
    const UniqueFd second = readable_descriptor();
    int old_calls = 0;
    int new_calls = 0;
    const auto swap_other = [&](int other) {
        reactor.unwatch(other);
        reactor.watch(other, [&] { ++new_calls; });
        ++old_calls;
    };
    reactor.watch(first.get(), [&] { swap_other(second.get()); });
    reactor.watch(second.get(), [&] { swap_other(first.get()); });
    run_one_turn(reactor);
    REQUIRE(old_calls == 1);
    REQUIRE(new_calls == 0);  // it was not ready when this turn looked
}

TEST_CASE("work at the end of a turn runs after the handlers, and what it queues runs before the reactor waits") {
    Reactor reactor;
    std::string order;
    const UniqueFd fd = readable_descriptor();
    reactor.watch(fd.get(), [&] { order += 'h'; });
    reactor.post([&] {
        reactor.at_end_of_turn([&] {
            order += 'e';
            reactor.at_end_of_turn([&] { order += 'f'; });
        });
        order += 'p';
    });
    run_one_turn(reactor);
    REQUIRE(order == "phef");
    reactor.unwatch(fd.get());
}

TEST_CASE("work that queues itself at the end of each turn does not starve the others") {
    Reactor reactor;
    std::function<void()> forever = [&] { reactor.at_end_of_turn([&] { forever(); }); };
    forever();
    REQUIRE(run_until(reactor, [] { return true; }));  // a timer stops it
}

TEST_CASE("posts from many threads all run, and only a sleeping reactor is woken") {
    constexpr int threads = 4;
    constexpr int posts = 2000;
    Reactor reactor;
    int ran = 0;
    std::vector<std::thread> posters;
    for (int i = 0; i < threads; ++i) {
        posters.emplace_back([&] {
            for (int j = 0; j < posts; ++j)
                reactor.post([&] {
                    if (++ran == threads * posts)
                        reactor.stop();
                });
        });
    }
    reactor.run();
    for (std::thread& poster : posters)
        poster.join();
    REQUIRE(ran == threads * posts);
    REQUIRE(reactor.wakeups() < threads * posts);
}

TEST_CASE("posting from the reactor's own thread wakes nobody") {
    Reactor reactor;
    int left = 100;
    std::function<void()> again = [&] {
        if (--left == 0)
            reactor.stop();
        else
            reactor.post([&] { again(); });
    };
    reactor.post([&] { again(); });
    reactor.run();
    REQUIRE(reactor.wakeups() == 0);
}

TEST_CASE("a reactor that looks for work before it sleeps finds it without a sleep") {
    Reactor reactor;
    reactor.spin_before_sleeping(5min);
    const UniqueFd descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    reactor.watch(descriptor.get(), [&] { reactor.stop(); });
    std::thread other;
    reactor.after(5ms, [&] {
        other = std::thread([&] {
            const std::uint64_t one = 1;
            [[maybe_unused]] const ssize_t written = ::write(descriptor.get(), &one, sizeof one);
        });
    });
    reactor.run();
    other.join();
    REQUIRE(reactor.sleeps() == 0);
}

TEST_CASE("a reactor that looks for work is stopped from another thread") {
    Reactor reactor;
    reactor.spin_before_sleeping(5min);
    std::thread other([&] { reactor.stop(); });
    reactor.run();
    other.join();
    REQUIRE(reactor.sleeps() == 0);
}

namespace {
Reactor* reactor_to_stop = nullptr;
}

TEST_CASE("stop() may be called from a signal handler") {
    Reactor reactor;
    reactor_to_stop = &reactor;
    struct sigaction action {};
    struct sigaction before {};
    action.sa_handler = [](int) { reactor_to_stop->stop(); };
    REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
    reactor.post([] { raise(SIGUSR1); });
    reactor.run();
    // And from outside, while it sleeps.
    const pthread_t runner = pthread_self();
    std::thread other([&] { pthread_kill(runner, SIGUSR1); });
    reactor.run();
    other.join();
    REQUIRE(sigaction(SIGUSR1, &before, nullptr) == 0);
}

TEST_CASE("work that never ran is dropped with the reactor, and may refer to it while it goes") {
    auto reactor = std::make_unique<Reactor>();
    auto owned = std::make_shared<int>(1);
    reactor->post([owned] {});
    reactor->after(1h, [owned] {});
    reactor->at_end_of_turn([owned] {});
    reactor.reset();
    REQUIRE(owned.use_count() == 1);
}
