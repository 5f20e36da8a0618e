// SPDX-License-Identifier: MIT
// Random sequences of file operations, carried out step by step on mounts and on a local directory as the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness/patience.hpp"

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
    // Names are made, moved and removed more than anything else, by each mount mostly in directories that it has for
    // itself; set times and the numbers of files are looked at too.
    bool making = false;

    // The same directory at the server. If it is set, the coherence of all views of it is tested: a program on the
    // server takes part, everybody keeps a file open, writes of which are synced within their step, and after each
    // change some of all names are looked at in some of the views.
    std::string server = {};
    // Of as many steps the program on the server does one.
    unsigned steps_a_program = 4;
    // What it does is promised to be seen on the mounts this much later, and not before.
    Milliseconds told_within{1'000};
};

// Empty if mount and model gave the same at each step and hold the same at the end. Else a report with the seed and the
// last steps.
std::string run_randomly(const RandomRun& run);

// From the environment: REMOFS_TEST_SEED, else a new one; REMOFS_TEST_OPERATIONS, else `by_default`.
std::uint64_t seed_for_tests();
int operations_for_tests(int by_default);

}  // namespace remofile::test
