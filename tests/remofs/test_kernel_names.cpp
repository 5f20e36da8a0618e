// SPDX-License-Identifier: MIT
// Whom a name that the kernel has to drop keeps waiting, and whom not.
#include "remofs/kernel/kernel_names.hpp"

#include <algorithm>
#include <semaphore>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

constexpr InodeNumber directory = 7;
constexpr InodeNumber other = 8;

struct Fixture {
    Counters counters;
    transport::Reactor reactor;
    // The lock of the directory, as the kernel has it: one name may be dropped for each release.
    std::counting_semaphore<> gate{0};
    std::vector<std::string> dropped;  // by the notifier's thread; read once that has nothing left to do
    Notifier notifier{reactor, counters, nullptr};
    KernelNames names{reactor};
    bool done = false;
    bool running = false;

    Fixture() {
        names.notify_by(
            notifier,
            [this](InodeNumber in, const std::string& name, InodeNumber meant) {
                gate.acquire();
                dropped.push_back((in == directory ? "" : std::to_string(in) + "/") + name +
                                  (meant == 0 ? "" : "=" + std::to_string(meant)));
            },
            nullptr);
    }
    ~Fixture() {
        gate.release(1000);
        notifier.stop();
    }
    void tell_when_dropped() {
        names.when_names_dropped([this] {
            done = true;
            if (running)
                reactor.stop();
        });
    }
    // Until `done`.
    void run() {
        const auto deadline = reactor.after(std::chrono::seconds(20), [this] { reactor.stop(); });
        running = true;
        if (!done)
            reactor.run();
        running = false;
        reactor.cancel(deadline);
        REQUIRE(done);
    }
};

}  // namespace

TEST_CASE("names: nobody waits where there is nothing to drop") {
    Fixture f;
    f.tell_when_dropped();
    CHECK(f.done);
}

TEST_CASE("names: whoever waits is told once all are dropped") {
    Fixture f;
    f.names.drop_name(directory, "a", 0);
    f.names.drop_name(directory, "b", 3);
    f.tell_when_dropped();
    CHECK_FALSE(f.done);
    f.gate.release(2);
    f.run();
    f.notifier.stop();
    CHECK(f.dropped == std::vector<std::string>{"a", "b=3"});
}

TEST_CASE("names: nobody waits for the lock of a directory in which a request is under way") {
    Fixture f;
    f.names.lock({other, directory});
    f.names.drop_name(directory, "a", 0);
    f.tell_when_dropped();
    CHECK(f.done);
    // The name is dropped all the same.
    f.gate.release();
    f.done = false;
    f.names.unlock({other, directory});
    f.tell_when_dropped();
    f.run();
    f.notifier.stop();
    CHECK(f.dropped == std::vector<std::string>{"a"});
}

TEST_CASE("names: a request that comes meanwhile ends the waiting") {
    Fixture f;
    f.names.drop_name(directory, "a", 0);
    f.tell_when_dropped();
    f.names.lock({other, 0});
    CHECK_FALSE(f.done);
    f.names.lock({directory, 0});
    CHECK(f.done);
}

TEST_CASE("names: nobody waits for long for a lock of which no request tells") {
    Fixture f;
    f.names.drop_name(directory, "a", 0);
    f.tell_when_dropped();
    f.run();
    CHECK(f.gate.try_acquire() == false);
}

// What it has not dropped is shown to everybody, and on a busy machine it may take any time until it comes to run.
TEST_CASE("names: whoever waits for a thread that has not come to run waits on") {
    Fixture f;
    std::binary_semaphore runs{0};
    f.notifier.run([&] { runs.acquire(); });
    f.names.drop_name(directory, "a", 0);
    f.tell_when_dropped();
    f.reactor.after(std::chrono::milliseconds(400), [&] { f.reactor.stop(); });
    f.reactor.run();
    CHECK_FALSE(f.done);
    f.gate.release();
    runs.release();
    f.run();
    f.notifier.stop();
    CHECK(f.dropped == std::vector<std::string>{"a"});
}

TEST_CASE("names: of more names than a mount keeps none is confirmed before the kernel has dropped them") {
    Fixture f;
    f.names.lock({directory, 0});
    const auto drop = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            f.names.drop_name(directory, std::to_string(i), 0);
    };
    drop(KernelNames::max_on_their_way);
    f.tell_when_dropped();
    CHECK(f.done);
    f.done = false;
    drop(1);
    f.tell_when_dropped();
    CHECK_FALSE(f.done);
    f.names.lock({directory, 0});
    CHECK_FALSE(f.done);
    f.gate.release(KernelNames::max_on_their_way + 1);
    f.run();
}

// The kernel moves what it thinks the name stands for, which is what the name stood for.
TEST_CASE("names: a name that is moved before it has been dropped is dropped where it is then") {
    Fixture f;
    f.names.lock({directory, other});
    f.names.drop_name(directory, "a", 3);
    f.names.drop_name(directory, "a", 4);
    f.names.drop_name(directory, "b", 5);
    f.names.renamed(directory, "a", other, "c");
    f.names.renamed(other, "c", directory, "d");
    f.names.renamed(other, "a", directory, "e");
    f.names.unlock({directory, other});
    f.gate.release(7);
    f.tell_when_dropped();
    f.run();
    f.names.renamed(directory, "a", other, "f");
    f.notifier.stop();
    std::ranges::sort(f.dropped);
    CHECK(f.dropped == std::vector<std::string>{"8/c=3", "8/c=4", "a=3", "a=4", "b=5", "d=3", "d=4"});
}
