// SPDX-License-Identifier: MIT
// What a person writes as SOURCE, behind --listen, or as a size.
#include <string_view>

#include "base/assert.hpp"
#include "base/byte_size.hpp"
#include "client/connect_options.hpp"
#include "fuzz_target.hpp"
#include "transport/endpoint_address.hpp"

using namespace remofile;

namespace {

void check_source(std::string_view text) {
    const auto source = transport::parse_source(text);
    // Without keys, which would be looked for.
    const auto session = client::make_session_options({.source = std::string(text), .insecure = true});
    REMOFILE_ASSERT(!session || source);
    if (session)
        REMOFILE_ASSERT(("/" + session->path + "/").find("/../") == std::string::npos);
    if (!source)
        return;
    REMOFILE_ASSERT(source->path.starts_with('/'));
    REMOFILE_ASSERT(source->endpoint.starts_with("tcp://") || source->endpoint.starts_with("ipc://"));
    REMOFILE_ASSERT(source->endpoint.find('\0') == std::string::npos);
    // Of this machine alone if that is what it says; what decides whether a token may go in plain text.
    REMOFILE_ASSERT(source->host_and_port.empty() == source->endpoint.starts_with("ipc://"));
}

void check_listen_endpoint(std::string_view text) {
    const auto listen = transport::parse_listen_endpoint(text);
    if (!listen)
        return;
    REMOFILE_ASSERT(listen->endpoint.find('\0') == std::string::npos);
    REMOFILE_ASSERT(listen->endpoint.starts_with("tcp://") || listen->endpoint.starts_with("ipc://"));
    REMOFILE_ASSERT(!transport::is_local_address(listen->endpoint) || !listen->beyond_loopback);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check_source(text);
    check_listen_endpoint(text);
    static_cast<void>(transport::is_local_address(text));
    static_cast<void>(parse_byte_size(text));
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    return {"localhost:/",
            "server.example:7000:/srv/files",
            "server.example:/srv/../files/./",
            "[2001:db8::1]:6768:/",
            "[::1]:/a b",
            "remofile://server.example/path",
            "remofile://192.0.2.7:6768/",
            "remofile+ipc:///run/remofile.socket",
            "tcp://127.0.0.1:6768",
            "tcp://*:6768",
            "tcp://[::]:0",
            "ipc:///run/remofile.socket",
            "64K",
            "18446744073709551615"};
}

std::vector<std::string> fuzz_words() {
    return {"remofile://", "remofile+ipc://", "tcp://", "ipc://", "[::1]",
            "127.0.0.1",   "localhost",       ":6768",  ":/",     "/../"};
}
