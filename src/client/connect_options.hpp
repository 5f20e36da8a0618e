// SPDX-License-Identifier: MIT
// From what a person writes to what a session needs: the source, keys and tokens of remofs and remofile.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "client/session.hpp"

namespace remofile::client {

// As given by the user; empty strings stand for "not given".
struct ConnectOptions {
    std::string source;      // HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET
    std::string server_key;  // the server's public key (Z85), or the file that holds it
    std::string identity;    // file of this client's secret key
    std::string token_file;
    std::string token;      // itself, where no file is given
    bool insecure = false;  // plain text, for a server told the same
    bool exclusive = false;
    bool read_only = false;
    std::uint8_t compression = wire::compression_automatic;  // as SessionOptions
    transport::CongestionControl congestion_control;
    std::uint64_t bandwidth_limit = 0;        // as SessionOptions
    std::optional<Duration> wait;             // as SessionOptions
    std::optional<Duration> request_timeout;  // as SessionOptions
    bool gives_up_at_once = false;            // likewise
    // How messages to the person name the option for the key.
    std::string server_key_option = "-o server_key=";
};

// ConnectOptions::bandwidth_limit as a person writes it, such as "5M". Errors: those of parse_byte_size(), and
// out_of_range for less than 64K, at which a piece of contents takes a quarter of a minute.
Result<std::uint64_t> parse_bandwidth_limit(std::string_view text);

// "alice@laptop", by which a client introduces itself.
std::string own_name();

// Takes in what hosts.toml has for the host of the source (hosts_file.hpp), where nothing else is given. Finds keys
// that are not given either: the identity in identity.key of the configuration directory (made on first use); the
// server's keys in known_servers, where what the server announces later is written, or, for a server on this machine,
// in this account's own server.pub. Reads and writes files, and asks the name service for a host of which no key is
// known. Each error is one line that says what to do: bad_usage, wrong_server_key (the key is not known), unreachable
// (nor is the host), access_denied, no_entry.
Result<SessionOptions> make_session_options(const ConnectOptions& options);

}  // namespace remofile::client
