// SPDX-License-Identifier: MIT
// What status --watch makes of two samples, and how it draws.
#include <catch.hpp>

#include "cli/screen.hpp"
#include "cli/status_rates.hpp"

using namespace remofile;
using namespace remofile::cli;
using std::chrono::milliseconds;

TEST_CASE("rates are what was counted in between, a second") {
    const CounterValues before{{"server.bytes_received", 100}, {"server.bytes_sent", 5}, {"server.requests", 10}};
    const CounterValues after{{"server.bytes_received", 300}, {"server.bytes_sent", 1005}, {"server.requests", 14}};
    const auto rates = rates_between(Observed::server, before, after, milliseconds(500));
    REQUIRE(rates);
    CHECK(json_of(Observed::server, rates) ==
          R"({"seconds": 0.500, "requests": 8.0, "bytes_in": 400, "bytes_out": 2000})");
    CHECK(plain_text_of(Observed::server, rates) == "8.0 requests/s, 400 B/s in, 2.0 KiB/s out\n");
}

TEST_CASE("a mount's requests are those of all opcodes, its hits those of contents and names") {
    const CounterValues before{{"client.requests.read", 1}, {"names.hits", 4}};
    const CounterValues after{{"cache.hits", 2},           {"cache.misses", 1},         {"client.requests.lookup", 3},
                              {"client.requests.read", 2}, {"client.round_trips", 100}, {"names.hits", 5}};
    const auto rates = rates_between(Observed::mount, before, after, milliseconds(1000));
    REQUIRE(rates);
    CHECK(rates->requests == 4);
    CHECK(rates->cache_hits == 3);
    CHECK(rates->cache_misses == 1);
    CHECK(plain_text_of(Observed::mount, rates).find("3.0 cache hits/s (75 %), 1.0 misses/s") != std::string::npos);
    CHECK(json_of(Observed::mount, rates).find(R"("cache_hits": 3.0, "cache_misses": 1.0})") != std::string::npos);
}

TEST_CASE("there are no rates across a restart, nor without time") {
    const CounterValues more{{"server.requests", 10}};
    const CounterValues fewer{{"server.requests", 2}};
    CHECK_FALSE(rates_between(Observed::server, more, fewer, milliseconds(500)));
    CHECK_FALSE(rates_between(Observed::server, fewer, more, milliseconds(0)));
    CHECK(json_of(Observed::server, std::nullopt) == "null");
    CHECK(plain_text_of(Observed::server, std::nullopt).empty());
}

TEST_CASE("the counters of a mount are found in its status") {
    const CounterValues counters = counters_of_mount(
        R"({"connected": true, "known_files": 7, "counters": {"cache.hits": 1, "client.requests.read": 18446744073709551615}})");
    CHECK(counters == CounterValues{{"cache.hits", 1}, {"client.requests.read", UINT64_MAX}});
    CHECK(counters_of_mount("").empty());
    CHECK(counters_of_mount(R"({"counters": {"cut)").empty());
    CHECK(counters_of_mount(R"({"counters": {"cache.hits": x}})").empty());
}

TEST_CASE("a screenful is cut at the terminal's edges, between characters") {
    CHECK(screenful("one\ntwo\n", 24, 80) == "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J");
    CHECK(screenful("one\ntwo\nthree\n", 3, 80) == "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J");
    CHECK(screenful("µµµ", 24, 2) == "\x1b[Hµµ\x1b[K\n\x1b[J");
}
