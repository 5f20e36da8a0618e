// SPDX-License-Identifier: MIT
// A server's key, asked for by those who do not know it, and by those who want something else.
#include "transport/key_inquiry.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <future>
#include <thread>

#include "base/unique_fd.hpp"
#include "fixture.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// Bound to a free port.
struct UdpSocket {
    UniqueFd fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    std::uint16_t port = 0;

    UdpSocket() {
        sockaddr_in address = loopback(0);
        socklen_t size = sizeof address;
        REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
        REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port = ntohs(address.sin_port);
    }
    void send_to(std::uint16_t other, std::string_view text) const {
        const sockaddr_in address = loopback(other);
        REQUIRE(::sendto(fd.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&address),
                         sizeof address) == static_cast<ssize_t>(text.size()));
    }
    std::string receive() const {
        std::string text(256, '\0');
        const ssize_t size = ::recv(fd.get(), text.data(), text.size(), 0);
        text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
        return text;
    }
};

std::uint16_t free_port() {
    return UdpSocket().port;
}

std::string inquiry(std::string_view nonce) {
    return std::string("rmf-key?").append(nonce).append(40, '\0');
}

constexpr std::string_view nonce = "0123456789abcdef";

struct Responding {
    Counters counters;
    Reactor reactor;
    PublicKey key = KeyPair::generate().public_key();
    std::uint16_t port = free_port();
    std::unique_ptr<KeyResponder> responder;

    explicit Responding(KeyResponder::Limits limits = {}, const std::string& host = "127.0.0.1")
        : responder(value_of(KeyResponder::open(
              reactor, {"ipc:///nowhere", "tcp://" + host + ":" + std::to_string(port)}, key, limits, counters))) {}

    std::uint64_t answered() { return counters.at("key_inquiries.answered").value(); }
    std::uint64_t dropped() { return counters.at("key_inquiries.dropped").value(); }
    Result<PublicKey> ask(const std::string& host) {
        auto asked = std::async(std::launch::async, [&] {
            return ask_for_key(host + ":" + std::to_string(port), std::chrono::seconds(20));
        });
        CHECK(run_until(reactor, [&] { return asked.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }));
        return asked.get();
    }
};

}  // namespace

TEST_CASE("a server tells its key to whoever asks") {
    Responding server;
    REQUIRE(value_of(server.ask("127.0.0.1")) == server.key);
    REQUIRE(server.answered() == 1);
    REQUIRE(value_of(server.ask("localhost")) == server.key);
}

TEST_CASE("a server at all addresses answers from the one that was asked") {
    Responding server({}, "0.0.0.0");
    // Not the address that the system would choose: the client hears only whom it has asked.
    REQUIRE(value_of(server.ask("127.0.0.7")) == server.key);
    Responding both({}, "[::]");
    REQUIRE(value_of(both.ask("127.0.0.7")) == both.key);
    REQUIRE(value_of(both.ask("[::1]")) == both.key);
}

TEST_CASE("an answer is smaller than its inquiry, and has nothing but the nonce and the key") {
    Responding server;
    const UdpSocket client;
    client.send_to(server.port, inquiry(nonce));
    std::string answer;
    REQUIRE(run_until(server.reactor, [&] { return !(answer = client.receive()).empty(); }));
    REQUIRE(answer.size() == 56);
    REQUIRE(answer.substr(0, 24) == "rmf-key!" + std::string(nonce));
    REQUIRE(answer.substr(24) ==
            std::string(reinterpret_cast<const char*>(server.key.bytes.data()), server.key.bytes.size()));
}

TEST_CASE("what is no inquiry is not answered") {
    Responding server;
    const UdpSocket client;
    const std::string right = inquiry(nonce);
    for (const std::string& wrong : {std::string(), right.substr(0, 63), right + "x", "rmf-key!" + right.substr(8),
                                     std::string(64, 'x'), std::string(1400, '\0')})
        client.send_to(server.port, wrong);
    REQUIRE(run_until(server.reactor, [&] { return server.dropped() == 6; }));
    REQUIRE(server.answered() == 0);
    REQUIRE(client.receive().empty());
}

TEST_CASE("one host is answered only so often, and a flood is left to the kernel") {
    Responding one_host({.per_second_of_a_host = 1});
    const UdpSocket client;
    for (int i = 0; i < 60; ++i)
        client.send_to(one_host.port, inquiry(nonce));
    REQUIRE(run_until(one_host.reactor, [&] { return one_host.answered() + one_host.dropped() == 60; }));
    // The bucket fills up while it is emptied.
    REQUIRE(one_host.answered() >= 5);
    REQUIRE(one_host.answered() < 40);

    Responding all({.per_second_of_a_host = 1000, .per_second = 50});
    const TimePoint begun = Clock::system().now();
    for (int i = 0; i < 60; ++i)
        client.send_to(all.port, inquiry(nonce));
    REQUIRE(run_until(all.reactor, [&] { return all.answered() == 60; }));
    // Ten at once, and fifty a second.
    REQUIRE(Clock::system().now() - begun > std::chrono::milliseconds(700));
}

TEST_CASE("answers with another nonce, or that are none, are not believed") {
    const UdpSocket liar;
    auto asked = std::async(std::launch::async, [&] {
        return ask_for_key("127.0.0.1:" + std::to_string(liar.port), std::chrono::milliseconds(1200));
    });
    int lies = 0;
    while (asked.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
        sockaddr_in from{};
        socklen_t size = sizeof from;
        std::string text(256, '\0');
        if (::recvfrom(liar.fd.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&from), &size) != 64)
            continue;
        liar.send_to(ntohs(from.sin_port), "rmf-key!" + std::string(nonce) + std::string(32, 'k'));
        liar.send_to(ntohs(from.sin_port), "rmf-key!" + text.substr(8, 16) + std::string(31, 'k'));
        liar.send_to(ntohs(from.sin_port), "rmf-key?" + text.substr(8, 16) + std::string(32, 'k'));
        ++lies;
    }
    REQUIRE(lies > 1);  // it has asked again, too
    const auto key = asked.get();
    REQUIRE(key.status() == Status::unreachable);
    REQUIRE_THAT(key.error().message, ContainsSubstring("firewall"));
}

TEST_CASE("where nobody answers that is said at once") {
    const auto key = ask_for_key("127.0.0.1:" + std::to_string(free_port()), std::chrono::minutes(5));
    REQUIRE(key.status() == Status::unreachable);
    REQUIRE_THAT(key.error().message, ContainsSubstring("nobody answers"));
    REQUIRE_THAT(ask_for_key("no-such-host.invalid:1", std::chrono::seconds(1)).error().message,
                 ContainsSubstring("no-such-host.invalid"));
}

TEST_CASE("a port that is taken is named") {
    Responding first;
    Reactor reactor;
    Counters counters;
    const auto second =
        KeyResponder::open(reactor, {"tcp://127.0.0.1:" + std::to_string(first.port)}, first.key, {}, counters);
    REQUIRE_FALSE(second);
    REQUIRE_THAT(second.error().message, ContainsSubstring(std::to_string(first.port)));
}
