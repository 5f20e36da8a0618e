// SPDX-License-Identifier: MIT
// Random sequences of operations on one mount, compared step by step with a local directory.
#include <cstdio>

#include "mount/random_operations.hpp"
#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

void check_random_run(int operations, Milliseconds deadline) {
    const auto pair = shared_mount().make_pair();
    const RandomRun run = {.model = pair.local,
                           .mounted = {pair.mounted},
                           .seed = seed_for_tests(),
                           .operations = operations_for_tests(operations)};
    // In a process of its own, which a hang cannot take the test along with.
    Child child = Child::fork([&run] {
        const std::string report = run_randomly(run);
        std::fputs(report.c_str(), stdout);
        return report.empty() ? 0 : 1;
    });
    const Ended end = child.wait(deadline);
    INFO("REMOFS_TEST_SEED=" << run.seed << "\n" << end.to_string());
    CHECK(end.exit_status == 0);
    const std::string at_the_server = first_difference(describe_tree(pair.local), describe_tree(pair.export_));
    INFO(at_the_server);
    CHECK(at_the_server.empty());
    shared_mount().remount();
    const std::string anew = first_difference(describe_tree(pair.local), describe_tree(pair.mounted));
    INFO(anew);
    CHECK(anew.empty());
}

}  // namespace

TEST_CASE("random: one long sequence") {
    check_random_run(2'000, Milliseconds{120'000});
}

TEST_CASE("random: several short sequences from an empty directory") {
    for (int i = 0; i < 5; ++i)
        check_random_run(200, Milliseconds{60'000});
}
