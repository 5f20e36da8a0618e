// SPDX-License-Identifier: MIT
// Lane and listener together: the ordinary course of things.
#include "fixture.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

struct Pair {
    Context context;
    Reactor reactor;
    KeyPair client_key = KeyPair::generate();
    KeySet keys{{client_key.public_key()}};
    TestServer server{context, reactor, &keys};

    LaneOptions lane_options() {
        return {.endpoint = server.endpoint(), .identity = client_key, .server_key = server.key.public_key()};
    }
};

}  // namespace

TEST_CASE("an authorised client connects over an encrypted lane, asks and is answered") {
    Pair pair;
    pair.server.start();
    pair.server.on_arrival = [&](const TestServer::Arrival& arrival) {
        REQUIRE(pair.server.listener->send(arrival.route, message_of("answer to " + arrival.head)));
    };
    TestLane client(pair.context, pair.reactor, pair.lane_options());
    REQUIRE(client.connect());
    REQUIRE(client.lane.connected());

    client.lane.send(message_of("question", {"bulk", std::string(200'000, 'x')}));
    REQUIRE(run_until(pair.reactor, [&] { return !client.messages.empty(); }));
    REQUIRE(client.messages == std::vector<std::string>{"answer to question"});
    const auto& arrival = pair.server.arrivals.front();
    REQUIRE(arrival.bulk == std::vector<std::string>{"bulk", std::string(200'000, 'x')});
    REQUIRE(arrival.peer.address == "127.0.0.1");
    REQUIRE(arrival.peer.key == pair.client_key.public_key());
    REQUIRE(arrival.peer.comment == "a comment");
}

TEST_CASE("a plain client and a plain server talk, and the peer has no key") {
    Context context;
    Reactor reactor;
    TestServer server(context, reactor, nullptr);
    server.start();
    TestLane client(context, reactor, {.endpoint = server.endpoint()});
    REQUIRE(client.connect());
    client.lane.send(message_of("hello"));
    REQUIRE(run_until(reactor, [&] { return !server.arrivals.empty(); }));
    REQUIRE_FALSE(server.arrivals.front().peer.key.has_value());
}
