// SPDX-License-Identifier: MIT
// Tickets, and lanes and listeners that use them.
#include <zmq.h>

#include "fixture.hpp"
#include "transport/lane_tickets.hpp"
#include "transport/zap_handler.hpp"
#include "transport/zmq_socket.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

Peer some_holder() {
    Peer holder;
    holder.key = KeyPair::generate().public_key();
    holder.comment = "of alice";
    return holder;
}

// An encrypted listener, which has the ZAP handler, and beside it one for sealed lanes.
struct SealedPair {
    Context context;
    Reactor reactor;
    KeySet keys{{}};
    LaneTickets tickets;
    Peer holder = some_holder();
    TestServer main{context, reactor, &keys};
    TestServer server{context, reactor, nullptr};

    SealedPair() {
        main.options.tickets = &tickets;
        main.start();
        server.options.tickets = &tickets;
        server.options.route_prefix = 's';
        server.on_arrival = [this](const TestServer::Arrival& arrival) {
            CHECK(server.listener->send(arrival.route, message_of("answer to " + arrival.head)));
        };
        server.start();
    }
    ~SealedPair() { server.stop(); }

    LaneOptions with(const LaneTicket& ticket) {
        LaneOptions options{.endpoint = server.endpoint()};
        options.ticket = ticket;
        options.connect_timeout = 10s;
        return options;
    }
    LaneTicket issue(std::uint64_t session = 1) { return tickets.issue(SessionId{session}, 1, holder); }
    std::uint64_t counted(std::string_view name) { return server.counters.at(name).value(); }
};

// A peer that has been let in and then says what it likes.
struct RawPeer {
    ZmqSocket socket;
    RawPeer(SealedPair& pair, const LaneTicket& ticket) : socket(pair.context, ZMQ_DEALER) {
        socket.set(ZMQ_LINGER, 0);
        socket.set(ZMQ_PLAIN_USERNAME, std::string_view(ticket.name()));
        REQUIRE(zmq_connect(socket.get(), pair.server.endpoint().c_str()) == 0);
    }
    void send(wire::Message message) {
        REQUIRE(send_message(socket.get(), std::nullopt, message) == SendOutcome::sent);
    }
};

}  // namespace

TEST_CASE("a ticket lets one connection in, and gives its keys once") {
    LaneTickets tickets;
    const Peer holder = some_holder();
    const LaneTicket ticket = tickets.issue(SessionId{1}, 1, holder);
    CHECK(ticket.keys.to_client != ticket.keys.to_server);
    CHECK(ticket.name().size() == 32);
    CHECK_FALSE(tickets.claim(ticket.name()));  // nobody was let in yet
    CHECK(tickets.admit(ticket.name()));
    CHECK_FALSE(tickets.admit(ticket.name()));
    const auto claim = tickets.claim(ticket.name());
    REQUIRE(claim);
    CHECK(claim->keys.to_client == ticket.keys.to_client);
    CHECK(claim->keys.to_server == ticket.keys.to_server);
    CHECK(claim->holder.key == holder.key);
    CHECK_FALSE(tickets.claim(ticket.name()));
    CHECK_FALSE(tickets.admit(ticket.name()));
    CHECK_FALSE(tickets.admit(""));
}

TEST_CASE("a ticket runs out, and a new one for its lane takes its place") {
    FakeClock clock;
    LaneTickets tickets(clock);
    const LaneTicket old = tickets.issue(SessionId{1}, 1, {});
    clock.advance(LaneTickets::lifetime - 1s);
    CHECK(tickets.admit(old.name()));

    const LaneTicket late = tickets.issue(SessionId{2}, 1, {});
    clock.advance(LaneTickets::lifetime);
    CHECK_FALSE(tickets.admit(late.name()));

    const LaneTicket first = tickets.issue(SessionId{1}, 1, {});
    const LaneTicket other_lane = tickets.issue(SessionId{1}, 2, {});
    const LaneTicket other_session = tickets.issue(SessionId{2}, 1, {});
    const LaneTicket second = tickets.issue(SessionId{1}, 1, {});
    CHECK(first.name() != second.name());
    CHECK(first.keys.to_server != second.keys.to_server);
    CHECK_FALSE(tickets.admit(first.name()));
    for (const LaneTicket& ticket : {other_lane, other_session, second})
        CHECK(tickets.admit(ticket.name()));
}

TEST_CASE("a client with a ticket asks over a sealed lane, is answered, and is known by its holder's key") {
    SealedPair pair;
    TestLane client(pair.context, pair.reactor, pair.with(pair.issue()));
    REQUIRE(client.connect());
    client.lane.send(message_of("one", {"bulk", std::string(200'000, 'x')}));
    client.lane.send(message_of("two"));
    REQUIRE(run_until(pair.reactor, [&] { return client.messages.size() == 2; }));
    CHECK(client.messages == std::vector<std::string>{"answer to one", "answer to two"});
    const auto& arrival = pair.server.arrivals.front();
    CHECK(arrival.bulk == std::vector<std::string>{"bulk", std::string(200'000, 'x')});
    CHECK(arrival.peer.address == "127.0.0.1");
    CHECK(arrival.peer.key == pair.holder.key);
    CHECK(arrival.peer.comment == "of alice");
    CHECK(arrival.route.bytes.starts_with("s"));
}

TEST_CASE("without a good ticket nobody is let in") {
    SealedPair pair;
    SECTION("one that was never issued") {
        TestLane client(pair.context, pair.reactor, pair.with(LaneTicket{}));
        CHECK_FALSE(client.connect());
        CHECK(client.failure().status == Status::not_authorized);
    }
    SECTION("one that was used") {
        const LaneTicket ticket = pair.issue();
        TestLane first(pair.context, pair.reactor, pair.with(ticket));
        REQUIRE(first.connect());
        TestLane second(pair.context, pair.reactor, pair.with(ticket));
        CHECK_FALSE(second.connect());
        CHECK(second.failure().status == Status::not_authorized);
        first.lane.send(message_of("still here"));
        CHECK(run_until(pair.reactor, [&] { return first.messages.size() == 1; }));
    }
    SECTION("plain text") {
        TestLane client(pair.context, pair.reactor, {.endpoint = pair.server.endpoint()});
        CHECK_FALSE(client.connect());
        CHECK(run_until(pair.reactor, [&] { return pair.counted("listener.failed_handshakes") > 0; }));
    }
    SECTION("CURVE, even with a key that the other port would take") {
        LaneOptions options{.endpoint = pair.server.endpoint()};
        options.identity = KeyPair::generate();
        options.server_key = pair.main.key.public_key();
        TestLane client(pair.context, pair.reactor, options);
        CHECK_FALSE(client.connect());
    }
    SECTION("a ticket at the port for CURVE") {
        LaneOptions options = pair.with(pair.issue());
        options.endpoint = pair.main.endpoint();
        TestLane client(pair.context, pair.reactor, options);
        CHECK_FALSE(client.connect());
    }
    CHECK(pair.main.arrivals.empty());
}

TEST_CASE("what is not sealed with the ticket's keys is dropped, and others go on") {
    SealedPair pair;
    TestLane honest(pair.context, pair.reactor, pair.with(pair.issue(1)));
    REQUIRE(honest.connect());
    const LaneTicket ticket = pair.issue(2);
    RawPeer peer(pair, ticket);
    MessageCipher cipher(ticket.keys, MessageCipher::End::client);
    std::uint64_t arrived = 0;
    SECTION("from the start") {
        peer.send(message_of("plain text", {"and more"}));
    }
    SECTION("after a good message") {
        arrived = 1;
        peer.send(cipher.seal(message_of("good")));
        peer.send(message_of(std::string(5000, 'x')));
    }
    SECTION("a good message after it is too late") {
        peer.send(message_of(""));
        peer.send(cipher.seal(message_of("good")));
    }
    REQUIRE(run_until(pair.reactor, [&] {
        return pair.counted("listener.broken_seals") + pair.counted("listener.dropped_messages") > 0;
    }));
    honest.lane.send(message_of("hello"));
    REQUIRE(run_until(pair.reactor, [&] { return honest.messages.size() == 1; }));
    CHECK(pair.server.arrivals.size() == arrived + 1);
}

TEST_CASE("a client that gets an unsealed message drops the connection") {
    // A listener that lets in who has a ticket and does not seal.
    SealedPair pair;
    ZmqSocket listener(pair.context, ZMQ_ROUTER);
    listener.set(ZMQ_LINGER, 0);
    listener.set(ZMQ_PLAIN_SERVER, 1);
    listener.set(ZMQ_ZAP_DOMAIN, sealed_zap_domain);
    REQUIRE(zmq_bind(listener.get(), "tcp://127.0.0.1:*") == 0);
    LaneOptions options = pair.with(pair.issue());
    options.endpoint = listener.get_text(ZMQ_LAST_ENDPOINT);
    TestLane client(pair.context, pair.reactor, options);
    REQUIRE(client.connect());
    client.lane.send(message_of("question"));
    Received received;
    REQUIRE(run_until(pair.reactor,
                      [&] { return receive_message(listener.get(), true, received) == ReceiveOutcome::received; }));
    wire::Message answer = message_of("an answer in plain text");
    REQUIRE(send_message(listener.get(), received.routing_id, answer) == SendOutcome::sent);
    REQUIRE(run_until(pair.reactor, [&] { return !client.failures.empty(); }));
    CHECK(client.failure().status == Status::malformed);
    CHECK(client.messages.empty());
}

TEST_CASE("connections that nobody keeps are forgotten, the oldest first, and those that are kept stay") {
    SealedPair pair;
    TestLane kept(pair.context, pair.reactor, pair.with(pair.issue(1)));
    REQUIRE(kept.connect());
    kept.lane.send(message_of("keep me"));
    REQUIRE(run_until(pair.reactor, [&] { return kept.messages.size() == 1; }));
    pair.server.listener->keep(pair.server.arrivals.front().route);

    constexpr int more_than_are_retired = 270;
    std::optional<RouteId> oldest;
    for (int i = 0; i < more_than_are_retired; ++i) {
        const std::size_t before = pair.server.arrivals.size();
        TestLane stranger(pair.context, pair.reactor, pair.with(pair.issue(2)));
        REQUIRE(stranger.connect());
        stranger.lane.send(message_of("x"));
        REQUIRE(run_until(pair.reactor, [&] { return pair.server.arrivals.size() > before; }));
        if (!oldest)
            oldest = pair.server.arrivals.back().route;
    }
    CHECK_FALSE(pair.server.listener->send(*oldest, message_of("forgotten")));
    kept.lane.send(message_of("still there?"));
    CHECK(run_until(pair.reactor, [&] { return kept.messages.size() == 2; }));
}
