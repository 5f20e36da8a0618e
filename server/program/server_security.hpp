// SPDX-License-Identifier: MIT
// Who may connect, and what the server proves itself with.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "server/program/server_options.hpp"
#include "transport/keys.hpp"

namespace remofile::server {

struct Security {
    // Both none with --insecure.
    std::optional<transport::KeyPair> server_key;
    std::unique_ptr<transport::Authorizer> authorizer;
    std::vector<std::string> endpoints;  // to listen on, as ZeroMQ wants them
    std::string token;                   // empty: none is asked for
    std::vector<std::string> warnings;   // for the person who starts the server
};

// Reads, and makes on first use, what the options ask for. Without --insecure every client must prove an authorised
// key, whatever the endpoint, so that a server beyond loopback always authorises. Errors: bad_usage for options that
// contradict each other, or those of the files, naming them.
Result<Security> prepare_security(const ServerOptions& options);

// Lines to paste on a client of another machine, for the endpoints that one can reach.
std::vector<std::string> client_lines(const std::vector<std::string>& endpoints,
                                      const std::optional<transport::KeyPair>& server_key);

}  // namespace remofile::server
