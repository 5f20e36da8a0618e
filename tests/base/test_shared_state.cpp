// SPDX-License-Identifier: MIT
// What several threads use at once: counters and guarded values. Run under the thread sanitizer to mean something.
#include <fcntl.h>

#include <string>
#include <thread>
#include <vector>

#include "base/counters.hpp"
#include "base/guarded.hpp"
#include "base/strong_id.hpp"
#include "base/unique_fd.hpp"
#include "catch.hpp"

using namespace remofile;

namespace {

constexpr int thread_count = 4;
constexpr int rounds = 2000;

template <class Work>
void on_many_threads(Work work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < thread_count; ++i)
        threads.emplace_back(work, i);
    for (std::thread& thread : threads)
        thread.join();
}

}  // namespace

TEST_CASE("counters add up over threads and list in the order of their names") {
    Counters counters;
    Counters::Counter& early = counters.at("m");
    on_many_threads([&](int thread) {
        for (int i = 0; i < rounds; ++i) {
            counters.at("z").add();
            counters.at("a" + std::to_string(thread)).add(2);
            early.add();
            static_cast<void>(counters.snapshot());
        }
    });
    CHECK(&counters.at("m") == &early);
    const auto values = counters.snapshot();
    REQUIRE(values.size() == thread_count + 2);
    CHECK(values.front() == std::pair<std::string, std::uint64_t>("a0", 2 * rounds));
    CHECK(values.back() == std::pair<std::string, std::uint64_t>("z", thread_count * rounds));
    CHECK(early.value() == thread_count * rounds);
    early.subtract(thread_count * rounds);
    CHECK(early.value() == 0);
}

TEST_CASE("a guarded value is changed by one thread at a time") {
    Guarded<std::vector<int>> list;
    on_many_threads([&](int thread) {
        for (int i = 0; i < rounds; ++i) {
            if (i % 2 == 0)
                list.lock()->push_back(thread);
            else
                list.with([&](std::vector<int>& value) { value.push_back(thread); });
        }
    });
    CHECK(list.with([](const std::vector<int>& value) { return value.size(); }) == thread_count * rounds);
    CHECK(Guarded<int>(7).with([](int value) { return value; }) == 7);
}

TEST_CASE("a descriptor is closed once") {
    const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) != -1; };
    int number = -1;
    {
        UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        number = fd.get();
        CHECK(is_open(number));
        UniqueFd other = std::move(fd);
        CHECK_FALSE(fd);  // NOLINT(bugprone-use-after-move)
        CHECK(other.get() == number);
    }
    CHECK_FALSE(is_open(number));

    UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int replaced = first.get();
    first = UniqueFd(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(is_open(replaced));
    const UniqueFd released(first.release());
    CHECK_FALSE(first);
    CHECK(is_open(released.get()));
}

TEST_CASE("ids of different kinds are different types") {
    STATIC_REQUIRE_FALSE(std::is_convertible_v<NodeId, HandleId>);
    STATIC_REQUIRE_FALSE(std::is_convertible_v<std::uint64_t, NodeId>);
    CHECK_FALSE(NodeId{});
    CHECK(NodeId{1} < NodeId{2});
}
