// SPDX-License-Identifier: MIT
#include <sys/wait.h>
#include <unistd.h>

#include "catch.hpp"
#include "remofs/program/startup.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

// What the starting process returns when the serving one does `work` and ends.
template <class Work>
client::ExitStatus start(Work work) {
    Fork fork = start_in_background();
    if (fork.is_child) {
        work(fork.report);
        _exit(0);
    }
    while (waitpid(-1, nullptr, 0) > 0) {
    }
    return fork.status;
}

}  // namespace

TEST_CASE("the starting process learns how the start went") {
    CHECK(start([](StartReport& report) {
              report.note("also in use by somebody");
              report.ready();
          }) == client::ExitStatus::success);
    CHECK(start([](StartReport& report) { report.failed(client::ExitStatus::unreachable, "no server answers"); }) ==
          client::ExitStatus::unreachable);
}

TEST_CASE("a serving process that ends without a word is a failure") {
    CHECK(start([](StartReport&) {}) == client::ExitStatus::failure);
}
