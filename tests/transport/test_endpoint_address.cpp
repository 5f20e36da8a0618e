// SPDX-License-Identifier: MIT
#include "transport/endpoint_address.hpp"

#include <catch.hpp>

using namespace remofile;
using namespace remofile::transport;

namespace {

struct Good {
    std::string text;
    std::string endpoint;
    std::string host_and_port;
    bool loopback;
    std::string path;
};

const Good good_sources[] = {
    {"nas:/", "tcp://nas:6768", "nas:6768", false, "/"},
    {"nas:/a/b", "tcp://nas:6768", "nas:6768", false, "/a/b"},
    {"NAS.Example.org:/x", "tcp://nas.example.org:6768", "nas.example.org:6768", false, "/x"},
    {"nas:7000:/a", "tcp://nas:7000", "nas:7000", false, "/a"},
    {"nas:/a:b:/c", "tcp://nas:6768", "nas:6768", false, "/a:b:/c"},
    {"nas:/per%20cent stays", "tcp://nas:6768", "nas:6768", false, "/per%20cent stays"},
    {"192.0.2.7:/", "tcp://192.0.2.7:6768", "192.0.2.7:6768", false, "/"},
    {"127.0.0.1:/", "tcp://127.0.0.1:6768", "127.0.0.1:6768", true, "/"},
    {"127.8.9.1:9:/", "tcp://127.8.9.1:9", "127.8.9.1:9", true, "/"},
    {"localhost:/", "tcp://localhost:6768", "localhost:6768", true, "/"},
    {"[::1]:/", "tcp://[::1]:6768", "[::1]:6768", true, "/"},
    {"[2001:DB8:0:0::7]:65535:/p", "tcp://[2001:db8::7]:65535", "[2001:db8::7]:65535", false, "/p"},
    {"[fe80::1%eth0]:/", "tcp://[fe80::1%eth0]:6768", "[fe80::1%eth0]:6768", false, "/"},
    {"remofile://nas", "tcp://nas:6768", "nas:6768", false, "/"},
    {"remofile://nas/", "tcp://nas:6768", "nas:6768", false, "/"},
    {"remofile://nas:1/a%20b%2fc%25", "tcp://nas:1", "nas:1", false, "/a b/c%"},
    {"remofile://[::1]:7/x:y", "tcp://[::1]:7", "[::1]:7", true, "/x:y"},
    {"remofile+ipc:///run/remofile/socket", "ipc:///run/remofile/socket", "", true, "/"},
    {"remofile+ipc:///run/a%20b", "ipc:///run/a b", "", true, "/"},
};

const std::string bad_sources[] = {
    "",
    "nas",
    "nas:",
    "nas:relative",
    "/path",
    ":/path",
    "nas/path",
    "::1:/",
    "[::1/",
    "[nas]:/",
    "[::1]x:/",
    "[fe80::1%]:/",
    "nas::/",
    "nas:0:/",
    "nas:65536:/",
    "nas:-1:/",
    "nas:+1:/",
    "nas:1 :/",
    "nas:99999999999999999999:/",
    "user@nas:/",
    "na s:/",
    "nas;1.2.3.4:1:/",
    "*:/",
    "-nas:/",
    ".nas:/",
    "na\ns:/",
    std::string("nas:/a\0b", 8),
    "nas:/" + std::string(4095, 'x'),
    std::string(256, 'h') + ":/",
    "remofile://",
    "remofile:///path",
    "remofile://user@nas/",
    "remofile://nas/%",
    "remofile://nas/%2",
    "remofile://nas/%zz",
    "remofile://nas/%00",
    "remofile://nas/a?b",
    "remofile://nas/a#b",
    "remofile+ipc://",
    "remofile+ipc:///",
    "remofile+ipc://relative",
    "remofile+ipc:///" + std::string(107, 's'),
    "http://nas/",
    "tcp://nas:6768/",
    "ipc:///socket",
};

}  // namespace

TEST_CASE("each form of a source is understood") {
    for (const Good& example : good_sources) {
        INFO(example.text);
        const auto source = parse_source(example.text);
        REQUIRE(source);
        CHECK(source->endpoint == example.endpoint);
        CHECK(source->host_and_port == example.host_and_port);
        CHECK(source->loopback == example.loopback);
        CHECK(source->path == example.path);
    }
}

TEST_CASE("nonsense is refused with a message that shows the right form") {
    for (const std::string& text : bad_sources) {
        INFO(text);
        const auto source = parse_source(text);
        REQUIRE_FALSE(source);
        CHECK(source.error().status == Status::bad_usage);
        CHECK_THAT(source.error().message, ContainsSubstring("remofile://HOST"));
        CHECK(source.error().message.find('\n') == std::string::npos);
    }
}

TEST_CASE("listening addresses say whether they can be reached from elsewhere") {
    struct {
        std::string text;
        std::string endpoint;
        bool beyond_loopback;
    } const examples[] = {
        {"tcp://127.0.0.1:6768", "tcp://127.0.0.1:6768", false},
        {"tcp://127.0.0.1", "tcp://127.0.0.1:6768", false},
        {"tcp://localhost:0", "tcp://127.0.0.1:*", false},
        {"tcp://[::1]:*", "tcp://[::1]:*", false},
        {"tcp://*:6768", "tcp://*:6768", true},
        {"tcp://0.0.0.0:1", "tcp://0.0.0.0:1", true},
        {"tcp://[::]:1", "tcp://[::]:1", true},
        {"tcp://192.0.2.1:1", "tcp://192.0.2.1:1", true},
        {"tcp://eth0:1", "tcp://eth0:1", true},
        {"ipc:///run/x", "ipc:///run/x", false},
    };
    for (const auto& example : examples) {
        INFO(example.text);
        const auto address = parse_listen_endpoint(example.text);
        REQUIRE(address);
        CHECK(address->endpoint == example.endpoint);
        CHECK(address->beyond_loopback == example.beyond_loopback);
    }
    for (const std::string text :
         {"", "6768", "127.0.0.1:6768", "udp://127.0.0.1:1", "tcp://", "tcp://:1", "tcp://::1:1", "tcp://1.2.3.4:x",
          "ipc://", "ipc://relative", "ipc://@abstract", "ipc:///"}) {
        INFO(text);
        const auto address = parse_listen_endpoint(text);
        REQUIRE_FALSE(address);
        CHECK(address.error().status == Status::bad_usage);
    }
}

TEST_CASE("addresses of this machine are told from others") {
    for (const char* local :
         {"local", "local, uid 1000", "ipc:///run/x", "127.0.0.1", "127.1.2.3", "::1", "tcp://localhost:6768",
          "tcp://127.0.0.1:6768", "tcp://[::1]:6768", "tcp://[::ffff:127.0.0.1]:6768"}) {
        INFO(local);
        CHECK(is_local_address(local));
    }
    for (const char* other : {"", "192.0.2.1", "::2", "2001:db8::1", "tcp://192.0.2.1:6768",
                              "tcp://localhost.example:1", "tcp://[2001:db8::1]:6768", "example.org",
                              "tcp://127.example.org:6768", "127.example.org", "tcp://[::1:6768"}) {
        INFO(other);
        CHECK_FALSE(is_local_address(other));
    }
}
