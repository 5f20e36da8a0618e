// SPDX-License-Identifier: MIT
// What a person writes as SOURCE, behind --listen, or as a size.
#include <string_view>

#include "base/assert.hpp"
#include "base/byte_size.hpp"
#include "fuzz_target.hpp"
#include "transport/endpoint_address.hpp"

using namespace remofile;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto source = transport::parse_source(text)) {
        REMOFILE_ASSERT(source->path.starts_with('/'));
        REMOFILE_ASSERT(source->endpoint.starts_with("tcp://") || source->endpoint.starts_with("ipc://"));
        REMOFILE_ASSERT(source->endpoint.find('\0') == std::string::npos);
    }
    static_cast<void>(transport::parse_listen_endpoint(text));
    static_cast<void>(parse_byte_size(text));
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    return {"localhost:/",
            "server.example:7000:/srv/files",
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
