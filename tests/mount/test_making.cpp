// SPDX-License-Identifier: MIT
// Names that are made, moved and removed without waiting for the server, over links that break at any moment: what
// programs are told is what a local directory would have told them, and what the server has in the end.
//
// REMOFS_TEST_OPERATIONS=N makes the runs long, and REMOFS_TEST_SEED=N repeats one (its steps; links break by the
// clock).
#include <sys/stat.h>

#include <cstdio>
#include <deque>
#include <random>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"
#include "harness/tcp_proxy.hpp"
#include "mount/random_operations.hpp"

using namespace remofile::test;

namespace {

constexpr int usual_steps = 100;
// With the time that it takes to find an interrupted link again.
constexpr Milliseconds a_step{200};
constexpr Milliseconds shortest_patience{120'000};

// Mounts of one server, each over a link of its own.
class Mounts {
public:
    Mounts(int count, Milliseconds one_way) : server_({.lends_inodes = true}) {
        // What the server has for itself, it has in its root.
        REQUIRE(mkdir((server_.directory() + "/work").c_str(), 0755) == 0);
        for (int i = 0; i < count; ++i) {
            const TcpProxy& link = links_.emplace_back(server_.ports(), one_way);
            mounts_.emplace_back(through(server_, link.address()));
        }
    }

    std::vector<std::string> paths() const {
        std::vector<std::string> paths;
        for (const MountProcess& mount : mounts_)
            paths.push_back(mount.path() + "/work");
        return paths;
    }
    std::string at_server() const { return server_.directory() + "/work"; }
    std::deque<TcpProxy>& links() { return links_; }

    std::uint64_t counted(const std::string& name) {
        std::uint64_t sum = 0;
        for (MountProcess& mount : mounts_)
            sum += mount.counted(name);
        return sum;
    }
    // All that was answered has been carried out, and nothing has gone wrong with it.
    void end() {
        for (MountProcess& mount : mounts_) {
            carried_out(mount.path());
            INFO(mount.errors());
            CHECK(mount.errors().find("after a program was told") == std::string::npos);
            CHECK(mount.errors().find("could not be written") == std::string::npos);
            CHECK(mount.errors().find("another number") == std::string::npos);
            CHECK(mount.unmount());
        }
    }

private:
    ServerProcess server_;
    std::deque<TcpProxy> links_;
    std::deque<MountProcess> mounts_;
};

// Breaks one of the links now and then, as long as the child runs. How often it did.
int interrupt(Child& child, std::deque<TcpProxy>& links, std::uint64_t seed, Milliseconds patience) {
    std::mt19937_64 random(seed);
    const auto end = std::chrono::steady_clock::now() + patience * slowness();
    int cuts = 0;
    while (child.wait(Milliseconds{random() % 2'000}).timed_out() && std::chrono::steady_clock::now() < end) {
        TcpProxy& link = links[random() % links.size()];
        link.cut();
        child.wait(Milliseconds{random() % 30});
        link.pass();
        ++cuts;
    }
    return cuts;
}

void check_making(int mounts, Milliseconds one_way) {
    RandomRun run;
    run.model = Scratch::instance().make_directory("model");
    run.keep_open = mounts == 1;
    run.making = true;
    run.seed = seed_for_tests();
    run.operations = operations_for_tests(usual_steps);
    std::optional<Mounts> mounted;
    if (testing_locally())
        run.mounted.assign(static_cast<std::size_t>(mounts), Scratch::instance().make_directory("stands-in"));
    else
        run.mounted = mounted.emplace(mounts, one_way).paths();
    // In a process of its own, which a hang cannot take the test along with.
    Child child = Child::fork([&run] {
        const std::string report = run_randomly(run);
        std::fputs(report.c_str(), stdout);
        return report.empty() ? 0 : 1;
    });
    const Milliseconds patience = shortest_patience + a_step * run.operations;
    const int cuts = mounted ? interrupt(child, mounted->links(), run.seed, patience) : 0;
    const Ended end = child.wait(patience);
    INFO("REMOFS_TEST_SEED=" << run.seed << ", " << cuts << " interruptions\n" << end.to_string());
    CHECK(end.exit_status == 0);
    if (!mounted)
        return;
    // Two mounts that are slow to get a directory for themselves may hardly ever have one.
    if (mounts == 1)
        CHECK(mounted->counted("changes.behind") > static_cast<std::uint64_t>(run.operations) / 20);
    if (mounts == 1 && one_way.count() > 0)
        CHECK(mounted->counted("lent.taken") > static_cast<std::uint64_t>(run.operations) / 200);
    mounted->end();
    const std::string difference = first_difference(describe_tree(run.model), describe_tree(mounted->at_server()));
    INFO(difference);
    CHECK(difference.empty());
}

constexpr Milliseconds near{0};
constexpr Milliseconds far{3};

}  // namespace

TEST_CASE("making: random changes on a mount nearby, over a link that breaks") {
    check_making(1, near);
}

TEST_CASE("making: random changes on a mount at a distance, over a link that breaks") {
    check_making(1, far);
}

TEST_CASE("making: random changes on two mounts nearby, over links that break") {
    check_making(2, near);
}

TEST_CASE("making: random changes on two mounts at a distance, over links that break") {
    check_making(2, far);
}
