// SPDX-License-Identifier: MIT
#include "harness/tcp_proxy.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <catch.hpp>
#include <stdexcept>

#include "harness/patience.hpp"

namespace remofile::test {

namespace {

using Clock = std::chrono::steady_clock;

sockaddr_in to_socket_address(const std::string& text) {
    const std::size_t colon = text.find(':');
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1))));
    inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr);
    return address;
}

class Listener {
public:
    Listener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address = to_socket_address("127.0.0.1:0");
        socklen_t size = sizeof(address);
        if (::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
            ::listen(socket_.get(), 1) != 0 ||
            ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
            throw std::runtime_error("cannot listen");
        port_ = ntohs(address.sin_port);
    }

    int port() const { return port_; }
    UniqueFd accept() { return UniqueFd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

private:
    UniqueFd socket_;
    int port_ = 0;
};

UniqueFd connect_to(const std::string& where) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = to_socket_address(where);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        throw std::runtime_error("cannot connect");
    return fd;
}

// Waits for as much as there is to come, at most `size` bytes. Empty: the end.
std::string read_some(const UniqueFd& fd, std::size_t size) {
    std::string bytes(size, '\0');
    const ssize_t got = ::recv(fd.get(), bytes.data(), bytes.size(), 0);
    return bytes.substr(0, got < 0 ? 0 : static_cast<std::size_t>(got));
}

std::string read_until_end(const UniqueFd& fd) {
    std::string all;
    for (std::string some; !(some = read_some(fd, 65'536)).empty();)
        all += some;
    return all;
}

void write_all(const UniqueFd& fd, const std::string& bytes) {
    REQUIRE(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

}  // namespace

TEST_CASE("tcp proxy: what is said arrives after the delay, each way, in order, and the end after it") {
    constexpr Milliseconds delay{100};
    Listener listener;
    const TcpProxy proxy({listener.port()}, delay);
    UniqueFd client = connect_to(proxy.address());
    const UniqueFd server = listener.accept();
    const auto check_way = [&](const UniqueFd& from, const UniqueFd& to) {
        const std::uint64_t before = proxy.bytes();
        const auto begun = Clock::now();
        std::string said;
        // One does not wait for another: all are under way at once.
        for (int i = 0; i < 20; ++i) {
            write_all(from, std::to_string(i) + " ");
            said += std::to_string(i) + " ";
            REQUIRE(eventually(Milliseconds{10'000}, [&] { return proxy.bytes() == before + said.size(); }));
        }
        const auto last_said = Clock::now();
        ::shutdown(from.get(), SHUT_WR);
        std::string heard = read_some(to, 1);
        CHECK(Clock::now() - begun >= delay);
        heard += read_until_end(to);
        CHECK(Clock::now() - last_said >= delay);
        CHECK(heard == said);
    };
    check_way(client, server);
    check_way(server, client);
}

TEST_CASE("tcp proxy: with a delay a great deal may be under way, and all of it arrives") {
    Listener listener;
    const TcpProxy proxy({listener.port()}, Milliseconds{20});
    UniqueFd client = connect_to(proxy.address());
    const UniqueFd server = listener.accept();
    std::string said(3 << 20, '\0');
    for (std::size_t i = 0; i < said.size(); ++i)
        said[i] = static_cast<char>(i * 7 / 5);
    std::thread speaker([&] {
        (void)!::send(client.get(), said.data(), said.size(), MSG_NOSIGNAL);
        client.reset();
    });
    const bool same = read_until_end(server) == said;
    speaker.join();
    CHECK(same);
}

TEST_CASE("tcp proxy: what is under way is lost where the connection is cut") {
    Listener listener;
    TcpProxy proxy({listener.port()}, Milliseconds{60'000});
    const UniqueFd client = connect_to(proxy.address());
    const UniqueFd server = listener.accept();
    write_all(client, "never heard");
    REQUIRE(eventually(Milliseconds{10'000}, [&] { return proxy.bytes() > 0; }));
    proxy.cut();
    CHECK(read_until_end(server).empty());
}

}  // namespace remofile::test
