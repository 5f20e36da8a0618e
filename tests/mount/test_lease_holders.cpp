// SPDX-License-Identifier: MIT
// A mount that may answer from its memory, and then says nothing any more: others wait for it once, for a term at most,
// and it answers nobody by what it remembers from before.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

constexpr Milliseconds term{10'000};
// For what may have to wait for a term, on a machine with much else to do.
constexpr Milliseconds within_a_term = term * 2;
constexpr int directories = 20;

std::string directory_of(const std::string& root, int number) {
    return root + "/" + std::to_string(number);
}

// One mount that has leases of many directories, and one that changes what is in them.
struct Holding {
    ServerProcess server;
    MountProcess holder{server};
    MountProcess author{server};

    Holding() {
        for (int i = 0; i < directories; ++i) {
            REQUIRE(mkdir(directory_of(server.directory(), i).c_str(), 0755) == 0);
            for (const char* name : {"/content", "/removed", "/renamed"})
                write_file(directory_of(server.directory(), i) + name, "old");
        }
        REQUIRE(describe_tree(holder.path()) == describe_tree(server.directory()));
        for (int i = 0; i < directories; ++i)
            REQUIRE(access((directory_of(holder.path(), i) + "/made").c_str(), F_OK) == -1);
    }

    // All that the holder remembers of the directory is wrong afterwards.
    static int change(const std::string& directory) {
        try {
            write_file(directory + "/content", "other content");
            write_file(directory + "/made", "");
        } catch (const std::runtime_error&) {
            return 1;
        }
        return unlink((directory + "/removed").c_str()) == 0 &&
                       rename((directory + "/renamed").c_str(), (directory + "/new").c_str()) == 0
                   ? 0
                   : 2;
    }

    // In a process of its own, which may hang. The first directory, after which everybody waits no more.
    Ended change_first() {
        return Child::fork([this] { return change(directory_of(author.path(), 0)); }).wait(within_a_term);
    }
    Ended change_the_others() {
        return Child::fork([this] {
                   for (int i = 1; i < directories; ++i) {
                       if (const int failed = change(directory_of(author.path(), i)))
                           return failed;
                   }
                   return 0;
               })
            .wait(term);
    }

    void check_that_others_wait_once() {
        const Ended first = change_first();
        INFO("the first: " << first.to_string() << server.errors());
        CHECK(first.exit_status == 0);
        const Ended others = change_the_others();
        INFO("the others: " << others.to_string());
        CHECK(others.exit_status == 0);
        CHECK(server.errors().find("has lost its") != std::string::npos);
    }

    std::string names_seen_by_holder(int number) const {
        const std::string directory = directory_of(holder.path(), number);
        std::string names;
        for (const std::string name : {"/content", "/made", "/removed", "/renamed", "/new"})
            names += access((directory + name).c_str(), F_OK) == 0 ? name : "";
        return names;
    }
};

}  // namespace

TEST_CASE("lease holders: one that is killed delays others by a term at most, and once") {
    Holding f;
    f.holder.process().signal(SIGKILL);
    f.check_that_others_wait_once();
}

TEST_CASE("lease holders: one that stands still delays others by a term at most, and then shows nothing of before") {
    Holding f;
    REQUIRE(kill(f.holder.pid(), SIGSTOP) == 0);
    f.check_that_others_wait_once();
    // Nor does its kernel answer meanwhile.
    Child asks = Child::fork([&] { return access((directory_of(f.holder.path(), 0) + "/removed").c_str(), F_OK); });
    Child reads = Child::fork(
        [&] { return read_file(directory_of(f.holder.path(), 1) + "/content") == "other content" ? 0 : 1; });
    CHECK(asks.wait(Milliseconds{300}).timed_out());
    CHECK(reads.wait(Milliseconds{0}).timed_out());
    REQUIRE(kill(f.holder.pid(), SIGCONT) == 0);
    for (int i = 0; i < directories; ++i)
        CHECK(f.names_seen_by_holder(i) == "/content/made/new");
    for (int i = 0; i < directories; ++i)
        CHECK(read_file(directory_of(f.holder.path(), i) + "/content") == "other content");
    CHECK(asks.wait(within_a_term).exit_status == 255);
    CHECK(reads.wait(within_a_term).exit_status == 0);
    CHECK(describe_tree(f.holder.path()) == describe_tree(f.server.directory()));
    CHECK(f.holder.unmount());
}

// It may answer by its memory as long as its term lasts, for so long the others wait; not longer.
TEST_CASE("lease holders: one that stands still for less than a term has not missed what was changed meanwhile") {
    Holding f;
    REQUIRE(kill(f.holder.pid(), SIGSTOP) == 0);
    Child author = Child::fork([&] { return Holding::change(directory_of(f.author.path(), 0)); });
    CHECK(author.wait(Milliseconds{300}).timed_out());
    REQUIRE(kill(f.holder.pid(), SIGCONT) == 0);
    CHECK(author.wait(within_a_term).exit_status == 0);
    CHECK(f.names_seen_by_holder(0) == "/content/made/new");
    CHECK(read_file(directory_of(f.holder.path(), 0) + "/content") == "other content");
    CHECK(f.holder.unmount());
}
