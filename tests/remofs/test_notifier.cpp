// SPDX-License-Identifier: MIT
#include <atomic>
#include <semaphore>
#include <vector>

#include "base/guarded.hpp"
#include "catch.hpp"
#include "remofs/kernel/notifier.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

struct Fixture {
    Counters counters;
    transport::Reactor reactor;
    Guarded<std::vector<InodeNumber>> sent;
    std::counting_semaphore<> gate{0};  // one notification may pass for each release
    Notifier notifier{reactor, counters, [this](InodeNumber inode) {
                          gate.acquire();
                          sent.lock()->push_back(inode);
                      }};

    ~Fixture() {
        gate.release(1000);
        notifier.stop();
    }
    void run_until_stopped() {
        const auto deadline = reactor.after(std::chrono::seconds(20), [this] {
            FAIL_CHECK("nothing happened before the deadline");
            reactor.stop();
        });
        reactor.run();
        reactor.cancel(deadline);
    }
};

}  // namespace

TEST_CASE("a file that waits in the queue is notified once, and all who asked are told") {
    Fixture f;
    int done = 0;
    const auto count = [&] {
        if (++done == 3)
            f.reactor.stop();
    };
    f.notifier.invalidate({1, 2, 3}, count);
    f.notifier.invalidate({2, 3}, count);
    f.notifier.invalidate({3, 4}, count);
    f.gate.release(1000);
    f.run_until_stopped();
    CHECK(done == 3);
    std::vector<InodeNumber> sent = *f.sent.lock();
    // The first batch may have left the queue before the second came; never is one left out.
    std::sort(sent.begin(), sent.end());
    const auto last = std::unique(sent.begin(), sent.end());
    CHECK(std::vector<InodeNumber>(sent.begin(), last) == std::vector<InodeNumber>{1, 2, 3, 4});
    CHECK(f.counters.at("fuse.notifications").value() <= 7);
}

TEST_CASE("work runs after what is queued, and finish after the work") {
    Fixture f;
    std::atomic<int> order = 0;
    int notified_at = 0;
    int worked_at = 0;
    f.notifier.invalidate({1}, [&] { notified_at = ++order; });
    f.notifier.run([&] { worked_at = ++order; });
    f.gate.release(1000);
    f.notifier.finish([&] { f.reactor.stop(); });
    f.run_until_stopped();
    CHECK(f.sent.lock()->size() == 1);
    CHECK(notified_at != 0);
    CHECK(worked_at != 0);

    // From now on nothing is sent, and nobody waits for it.
    f.notifier.invalidate({9}, [&] { f.reactor.stop(); });
    f.run_until_stopped();
    CHECK(f.sent.lock()->size() == 1);
}

TEST_CASE("stopping does not wait for what is still queued") {
    Fixture f;
    f.notifier.invalidate({1}, nullptr);
    f.notifier.invalidate({2}, nullptr);
    f.gate.release(1);
    f.notifier.stop();
    CHECK(f.sent.lock()->size() <= 1);
}
