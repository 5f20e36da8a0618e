// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace remofile::transport {

// Where a server is and which directory of its export is meant: what a person writes as SOURCE.
struct Source {
    std::string endpoint;       // for ZeroMQ: "tcp://HOST:PORT" (IPv6 in brackets) or "ipc:///SOCKET"
    std::string host_and_port;  // "HOST:PORT" as known_servers writes it; empty for ipc
    bool loopback = false;      // ipc, "localhost", 127.0.0.0/8 or ::1
    std::string path = "/";     // below the export, absolute
};

// Parses HOST[:PORT]:/PATH, remofile://[TOKEN-free]HOST[:PORT]/PATH and remofile+ipc:///SOCKET. An IPv6 address stands
// in brackets. Error: bad_usage with a message that shows the right form.
Result<Source> parse_source(std::string_view text);

// Whether a peer's address (Peer::address) or a ZeroMQ endpoint is of this machine: ipc or loopback. A tunnel's end
// looks like that too.
bool is_local_address(std::string_view address_or_endpoint);

// Checks what --listen was given and says whether it can be reached from other machines.
struct ListenAddress {
    std::string endpoint;
    bool beyond_loopback = false;
};
Result<ListenAddress> parse_listen_endpoint(std::string_view text);

}  // namespace remofile::transport
