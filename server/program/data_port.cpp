// SPDX-License-Identifier: MIT
#include "server/program/data_port.hpp"

#include <sodium.h>

#include <algorithm>
#include <charconv>

namespace remofile::server {
namespace {

using transport::Listener;

constexpr std::string_view tcp = "tcp://";

// Ports from here on are for any use (RFC 6335).
constexpr unsigned first_free_port = 49'152;
constexpr int attempts_for_several_hosts = 16;

std::string host_of(const std::string& endpoint) {
    return endpoint.substr(0, endpoint.rfind(':'));
}

std::vector<std::string> hosts_of(const std::vector<std::string>& endpoints) {
    std::vector<std::string> hosts;
    for (const std::string& endpoint : endpoints) {
        if (endpoint.starts_with(tcp) && std::ranges::find(hosts, host_of(endpoint)) == hosts.end())
            hosts.push_back(host_of(endpoint));
    }
    return hosts;
}

std::vector<std::string> endpoints_of(const std::vector<std::string>& hosts, unsigned port) {
    std::vector<std::string> endpoints;
    for (const std::string& host : hosts)
        endpoints.push_back(host + ":" + std::to_string(port));
    return endpoints;
}

}  // namespace

std::optional<std::uint16_t> port_of(const std::string& endpoint) {
    if (!endpoint.starts_with(tcp))
        return std::nullopt;
    std::uint16_t port = 0;
    const char* end = endpoint.data() + endpoint.size();
    const auto parsed = std::from_chars(endpoint.data() + endpoint.rfind(':') + 1, end, port);
    return parsed.ec == std::errc() && parsed.ptr == end && port != 0 ? std::optional(port) : std::nullopt;
}

Result<std::unique_ptr<Listener>> bind_data_port(const std::vector<std::string>& endpoints,
                                                 std::optional<std::uint16_t> wanted, const BindListener& bind) {
    const std::vector<std::string> hosts = hosts_of(endpoints);
    if (hosts.empty())
        return std::unique_ptr<Listener>();
    if (wanted)
        return bind(endpoints_of(hosts, *wanted));
    const auto first = std::ranges::find_if(endpoints, [](const auto& endpoint) { return endpoint.starts_with(tcp); });
    if (const auto port = port_of(*first); port && *port < UINT16_MAX) {
        if (auto bound = bind(endpoints_of(hosts, *port + 1U)))
            return bound;
    }
    if (hosts.size() == 1)
        return bind(endpoints_of(hosts, 0));
    // The system chooses a port for one host at a time.
    Result<std::unique_ptr<Listener>> bound = Status::busy;
    for (int i = 0; i < attempts_for_several_hosts && !bound; ++i)
        bound = bind(endpoints_of(hosts, first_free_port + randombytes_uniform(UINT16_MAX - first_free_port)));
    return bound;
}

}  // namespace remofile::server
