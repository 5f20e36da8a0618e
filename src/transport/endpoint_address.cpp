// SPDX-License-Identifier: MIT
#include "transport/endpoint_address.hpp"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "base/log.hpp"
#include "wire/protocol.hpp"

namespace remofile::transport {
namespace {

constexpr std::string_view source_forms =
    "write HOST:/PATH, HOST:PORT:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET";
constexpr std::string_view listen_forms = "write tcp://ADDRESS:PORT, tcp://*:PORT or ipc:///SOCKET";
constexpr std::size_t max_host_bytes = 255;                                        // RFC 1035, a whole domain name
constexpr std::size_t max_socket_path_bytes = sizeof(sockaddr_un{}.sun_path) - 1;  // less its NUL

Error refuse(std::string_view text, std::string_view why, std::string_view forms) {
    return make_error(Status::bad_usage, fmt::format("\"{}\": {}; {}", log::printable(text), why, forms));
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_host_name(std::string_view host) {
    // An underscore is no letter of a host name, but names in use have it.
    const auto allowed = [](char c) {
        return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
    };
    return !host.empty() && host.size() <= max_host_bytes && host.front() != '-' && host.front() != '.' &&
           std::ranges::all_of(host, allowed);
}

std::string lower_case(std::string_view text) {
    std::string result(text);
    for (char& c : result)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return result;
}

// An IPv6 address, perhaps with a zone ("fe80::1%eth0"), in its one canonical spelling.
std::optional<std::string> canonical_ipv6(std::string_view text) {
    const auto percent = text.find('%');
    const std::string address(text.substr(0, percent));
    in6_addr binary{};
    if (inet_pton(AF_INET6, address.c_str(), &binary) != 1)
        return std::nullopt;
    std::array<char, INET6_ADDRSTRLEN> canonical{};
    inet_ntop(AF_INET6, &binary, canonical.data(), canonical.size());
    std::string result = canonical.data();
    if (percent != std::string_view::npos) {
        const std::string_view zone = text.substr(percent + 1);
        if (!is_host_name(zone))
            return std::nullopt;
        result += "%" + std::string(zone);
    }
    return result;
}

struct HostAndPort {
    std::string host;  // an IPv6 address in its brackets
    std::string port;
    bool loopback = false;
};

bool is_loopback(std::string_view host) {
    in_addr address{};
    if (inet_pton(AF_INET, std::string(host).c_str(), &address) == 1)
        return (ntohl(address.s_addr) >> 24) == 127;
    return host == "localhost" || host == "[::1]" || host.starts_with("[::ffff:127.");
}

enum class Wildcards { refused, allowed };

std::optional<std::string> parse_port(std::string_view text, Wildcards wildcards) {
    if (text == "*" && wildcards == Wildcards::allowed)
        return "*";
    unsigned port = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (failure != std::errc{} || end != text.data() + text.size() || port > 65535)
        return std::nullopt;
    if (port == 0)
        return wildcards == Wildcards::allowed ? std::optional<std::string>("*") : std::nullopt;
    return std::to_string(port);
}

// HOST, HOST:PORT, [IPV6] or [IPV6]:PORT. The error is a phrase for refuse().
std::expected<HostAndPort, std::string_view> parse_host_and_port(std::string_view text, Wildcards wildcards) {
    HostAndPort result;
    std::optional<std::string_view> port;
    if (text.starts_with('[')) {
        const auto close = text.find(']');
        if (close == std::string_view::npos)
            return std::unexpected("the bracket is not closed");
        const auto address = canonical_ipv6(text.substr(1, close - 1));
        if (!address)
            return std::unexpected("no IPv6 address stands in the brackets");
        result.host = "[" + *address + "]";
        const std::string_view rest = text.substr(close + 1);
        if (!rest.empty() && rest.front() != ':')
            return std::unexpected("only a port may follow the brackets");
        if (!rest.empty())
            port = rest.substr(1);
    } else {
        const auto colon = text.find(':');
        if (colon != text.rfind(':'))
            return std::unexpected("an IPv6 address must stand in brackets, as in [::1]");
        if (colon != std::string_view::npos)
            port = text.substr(colon + 1);
        const std::string_view host = text.substr(0, colon);
        if (host.empty())
            return std::unexpected("the host is missing");
        if (host.find('@') != std::string_view::npos)
            return std::unexpected("there are no user names (the key file says who you are)");
        const bool wildcard = host == "*" && wildcards == Wildcards::allowed;
        if (!wildcard && !is_host_name(host))
            return std::unexpected("that is no name of a host");
        result.host = lower_case(host);
    }
    const auto number = port ? parse_port(*port, wildcards) : std::to_string(wire::default_port);
    if (!number)
        return std::unexpected("the port must be a number from 1 to 65535");
    result.port = *number;
    result.loopback = is_loopback(result.host);
    return result;
}

std::optional<int> hex_value(char c) {
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return std::nullopt;
}

// RFC 3986, 2.1.
std::optional<std::string> decode_percent(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            result += text[i];
            continue;
        }
        const auto high = i + 2 < text.size() ? hex_value(text[i + 1]) : std::nullopt;
        const auto low = i + 2 < text.size() ? hex_value(text[i + 2]) : std::nullopt;
        if (!high || !low)
            return std::nullopt;
        result += static_cast<char>(*high * 16 + *low);
        i += 2;
    }
    return result;
}

bool is_usable_path(std::string_view path) {
    return path.starts_with('/') && path.size() <= wire::max_path_bytes && path.find('\0') == std::string_view::npos;
}

Result<Source> tcp_source(std::string_view text, std::string_view host_text, std::string path) {
    const auto where = parse_host_and_port(host_text, Wildcards::refused);
    if (!where)
        return refuse(text, where.error(), source_forms);
    if (!is_usable_path(path))
        return refuse(text, "the path must be absolute, without NUL and not longer than 4095 bytes", source_forms);
    Source source;
    source.host_and_port = where->host + ":" + where->port;
    source.endpoint = "tcp://" + source.host_and_port;
    source.loopback = where->loopback;
    source.path = std::move(path);
    return source;
}

Result<Source> url_source(std::string_view text, std::string_view rest) {
    if (rest.find_first_of("?#") != std::string_view::npos)
        return refuse(text, "write ? as %3F and # as %23", source_forms);
    const auto slash = rest.find('/');
    const auto path = slash == std::string_view::npos ? std::string("/") : decode_percent(rest.substr(slash));
    if (!path)
        return refuse(text, "% must be followed by two hexadecimal digits (write % itself as %25)", source_forms);
    return tcp_source(text, rest.substr(0, slash), *path);
}

Result<Source> ipc_source(std::string_view text, std::string_view rest) {
    const auto path = decode_percent(rest);
    if (!path || !is_usable_path(*path) || *path == "/")
        return refuse(text, "the socket's absolute path must follow", source_forms);
    if (path->size() > max_socket_path_bytes)
        return refuse(text, "the path of a socket may be 107 bytes long", source_forms);
    Source source;
    source.endpoint = "ipc://" + *path;
    source.loopback = true;
    return source;
}

}  // namespace

Result<Source> parse_source(std::string_view text) {
    constexpr std::string_view url = "remofile://";
    constexpr std::string_view ipc_url = "remofile+ipc://";
    if (text.starts_with(url))
        return url_source(text, text.substr(url.size()));
    if (text.starts_with(ipc_url))
        return ipc_source(text, text.substr(ipc_url.size()));
    if (text.find("://") < text.find('/'))
        return refuse(text, "an unknown kind of address", source_forms);
    // A host has no slash, so the first one begins the path, whatever colons follow.
    const auto slash = text.find('/');
    if (slash == std::string_view::npos || slash == 0 || text[slash - 1] != ':')
        return refuse(text, "it must name a host and an absolute path", source_forms);
    return tcp_source(text, text.substr(0, slash - 1), std::string(text.substr(slash)));
}

bool is_local_address(std::string_view text) {
    constexpr std::string_view tcp = "tcp://";
    if (text == "local" || text.starts_with("local,") || text.starts_with("ipc://"))
        return true;
    if (text.starts_with(tcp))
        text.remove_prefix(tcp.size());
    // A bare IPv6 address has no port, but more than one colon.
    const auto end = text.starts_with('[') ? text.find(']') + 1 : text.find(':');
    const std::string_view host = text.starts_with('[') || end == text.rfind(':') ? text.substr(0, end) : text;
    return host == "::1" || is_loopback(host);
}

Result<ListenAddress> parse_listen_endpoint(std::string_view text) {
    constexpr std::string_view tcp = "tcp://";
    constexpr std::string_view ipc = "ipc://";
    if (text.starts_with(ipc)) {
        const std::string_view path = text.substr(ipc.size());
        if (!is_usable_path(path) || path == "/")
            return refuse(text, "the socket's absolute path must follow", listen_forms);
        if (path.size() > max_socket_path_bytes)
            return refuse(text, "the path of a socket may be 107 bytes long", listen_forms);
        return ListenAddress{.endpoint = std::string(text), .beyond_loopback = false};
    }
    if (!text.starts_with(tcp))
        return refuse(text, "an unknown kind of address", listen_forms);
    const auto where = parse_host_and_port(text.substr(tcp.size()), Wildcards::allowed);
    if (!where)
        return refuse(text, where.error(), listen_forms);
    // libzmq binds to numeric addresses and interfaces only.
    const std::string host = where->host == "localhost" ? "127.0.0.1" : where->host;
    return ListenAddress{.endpoint = "tcp://" + host + ":" + where->port, .beyond_loopback = !where->loopback};
}

}  // namespace remofile::transport
