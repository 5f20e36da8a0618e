// SPDX-License-Identifier: MIT
#include "server/program/server_security.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "base/log.hpp"
#include "server/sessions/session_token.hpp"
#include "transport/endpoint_address.hpp"
#include "wire/protocol.hpp"

namespace remofile::server {
namespace {

// As libzmq wants them: numeric, and with a port. True if other machines can connect.
Result<bool> understand_endpoints(const std::vector<std::string>& given, std::vector<std::string>& endpoints) {
    bool reachable = false;
    for (const std::string& text : given) {
        REMOFILE_TRY(address, transport::parse_listen_endpoint(text));
        endpoints.push_back(address.endpoint);
        reachable = reachable || address.beyond_loopback;
    }
    return reachable;
}

// Whether anybody but this account could connect.
bool has_authorized_key(const std::filesystem::path& file) {
    std::ifstream stream(file);
    std::string line;
    while (std::getline(stream, line)) {
        const auto first = line.find_first_not_of(" \t\r");
        if (first != std::string::npos && line[first] != '#')
            return true;
    }
    return false;
}

std::string host_of_client_line(std::string_view endpoint) {
    constexpr std::string_view scheme = "tcp://";
    endpoint.remove_prefix(scheme.size());
    const auto colon = endpoint.rfind(':');
    std::string host(endpoint.substr(0, colon));
    const std::string port(endpoint.substr(colon + 1));
    if (host == "*" || host == "0.0.0.0" || host == "[::]") {
        std::array<char, 256> name{};
        host = ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "HOST";
    }
    return port == std::to_string(wire::default_port) ? host : host + ":" + port;
}

}  // namespace

void Security::let_in(std::span<const ExportSettings> exports) {
    std::set<std::string> files;
    for (const ExportSettings& settings : exports)
        files.insert(file_of_keys(settings));
    if (keys != nullptr)
        keys->use(files);
}

Result<> check_identity(const ExportSettings& settings) {
    if (settings.identity != IdentityMode::client || ::geteuid() == 0)
        return {};
    if (!settings.name.empty())
        return make_error(Status::bad_usage,
                          fmt::format("{}: identity = \"client\" needs root: only root can act as the clients' users",
                                      settings.where));
    return make_error(Status::bad_usage,
                      "--identity=client needs root: only root can act as the clients' users; leave it out to act "
                      "as your own user");
}

Result<std::string> token_of(const ExportSettings& settings) {
    return settings.token_file.empty() ? std::string() : load_token(settings.token_file);
}

Result<std::vector<std::string>> tokens_of(std::span<const ExportSettings> exports) {
    std::vector<std::string> tokens;
    for (const ExportSettings& settings : exports) {
        REMOFILE_TRY(token, token_of(settings));
        tokens.push_back(std::move(token));
    }
    return tokens;
}

// The secret key is read now, as it would be too late to find that it cannot be when it is to be used.
Result<> prepare_next_key(const ServerOptions& options, Security& security) {
    if (options.next_server_key.empty())
        return {};
    REMOFILE_TRY(next, transport::load_key_pair(options.next_server_key));
    if (next.public_key() == security.server_key->public_key())
        security.warnings.push_back(
            fmt::format("--next-server-key: {} is the key that the server has already", options.next_server_key));
    else
        security.next_keys.push_back(next.public_key());
    return {};
}

Result<Security> prepare_security(const ServerOptions& options) {
    Security security;
    REMOFILE_TRY(reachable, understand_endpoints(options.listen, security.endpoints));
    for (const ExportSettings& settings : options.exports)
        REMOFILE_CHECK(check_identity(settings));
    if (options.insecure) {
        security.warnings.emplace_back("nothing is encrypted and no client is authorised (--insecure)");
        if (reachable)
            security.warnings.emplace_back("other machines can connect to this insecure server");
        const auto acts_as_clients = [](const ExportSettings& settings) {
            return settings.identity == IdentityMode::client;
        };
        if (std::ranges::any_of(options.exports, acts_as_clients))
            security.warnings.emplace_back(std::ranges::any_of(options.exports, &ExportSettings::allow_root)
                                               ? "whoever connects can act as any user, root included "
                                                 "(--identity=client --allow-root)"
                                               : "whoever connects can act as any user but root (--identity=client)");
        return security;
    }

    REMOFILE_TRY(directory, transport::config_directory());
    const bool own_key = options.server_key.empty();
    REMOFILE_TRY(key, own_key ? transport::load_or_create_key_pair(directory / "server.key")
                              : transport::load_key_pair(options.server_key));
    security.server_key = std::move(key);
    REMOFILE_CHECK(prepare_next_key(options, security));
    security.usual_keys = directory / "authorized_keys";
    const auto has_clients = [&](const ExportSettings& settings) {
        return has_authorized_key(security.file_of_keys(settings));
    };
    if (reachable && std::ranges::none_of(options.exports, has_clients))
        security.warnings.push_back(fmt::format(
            "only this account can connect so far: put the public keys of other clients (their identity.pub) "
            "in {}; no restart is needed",
            security.file_of_keys(options)));
    security.keys = std::make_unique<ClientKeys>(directory / "identity.pub");
    security.let_in(options.exports);
    return security;
}

std::vector<std::string> trust_lines(const std::vector<std::string>& endpoints, const transport::PublicKey& key) {
    std::vector<std::string> lines;
    for (const std::string& endpoint : endpoints) {
        const auto address = transport::parse_listen_endpoint(endpoint);
        if (address && address->beyond_loopback)
            lines.push_back(fmt::format("on a client: remofile trust {}    which must show {}",
                                        host_of_client_line(endpoint), key.to_text()));
    }
    return lines;
}

std::vector<std::string> client_lines(const std::vector<std::string>& endpoints,
                                      const std::optional<transport::KeyPair>& server_key,
                                      std::span<const ExportSettings> exports) {
    std::vector<std::string> lines;
    for (const std::string& endpoint : endpoints) {
        const auto address = transport::parse_listen_endpoint(endpoint);
        if (!address || !address->beyond_loopback)
            continue;
        const std::string option =
            server_key ? fmt::format("server_key='{}'", server_key->public_key().to_text()) : std::string("insecure");
        for (const ExportSettings& settings : exports)
            lines.push_back(fmt::format("on a client: remofs {}:/{} /mnt -o {}", host_of_client_line(endpoint),
                                        settings.name, option));
    }
    return lines;
}

}  // namespace remofile::server
