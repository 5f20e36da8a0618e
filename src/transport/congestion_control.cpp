// SPDX-License-Identifier: MIT
#include "transport/congestion_control.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/log.hpp"

namespace remofile::transport {
namespace {

// TCP_CA_NAME_MAX of linux/tcp.h, with its NUL.
constexpr std::size_t max_name_bytes = 16;

// Outcomes that are remembered, of the few that there can be.
constexpr std::size_t max_said = 16;

bool is_name(std::string_view text) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    };
    return !text.empty() && text.size() < max_name_bytes && std::ranges::all_of(text, allowed);
}

std::string name_in_force(int fd) {
    std::array<char, max_name_bytes + 1> name{};
    socklen_t size = max_name_bytes;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size) != 0)
        return "unknown";
    return name.data();
}

// That of the handshake, at the start of a connection. None if the kernel could not measure it.
std::optional<Duration> round_trip(int fd) {
    tcp_info info{};
    socklen_t size = sizeof(info);
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_rtt == 0)
        return std::nullopt;
    return std::chrono::microseconds(info.tcpi_rtt);
}

std::string available() {
    std::string names;
    std::getline(std::ifstream("/proc/sys/net/ipv4/tcp_available_congestion_control"), names);
    return names;
}

std::string why_not(int errno_value) {
    switch (errno_value) {
        case EPERM:
            return "it is not among net.ipv4.tcp_allowed_congestion_control";
        case ENOENT:
            return fmt::format("the kernel does not have it (it has {})", available());
        default:
            return std::strerror(errno_value);
    }
}

struct Address {
    in6_addr host;  // of IPv4 as ::ffff:A.B.C.D
    std::uint16_t port;
};

std::optional<Address> parsed(const sockaddr_storage& storage) {
    Address address{};
    if (storage.ss_family == AF_INET6) {
        sockaddr_in6 ipv6{};
        std::memcpy(&ipv6, &storage, sizeof(ipv6));
        return Address{ipv6.sin6_addr, ntohs(ipv6.sin6_port)};
    }
    if (storage.ss_family != AF_INET)
        return std::nullopt;
    sockaddr_in ipv4{};
    std::memcpy(&ipv4, &storage, sizeof(ipv4));
    address.host.s6_addr[10] = address.host.s6_addr[11] = 0xff;
    std::memcpy(&address.host.s6_addr[12], &ipv4.sin_addr, sizeof(ipv4.sin_addr));
    address.port = ntohs(ipv4.sin_port);
    return address;
}

bool is_tcp(int fd) {
    int protocol = 0;
    socklen_t size = sizeof(protocol);
    return ::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

// None if it is not connected.
std::optional<Address> peer_of(int fd) {
    sockaddr_storage storage{};
    socklen_t size = sizeof(storage);
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0)
        return std::nullopt;
    return parsed(storage);
}

}  // namespace

Result<CongestionControl> CongestionControl::parse(std::string_view text) {
    CongestionControl result;
    if (text == "auto")
        return result;
    if (text == "system") {
        result.choice_ = Choice::system;
        return result;
    }
    if (!is_name(text))
        return make_error(Status::bad_usage,
                          fmt::format("\"{}\" is neither auto nor system, nor can it be the name of one of the "
                                      "kernel's congestion controls, as bbr is",
                                      log::printable(text)));
    result.choice_ = Choice::named;
    result.name_ = std::string(text);
    return result;
}

CongestionControl::Outcome CongestionControl::apply(int fd) const {
    Outcome outcome{.in_force = name_in_force(fd), .replaced = {}, .missing = {}};
    if (choice_ == Choice::system || outcome.in_force == name_)
        return outcome;
    if (choice_ == Choice::automatic) {
        if (outcome.in_force != "cubic" && outcome.in_force != "reno")
            return outcome;
        if (round_trip(fd).value_or(least_round_trip) < least_round_trip)
            return outcome;
    }
    if (::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name_.data(), static_cast<socklen_t>(name_.size())) != 0) {
        outcome.missing = fmt::format("{} cannot be had: {}", name_, why_not(errno));
        return outcome;
    }
    outcome.replaced = std::exchange(outcome.in_force, name_in_force(fd));
    return outcome;
}

void CongestionControl::report(std::string_view which, const Outcome& outcome) const {
    if (!outcome.missing.empty())
        log::write(choice_ == Choice::named ? log::Level::warn : log::Level::info,
                   fmt::format("{}: TCP's congestion control stays {}; {}", which, outcome.in_force, outcome.missing));
    else if (!outcome.replaced.empty())
        log::info("{}: TCP's congestion control is {} in place of {}", which, outcome.in_force, outcome.replaced);
    else
        log::debug("{}: TCP's congestion control is {}", which, outcome.in_force);
}

bool CongestionReports::is_new(const CongestionControl::Outcome& outcome) {
    if (std::ranges::find(said_, outcome) != said_.end())
        return false;
    if (said_.size() == max_said)
        said_.clear();
    said_.push_back(outcome);
    return true;
}

bool is_connected_to(int fd, const sockaddr_storage& address) {
    const auto wanted = parsed(address);
    const auto peer = wanted && is_tcp(fd) ? peer_of(fd) : std::nullopt;
    return peer && peer->port == wanted->port && IN6_ARE_ADDR_EQUAL(&peer->host, &wanted->host);
}

bool is_connected_at(int fd, std::span<const std::uint16_t> own_ports) {
    sockaddr_storage storage{};
    socklen_t size = sizeof(storage);
    if (!is_tcp(fd) || !peer_of(fd) || ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0)
        return false;
    const auto own = parsed(storage);
    return own && std::ranges::find(own_ports, own->port) != own_ports.end();
}

}  // namespace remofile::transport
