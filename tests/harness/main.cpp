// SPDX-License-Identifier: MIT
// main() of the tests that mount: skips them where FUSE cannot be had, and starts the watch that tidies up after them.
#include <unistd.h>

#include <cstdio>

#include "harness/scratch.hpp"

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

int main(int argc, char** argv) {
    constexpr int skipped = 77;  // as meson takes it
    if (access("/dev/fuse", F_OK) != 0) {
        std::fprintf(stderr, "skipped: /dev/fuse is not there, so nothing can be mounted\n");
        return skipped;
    }
    const remofile::test::Scratch scratch;
    return Catch::Session().run(argc, argv);
}
