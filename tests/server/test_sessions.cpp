// SPDX-License-Identifier: MIT
// How sessions begin, end, are resumed, shared and waited for.
#include "service_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

TEST_CASE("HELLO gives a session, and requests of it are answered") {
    World world;
    Connection client(world, "a");
    const auto hello = client.hello();
    CHECK(hello.session);
    CHECK_FALSE(hello.resumed);
    CHECK(hello.features == 0);  // none was offered
    CHECK(hello.max_requests == wire::default_max_requests);
    CHECK(hello.session_timeout_ms == 30'000);
    CHECK(hello.ping_interval_ms == 10'000);
    CHECK(client.ask(2, wire::Getattr{.node = NodeId{1}, .handle = {}}) == Status::ok);
    CHECK(client.ask(3, wire::Ping{}) == Status::ok);
}

TEST_CASE("the more clients there are, the less each later one may have under way") {
    World world;
    std::deque<Connection> clients;
    std::uint64_t granted = 0;
    std::uint32_t before = UINT32_MAX;
    constexpr std::uint64_t count = 20;
    for (std::uint64_t i = 0; i < count; ++i) {
        const wire::HelloReply hello = clients.emplace_back(world, "client " + std::to_string(i)).hello();
        CHECK(hello.request_bytes <= before);
        CHECK(hello.request_bytes >= wire::max_bulk_bytes);
        CHECK(hello.reply_window_bytes == hello.request_bytes);
        before = hello.request_bytes;
        granted += hello.request_bytes + hello.reply_window_bytes;
    }
    CHECK(granted <= (40U << 20) + count * (2U << 20));
    // Two fill a link of 200 Mbit/s and 100 ms, and what a client gives back is there for the next.
    for (Connection& client : clients)
        CHECK(client.ask(2, wire::Bye{}) == Status::ok);
    for (int i = 0; i < 2; ++i)
        CHECK(clients.emplace_back(world, "again " + std::to_string(i)).hello().reply_window_bytes >= 2'500'000);
}

TEST_CASE("a refused HELLO says why") {
    World world;
    Connection client(world, "a");
    CHECK(client.ask(1, wire::Hello{.min_version = 3, .max_version = 4, .root = NodeId{1}, .path = "/"}) ==
          Status::version_mismatch);
    CHECK(client.ask(2, wire::Hello{.root = NodeId{1}, .path = "/missing"}) == Status::no_entry);
    CHECK(client.ask(3, wire::Hello{.root = NodeId{0}, .path = "/"}) == Status::invalid);
    CHECK(client.ask(4, wire::Hello{.flags = 4, .root = NodeId{1}, .path = "/"}) == Status::invalid);
    CHECK(client.ask(5, wire::Hello{.root = NodeId{1}, .path = std::string(5000, 'p')}) == Status::name_too_long);
    CHECK(world.service->sessions() == 0);
    CHECK(client.hello().session);
}

TEST_CASE("a lane without a session is told so") {
    World world;
    Connection client(world, "a");
    CHECK(client.ask(7, wire::Getattr{}) == Status::no_session);
    CHECK(client.ask(8, wire::Attach{.session = SessionId{5}, .lane = 1}) == Status::no_session);
    CHECK(world.files.calls.empty());
}

TEST_CASE("an unreadable message is answered once, without touching anything") {
    World world;
    Connection client(world, "a");
    client.send_raw({.head = Buffer::copy_of("nonsense"), .bulk = {}});
    CHECK(client.take_one().status == Status::malformed);
    client.hello();
    client.send_raw({.head = Buffer::copy_of("nonsense"), .bulk = {}});
    const Received reply = client.take_one();
    CHECK(reply.status == Status::malformed);
    CHECK(reply.id == 0);
    CHECK(world.count("server.malformed") == 2);
    CHECK(client.ask(2, wire::Ping{}) == Status::ok);
}

TEST_CASE("a Remofile 1 client is ignored") {
    World world;
    Connection client(world, "a");
    client.send_raw({.head = Buffer::copy_of("\x80\x03}q"), .bulk = {}});
    wire::Message request;
    request.bulk.push_back(Buffer::copy_of("\x80\x04\x95"));
    client.send_raw(std::move(request));
    CHECK(client.take().empty());
    CHECK(world.count("server.remofile1_messages") == 2);
}

TEST_CASE("strangers that only ask for errors end up in silence") {
    World world;
    Connection client(world, "a");
    std::size_t answers = 0;
    for (std::uint64_t id = 1; id <= 3 * ServiceStrangers::max_answers; ++id) {
        client.send(id, wire::Ping{});
        answers += client.take().size();
    }
    CHECK(answers == ServiceStrangers::max_answers);
}

TEST_CASE("a silent client's session expires; PING keeps it") {
    World world;
    Connection client(world, "a");
    client.hello();
    for (std::uint64_t id = 2; id < 8; ++id) {
        world.pass(20s);
        CHECK(client.ask(id, wire::Ping{}) == Status::ok);
    }
    world.pass(29s);
    CHECK(world.service->sessions() == 1);
    world.pass(1s);
    CHECK(world.service->sessions() == 0);
    CHECK(world.files.closed == 1);
    CHECK(client.ask(9, wire::Ping{}) == Status::no_session);
}

TEST_CASE("BYE ends the session after its reply") {
    World world;
    Connection client(world, "a");
    client.hello();
    CHECK(client.ask(2, wire::Bye{}) == Status::ok);
    CHECK(world.service->sessions() == 0);
    CHECK(world.files.closed == 1);
}

TEST_CASE("others are told who is there") {
    World world;
    Connection first(world, "a");
    Connection second(world, "b");
    CHECK(first.hello().others.empty());
    const auto hello = second.hello();
    REQUIRE(hello.others.size() == 1);
    CHECK(hello.others[0].name == "someone");
    CHECK(hello.others[0].address == "192.0.2.1");
    CHECK(hello.others[0].since == 1'000'000);
    CHECK_FALSE(hello.others[0].exclusive);
}

TEST_CASE("exclusive use is given to one, and refused to others with his name") {
    ServiceOptions options;
    options.limits.always_exclusive = GENERATE(false, true);
    World world(options);
    Connection holder(world, "a");
    Connection other(world, "b");
    holder.hello(hello_with(options.limits.always_exclusive ? 0 : wire::hello_exclusive));
    other.send(1, hello_with(0));
    const Received refused = other.take_one();
    CHECK(refused.status == Status::in_use);
    const auto holders = refused.as<wire::InUse>().holders;
    REQUIRE(holders.size() == 1);
    CHECK(holders[0].name == "someone");
    CHECK(holders[0].exclusive);

    holder.ask(2, wire::Bye{});
    CHECK(other.hello().session);
}

TEST_CASE("exclusive use is not given while others are there") {
    World world;
    Connection sharing(world, "a");
    Connection exclusive(world, "b");
    sharing.hello();
    exclusive.send(1, hello_with(wire::hello_exclusive));
    CHECK(exclusive.take_one().status == Status::in_use);
}

TEST_CASE("turns come in the order of asking, and waits end in time") {
    World world;
    Connection holder(world, "h");
    Connection first(world, "1");
    Connection second(world, "2");
    Connection third(world, "3");
    holder.hello(hello_with(wire::hello_exclusive));
    first.send(1, hello_with(wire::hello_exclusive, 60'000));
    second.send(1, hello_with(wire::hello_exclusive, 10'000));
    third.send(1, hello_with(0, 60'000));
    CHECK(first.take().empty());

    world.pass(9s);
    holder.ask(2, wire::Ping{});
    CHECK(second.take().empty());
    world.pass(1s);
    CHECK(second.take_one().status == Status::in_use);

    holder.ask(3, wire::Bye{});
    CHECK(first.take_one().status == Status::ok);
    CHECK(third.take().empty());
    first.ask(2, wire::Bye{});
    CHECK(third.take_one().status == Status::ok);
}

TEST_CASE("a dead client holds the server until its session expires") {
    World world;
    Connection holder(world, "h");
    Connection waiting(world, "w");
    holder.hello(hello_with(wire::hello_exclusive));
    waiting.send(1, hello_with(0, 100'000));
    world.pass(29s);
    CHECK(waiting.take().empty());
    world.pass(1s);
    CHECK(waiting.take_one().status == Status::ok);
}

TEST_CASE("one that went while it waited for its turn holds up nobody") {
    World world;
    Connection holder(world, "h");
    Connection gone(world, "g");
    Connection next(world, "n");
    holder.hello(hello_with(wire::hello_exclusive));
    gone.send(1, hello_with(wire::hello_exclusive, 100'000));
    next.send(1, hello_with(0, 100'000));
    world.thread.gone.insert("g");
    holder.ask(2, wire::Bye{});
    CHECK(next.take_one().status == Status::ok);
}

TEST_CASE("sessions are limited, altogether and for each key or address") {
    ServiceOptions options;
    options.limits.max_sessions = 3;
    options.limits.max_sessions_per_owner = 2;
    World world(options);
    Connection first(world, "1");
    Connection second(world, "2");
    Connection third(world, "3");
    first.hello();
    second.hello();
    third.send(1, hello_with(0));
    CHECK(third.take_one().status == Status::limit_exceeded);
    third.peer.address = "192.0.2.2";
    third.hello();
    Connection fourth(world, "4");
    fourth.peer.address = "192.0.2.3";
    fourth.send(1, hello_with(0));
    CHECK(fourth.take_one().status == Status::limit_exceeded);
    second.ask(2, wire::Bye{});
    CHECK(fourth.hello().session);
}

TEST_CASE("thousands of HELLOs leave no more than the sessions allowed") {
    ServiceOptions options;
    options.limits.max_sessions_per_owner = 8;
    World world(options);
    for (int i = 0; i < 5000; ++i)
        Connection(world, "r" + std::to_string(i)).send(1, hello_with(0, i % 2 == 0 ? 0 : 1000));
    CHECK(world.service->sessions() == 8);
    Connection other(world, "other");
    other.peer.address = "192.0.2.2";
    CHECK(other.hello().session);
}

TEST_CASE("lanes join with the session's secret and the same key only") {
    World world;
    Connection first(world, "a");
    const auto hello = first.hello();
    wire::Attach attach{.session = hello.session, .session_secret = hello.session_secret, .lane = 2};

    Connection thief(world, "t");
    wire::Attach guess = attach;
    guess.session_secret[3] ^= 1;
    CHECK(thief.ask(5, guess) == Status::no_session);
    thief.peer.key = transport::KeyPair::generate().public_key();
    CHECK(thief.ask(6, attach) == Status::no_session);

    Connection lane(world, "b");
    wire::Attach beyond = attach;
    beyond.lane = 8;
    CHECK(lane.ask(5, beyond) == Status::invalid);
    beyond.lane = 0;
    CHECK(lane.ask(6, beyond) == Status::invalid);
    CHECK(lane.ask(7, attach) == Status::ok);
    CHECK(lane.ask(8, wire::Ping{}) == Status::ok);
    CHECK(first.ask(9, wire::Ping{}) == Status::ok);
}

TEST_CASE("tickets for sealed lanes are given over encrypted connections alone, where both ends have the feature") {
    World world;
    transport::LaneTickets tickets(world.thread.turned);
    wire::Hello asks{.features = wire::feature_sealed_lanes | wire::encoding_features,
                     .root = NodeId{1},
                     .path = "/",
                     .client_name = "someone"};
    const auto key = transport::KeyPair::generate().public_key();
    const auto status_for = [&](const char* name, const wire::Hello& hello, bool encrypted) {
        Connection client(world, name);
        if (encrypted)
            client.peer.key = key;
        const bool granted = (client.hello(hello).features & wire::feature_sealed_lanes) != 0;
        const Status status = client.ask(2, wire::LaneTicket{.lane = 1});
        CHECK(granted == (status == Status::ok));
        return status;
    };
    CHECK(status_for("none offered", asks, true) == Status::not_supported);
    world.service->offer_sealed_lanes(tickets, 6769);
    CHECK(status_for("plain", asks, false) == Status::not_supported);
    CHECK(status_for("given", asks, true) == Status::ok);
    wire::Hello does_not_ask = asks;
    does_not_ask.features = wire::encoding_features;
    CHECK(status_for("not asked for", does_not_ask, true) == Status::not_supported);

    Connection client(world, "a");
    client.peer.key = key;
    client.hello(asks);
    CHECK(client.ask(2, wire::LaneTicket{.lane = 0}) == Status::invalid);
    CHECK(client.ask(3, wire::LaneTicket{.lane = 8}) == Status::invalid);
    client.send(4, wire::LaneTicket{.lane = 7});
    const auto reply = client.take_one().as<wire::LaneTicketReply>();
    CHECK(reply.port == 6769);
    transport::LaneTicket ticket;
    ticket.id = reply.ticket;
    REQUIRE(tickets.admit(ticket.name()));
    const auto claim = tickets.claim(ticket.name());
    REQUIRE(claim);
    CHECK(claim->keys.to_server == reply.key_to_server);
    CHECK(claim->keys.to_client == reply.key_to_client);
    CHECK(claim->holder.key == client.peer.key);
}

TEST_CASE("a connection's keys are kept while it is a lane of a session") {
    World world;
    Connection first(world, "a");
    const auto hello = first.hello();
    Connection stranger(world, "x");
    stranger.send(1, wire::Ping{});
    Connection lane(world, "b");
    const wire::Attach attach{.session = hello.session, .session_secret = hello.session_secret, .lane = 1};
    CHECK(lane.ask(2, attach) == Status::ok);
    CHECK(world.thread.kept == std::set<std::string>{"a", "b"});
    Connection next(world, "c");
    CHECK(next.ask(3, attach) == Status::ok);
    CHECK(world.thread.kept == std::set<std::string>{"a", "c"});
    first.send(4, wire::Bye{});
    CHECK(world.thread.kept.empty());
}

TEST_CASE("a wrong token is refused, and after five failures so is the right one") {
    ServiceOptions options;
    options.token = "right";
    World world(options);
    Connection client(world, "a");
    const auto with_token = [](std::string token) {
        return wire::Hello{.root = NodeId{1}, .path = "/", .client_name = {}, .token = std::move(token)};
    };
    CHECK(client.ask(1, with_token("right")) == Status::ok);
    for (int i = 0; i < 5; ++i) {
        Connection guesser(world, "g" + std::to_string(i));
        CHECK(guesser.ask(1, with_token(i == 0 ? "" : "right" + std::to_string(i))) == Status::bad_token);
    }
    Connection late(world, "l");
    CHECK(late.ask(1, with_token("right")) == Status::bad_token);
    Connection elsewhere(world, "e");
    elsewhere.peer.address = "192.0.2.2";
    CHECK(elsewhere.ask(1, with_token("right")) == Status::ok);
    world.pass(60s);
    CHECK(late.ask(2, with_token("right")) == Status::ok);
    // A new one is for those who come; those who are in stay in.
    world.service->change(SessionTurns::Limits{}, CallerPolicy{}, false, "new");
    Connection old(world, "o");
    CHECK(old.ask(1, with_token("right")) == Status::bad_token);
    CHECK(old.ask(2, with_token("new")) == Status::ok);
    CHECK(late.ask(3, wire::Ping{}) == Status::ok);
}

TEST_CASE("a session is resumed with its secret, by the same key, and keeps its requests") {
    World world;
    Connection before(world, "a");
    const auto hello = before.hello();

    SECTION("it is the same session") {
        Connection after(world, "b");
        const auto again = after.hello(hello_again(hello));
        CHECK(again.resumed);
        CHECK(again.session == hello.session);
        CHECK(world.service->sessions() == 1);
        // The connection before is nobody's now.
        CHECK(before.ask(2, wire::Ping{}) == Status::no_session);
    }
    SECTION("a wrong secret gives a new one") {
        Connection after(world, "b");
        wire::Hello guess = hello_again(hello);
        guess.session_secret[0] ^= 1;
        const auto other = after.hello(guess);
        CHECK_FALSE(other.resumed);
        CHECK(other.session != hello.session);
        CHECK(before.ask(2, wire::Ping{}) == Status::ok);
    }
    SECTION("another key gives a new one") {
        Connection after(world, "b");
        after.peer.key = transport::KeyPair::generate().public_key();
        CHECK_FALSE(after.hello(hello_again(hello)).resumed);
    }
    SECTION("an expired one gives a new one") {
        world.pass(31s);
        Connection after(world, "b");
        CHECK_FALSE(after.hello(hello_again(hello)).resumed);
    }
}

TEST_CASE("an ended session's locks may be taken again in the one that takes its place, by its secret and key") {
    World world;
    Connection before(world, "a");
    wire::Hello first{.root = NodeId{1}, .path = "/", .client_name = "someone"};
    first.features |= wire::feature_reclaim_locks;
    const auto hello = before.hello(first);
    CHECK((hello.features & wire::feature_reclaim_locks) == 0);
    world.files.moment = 17;
    world.pass(31s);
    REQUIRE(world.service->sessions() == 0);
    world.files.moment = 18;
    Connection after(world, "b");
    wire::Hello second = hello_again(hello);
    second.features |= wire::feature_reclaim_locks;
    SECTION("both are right") {
        CHECK((after.hello(second).features & wire::feature_reclaim_locks) != 0);
        CHECK(world.files.place_lost_at == 17);
    }
    SECTION("a wrong secret") {
        second.session_secret[3] ^= 1;
        CHECK((after.hello(second).features & wire::feature_reclaim_locks) == 0);
        CHECK_FALSE(world.files.place_lost_at);
    }
    SECTION("another key") {
        after.peer.key = transport::KeyPair::generate().public_key();
        CHECK((after.hello(second).features & wire::feature_reclaim_locks) == 0);
        CHECK_FALSE(world.files.place_lost_at);
    }
}

TEST_CASE("a client is told with each connection which keys the server will have, if it asks for that") {
    ServiceOptions options;
    transport::PublicKey next;
    next.bytes.fill(7);
    options.next_keys = {next};
    World world(options);
    Connection first(world, "a");
    first.peer.key.emplace();
    wire::Hello asking{.features = wire::feature_next_keys, .root = NodeId{1}, .path = "/", .client_name = "someone"};
    const wire::HelloReply hello = first.hello(asking);
    CHECK((hello.features & wire::feature_next_keys) != 0);
    const auto told = [&](Connection& connection) {
        const auto pushes = connection.take_pushes();
        REQUIRE(pushes.size() == 1);
        CHECK(pushes.front().opcode == Opcode::push_next_keys);
        CHECK(pushes.front().as<wire::PushNextKeys>().keys == std::vector{next.bytes});
    };
    told(first);
    CHECK(first.ask(2, wire::Ping{}) == Status::ok);
    CHECK(first.take_pushes().empty());
    Connection again(world, "b");
    again.peer.key.emplace();
    asking.resume = hello.session;
    asking.session_secret = hello.session_secret;
    CHECK(again.hello(asking).resumed);
    told(again);

    Connection old(world, "c");
    old.peer.key.emplace();
    old.hello();
    CHECK(old.take_pushes().empty());
    Connection plain(world, "d");
    asking.resume = {};
    CHECK((plain.hello(asking).features & wire::feature_next_keys) == 0);
    CHECK(plain.take_pushes().empty());
}

TEST_CASE("a session that its client has ended is not remembered for its locks") {
    World world;
    Connection before(world, "a");
    const auto hello = before.hello();
    CHECK(before.ask(2, wire::Bye{}) == Status::ok);
    REQUIRE(world.service->sessions() == 0);
    Connection after(world, "b");
    wire::Hello second = hello_again(hello);
    second.features |= wire::feature_reclaim_locks;
    CHECK((after.hello(second).features & wire::feature_reclaim_locks) == 0);
}

TEST_CASE("what a session has open is kept for whoever has its secret and key, until it has ended for good") {
    World world;
    Connection before(world, "a");
    wire::Hello first{.root = NodeId{1}, .path = "/", .client_name = "someone"};
    CHECK((before.hello(first).features & wire::feature_kept_files) == 0);
    CHECK(world.files.kept_for.empty());
    Connection asking(world, "b");
    first.features |= wire::feature_kept_files;
    const auto hello = asking.hello(first);
    CHECK((hello.features & wire::feature_kept_files) != 0);
    REQUIRE(world.files.kept_for.size() == 1);
    CHECK_FALSE(world.files.kept_in_place_of);
    const HolderTag tag = world.files.kept_for.front();
    SECTION("it ends for good") {
        CHECK(asking.ask(2, wire::Bye{}) == Status::ok);
        CHECK(world.files.expected_back == 0);
    }
    SECTION("it is not heard of, and comes back as another") {
        world.files.unclaimed = 2;
        world.pass(31s);
        REQUIRE(world.service->sessions() == 0);
        CHECK(world.files.expected_back == 2);
        Connection after(world, "c");
        wire::Hello second = hello_again(hello);
        second.features |= wire::feature_kept_files;
        bool is_it = true;
        SECTION("both are right") {}
        SECTION("a wrong secret") {
            second.session_secret[3] ^= 1;
            is_it = false;
        }
        SECTION("another key") {
            after.peer.key = transport::KeyPair::generate().public_key();
            is_it = false;
        }
        const auto another = after.hello(second);
        REQUIRE(world.files.kept_for.size() == 2);
        CHECK(world.files.kept_for.back() != tag);
        REQUIRE(world.files.kept_in_place_of);
        CHECK((*world.files.kept_in_place_of == tag) == is_it);
        // What nobody asks for is looked for as long as there is any.
        world.pass(31s);
        world.pass(31s);
        CHECK(world.files.unclaimed == 0);
        CHECK((another.features & wire::feature_kept_files) != 0);
    }
}

TEST_CASE("a request under way when the connection was lost is answered on the new one, once") {
    World world;
    Connection before(world, "a");
    const auto hello = before.hello();
    world.hold_workers = true;
    const wire::Mkdir mkdir{.parent = NodeId{1}, .name = "d", .node = {NodeId{2}, false}};
    before.send(2, mkdir);
    CHECK(world.executor.waiting.size() == 1);

    Connection after(world, "b");
    after.send(1, hello_again(hello));
    REQUIRE(world.executor.waiting.size() == 2);
    // The resuming HELLO's work first.
    std::swap(world.executor.waiting.front(), world.executor.waiting.back());
    world.executor.run_one();
    world.settle();
    CHECK(after.take_one().status == Status::ok);

    SECTION("sent again before it is done") {
        after.send(2, mkdir, wire::flag_resent);
        world.hold_workers = false;
        world.settle();
        CHECK(after.take_one().id == 2);
    }
    SECTION("sent again after it is done") {
        world.hold_workers = false;
        world.settle();
        CHECK(after.take().empty());
        after.send(2, mkdir, wire::flag_resent);
        CHECK(after.take_one().id == 2);
        // And not a third time on one connection.
        after.acknowledges = false;
        after.send(2, mkdir, wire::flag_resent);
        CHECK(after.take().empty());
    }
    CHECK(before.take().empty());
    CHECK(std::ranges::count(world.files.carried_out(), 2U) == 1);
}

TEST_CASE("what was answered and lost is answered again: kept if it must not be repeated, else carried out anew") {
    World world;
    Connection before(world, "a");
    const auto hello = before.hello();
    world.files.handler = [](RequestId, Opcode opcode, const auto&) -> std::optional<Outcome> {
        Outcome outcome;
        outcome.status = opcode == Opcode::unlink ? Status::no_entry : Status::ok;
        return outcome;
    };
    before.send(2, wire::Unlink{.parent = NodeId{1}, .name = "x"});
    before.send(3, wire::Getattr{.node = NodeId{1}, .handle = {}});

    Connection after(world, "b");
    after.hello(hello_again(hello));
    auto writer = after.begin();
    writer.add({.opcode = Opcode::unlink, .flags = wire::flag_resent | wire::flag_link, .id = RequestId{2}},
               wire::Unlink{.parent = NodeId{1}, .name = "x"});
    writer.add({.opcode = Opcode::getattr, .flags = wire::flag_resent, .id = RequestId{3}},
               wire::Getattr{.node = NodeId{1}, .handle = {}});
    world.files.calls.clear();
    after.send(std::move(writer));
    const auto replies = after.take();
    REQUIRE(replies.size() == 2);
    CHECK(replies[0].status == Status::no_entry);
    CHECK(replies[1].status == Status::cancelled);  // the chain breaks as it would have
    CHECK(world.files.calls.empty());
    CHECK(after.ask(3, wire::Getattr{.node = NodeId{1}, .handle = {}}, wire::flag_resent) == Status::ok);
    CHECK(world.files.carried_out() == std::vector<std::uint64_t>{3});
}

TEST_CASE("a number used twice is refused") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.hold_workers = true;
    client.send(2, wire::Getattr{});
    CHECK(client.ask(2, wire::Getattr{}) == Status::malformed);
    world.hold_workers = false;
    world.settle();
    CHECK(client.take_one().status == Status::ok);
    client.answered_below = RequestId{3};
    CHECK(client.ask(2, wire::Getattr{}, wire::flag_resent) == Status::malformed);
    CHECK(client.ask(0, wire::Getattr{}) == Status::malformed);
}

TEST_CASE("a stop does not wait for a client that has gone once its requests are done") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.hold_workers = true;
    client.send(2, wire::Getattr{});
    world.thread.gone.insert("a");
    std::optional<bool> stopped;
    world.service->stop(5s, [&](bool finished) { stopped = finished; });
    world.settle();
    CHECK_FALSE(stopped.has_value());
    world.hold_workers = false;
    world.settle();
    CHECK(stopped == true);
}

TEST_CASE("a stop tells the clients, ends waits and lets requests finish") {
    World world;
    Connection client(world, "a");
    client.hello();
    Connection waiting(world, "w");
    waiting.send(1, hello_with(wire::hello_exclusive, 50'000));
    world.hold_workers = true;
    client.send(2, wire::Getattr{});

    std::optional<bool> stopped;
    world.service->stop(5s, [&](bool finished) { stopped = finished; });
    world.settle();
    const auto pushes = client.take_pushes();
    REQUIRE(pushes.size() == 1);
    CHECK(pushes[0].opcode == Opcode::push_shutdown);
    CHECK(waiting.take_one().status == Status::shutting_down);
    CHECK(client.ask(3, wire::Getattr{}) == Status::shutting_down);
    Connection late(world, "l");
    CHECK(late.ask(1, hello_with(0)) == Status::shutting_down);
    CHECK_FALSE(stopped.has_value());

    SECTION("all done") {
        world.hold_workers = false;
        world.settle();
        CHECK(client.take_one().status == Status::ok);
        CHECK(stopped == true);
    }
    SECTION("the deadline passes") {
        world.pass(5s);
        CHECK(stopped == false);
    }
}
