// SPDX-License-Identifier: MIT
// The second TCP port of an encrypted server, where sealed lanes connect.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/listener.hpp"

namespace remofile::server {

// Leads the RouteIds of the listener of sealed lanes.
inline constexpr char sealed_route_prefix = 's';

// The TCP port of an endpoint; none for ipc.
std::optional<std::uint16_t> port_of(const std::string& endpoint);

// Listener::bind() with all but the endpoints given.
using BindListener = std::function<Result<std::unique_ptr<transport::Listener>>(std::vector<std::string> endpoints)>;

// Listens on the hosts of `endpoints` that are TCP, all on one port: `wanted`; if that is not said, the one after that
// of the first of them, or any other if that is taken. Null if there is no TCP among them. Errors: those of `bind`.
Result<std::unique_ptr<transport::Listener>> bind_data_port(const std::vector<std::string>& endpoints,
                                                            std::optional<std::uint16_t> wanted,
                                                            const BindListener& bind);

}  // namespace remofile::server
