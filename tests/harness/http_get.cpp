// SPDX-License-Identifier: MIT
#include "harness/http_get.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <charconv>

namespace remofile::test {

UniqueFd connect_to(std::uint16_t port) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        fd.reset();
    return fd;
}

bool say(const UniqueFd& to, std::string_view text) {
    while (!text.empty()) {
        const ssize_t size = ::send(to.get(), text.data(), text.size(), MSG_NOSIGNAL);
        if (size <= 0)
            return false;
        text.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
}

std::optional<std::string> hear(const UniqueFd& from, Milliseconds deadline) {
    std::string heard;
    bool closed = false;
    const auto read_some = [&] {
        std::array<char, 4096> bytes{};
        pollfd event{.fd = from.get(), .events = POLLIN, .revents = 0};
        while (::poll(&event, 1, 0) > 0) {
            const ssize_t size = ::recv(from.get(), bytes.data(), bytes.size(), 0);
            if (size <= 0)
                return closed = true;
            heard.append(bytes.data(), static_cast<std::size_t>(size));
        }
        return false;
    };
    eventually(deadline, read_some);
    return closed ? std::optional(heard) : std::nullopt;
}

std::string http(std::uint16_t port, std::string_view request) {
    const UniqueFd connection = connect_to(port);
    if (!connection || !say(connection, request))
        return {};
    return hear(connection).value_or("");
}

std::string http_get(std::string_view url) {
    const auto colon = url.rfind(':');
    const auto path = url.find('/', colon);
    std::uint16_t port = 0;
    if (path == std::string_view::npos || std::from_chars(&url[colon + 1], &url[path], port).ec != std::errc())
        return {};
    const std::string answer =
        http(port, "GET " + std::string(url.substr(path)) + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const auto body = answer.find("\r\n\r\n");
    return answer.starts_with("HTTP/1.1 200 ") && body != std::string::npos ? answer.substr(body + 4) : "";
}

}  // namespace remofile::test
