// SPDX-License-Identifier: MIT
#include "server/program/data_port.hpp"

#include <catch.hpp>

#include "transport/context.hpp"
#include "transport/reactor.hpp"

using namespace remofile;
using namespace remofile::server;

namespace {

using Listening = Result<std::unique_ptr<transport::Listener>>;

// Binds for real, but the first attempts fail.
struct Binder {
    transport::Context context;
    transport::Reactor reactor;
    std::size_t failures = 0;
    std::vector<std::vector<std::string>> asked;

    Listening operator()(const std::vector<std::string>& endpoints) {
        asked.push_back(endpoints);
        if (asked.size() <= failures)
            return make_error(Status::busy, "taken");
        transport::ListenerOptions options;
        options.endpoints = endpoints;
        return transport::Listener::bind(context, reactor, std::move(options), [](const auto&, const auto&, auto) {});
    }
    Listening bind(const std::vector<std::string>& endpoints, std::optional<std::uint16_t> wanted = {}) {
        return bind_data_port(endpoints, wanted, [this](const auto& which) { return (*this)(which); });
    }
};

std::string port_text(const std::string& endpoint) {
    return endpoint.substr(endpoint.rfind(':') + 1);
}

using Endpoints = std::vector<std::string>;

}  // namespace

TEST_CASE("the port of an endpoint") {
    CHECK(port_of("tcp://127.0.0.1:6768") == 6768);
    CHECK(port_of("tcp://[::1]:1") == 1);
    CHECK_FALSE(port_of("tcp://127.0.0.1:*"));
    CHECK_FALSE(port_of("tcp://127.0.0.1:0"));
    CHECK_FALSE(port_of("tcp://127.0.0.1:65536"));
    CHECK_FALSE(port_of("ipc:///run/remofile:7"));
}

TEST_CASE("data lanes get the next port, on the same hosts") {
    Binder binder;
    binder.failures = 100;
    const auto bound = binder.bind({"ipc:///s", "tcp://127.0.0.1:6768", "tcp://[::1]:7000", "tcp://127.0.0.1:7100"});
    CHECK(bound.status() == Status::busy);
    CHECK(binder.asked.front() == Endpoints{"tcp://127.0.0.1:6769", "tcp://[::1]:6769"});
}

TEST_CASE("if the next port is taken they get any, the same on all hosts") {
    Binder binder;
    binder.failures = 1;
    const auto bound = binder.bind({"tcp://127.0.0.1:6768"});
    REQUIRE(bound);
    CHECK(binder.asked.at(1) == Endpoints{"tcp://127.0.0.1:0"});
    CHECK(port_of((*bound)->endpoints().front()).has_value());

    Binder several;
    several.failures = 1;
    const auto on_two = several.bind({"tcp://127.0.0.1:6768", "tcp://127.0.0.2:6768"});
    REQUIRE(on_two);
    REQUIRE((*on_two)->endpoints().size() == 2);
    CHECK(port_text((*on_two)->endpoints()[0]) == port_text((*on_two)->endpoints()[1]));
}

TEST_CASE("the highest port has none after it") {
    Binder binder;
    REQUIRE(binder.bind({"tcp://127.0.0.1:65535"}));
    CHECK(binder.asked == std::vector<Endpoints>{{"tcp://127.0.0.1:0"}});
}

TEST_CASE("a port that was asked for is that or none") {
    Binder binder;
    binder.failures = 1;
    CHECK(binder.bind({"tcp://127.0.0.1:6768"}, 7000).status() == Status::busy);
    CHECK(binder.asked == std::vector<Endpoints>{{"tcp://127.0.0.1:7000"}});
}

TEST_CASE("a server that has no TCP port gets no second one") {
    Binder binder;
    const auto bound = binder.bind({"ipc:///run/s"});
    REQUIRE(bound);
    CHECK(*bound == nullptr);
    CHECK(binder.asked.empty());
}
