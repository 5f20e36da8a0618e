// SPDX-License-Identifier: MIT
// Each way in which a connection cannot be made has its status and says what is wrong.
#include "raw_peer.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

struct Client {
    Context context;
    Reactor reactor;
    KeyPair key = KeyPair::generate();
    PublicKey server_key = KeyPair::generate().public_key();

    LaneOptions encrypted(std::string endpoint) const {
        return {.endpoint = std::move(endpoint), .identity = key, .server_key = server_key, .connect_timeout = 500ms};
    }
    LaneOptions plain(std::string endpoint) const {
        return {.endpoint = std::move(endpoint), .connect_timeout = 500ms};
    }
    // The error of an attempt that must fail.
    Error failure_of(LaneOptions options) {
        TestLane lane(context, reactor, std::move(options));
        const TimePoint start = reactor.clock().now();
        REQUIRE_FALSE(lane.connect());
        REQUIRE(reactor.clock().now() - start < 5s);
        REQUIRE_FALSE(lane.lane.connected());
        REQUIRE(lane.failures.size() == 1);
        return lane.failure();
    }
};

void check(const Error& error, Status status, const std::string& text) {
    CHECK(error.status == status);
    CHECK_THAT(error.message, ContainsSubstring(text));
}

// A port on which nobody listens: bound, so that nobody else gets it.
class ClosedPort {
public:
    ClosedPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address = loopback_address(0);
        REQUIRE(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
        socklen_t size = sizeof(address);
        REQUIRE(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port_ = ntohs(address.sin_port);
    }
    std::string on(const std::string& host) const { return "tcp://" + host + ":" + std::to_string(port_); }

private:
    UniqueFd fd_;
    int port_ = 0;
};

}  // namespace

TEST_CASE("no server: connection refused") {
    Client client;
    const ClosedPort port;
    for (const auto& options : {client.plain(port.on("127.0.0.1")), client.encrypted(port.on("127.0.0.1"))})
        check(client.failure_of(options), Status::unreachable, "connection refused");
}

TEST_CASE("localhost is tried as IPv4 and IPv6") {
    Client client;
    const ClosedPort port;
    check(client.failure_of(client.plain(port.on("localhost"))), Status::unreachable, "connection refused");
    TestServer server(client.context, client.reactor, nullptr);
    server.start();
    TestLane lane(client.context, client.reactor,
                  client.plain("tcp://localhost:" + std::to_string(port_of(server.endpoint()))));
    REQUIRE(lane.connect());
}

TEST_CASE("a server on IPv6 is reached through a name that also has an IPv4 address") {
    Client client;
    TestServer server(client.context, client.reactor, nullptr);
    server.options.endpoints = {"tcp://[::1]:*"};
    if (!server.try_start())
        return;  // no IPv6 here
    TestLane lane(client.context, client.reactor,
                  client.plain("tcp://localhost:" + std::to_string(port_of(server.endpoint()))));
    REQUIRE(lane.connect());
}

TEST_CASE("a name that does not exist") {
    Client client;
    LaneOptions options = client.plain("tcp://no-such-host.invalid:6768");
    options.connect_timeout = 4s;
    check(client.failure_of(options), Status::unreachable, "cannot find the host");
}

TEST_CASE("an address without a route") {
    Client client;
    // Class E is nobody's; Linux refuses it or has no route to it, at once.
    const Error error = client.failure_of(client.plain("tcp://255.255.255.255:6768"));
    check(error, Status::unreachable, "cannot reach 255.255.255.255:6768");
}

TEST_CASE("an ipc socket that is not there, and one that is a dead server's") {
    Client client;
    const TemporaryDirectory directory;
    const std::string path = directory / "socket";
    check(client.failure_of(client.plain("ipc://" + path)), Status::unreachable, "no such socket");
    std::string live;
    {
        const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_storage storage{};
        storage.ss_family = AF_UNIX;
        path.copy(reinterpret_cast<char*>(&storage) + sizeof(sa_family_t), 100);
        REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), 110) == 0);
    }
    check(client.failure_of(client.plain("ipc://" + path)), Status::unreachable, "connection refused");
}

TEST_CASE("what is no endpoint at all") {
    Client client;
    check(client.failure_of(client.plain("nonsense")), Status::bad_usage, "nonsense");
    check(client.failure_of(client.plain("ipc://")), Status::bad_usage, "socket");
}

TEST_CASE("a server with another key") {
    Client client;
    KeySet keys({client.key.public_key()});
    TestServer server(client.context, client.reactor, &keys);
    server.start();
    const Error error = client.failure_of(client.encrypted(server.endpoint()));
    check(error, Status::wrong_server_key, client.server_key.to_text());
    REQUIRE(keys.asked == 0);
}

TEST_CASE("a server that does not know this client's key") {
    Client client;
    KeySet keys({});
    TestServer server(client.context, client.reactor, &keys);
    server.start();
    client.server_key = server.key.public_key();
    const TimePoint start = client.reactor.clock().now();
    const Error error = client.failure_of(client.encrypted(server.endpoint()));
    check(error, Status::not_authorized, client.key.public_key().to_text());
    REQUIRE(client.reactor.clock().now() - start < 2s);
    REQUIRE(server.arrivals.empty());
}

TEST_CASE("an encrypting client and a plain server, and the reverse") {
    Client client;
    TestServer plain(client.context, client.reactor, nullptr);
    plain.start();
    check(client.failure_of(client.encrypted(plain.endpoint())), Status::wrong_server_key, "does not encrypt");
    KeySet keys({client.key.public_key()});
    TestServer encrypted(client.context, client.reactor, &keys);
    encrypted.start();
    check(client.failure_of(client.plain(encrypted.endpoint())), Status::not_authorized, "demands encryption");
}

TEST_CASE("a server of something else") {
    Client client;
    const std::string ssh = "SSH-2.0-OpenSSH_9.2p1\r\n";
    for (const std::string& banner :
         {ssh, std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), zmtp_greeting("CURVE", 1)}) {
        const RawServer server(banner, RawServer::Then::stay_silent);
        const Error encrypted = client.failure_of(client.encrypted(server.endpoint()));
        CHECK(encrypted.status == Status::wrong_server_key);
        CHECK_THAT(encrypted.message, ContainsSubstring("no remofile server"));
    }
    // Without encryption, libzmq takes a line of text for the beginning of ZMTP 1.0.
    const RawServer server(ssh, RawServer::Then::stay_silent);
    CHECK(client.failure_of(client.plain(server.endpoint())).status == Status::unreachable);
}

TEST_CASE("a server that accepts and stays silent is given up after the time to connect") {
    Client client;
    const RawServer server("", RawServer::Then::stay_silent);
    for (const auto& options : {client.plain(server.endpoint()), client.encrypted(server.endpoint())})
        check(client.failure_of(options), Status::unreachable, "stayed silent");
}

TEST_CASE("a server that stops half-way through the handshake is given up after the time to connect") {
    Client client;
    const RawServer server(zmtp_greeting("CURVE"), RawServer::Then::stay_silent);
    check(client.failure_of(client.encrypted(server.endpoint())), Status::unreachable, "stayed silent");
}

TEST_CASE("a server that closes at once, or as soon as it is spoken to") {
    Client client;
    for (const auto then : {RawServer::Then::close, RawServer::Then::close_when_spoken_to}) {
        const RawServer server("", then);
        const Status plain_status = client.failure_of(client.plain(server.endpoint())).status;
        CHECK((plain_status == Status::unreachable || plain_status == Status::not_authorized));
        const Status status = client.failure_of(client.encrypted(server.endpoint())).status;
        CHECK((status == Status::unreachable || status == Status::wrong_server_key));
    }
}

TEST_CASE("a failed attempt can be followed by another, and disconnect() ends one silently") {
    Client client;
    const RawServer silent("", RawServer::Then::stay_silent);
    TestServer server(client.context, client.reactor, nullptr);
    server.start();
    const int port = port_of(server.endpoint());
    TestLane lane(client.context, client.reactor, client.plain("tcp://127.0.0.1:" + std::to_string(port)));
    lane.lane.connect();
    lane.lane.disconnect();
    REQUIRE(lane.connect());
    lane.lane.disconnect();
    REQUIRE(lane.connect());
    REQUIRE(lane.failures.empty());
    REQUIRE(lane.connections == 2);
}
