// SPDX-License-Identifier: MIT
// Who may connect, and what the server proves itself with.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "server/program/client_keys.hpp"
#include "server/program/server_options.hpp"
#include "transport/keys.hpp"

namespace remofile::server {

struct Security {
    // Both none with --insecure.
    std::optional<transport::KeyPair> server_key;
    std::vector<transport::PublicKey> next_keys;  // that the server will have, for clients to be told of
    std::unique_ptr<ClientKeys> keys;
    std::filesystem::path usual_keys;    // the authorized_keys file of exports that name none
    std::vector<std::string> endpoints;  // to listen on, as ZeroMQ wants them
    std::vector<std::string> warnings;   // for the person who starts the server

    std::string file_of_keys(const ExportSettings& settings) const {
        return settings.authorized_keys.empty() ? usual_keys.string() : settings.authorized_keys;
    }
    // From now on the keys of these exports are let in.
    void let_in(std::span<const ExportSettings> exports);
};

// Reads, and makes on first use, what the options ask for. Without --insecure every client must prove an authorised
// key, whatever the endpoint, so that a server beyond loopback always authorises. Errors: bad_usage for options that
// contradict each other, or those of the files, naming them.
Result<Security> prepare_security(const ServerOptions& options);

// Whether this process may do what an export asks for. Error: bad_usage.
Result<> check_identity(const ExportSettings& settings);

// The token that an export asks for; empty: none. Errors: those of load_token().
Result<std::string> token_of(const ExportSettings& settings);
// Those of several, in their order.
Result<std::vector<std::string>> tokens_of(std::span<const ExportSettings> exports);

// Lines to paste on a client of another machine, for the endpoints that one can reach.
std::vector<std::string> client_lines(const std::vector<std::string>& endpoints,
                                      const std::optional<transport::KeyPair>& server_key,
                                      std::span<const ExportSettings> exports);

// What to type there instead to learn the key, and what must be seen then.
std::vector<std::string> trust_lines(const std::vector<std::string>& endpoints, const transport::PublicKey& key);

}  // namespace remofile::server
