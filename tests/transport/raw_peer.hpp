// SPDX-License-Identifier: MIT
// Peers that speak TCP and as much of ZMTP as a test wants them to.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.hpp"
#include "fixture.hpp"

namespace remofile::transport {

// ZMTP 3.0, https://rfc.zeromq.org/spec/23/: the greeting of mechanism NULL, and its READY command.
inline std::string zmtp_greeting(std::string mechanism = "NULL", char major = 3) {
    mechanism.resize(20, '\0');
    return std::string("\xff\0\0\0\0\0\0\0\0\x7f", 10) + major + std::string(1, '\0') + mechanism +
           std::string(32, '\0');
}
inline std::string zmtp_ready(const std::string& socket_type, const std::string& routing_id = "") {
    const auto property = [](const std::string& name, const std::string& value) {
        return std::string(1, static_cast<char>(name.size())) + name + std::string(3, '\0') +
               std::string(1, static_cast<char>(value.size())) + value;
    };
    const std::string body = std::string("\x05READY") + property("Socket-Type", socket_type) +
                             (routing_id.empty() ? "" : property("Identity", routing_id));
    return body.size() < 256 ? std::string("\x04") + static_cast<char>(body.size()) + body
                             : std::string("\x06") + std::string(6, '\0') + static_cast<char>(body.size() >> 8) +
                                   static_cast<char>(body.size()) + body;
}
// A frame of up to 255 bytes.
inline std::string zmtp_frame(const std::string& text, bool more = false) {
    return std::string(1, more ? '\x01' : '\x00') + static_cast<char>(text.size()) + text;
}

inline int port_of(const std::string& endpoint) {
    return std::stoi(endpoint.substr(endpoint.rfind(':') + 1));
}

inline sockaddr_in loopback_address(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// A client that connects at once and sends what it is told.
class RawClient {
public:
    explicit RawClient(const std::string& endpoint) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const sockaddr_in address = loopback_address(port_of(endpoint));
        REQUIRE(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    }
    // The peer may have cut the connection already.
    void send(std::string_view bytes) {
        [[maybe_unused]] const auto sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }
    // Speaks ZMTP's mechanism NULL up to the point where messages may follow.
    void shake_hands(Reactor& reactor, const std::string& ready) {
        send(zmtp_greeting() + ready);
        REQUIRE(run_until(reactor, [&] { return !is_cut() && received_.find("READY") != std::string::npos; }));
    }
    // Takes what has come; true once the server has closed or reset the connection.
    bool is_cut() {
        char bytes[4096];
        for (;;) {
            const ssize_t count = ::recv(fd_.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
            if (count < 0)
                return errno != EAGAIN && errno != EINTR;
            if (count == 0)
                return true;
            received_.append(bytes, static_cast<std::size_t>(count));
        }
    }
    const std::string& received() const { return received_; }

private:
    UniqueFd fd_;
    std::string received_;
};

// A server that says the same to everybody who connects, on a thread of its own.
class RawServer {
public:
    enum class Then { stay_silent, close, close_when_spoken_to };

    RawServer(std::string greeting, Then then) : greeting_(std::move(greeting)), then_(then) {
        listening_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address = loopback_address(0);
        REQUIRE(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
        REQUIRE(::listen(listening_.get(), 16) == 0);
        socklen_t size = sizeof(address);
        REQUIRE(::getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        endpoint_ = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
        thread_ = std::thread([this] { serve(); });
    }
    ~RawServer() {
        ::shutdown(listening_.get(), SHUT_RDWR);
        {
            const std::lock_guard guard(mutex_);
            for (const UniqueFd& peer : peers_)
                ::shutdown(peer.get(), SHUT_RDWR);
        }
        thread_.join();
    }
    const std::string& endpoint() const { return endpoint_; }

private:
    void serve() {
        for (;;) {
            UniqueFd peer(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!peer)
                return;
            ::send(peer.get(), greeting_.data(), greeting_.size(), MSG_NOSIGNAL);
            if (then_ == Then::close)
                continue;
            const int fd = peer.get();
            {
                const std::lock_guard guard(mutex_);
                peers_.push_back(std::move(peer));
            }
            if (then_ == Then::close_when_spoken_to) {
                char bytes[4096];
                ::recv(fd, bytes, sizeof(bytes), 0);
                ::shutdown(fd, SHUT_RDWR);
            }
        }
    }

    std::string greeting_;
    Then then_;
    std::string endpoint_;
    UniqueFd listening_;
    std::mutex mutex_;
    std::vector<UniqueFd> peers_;
    std::thread thread_;
};

}  // namespace remofile::transport
