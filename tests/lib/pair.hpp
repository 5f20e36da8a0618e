// SPDX-License-Identifier: MIT
// A server, and a client of the same account, as a program outside of the tree would make one.
#pragma once

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

#include "harness/server_process.hpp"
#include "remofile/client.hpp"

namespace remofile::test {

// A client of the server, through another address of this machine if one is given. Throws std::runtime_error if it does
// not come about.
inline libremofile::Client connect(const ServerProcess& server, const libremofile::Options& options = {},
                                   const std::string& address = {}) {
    setenv("REMOFILE_CONFIG_DIR", server.config_dir().c_str(), 1);
    auto connected = libremofile::Client::connect((address.empty() ? server.address() : address) + ":/", options);
    if (!connected)
        throw std::runtime_error(connected.error().message);
    return std::move(*connected);
}

struct Pair {
    ServerProcess server;
    libremofile::Client client = connect(server);

    Pair() = default;
    explicit Pair(ServerProcess::Options options) : server(std::move(options)) {}

    libremofile::Path local(const libremofile::Path& path) const {
        return libremofile::Path(server.directory()) / path;
    }
};

// The error's code; 0 if there is none.
template <class T>
libremofile::ErrorCode code(const libremofile::Result<T>& result) {
    return result ? libremofile::ErrorCode{} : result.error().code;
}

}  // namespace remofile::test
