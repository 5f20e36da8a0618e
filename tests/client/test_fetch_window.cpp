// SPDX-License-Identifier: MIT
#include "client/fetch_window.hpp"

#include <deque>

#include "catch.hpp"

using namespace remofile;
using namespace remofile::client;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t block = 256U << 10;

// A link that carries so many bytes of files a second and takes `delay` from asking to arriving, read through a window
// that is kept full.
struct Link {
    double bytes_per_s;
    Duration delay;
    TimePoint now{1h};
    FetchWindow window{};

    void read(std::uint64_t bytes) {
        struct Request {
            TimePoint asked, arrives;
        };
        std::deque<Request> under_way;
        TimePoint free = now;
        for (std::uint64_t asked = 0; asked < bytes || !under_way.empty();) {
            if (asked < bytes && under_way.size() * block < window.bytes()) {
                const auto sending =
                    std::chrono::duration_cast<Duration>(std::chrono::duration<double>(block / bytes_per_s));
                free = std::max(free, now + delay) + sending;
                under_way.push_back({now, free});
                window.note_asked(block, now);
                asked += block;
                continue;
            }
            now = under_way.front().arrives;
            window.note_arrived(block, under_way.front().asked, now);
            under_way.pop_front();
        }
    }
};

}  // namespace

TEST_CASE("a window begins with its least") {
    CHECK(FetchWindow().bytes() == FetchWindow::min_bytes);
}

TEST_CASE("a link of little bandwidth or delay needs no more than the least, however much is read") {
    Link slow{.bytes_per_s = 1e6, .delay = 100ms};
    slow.read(64U << 20);
    CHECK(slow.window.bytes() == FetchWindow::min_bytes);
    Link local{.bytes_per_s = 1e9, .delay = 300us};
    local.read(1U << 30);
    CHECK(local.window.bytes() == FetchWindow::min_bytes);
}

TEST_CASE("a window grows to what fills a long link, and to its most") {
    Link link{.bytes_per_s = 60e6, .delay = 100ms};  // 6 MB on their way
    link.read(512U << 20);
    CHECK(link.window.bytes() >= 2 * 6'000'000);
    CHECK(link.window.bytes() < FetchWindow::max_bytes);
    Link longer{.bytes_per_s = 200e6, .delay = 200ms};
    longer.read(1U << 30);
    CHECK(longer.window.bytes() == FetchWindow::max_bytes);
}

TEST_CASE("a window follows its link to another delay") {
    Link link{.bytes_per_s = 100e6, .delay = 1ms};
    link.read(256U << 20);
    CHECK(link.window.bytes() == FetchWindow::min_bytes);
    link.delay = 150ms;
    link.window.forget_delay();
    link.read(256U << 20);
    CHECK(link.window.bytes() > 2 * FetchWindow::min_bytes);
}

TEST_CASE("what fails says nothing about the delay") {
    FetchWindow window;
    TimePoint now{1h};
    for (int i = 0; i < 1000; ++i) {
        window.note_asked(block, now);
        window.note_failed(block, now += 1us);
    }
    CHECK(window.bytes() == FetchWindow::min_bytes);
}
