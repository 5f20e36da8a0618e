// SPDX-License-Identifier: MIT
// The congestion control of our connections, read back from the kernel.
#include "transport/congestion_control.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <filesystem>

#include "base/unique_fd.hpp"
#include "fixture.hpp"
#include "transport/lane_tickets.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

CongestionControl parsed(std::string_view text) {
    return value_of(CongestionControl::parse(text));
}

std::string control_of(int fd) {
    std::array<char, 17> name{};
    socklen_t size = 16;
    REQUIRE(::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size) == 0);
    return name.data();
}

bool set_control(int fd, const std::string& name) {
    return ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0;
}

std::uint16_t port_of(int fd, decltype(&::getsockname) ask) {
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    if (ask(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 || address.sin_family != AF_INET)
        return 0;
    return ntohs(address.sin_port);
}

std::uint16_t port_of(const std::string& endpoint) {
    return static_cast<std::uint16_t>(std::stoul(endpoint.substr(endpoint.rfind(':') + 1)));
}

// What both ends of the connections to a port send with.
struct Ends {
    std::vector<std::string> clients;
    std::vector<std::string> servers;
};
Ends ends_of(std::uint16_t port) {
    Ends ends;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        const int fd = std::stoi(entry.path().filename());
        if (port_of(fd, ::getpeername) == port)
            ends.clients.push_back(control_of(fd));
        else if (port_of(fd, ::getsockname) == port && port_of(fd, ::getpeername) != 0)
            ends.servers.push_back(control_of(fd));
    }
    return ends;
}

UniqueFd tcp_socket() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(fd);
    return fd;
}

// One that every kernel has and allows, but is not what new connections have here.
std::string another() {
    const UniqueFd fd = tcp_socket();
    return control_of(fd.get()) == "reno" ? "cubic" : "reno";
}

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

// A connection by way of loopback, without ZeroMQ.
struct Pair {
    UniqueFd listening = tcp_socket();
    UniqueFd client = tcp_socket();
    UniqueFd server;
    sockaddr_storage address{};  // that the client is connected to

    Pair() {
        sockaddr_in here = loopback(0);
        REQUIRE(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&here), sizeof(here)) == 0);
        REQUIRE(::listen(listening.get(), 1) == 0);
        here = loopback(port());
        std::memcpy(&address, &here, sizeof(here));
        REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&here), sizeof(here)) == 0);
        server.reset(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
        REQUIRE(server);
    }
    std::uint16_t port() const { return port_of(listening.get(), ::getsockname); }

    tcp_info info() const {
        tcp_info info{};
        socklen_t size = sizeof(info);
        REQUIRE(::getsockopt(client.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
        return info;
    }
    // Makes the client believe that its packets travel for milliseconds: the server's kernel takes its time to
    // acknowledge them.
    void seem_far() const {
        const auto end = std::chrono::steady_clock::now() + test_deadline;
        while (info().tcpi_rtt < 2000) {
            REQUIRE(std::chrono::steady_clock::now() < end);
            const int no = 0;
            REQUIRE(::setsockopt(server.get(), IPPROTO_TCP, TCP_QUICKACK, &no, sizeof(no)) == 0);
            char byte = 'x';
            REQUIRE(::send(client.get(), &byte, 1, 0) == 1);
            while (info().tcpi_unacked != 0)
                REQUIRE(std::chrono::steady_clock::now() < end);
            REQUIRE(::recv(server.get(), &byte, 1, 0) == 1);
        }
    }
};

}  // namespace

TEST_CASE("what can be no name of a congestion control is refused") {
    for (const std::string text : {"", "b b r", "bbr,cubic", "../bbr", "sixteen_letters_", "b\nbr"}) {
        INFO(text);
        const auto refused = CongestionControl::parse(text);
        REQUIRE_FALSE(refused);
        CHECK(refused.status() == Status::bad_usage);
        CHECK_THAT(refused.error().message, ContainsSubstring("neither auto nor system"));
    }
    for (const std::string text : {"auto", "system", "bbr", "cubic", "fifteen_letters"})
        CHECK(CongestionControl::parse(text));
    CHECK(parsed("auto") == CongestionControl());
    CHECK(parsed("bbr") != CongestionControl());
    CHECK(parsed("system") != parsed("bbr"));
}

TEST_CASE("both ends of a connection send with what was chosen for them") {
    const std::string chosen = another();
    Context context;
    Reactor reactor;
    KeySet keys{{}};
    const bool sealed = GENERATE(false, true);
    INFO((sealed ? "sealed" : "plain"));

    // A sealed lane needs somebody who answers for its ticket.
    LaneTickets tickets;
    TestServer main(context, reactor, &keys);
    main.options.tickets = &tickets;
    main.start();
    TestServer server(context, reactor, nullptr);
    if (sealed)
        server.options.tickets = &tickets;
    server.options.congestion_control = parsed(chosen);
    server.start();
    LaneOptions options{.endpoint = server.endpoint()};
    if (sealed)
        options.ticket = tickets.issue(SessionId{1}, 1, {});

    options.congestion_control = parsed("system");
    TestLane lane(context, reactor, options);
    REQUIRE(lane.connect());
    REQUIRE(lane.lane.congestion());
    const std::string usual = lane.lane.congestion()->in_force;
    CHECK(usual != chosen);
    const std::uint16_t port = port_of(server.endpoint());
    REQUIRE(run_until(reactor, [&] { return ends_of(port).servers == std::vector{chosen}; }));
    CHECK(ends_of(port).clients == std::vector{usual});
    lane.lane.disconnect();

    // The client's own choice, of its own end. The server is another, for the port's old connections linger.
    TestServer second(context, reactor, nullptr);
    if (sealed)
        second.options.tickets = &tickets;
    second.options.congestion_control = parsed("system");
    second.start();
    options.endpoint = second.endpoint();
    if (sealed)
        options.ticket = tickets.issue(SessionId{2}, 1, {});
    options.congestion_control = parsed(chosen);
    TestLane choosing(context, reactor, options);
    REQUIRE(choosing.connect());
    REQUIRE(choosing.lane.congestion());
    CHECK(*choosing.lane.congestion() ==
          CongestionControl::Outcome{.in_force = chosen, .replaced = usual, .missing = {}});
    CHECK(ends_of(port_of(second.endpoint())).clients == std::vector{chosen});
    CHECK(ends_of(port_of(second.endpoint())).servers == std::vector{usual});
    server.stop();
    second.stop();
}

TEST_CASE("a connection by a local socket has no congestion control") {
    Context context;
    Reactor reactor;
    TestServer server(context, reactor, nullptr);
    char directory[] = "/tmp/remofile-test-XXXXXX";
    REQUIRE(::mkdtemp(directory) != nullptr);
    server.options.endpoints = {"ipc://" + std::string(directory) + "/socket"};
    server.options.congestion_control = parsed(another());
    server.start();
    LaneOptions options{.endpoint = server.endpoint()};
    options.congestion_control = parsed(another());
    TestLane lane(context, reactor, options);
    REQUIRE(lane.connect());
    CHECK_FALSE(lane.lane.congestion());
    server.stop();
    std::filesystem::remove_all(directory);
}

TEST_CASE("what the kernel does not have is said, and changes nothing") {
    const Pair pair;
    const std::string before = control_of(pair.client.get());
    const auto outcome = parsed("no_such_thing").apply(pair.client.get());
    CHECK(outcome.in_force == before);
    CHECK(outcome.replaced.empty());
    CHECK_THAT(outcome.missing, ContainsSubstring("no_such_thing cannot be had"));
    CHECK_THAT(outcome.missing, ContainsSubstring("reno"));  // what there is
    CHECK(control_of(pair.client.get()) == before);
}

TEST_CASE("by itself a connection changes nothing on a short way, and takes bbr on a long one") {
    const Pair pair;
    REQUIRE(set_control(pair.client.get(), "reno"));
    const CongestionControl automatic;
    if (pair.info().tcpi_rtt < 1000)
        CHECK(automatic.apply(pair.client.get()) ==
              CongestionControl::Outcome{.in_force = "reno", .replaced = {}, .missing = {}});
    pair.seem_far();
    const bool allowed = set_control(tcp_socket().get(), "bbr");
    const auto outcome = automatic.apply(pair.client.get());
    if (allowed) {
        CHECK(outcome == CongestionControl::Outcome{.in_force = "bbr", .replaced = "reno", .missing = {}});
        CHECK(control_of(pair.client.get()) == "bbr");
    } else {
        CHECK_THAT(outcome.missing, ContainsSubstring("bbr cannot be had"));
        CHECK(control_of(pair.client.get()) == "reno");
    }
}

TEST_CASE("what somebody chose for the system stays where nothing else is asked for") {
    const Pair pair;
    if (!set_control(pair.client.get(), "bbr"))
        return;  // the kernel has nothing but reno and cubic
    pair.seem_far();
    CHECK(CongestionControl().apply(pair.client.get()).replaced.empty());
    CHECK(parsed("system").apply(pair.client.get()).in_force == "bbr");
    CHECK(control_of(pair.client.get()) == "bbr");
}

TEST_CASE("the number of a descriptor that stands for something else by now is left alone") {
    const Pair pair;
    CHECK(is_connected_to(pair.client.get(), pair.address));
    CHECK(is_connected_at(pair.server.get(), std::array{pair.port()}));

    sockaddr_storage elsewhere = pair.address;
    reinterpret_cast<sockaddr_in&>(elsewhere).sin_port ^= 1;
    CHECK_FALSE(is_connected_to(pair.client.get(), elsewhere));
    CHECK_FALSE(is_connected_at(pair.client.get(), std::array{pair.port()}));
    CHECK_FALSE(is_connected_at(pair.listening.get(), std::array{pair.port()}));
    CHECK_FALSE(is_connected_at(pair.server.get(), {}));

    // To the same address, but not TCP's.
    const UniqueFd datagrams(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(datagrams.get(), reinterpret_cast<const sockaddr*>(&pair.address), sizeof(sockaddr_in)) == 0);
    CHECK_FALSE(is_connected_to(datagrams.get(), pair.address));
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const UniqueFd one(ends[0]);
    const UniqueFd other(ends[1]);
    CHECK_FALSE(is_connected_to(one.get(), pair.address));
    CHECK_FALSE(is_connected_at(one.get(), std::array{pair.port()}));
    CHECK_FALSE(is_connected_to(tcp_socket().get(), pair.address));
    CHECK_FALSE(is_connected_to(-1, pair.address));
}

TEST_CASE("an IPv4 address is the same one within IPv6") {
    const Pair pair;
    sockaddr_in6 mapped{};
    mapped.sin6_family = AF_INET6;
    mapped.sin6_port = reinterpret_cast<const sockaddr_in&>(pair.address).sin_port;
    mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
    mapped.sin6_addr.s6_addr[12] = 127;
    mapped.sin6_addr.s6_addr[15] = 1;
    sockaddr_storage address{};
    std::memcpy(&address, &mapped, sizeof(mapped));
    CHECK(is_connected_to(pair.client.get(), address));
}

TEST_CASE("what came of a choice is said once") {
    CongestionReports reports;
    const CongestionControl::Outcome bbr{.in_force = "bbr", .replaced = "cubic", .missing = {}};
    const CongestionControl::Outcome cubic{.in_force = "cubic", .replaced = {}, .missing = {}};
    CHECK(reports.is_new(bbr));
    CHECK(reports.is_new(cubic));
    CHECK_FALSE(reports.is_new(bbr));
    CHECK_FALSE(reports.is_new(cubic));
}
