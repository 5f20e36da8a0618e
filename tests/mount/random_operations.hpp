// SPDX-License-Identifier: MIT
// Random sequences of file operations, carried out step by step on a mount and on a local directory as the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace remofile::test {

struct RandomRun {
    std::string model;  // an empty local directory
    std::vector<std::string>
        mounted;  // the empty directory under test, under one name or, with several mounts, under each
    // Keep files open from one step to another. With several mounts a file is closed within each step, since
    // what is written becomes visible to the others with close().
    bool keep_open = true;
    std::uint64_t seed = 0;
    int operations = 0;
};

// Empty if mount and model gave the same at each step and hold the same at the end. Else a report with the seed and the
// last steps.
std::string run_randomly(const RandomRun& run);

// From the environment: REMOFS_TEST_SEED, else a new one; REMOFS_TEST_OPERATIONS, else `by_default`.
std::uint64_t seed_for_tests();
int operations_for_tests(int by_default);

}  // namespace remofile::test
