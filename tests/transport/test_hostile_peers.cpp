// SPDX-License-Identifier: MIT
// Peers that mean harm: whatever they do, an honest client gets through.
#include <sys/resource.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "raw_peer.hpp"
#include "transport/handshake_limit.hpp"
#include "transport/zap_handler.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

struct Victim {
    Context context;
    Reactor reactor;
    KeyPair client_key = KeyPair::generate();
    KeySet keys{{client_key.public_key()}};
    TestServer server{context, reactor, &keys};

    void check_honest_client() {
        TestLane lane(context, reactor,
                      {.endpoint = server.endpoint(), .identity = client_key, .server_key = server.key.public_key()});
        REQUIRE(lane.connect());
        const std::size_t before = server.arrivals.size();
        lane.lane.send(message_of("honest"));
        REQUIRE(run_until(reactor, [&] { return server.arrivals.size() > before; }));
        REQUIRE(server.arrivals.back().head == "honest");
    }
};

// REMOFILE_TEST_SEED repeats a run.
std::uint32_t seed() {
    const char* given = std::getenv("REMOFILE_TEST_SEED");
    const auto value =
        given != nullptr ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10)) : std::random_device()();
    std::cout << "REMOFILE_TEST_SEED=" << value << std::endl;
    return value;
}

std::string random_bytes(std::mt19937& random, std::size_t size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes)
        byte = static_cast<char>(random());
    return bytes;
}

std::size_t open_descriptors() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

void allow_descriptors(rlim_t wanted) {
    rlimit limit{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = std::max(limit.rlim_cur, std::min(limit.rlim_max, wanted));
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

}  // namespace

TEST_CASE("random bytes do no harm") {
    std::mt19937 random(seed());
    Victim victim;
    victim.server.options.handshake_timeout = 1s;
    victim.server.start();
    TestServer plain(victim.context, victim.reactor, nullptr);
    plain.options.handshake_timeout = 1s;
    plain.start();
    for (int round = 0; round < 100; ++round) {
        for (const std::string& endpoint : {victim.server.endpoint(), plain.endpoint()}) {
            const std::string starts[] = {"",
                                          std::string("\xff\0\0\0\0\0\0\0\0\x7f", 10),
                                          zmtp_greeting("CURVE"),
                                          zmtp_greeting(),
                                          zmtp_greeting() + zmtp_ready("DEALER"),
                                          zmtp_greeting("CURVE") + std::string("\x04\xc8\x05HELLO\x01\x00", 9)};
            RawClient raw(endpoint);
            raw.send(starts[random() % std::size(starts)] + random_bytes(random, random() % 5000));
        }
    }
    victim.check_honest_client();
    REQUIRE(victim.server.arrivals.size() == 1);
}

TEST_CASE("thousands of connections that never say a word are let go, and others get in meanwhile") {
    constexpr std::size_t connections = 2000;
    allow_descriptors(3 * connections);
    Victim victim;
    victim.server.options.handshake_timeout = 2s;
    victim.server.start();
    const std::size_t before = open_descriptors();
    {
        std::vector<std::unique_ptr<RawClient>> silent;
        for (std::size_t i = 0; i < connections; ++i)
            silent.push_back(std::make_unique<RawClient>(victim.server.endpoint()));
        victim.check_honest_client();
        REQUIRE(run_until(victim.reactor, [&] {
            return std::all_of(silent.begin(), silent.end(), [](const auto& raw) { return raw->is_cut(); });
        }));
    }
    REQUIRE(run_until(victim.reactor, [&] { return open_descriptors() < before + 20; }));
    victim.check_honest_client();
}

TEST_CASE("a host that shakes hands too often has to wait, and only that host") {
    const TimePoint start{};
    HandshakeLimit limit(20);
    for (int i = 0; i < 100; ++i)
        REQUIRE(limit.admit("192.0.2.1", start));
    REQUIRE_FALSE(limit.admit("192.0.2.1", start));
    REQUIRE(limit.admit("192.0.2.2", start));
    REQUIRE(limit.admit("192.0.2.1", start + 100ms));
    int admitted = 0;
    for (int i = 0; i < 1000; ++i)
        admitted += limit.admit("192.0.2.1", start + 10s + i * 1ms) ? 1 : 0;
    REQUIRE(admitted >= 100);
    REQUIRE(admitted <= 121);
}

TEST_CASE("the limit on handshakes remembers a bounded number of hosts, and who comes often longest") {
    const TimePoint start{};
    HandshakeLimit limit(20);
    int admitted = 0;
    for (std::size_t i = 0; i < 3 * HandshakeLimit::max_hosts; ++i) {
        REQUIRE(limit.admit(std::to_string(i), start));
        REQUIRE(limit.hosts() <= HandshakeLimit::max_hosts);
        if (i % 100 == 0)
            admitted += limit.admit("192.0.2.1", start) ? 1 : 0;
    }
    REQUIRE(admitted == 100);
}

TEST_CASE("an IPv6 host is told by its network, an IPv4 one by its address") {
    REQUIRE(host_of("2001:db8:1:2:3:4:5:6") == host_of("2001:db8:1:2:ffff::1"));
    REQUIRE(host_of("2001:db8:1:2::") != host_of("2001:db8:1:3::"));
    REQUIRE(host_of("fe80::1%eth0") == host_of("fe80::2"));
    REQUIRE(host_of("192.0.2.1") == "192.0.2.1");
    REQUIRE(host_of("local") == "local");
    REQUIRE(readable_address("::ffff:192.0.2.1") == "192.0.2.1");
    REQUIRE(readable_address("::1") == "::1");
    REQUIRE(readable_address("localhost:1000:100:4711") == "local, uid 1000");
    REQUIRE(readable_address(":1000:100:4711") == "local, uid 1000");
    REQUIRE(readable_address("localhost:") == "local");
    REQUIRE(readable_address("") == "local");
    REQUIRE(process_at(":1000:100:4711") == 4711);
    REQUIRE(process_at(":1000") == 0);
    REQUIRE(process_at("2001:db8:1:2::") == 0);
    // Whoever starts many processes is still one.
    REQUIRE(host_of(readable_address(":1000:100:1")) == host_of(readable_address(":1000:100:2")));
}

TEST_CASE("who is known may connect as often as it likes, who is not is told to come back later") {
    Victim victim;
    victim.server.options.strangers_per_s = 1;
    victim.server.start();
    TestLane stranger(victim.context, victim.reactor,
                      {.endpoint = victim.server.endpoint(),
                       .identity = KeyPair::generate(),
                       .server_key = victim.server.key.public_key()});
    // The bucket fills up while it is emptied, so a slow machine needs some more than five.
    bool told = false;
    for (int i = 0; i < 200 && !told; ++i) {
        REQUIRE_FALSE(stranger.connect());
        const Error failure = stranger.failures.back();
        told = failure.status == Status::unreachable;
        if (told)
            REQUIRE_THAT(failure.message, ContainsSubstring("no more connections for the moment"));
        else
            REQUIRE(failure.status == Status::not_authorized);
    }
    REQUIRE(told);
    TestLane known(victim.context, victim.reactor,
                   {.endpoint = victim.server.endpoint(),
                    .identity = victim.client_key,
                    .server_key = victim.server.key.public_key()});
    for (int i = 0; i < 300; ++i) {
        REQUIRE(known.connect());
        known.lane.disconnect();
    }
}
