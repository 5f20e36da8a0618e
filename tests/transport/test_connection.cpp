// SPDX-License-Identifier: MIT
// Lane and listener together: the ordinary course of things.
#include <unistd.h>

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

struct PlainPair {
    Context context;
    Reactor reactor;
    TestServer server{context, reactor, nullptr};

    LaneOptions lane_options() { return {.endpoint = server.endpoint()}; }
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
    PlainPair pair;
    pair.server.start();
    TestLane client(pair.context, pair.reactor, pair.lane_options());
    REQUIRE(client.connect());
    client.lane.send(message_of("hello"));
    REQUIRE(run_until(pair.reactor, [&] { return !pair.server.arrivals.empty(); }));
    REQUIRE_FALSE(pair.server.arrivals.front().peer.key.has_value());
    REQUIRE(pair.server.arrivals.front().peer.address == "127.0.0.1");
}

TEST_CASE("messages of one connection arrive in the order of sending, in both directions") {
    constexpr std::size_t count = 5000;
    Pair pair;
    pair.server.start();
    pair.server.on_arrival = [&](const TestServer::Arrival& arrival) {
        pair.server.listener->send(arrival.route, message_of(arrival.head, {std::string(arrival.bulk.front())}));
    };
    TestLane client(pair.context, pair.reactor, pair.lane_options());
    REQUIRE(client.connect());
    // No more at a time than a listener takes for a connection that is not emptied meanwhile.
    constexpr std::size_t at_a_time = 200;
    std::vector<std::string> sent;
    while (sent.size() < count) {
        for (std::size_t i = 0; i < at_a_time; ++i) {
            sent.push_back(std::to_string(sent.size()));
            client.lane.send(message_of(sent.back(), {std::string(sent.size() % 7 == 0 ? 20'000 : 10, 'x')}));
        }
        REQUIRE(run_until(pair.reactor, [&] { return client.messages.size() == sent.size(); }));
    }
    CHECK(pair.server.arrivals.size() == count);
    REQUIRE(client.messages.size() == count);
    REQUIRE(client.messages == sent);
}

TEST_CASE("a flood of messages leaves timers and other sockets their turn") {
    PlainPair pair;
    pair.server.start();
    TestLane flooding(pair.context, pair.reactor, pair.lane_options());
    TestLane quiet(pair.context, pair.reactor, pair.lane_options());
    REQUIRE(flooding.connect());
    REQUIRE(quiet.connect());
    std::size_t in_this_turn = 0;
    std::size_t most_in_a_turn = 0;
    pair.server.on_arrival = [&](const TestServer::Arrival&) {
        if (in_this_turn++ == 0)
            pair.reactor.at_end_of_turn(
                [&] { most_in_a_turn = std::max(most_in_a_turn, std::exchange(in_this_turn, 0)); });
    };
    for (int i = 0; i < 20'000; ++i)
        flooding.lane.send(message_of("flood"));
    quiet.lane.send(message_of("quiet"));
    REQUIRE(run_until(pair.reactor, [&] { return pair.server.arrivals.size() == 20'001; }));
    REQUIRE(most_in_a_turn <= 64);
    const auto found = std::find_if(pair.server.arrivals.begin(), pair.server.arrivals.end(),
                                    [](const TestServer::Arrival& arrival) { return arrival.head == "quiet"; });
    REQUIRE(found - pair.server.arrivals.begin() < 20'000);
}

TEST_CASE("one listener serves several endpoints") {
    PlainPair pair;
    const TemporaryDirectory directory;
    pair.server.options.endpoints = {"tcp://127.0.0.1:*", "ipc://" + (directory / "socket").native()};
    pair.server.start();
    for (const std::string& endpoint : pair.server.listener->endpoints()) {
        TestLane client(pair.context, pair.reactor, {.endpoint = endpoint});
        REQUIRE(client.connect());
        client.lane.send(message_of(endpoint));
        REQUIRE(run_until(pair.reactor, [&] {
            return !pair.server.arrivals.empty() && pair.server.arrivals.back().head == endpoint;
        }));
    }
    REQUIRE(pair.server.arrivals[0].peer.address == "127.0.0.1");
    const Peer& local = pair.server.arrivals[1].peer;
    REQUIRE(local.address == "local, uid " + std::to_string(::getuid()));
    REQUIRE(local.describe_address() == local.address + ", pid " + std::to_string(::getpid()));
}

TEST_CASE("what a server says before it goes is still delivered") {
    PlainPair pair;
    pair.server.start();
    std::string order;
    Lane lane(pair.context, pair.reactor, pair.lane_options(),
              {.on_connected = [&] { order += 'c'; },
               .on_message = [&](wire::Message) { order += 'm'; },
               .on_disconnected = [&](Error) { order += 'd'; }});
    lane.connect();
    REQUIRE(run_until(pair.reactor, [&] { return order == "c"; }));
    lane.send(message_of("hello"));
    pair.server.on_arrival = [&](const TestServer::Arrival& arrival) {
        for (int i = 0; i < 50; ++i)
            pair.server.listener->send(arrival.route, message_of("last words"));
        pair.reactor.at_end_of_turn([&] { pair.server.stop(); });
    };
    REQUIRE(run_until(pair.reactor, [&] { return order.ends_with('d'); }));
    REQUIRE(order == "c" + std::string(50, 'm') + "d");
}

TEST_CASE("a lane may be destroyed in each of its handlers") {
    PlainPair pair;
    pair.server.start();
    pair.server.on_arrival = [&](const TestServer::Arrival& arrival) {
        for (int i = 0; i < 3; ++i)
            pair.server.listener->send(arrival.route, message_of("answer"));
    };
    std::unique_ptr<Lane> lane;
    int ends = 0;
    const auto end = [&, text = std::string(100, 'x')] {
        lane.reset();
        ++ends;
        REQUIRE(text == std::string(100, 'x'));
    };
    const auto make = [&](Lane::Handlers handlers) {
        lane = std::make_unique<Lane>(pair.context, pair.reactor, pair.lane_options(), std::move(handlers));
        lane->connect();
    };
    make({.on_connected = end, .on_message = nullptr, .on_disconnected = nullptr});
    REQUIRE(run_until(pair.reactor, [&] { return ends == 1; }));
    make({.on_connected = [&] { lane->send(message_of("hello")); },
          .on_message = [&](wire::Message) { end(); },
          .on_disconnected = nullptr});
    REQUIRE(run_until(pair.reactor, [&] { return ends == 2; }));
    make(
        {.on_connected = [&] { pair.server.stop(); }, .on_message = nullptr, .on_disconnected = [&](Error) { end(); }});
    REQUIRE(run_until(pair.reactor, [&] { return ends == 3; }));
}

TEST_CASE("a handler may disconnect and connect again; nothing of the old connection is delivered after that") {
    PlainPair pair;
    pair.server.start();
    pair.server.on_arrival = [&](const TestServer::Arrival& arrival) {
        for (int i = 0; i < 10; ++i)
            pair.server.listener->send(arrival.route, message_of("answer to " + arrival.head));
    };
    int connections = 0;
    std::vector<std::string> messages;
    std::unique_ptr<Lane> lane;
    lane = std::make_unique<Lane>(
        pair.context, pair.reactor, pair.lane_options(),
        Lane::Handlers{.on_connected = [&] { lane->send(message_of(std::to_string(++connections))); },
                       .on_message =
                           [&](wire::Message message) {
                               messages.emplace_back(message.head.text());
                               if (messages.size() == 1) {
                                   lane->disconnect();
                                   lane->connect();
                               }
                           },
                       .on_disconnected = [](Error) { FAIL("not called by disconnect()"); }});
    lane->connect();
    REQUIRE(run_until(pair.reactor, [&] { return messages.size() == 11; }));
    REQUIRE(messages.front() == "answer to 1");
    for (std::size_t i = 1; i < messages.size(); ++i)
        REQUIRE(messages[i] == "answer to 2");
}

TEST_CASE("a listener may be destroyed by its handler") {
    PlainPair pair;
    pair.server.start();
    TestLane client(pair.context, pair.reactor, pair.lane_options());
    REQUIRE(client.connect());
    pair.server.on_arrival = [&](const TestServer::Arrival&) { pair.server.stop(); };
    for (int i = 0; i < 10; ++i)
        client.lane.send(message_of("hello"));
    REQUIRE(run_until(pair.reactor, [&] { return !client.failures.empty(); }));
    REQUIRE(pair.server.arrivals.size() == 1);
}

TEST_CASE("an encrypted listener can be followed by another in the same program") {
    Pair pair;
    for (int i = 0; i < 3; ++i) {
        pair.server.start();
        TestLane client(pair.context, pair.reactor, pair.lane_options());
        REQUIRE(client.connect());
        pair.server.stop();
    }
}
