// SPDX-License-Identifier: MIT
// One server and one mount for all the test cases of a program that only need a place to work in.
#pragma once

#include "catch.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"

namespace remofile::test {

inline SideBySide& shared_mount() {
    static SideBySide& shared = Scratch::instance().keep(std::make_unique<SideBySide>());
    return shared;
}

// Fails the test if `body` does not give the same on the mount as in a local directory.
inline void same_on_both(const SideBySide::Body& body) {
    const std::string report = shared_mount().compare(body);
    INFO(report);
    CHECK(report.empty());
}

}  // namespace remofile::test
