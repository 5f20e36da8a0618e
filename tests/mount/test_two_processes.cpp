// SPDX-License-Identifier: MIT
// Two processes that read and write the same files, through one mount and through two, held against a model.
//
// REMOFS_TEST_OPERATIONS=100000 makes the runs long, REMOFS_TEST_SEED=N repeats one.
#include <atomic>
#include <random>
#include <thread>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"
#include "harness/tcp_proxy.hpp"
#include "mount/data_run.hpp"
#include "mount/random_operations.hpp"

using namespace remofile::test;

namespace {

constexpr int usual_operations = 3'000;
constexpr int operations_over_unsteady_network = 1'500;

void check(const DataRun& run) {
    INFO("REMOFS_TEST_SEED=" << run.seed);
    const std::string report = run_two_processes(run);
    INFO(report);
    CHECK(report.empty());
}

void check_on_mounts(const std::vector<std::string>& options, bool one_mount) {
    if (testing_locally()) {
        const std::string directory = Scratch::instance().make_directory("stands-in");
        check({.roots = {directory, directory},
               .server = directory,
               .one_view = true,
               .direct = false,
               .seed = seed_for_tests(),
               .operations = operations_for_tests(usual_operations)});
        return;
    }
    const ServerProcess server;
    MountProcess first(server, options);
    MountProcess second(server, options);
    check({.roots = {first.path(), one_mount ? first.path() : second.path()},
           .server = server.directory(),
           .one_view = one_mount,
           .seed = seed_for_tests(),
           .operations = operations_for_tests(usual_operations)});
    CHECK(first.unmount());
    CHECK(second.unmount());
}

// A connection on which everything stands still again and again for some milliseconds, so that what is pending stays so
// for long enough to be got wrong.
class UnsteadyNetwork {
public:
    UnsteadyNetwork(const std::vector<int>& ports, unsigned seed)
        : proxy_(ports), thread_([this, seed] { run(seed); }) {}
    ~UnsteadyNetwork() {
        stopping_ = true;
        thread_.join();
    }
    UnsteadyNetwork(const UnsteadyNetwork&) = delete;
    UnsteadyNetwork& operator=(const UnsteadyNetwork&) = delete;

    const std::string& address() const { return proxy_.address(); }

private:
    void run(unsigned seed) {
        std::mt19937 random(seed);
        const auto pause = [&random] { std::this_thread::sleep_for(std::chrono::microseconds(random() % 6'000)); };
        while (!stopping_) {
            proxy_.stall();
            pause();
            proxy_.pass();
            pause();
        }
    }

    TcpProxy proxy_;
    std::atomic<bool> stopping_ = false;
    std::thread thread_;
};

void check_over_unsteady_network(bool one_mount) {
    if (testing_locally())
        return;
    const ServerProcess server;
    const auto seed = static_cast<unsigned>(seed_for_tests());
    const UnsteadyNetwork one(server.ports(), seed), another(server.ports(), seed + 1);
    MountProcess first(through(server, one.address()));
    MountProcess second(through(server, another.address()));
    check({.roots = {first.path(), one_mount ? first.path() : second.path()},
           .server = server.directory(),
           .one_view = one_mount,
           .seed = seed,
           .operations = operations_for_tests(operations_over_unsteady_network)});
    CHECK(first.unmount());
    CHECK(second.unmount());
}

}  // namespace

TEST_CASE("two processes on one mount: each sees at once what the other did") {
    check_on_mounts({}, true);
}

TEST_CASE("two processes on a mount each: what one closed, synced or unlocked, the other sees") {
    check_on_mounts({}, false);
}

TEST_CASE("two processes on one mount with little cache") {
    check_on_mounts({"cache_size=4M"}, true);
}

TEST_CASE("two processes on a mount each with little cache") {
    check_on_mounts({"cache_size=4M"}, false);
}

TEST_CASE("two processes on one mount over an unsteady network") {
    check_over_unsteady_network(true);
}

TEST_CASE("two processes on a mount each over an unsteady network") {
    check_over_unsteady_network(false);
}
