// SPDX-License-Identifier: MIT
#include "transport/link_speed.hpp"

#include <catch.hpp>

using namespace remofile;
using namespace remofile::transport;
using namespace std::chrono_literals;

namespace {

constexpr double mega = 1e6;

// A link that a sender keeps so many messages on.
struct Link {
    LinkSpeed speed;
    TimePoint now{1h};
    std::uint64_t sent = 0;
    std::uint64_t arrived = 0;

    void send(std::uint64_t bytes) {
        speed.note_sent(bytes, now);
        sent += bytes;
    }
    void arrive(std::uint64_t bytes, Duration after) {
        now += after;
        arrived += bytes;
        speed.note_arrived(arrived, now);
    }
    // Messages of 256 KiB, `window` of them under way, over a link with that many bytes a second.
    void stream(int messages, int window, double rate) {
        constexpr std::uint64_t bytes = 256 << 10;
        const auto each = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(bytes / rate));
        for (int i = 0; i < window; ++i)
            send(bytes);
        for (int i = 0; i < messages; ++i) {
            arrive(bytes, each);
            send(bytes);
        }
        for (int i = 0; i < window; ++i)
            arrive(bytes, each);
    }
};

}  // namespace

TEST_CASE("nothing is known of a link before much was under way") {
    Link link;
    CHECK_FALSE(link.speed.bytes_per_s());
    for (int i = 0; i < 1000; ++i) {
        link.send(4096);
        link.arrive(4096, 100us);  // one request at a time: the round trip, not the link
    }
    CHECK_FALSE(link.speed.bytes_per_s());
}

TEST_CASE("a link that is kept busy shows its speed") {
    for (const double rate : {1.25 * mega, 12.5 * mega, 1000 * mega}) {
        Link link;
        link.stream(100, 8, rate);
        REQUIRE(link.speed.bytes_per_s());
        CHECK(*link.speed.bytes_per_s() > 0.9 * rate);
        CHECK(*link.speed.bytes_per_s() < 1.1 * rate);
    }
}

TEST_CASE("a slow sender does not make a link slow") {
    Link link;
    link.stream(100, 8, 1000 * mega);
    for (int i = 0; i < 100; ++i) {
        link.send(1 << 20);
        link.arrive(1 << 20, 50ms);  // a disk, say
        link.now += 100ms;
    }
    CHECK(*link.speed.bytes_per_s() > 900 * mega);
}

TEST_CASE("a link that becomes slower, or faster, is noticed") {
    Link link;
    link.stream(400, 8, 125 * mega);
    CHECK(*link.speed.bytes_per_s() > 100 * mega);
    link.stream(400, 8, 12.5 * mega);  // 8 s
    CHECK(*link.speed.bytes_per_s() < 15 * mega);
    link.stream(20, 8, 125 * mega);
    CHECK(*link.speed.bytes_per_s() > 60 * mega);
}

TEST_CASE("a new connection begins without what was under way, and keeps what is known") {
    Link link;
    link.stream(100, 8, 12.5 * mega);
    link.send(1 << 20);
    link.speed.reset();
    link.sent = link.arrived = 0;
    CHECK(*link.speed.bytes_per_s() < 15 * mega);
    link.stream(100, 8, 12.5 * mega);
    CHECK(*link.speed.bytes_per_s() < 15 * mega);
}

TEST_CASE("claims beyond what was sent count as all of it") {
    Link link;
    link.send(1 << 20);
    link.speed.note_arrived(UINT64_MAX, link.now + 1s);
    link.send(1 << 20);
    link.speed.note_arrived(UINT64_MAX, link.now + 2s);
    CHECK_FALSE(link.speed.bytes_per_s());
}
