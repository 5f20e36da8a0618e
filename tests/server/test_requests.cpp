// SPDX-License-Identifier: MIT
// What becomes of the requests of a session: order, links, limits, flow control, cancellation, identities, pushes.
#include "service_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

constexpr wire::Getattr getattr{.node = NodeId{1}, .handle = {}};
wire::Read read_of(std::uint32_t size, std::uint64_t handle = 1) {
    return {.handle = HandleId{handle}, .offset = 0, .size = size};
}

std::optional<Outcome> reading(RequestId, Opcode opcode, const std::function<void(Outcome)>&) {
    return opcode == Opcode::read ? with_bulk(1000) : Outcome{};
}

}  // namespace

TEST_CASE("the records of a message are carried out in order, and a failure cancels what is linked to it") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.files.handler = [](RequestId request, Opcode, const auto&) -> std::optional<Outcome> {
        Outcome outcome;
        outcome.status = request.value == 3 ? Status::no_entry : Status::ok;
        return outcome;
    };
    auto writer = client.begin();
    for (std::uint64_t id = 2; id <= 7; ++id)
        writer.add({.opcode = Opcode::getattr,
                    .flags = id == 5 || id == 7 ? std::uint8_t{0} : wire::flag_link,
                    .id = RequestId{id}},
                   getattr);
    client.send(std::move(writer));
    std::vector<Status> statuses;
    for (const Received& reply : client.take())
        statuses.push_back(reply.status);
    CHECK(statuses ==
          std::vector{Status::ok, Status::no_entry, Status::cancelled, Status::cancelled, Status::ok, Status::ok});
    CHECK(world.files.carried_out() == std::vector<std::uint64_t>{2, 3, 6, 7});
}

TEST_CASE("a session's own requests have their place among the others of a message") {
    World world;
    Connection client(world, "a");
    client.hello();
    auto writer = client.begin();
    writer.add({.opcode = Opcode::release, .id = RequestId{2}}, wire::Release{.handle = HandleId{1}});
    writer.add({.opcode = Opcode::bye, .id = RequestId{3}}, wire::Bye{});
    client.send(std::move(writer));
    const auto replies = client.take();
    REQUIRE(replies.size() == 2);
    CHECK(replies[0].id == 2);
    CHECK(replies[1].id == 3);
    CHECK(world.service->sessions() == 0);
}

TEST_CASE("what follows a session's own request that a chain cancels, or that was interrupted, is carried out") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.files.handler = [](RequestId, Opcode opcode, const auto&) {
        Outcome outcome;
        outcome.status = opcode == Opcode::unlink ? Status::no_entry : Status::ok;
        return std::optional(std::move(outcome));
    };
    auto writer = client.begin();
    writer.add({.opcode = Opcode::unlink, .flags = wire::flag_link, .id = RequestId{2}},
               wire::Unlink{.parent = NodeId{1}, .name = "x"});
    writer.add({.opcode = Opcode::ping, .id = RequestId{3}}, wire::Ping{});
    writer.add({.opcode = Opcode::getattr, .id = RequestId{4}}, getattr);
    client.send(std::move(writer));
    std::map<std::uint64_t, Status> statuses;
    for (const Received& reply : client.take())
        statuses[reply.id] = reply.status;
    CHECK(statuses == std::map<std::uint64_t, Status>{{2, Status::no_entry}, {3, Status::cancelled}, {4, Status::ok}});

    // CANCEL finds the PING while a worker has the message.
    world.hold_workers = true;
    writer = client.begin();
    writer.add({.opcode = Opcode::getattr, .id = RequestId{5}}, getattr);
    writer.add({.opcode = Opcode::ping, .id = RequestId{6}}, wire::Ping{});
    writer.add({.opcode = Opcode::getattr, .id = RequestId{7}}, getattr);
    client.send(std::move(writer));
    client.send(8, wire::Cancel{.request = RequestId{6}});
    world.hold_workers = false;
    world.settle();
    statuses.clear();
    for (const Received& reply : client.take())
        statuses[reply.id] = reply.status;
    CHECK(statuses ==
          std::map<std::uint64_t, Status>{{5, Status::ok}, {6, Status::interrupted}, {7, Status::ok}, {8, Status::ok}});
}

TEST_CASE("what cannot be carried out is answered all the same") {
    World world;
    Connection client(world, "a");
    client.hello();
    auto writer = client.begin();
    const auto add = [&](std::uint64_t id, std::uint16_t opcode, std::vector<std::byte> body) {
        writer.add_encoded({.opcode = static_cast<Opcode>(opcode), .id = RequestId{id}}, body);
    };
    add(2, 999, {});
    add(3, 16, {std::byte{1}});
    add(4, 4, {std::byte{1}});
    add(5, 1, wire::encode_body(hello_with(0)));
    add(6, 0x8001, {});
    writer.add({.opcode = Opcode::flock, .id = RequestId{7}},
               wire::Flock{.handle = HandleId{1}, .type = wire::LockType::write, .wait = true});
    add(8, 18, wire::encode_body(getattr));
    client.send(std::move(writer));
    std::map<std::uint64_t, Status> statuses;
    for (const Received& reply : client.take())
        statuses[reply.id] = reply.status;
    CHECK(statuses == std::map<std::uint64_t, Status>{{2, Status::not_implemented},
                                                      {3, Status::malformed},
                                                      {4, Status::malformed},
                                                      {5, Status::invalid},
                                                      {6, Status::not_implemented},
                                                      {7, Status::malformed},  // a wait in mid-message
                                                      {8, Status::ok}});
}

TEST_CASE("encoded bulk data that was not negotiated is refused") {
    World world;
    Connection client(world, "a");
    client.hello();
    auto writer = client.begin();
    writer.add(
        {.opcode = Opcode::write, .bulk_encoding = wire::BulkEncoding::zeros, .id = RequestId{2}, .bulk_size = 100},
        wire::Write{.handle = HandleId{1}}, Buffer());
    client.send(std::move(writer));
    CHECK(client.take_one().status == Status::malformed);
}

namespace {

wire::Hello hello_that_encodes(std::uint8_t compression = wire::compression_automatic) {
    return {.features = wire::encoding_features,
            .compression = compression,
            .root = NodeId{1},
            .path = "/",
            .client_name = "someone"};
}

void send_write(Connection& client, std::uint64_t id, const wire::EncodedBulk& bulk) {
    auto writer = client.begin();
    writer.add({.opcode = Opcode::write, .bulk_encoding = bulk.encoding, .id = RequestId{id}, .bulk_size = bulk.size},
               wire::Write{.handle = HandleId{1}}, Buffer::copy_of(bulk.data.bytes()));
    client.send(std::move(writer));
}

wire::EncodedBulk compressed(std::size_t size) {
    Counters counters;
    wire::CompressionMeter meter(counters, "test");
    Buffer data = Buffer::allocate(size);
    std::memset(data.data(), 'c', size);
    return wire::encode_bulk(std::move(data), {.zeros = true, .level = 1, .adaptive = false}, nullptr, meter);
}

}  // namespace

TEST_CASE("encoded requests are decoded where they are carried out") {
    World world;
    Connection client(world, "a");
    CHECK(client.hello(hello_that_encodes()).features == wire::encoding_features);
    world.hold_workers = true;
    send_write(client, 2, compressed(100'000));
    send_write(client, 3, wire::EncodedBulk::of_zeros(5));
    CHECK(world.files.calls.empty());  // not on the service's thread
    world.hold_workers = false;
    world.settle();
    REQUIRE(world.files.calls.size() == 2);
    CHECK(world.files.calls[0].bulk == std::string(100'000, 'c'));
    CHECK(world.files.calls[1].bulk == std::string(5, '\0'));
    for (const Received& reply : client.take())
        CHECK(reply.status == Status::ok);
}

TEST_CASE("what does not decode to what it says is malformed, and harms nothing else") {
    World world;
    Connection client(world, "a");
    client.hello(hello_that_encodes());
    wire::EncodedBulk longer = compressed(100'000);
    longer.size = 100'001;
    wire::EncodedBulk shorter = compressed(100'000);
    shorter.size = 99'999;
    wire::EncodedBulk nothing = compressed(100'000);
    nothing.data = Buffer();
    wire::EncodedBulk noise = compressed(100'000);
    std::memset(noise.data.data(), 0xff, noise.data.size());
    std::uint64_t id = 1;
    for (const wire::EncodedBulk* hostile : {&longer, &shorter, &nothing, &noise}) {
        send_write(client, ++id, *hostile);
        CHECK(client.take_one().status == Status::malformed);
    }
    CHECK(world.files.calls.empty());
    CHECK(world.count("server.violations") == 4);
    send_write(client, ++id, compressed(1000));
    CHECK(client.take_one().status == Status::ok);
}

TEST_CASE("replies are compressed at the level that HELLO asked for") {
    World world;
    Connection client(world, "a");
    world.files.handler = reading;
    SECTION("a level") {
        client.hello(hello_that_encodes(9));
        client.send(2, read_of(1000));
        const Received reply = client.take_one();
        CHECK(reply.bulk_encoding == wire::BulkEncoding::lz4);
        CHECK(reply.bulk_size == 1000);
        CHECK(reply.bulk_bytes < 100);
    }
    SECTION("off") {
        client.hello(hello_that_encodes(wire::compression_off));
        client.send(2, read_of(1000));
        CHECK(client.take_one().bulk_bytes == 1000);
    }
    SECTION("automatic, over a link of which nothing is known") {
        client.hello(hello_that_encodes());
        client.send(2, read_of(1000));
        CHECK(client.take_one().bulk_bytes < 100);
    }
    SECTION("automatic, on this machine") {
        client.peer.address = "127.0.0.1";
        client.hello(hello_that_encodes());
        client.send(2, read_of(1000));
        CHECK(client.take_one().bulk_bytes == 1000);
    }
    SECTION("a client that cannot decode") {
        auto hello = hello_that_encodes(9);
        hello.features = wire::feature_zeros;
        client.hello(hello);
        client.send(2, read_of(1000));
        CHECK(client.take_one().bulk_bytes == 1000);
    }
    SECTION("an unknown level") {
        CHECK(client.ask(1, hello_that_encodes(13)) == Status::invalid);
    }
}

TEST_CASE("holes reach only those who know zeros") {
    for (const bool knows : {true, false}) {
        World world;
        Connection client(world, "a");
        auto hello = hello_that_encodes();
        hello.features = knows ? wire::encoding_features : wire::feature_lz4;
        client.hello(hello);
        world.files.handler = [](RequestId, Opcode, const auto&) -> std::optional<Outcome> {
            Outcome outcome;
            outcome.bulk = wire::EncodedBulk::of_zeros(300);  // too short to be compressed
            outcome.has_bulk = true;
            return outcome;
        };
        client.send(2, read_of(300));
        const Received reply = client.take_one();
        CHECK(reply.bulk_size == 300);
        CHECK(reply.bulk_bytes == (knows ? 0 : 300));
    }
}

TEST_CASE("what cannot block is answered without a worker, in its turn") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.files.at_once = Opcode::read;
    world.hold_workers = true;
    client.send(2, read_of(100));
    CHECK(client.take_one().id == 2);
    CHECK(world.executor.waiting.empty());
    CHECK(world.count("server.carried_out_at_once") == 1);

    // Behind a write to the same handle it waits; many go by without a deep stack.
    auto writer = client.begin();
    writer.add({.opcode = Opcode::write, .id = RequestId{3}}, wire::Write{.handle = HandleId{1}}, Buffer());
    client.send(std::move(writer));
    for (std::uint64_t id = 4; id < 1000; ++id)
        client.send(id, read_of(100));
    CHECK(client.take().empty());
    world.hold_workers = false;
    world.settle();
    const auto replies = client.take();
    REQUIRE(replies.size() == 997);
    CHECK(replies.front().id == 3);
    CHECK(replies.back().id == 999);
    CHECK(world.count("server.carried_out_at_once") == 997);
}

TEST_CASE("requests that depend on another wait for it, others do not") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.hold_workers = true;
    client.send(2, wire::Lookup{.parent = NodeId{1}, .name = "a", .node = {NodeId{2}, false}});
    client.send(3, wire::Getattr{.node = NodeId{2}, .handle = {}});
    client.send(4, wire::Getattr{.node = NodeId{9}, .handle = {}});
    client.send(5, wire::Release{.handle = HandleId{3}});
    CHECK(world.executor.waiting.size() == 3);
    world.executor.run_one();
    world.executor.run_one();
    world.executor.run_one();
    CHECK(world.files.carried_out() == std::vector<std::uint64_t>{2, 4, 5});
    world.hold_workers = false;
    world.settle();
    CHECK(world.files.carried_out() == std::vector<std::uint64_t>{2, 4, 5, 3});
    CHECK(client.take().size() == 4);
}

TEST_CASE("what was sent by one lane and comes again by another keeps its place before what follows it there") {
    World world;
    Connection client(world, "a");
    const auto hello = client.hello();
    Connection data(world, "b");
    data.ask(2, wire::Attach{.session = hello.session, .session_secret = hello.session_secret, .lane = 1});
    world.hold_workers = true;
    const wire::Release change{.handle = HandleId{1}};  // stands for any change of the handle
    data.send(10, change);
    data.send(11, change);
    CHECK(world.executor.waiting.size() == 1);

    // The lane is given up. The server has got two of the four requests that were sent by it.
    auto writer = client.begin();
    writer.add({.opcode = Opcode::release, .flags = wire::flag_resent, .id = RequestId{10}}, change);
    client.send(std::move(writer));
    for (const std::uint64_t id : {11, 12, 13})
        client.send(id, change, wire::flag_resent);
    client.send(14, change);
    client.send(15, wire::Getattr{.node = NodeId{1}, .handle = {}});  // depends on nothing of them
    CHECK(world.executor.waiting.size() == 2);
    world.hold_workers = false;
    world.settle();
    CHECK(world.files.carried_out() == std::vector<std::uint64_t>{10, 15, 11, 12, 13, 14});
    CHECK(client.take().size() == 6);
    CHECK(data.take().empty());
    CHECK(client.ask(16, wire::Release{.handle = HandleId{1}}) == Status::ok);
}

TEST_CASE("what waits for a lock on a lane that was given up holds up nobody on the other") {
    World world;
    Connection client(world, "a");
    const auto hello = client.hello();
    Connection data(world, "b");
    data.ask(2, wire::Attach{.session = hello.session, .session_secret = hello.session_secret, .lane = 1});
    std::function<void(Outcome)> decide;
    world.files.handler = [&](RequestId, Opcode opcode, const auto& later) -> std::optional<Outcome> {
        if (opcode != Opcode::flock)
            return Outcome{};
        decide = later;
        return std::nullopt;
    };
    const wire::Flock wait{.handle = HandleId{1}, .type = wire::LockType::write, .wait = true};
    data.send(10, wait);
    client.send(10, wait, wire::flag_resent);
    CHECK(client.ask(11, wire::Release{.handle = HandleId{1}}) == Status::ok);
    decide(Outcome{});
    world.settle();
    CHECK(client.take_one().id == 10);
}

TEST_CASE("replies wait for the window, and go on when they are acknowledged") {
    ServiceOptions options;
    options.grants.reply_window_bytes = 5000;
    World world(options);
    world.files.handler = reading;
    Connection client(world, "a");
    client.hello();
    client.acknowledges = false;
    for (std::uint64_t id = 2; id < 32; ++id)
        client.send(id, read_of(1000));
    // No more is read ahead of the window than one reply.
    const std::size_t first = client.take().size();
    CHECK(first >= 3);
    CHECK(first <= 6);
    CHECK(world.files.calls.size() <= first + 1);

    client.acknowledges = true;
    std::size_t received = first;
    for (std::uint64_t id = 100; received < 30; ++id) {
        REQUIRE(id < 120);
        client.send(id, wire::Ping{});
        for (const Received& reply : client.take())
            received += reply.opcode == Opcode::read ? 1 : 0;
    }
}

TEST_CASE("replies to a clogged connection wait in its session, whatever it claims to have received") {
    ServiceOptions options;
    options.grants.reply_window_bytes = 5000;
    World world(options);
    world.files.handler = reading;
    Connection liar(world, "a");
    liar.hello();
    world.thread.clogged_routes.insert("a");
    liar.received_bytes = 1U << 30;
    for (std::uint64_t id = 2; id < 32; ++id)
        liar.send(id, read_of(1000));
    CHECK(liar.take().empty());
    CHECK(world.files.calls.size() <= 7);

    world.thread.clogged_routes.clear();
    world.service->on_unclogged({"a"});
    world.settle();
    std::size_t received = 0;
    for (std::uint64_t id = 100; received < 30; ++id) {
        REQUIRE(id < 120);
        for (const Received& reply : liar.take())
            received += reply.opcode == Opcode::read ? 1 : 0;
        liar.send(id, wire::Ping{});
    }
    world.service->on_unclogged({"nobody"});
}

TEST_CASE("all lanes together send what the window allows, and each a little whatever the others have") {
    ServiceOptions options;
    options.grants.reply_window_bytes = 4U << 20;
    World world(options);
    world.files.handler = [](RequestId, Opcode opcode, const auto&) {
        return std::optional(opcode == Opcode::read ? with_bulk(1U << 20) : Outcome{});
    };
    std::deque<Connection> lanes;
    const auto hello = lanes.emplace_back(world, "0").hello();
    for (std::uint8_t number = 1; number < wire::max_lanes; ++number) {
        Connection& lane = lanes.emplace_back(world, std::to_string(number));
        lane.send(1U + number,
                  wire::Attach{.session = hello.session, .session_secret = hello.session_secret, .lane = number});
        CHECK(lane.take_one().status == Status::ok);
        lane.acknowledges = false;
    }
    std::uint64_t id = 100;
    for (int round = 0; round < 4; ++round) {
        for (std::size_t number = 1; number < lanes.size(); ++number)
            lanes[number].send(++id, read_of(1U << 20));
    }
    std::size_t received = 0;
    const auto take_all = [&] {
        for (std::size_t number = 1; number < lanes.size(); ++number) {
            for (const Received& reply : lanes[number].take())
                received += reply.bulk_bytes;
        }
    };
    take_all();
    CHECK(received >= hello.reply_window_bytes);
    CHECK(received <= hello.reply_window_bytes + 2 * (1U << 20));
    CHECK(world.files.calls.size() * (1U << 20) <= hello.reply_window_bytes + 2 * (1U << 20));
    // Not behind the others' megabytes.
    lanes[0].acknowledges = false;
    for (int i = 0; i < 10; ++i)
        CHECK(lanes[0].ask(++id, getattr) == Status::ok);

    for (Connection& lane : lanes)
        lane.acknowledges = true;
    for (int round = 0; received < 28 * (1U << 20); ++round) {
        REQUIRE(round < 100);
        for (std::size_t number = 1; number < lanes.size(); ++number)
            lanes[number].send(++id, wire::Ping{});
        take_all();
    }
}

TEST_CASE("bulk data of requests is counted over all lanes") {
    ServiceOptions options;
    options.grants.request_bytes = 1000;
    World world(options);
    Connection first(world, "a");
    const auto hello = first.hello();
    Connection second(world, "b");
    second.ask(2, wire::Attach{.session = hello.session, .session_secret = hello.session_secret, .lane = 1});
    world.hold_workers = true;
    const auto write = [](Connection& by, std::uint64_t id) {
        auto writer = by.begin();
        writer.add({.opcode = Opcode::write, .id = RequestId{id}}, wire::Write{.handle = HandleId{id}},
                   Buffer::copy_of(std::string(600, 'w')));
        by.send(std::move(writer));
    };
    write(first, 3);
    write(second, 4);
    CHECK(second.take_one().status == Status::limit_exceeded);
    world.hold_workers = false;
    world.settle();
    CHECK(first.take_one().status == Status::ok);
    write(second, 5);
    CHECK(second.take_one().status == Status::ok);
    CHECK(world.files.calls.size() == 2);
}

TEST_CASE("at least one message leaves whatever the window is") {
    ServiceOptions options;
    options.grants.reply_window_bytes = 1;
    World world(options);
    world.files.handler = reading;
    Connection client(world, "a");
    client.hello();
    for (std::uint64_t id = 2; id < 10; ++id) {
        client.send(id, read_of(1000));
        CHECK(client.take().size() == 1);
    }
}

TEST_CASE("a message of many large reads is carried out in slices, within the window") {
    ServiceOptions options;
    options.grants.reply_window_bytes = 4U << 20;
    World world(options);
    world.files.handler = [](RequestId, Opcode, const auto&) { return std::optional(with_bulk(1U << 20)); };
    Connection client(world, "a");
    client.hello();
    auto writer = client.begin();
    for (std::uint64_t id = 2; id < 34; ++id)
        writer.add({.opcode = Opcode::read, .id = RequestId{id}}, read_of(1U << 20));
    client.send(std::move(writer));
    CHECK(world.files.calls.size() <= 5);
    std::vector<std::uint64_t> order;
    for (std::uint64_t id = 100; order.size() < 32; ++id) {
        REQUIRE(id < 150);
        for (const Received& reply : client.take()) {
            if (reply.opcode == Opcode::read)
                order.push_back(reply.id);
        }
        client.send(id, wire::Ping{});
    }
    CHECK(std::ranges::is_sorted(order));
}

TEST_CASE("more requests than granted are refused, far more end the session") {
    ServiceOptions options;
    options.grants.max_requests = 10;
    World world(options);
    Connection client(world, "a");
    client.hello();
    world.hold_workers = true;
    for (std::uint64_t id = 2; id < 12; ++id)
        client.send(id, getattr);
    CHECK(client.ask(12, getattr) == Status::limit_exceeded);
    // What gives back is counted by itself.
    for (std::uint64_t id = 13; id < 23; ++id)
        client.send(id, wire::Release{.handle = HandleId{id}});
    CHECK(client.take().empty());
    CHECK(client.ask(23, wire::Release{.handle = HandleId{1}}) == Status::limit_exceeded);
    CHECK(client.ask(24, wire::Ping{}) == Status::limit_exceeded);

    SECTION("it goes on when there is room") {
        world.hold_workers = false;
        world.settle();
        CHECK(client.take().size() == 20);
        CHECK(client.ask(30, getattr) == Status::ok);
        CHECK(client.ask(31, wire::Release{.handle = HandleId{1}}) == Status::ok);
    }
    SECTION("grossly") {
        world.thread.clogged_routes.insert("a");
        for (std::uint64_t id = 30; id < 60 && world.service->sessions() == 1; ++id)
            client.send(id, wire::Release{.handle = HandleId{id}});
        CHECK(world.service->sessions() == 0);
    }
}

TEST_CASE("waits for locks are counted by themselves, and one too many is refused") {
    ServiceOptions options;
    options.grants.max_requests = 10;
    options.grants.max_lock_waits = 50;
    World world(options);
    Connection client(world, "a");
    client.hello();
    std::map<std::uint64_t, std::function<void(Outcome)>> waiting;
    world.files.handler = [&](RequestId request, Opcode opcode, const auto& later) -> std::optional<Outcome> {
        if (opcode != Opcode::flock)
            return Outcome{};
        waiting[request.value] = later;
        return std::nullopt;
    };
    const wire::Flock wait{.handle = HandleId{1}, .type = wire::LockType::write, .wait = true};
    for (std::uint64_t id = 2; id < 52; ++id)
        client.send(id, wait);
    CHECK(waiting.size() == 50);
    CHECK(client.ask(52, wait) == Status::no_locks);
    CHECK(world.count("server.violations") == 0);
    for (std::uint64_t id = 60; id < 80; ++id) {
        REQUIRE(client.ask(id, getattr) == Status::ok);
        REQUIRE(client.ask(100 + id, wire::Release{.handle = HandleId{2}}) == Status::ok);
    }
    // CANCEL finds one although nothing of its message is kept.
    client.ask(300, wire::Cancel{.request = RequestId{3}});
    CHECK(world.files.cancelled == std::vector<std::uint64_t>{3});
    for (auto& [id, decide] : waiting)
        decide(Outcome{});
    world.settle();
    CHECK(client.take().size() == 50);
    CHECK(world.service->open_requests() == 0);
}

TEST_CASE("a request that comes again as void is not begun, and its answer says what became of it") {
    World world;
    Connection before(world, "a");
    const auto hello = before.hello();
    const wire::Unlink unlink{.parent = NodeId{1}, .name = "x"};
    before.acknowledges = false;
    before.send(5, unlink);
    world.hold_workers = true;
    before.send(6, unlink);  // on its way to a worker
    before.send(7, unlink);  // waits behind it

    Connection last(world, "c");
    last.send(1, hello_again(hello));
    std::swap(world.executor.waiting.front(), world.executor.waiting.back());
    world.executor.run_one();
    world.settle();
    last.take();
    constexpr std::uint8_t given_up = wire::flag_resent | wire::flag_void;
    for (const std::uint64_t id : {5, 6, 7, 8})
        last.send(id, unlink, given_up);
    world.hold_workers = false;
    world.settle();
    std::map<std::uint64_t, Status> statuses;
    for (const Received& reply : last.take())
        statuses[reply.id] = reply.status;
    CHECK(statuses.size() == 4);
    CHECK(statuses[5] == Status::ok);           // carried out before
    CHECK(statuses[6] == Status::interrupted);  // not begun
    CHECK(statuses[7] == Status::interrupted);  // not begun
    CHECK(statuses[8] == Status::interrupted);  // never seen
    for (const std::uint64_t id : {6, 7, 8})
        CHECK(std::ranges::count(world.files.carried_out(), id) == 0);
    CHECK(world.service->open_requests() == 0);
}

TEST_CASE("the heads of unanswered messages are limited") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.hold_workers = true;
    wire::Forget forget;
    for (std::uint64_t node = 1; node <= wire::max_forgets; ++node)
        forget.nodes.push_back({NodeId{node}, 1});
    std::uint64_t id = 2;
    for (; id < 100 && world.count("server.violations") == 0; ++id)
        client.send(id, forget);
    const std::size_t taken = id - 3;
    CHECK(taken * wire::encode_body(forget).size() < wire::max_unanswered_head_bytes);
    CHECK((taken + 1) * (wire::encode_body(forget).size() + 48) > wire::max_unanswered_head_bytes);
    CHECK(client.take_one().status == Status::limit_exceeded);
    world.hold_workers = false;
    world.settle();
    CHECK(client.take().size() == taken);
    CHECK(client.ask(200, forget) == Status::ok);
}

TEST_CASE("a client that takes no replies loses its session in the end") {
    ServiceOptions options;
    options.grants.max_requests = 100;
    options.grants.reply_window_bytes = 1000;
    World world(options);
    Connection client(world, "a");
    client.hello();
    client.acknowledges = false;
    for (std::uint64_t id = 2; id < 400 && world.service->sessions() == 1; ++id)
        client.send(id, wire::Ping{});
    CHECK(world.service->sessions() == 0);
}

TEST_CASE("one that never stops breaking the rules loses its session") {
    World world;
    Connection client(world, "a");
    client.hello();
    for (int i = 0; i < 3000 && world.service->sessions() == 1; ++i) {
        client.send_raw({.head = Buffer::copy_of("nonsense"), .bulk = {}});
        client.take();
    }
    CHECK(world.service->sessions() == 0);
}

TEST_CASE("replies that are not acknowledged end the session before they fill the memory") {
    ServiceOptions options;
    options.grants.max_requests = 10;
    options.grants.max_lock_waits = 10;
    World world(options);
    Connection client(world, "a");
    client.hello();
    client.acknowledges = false;
    for (std::uint64_t id = 2; id < 500 && world.service->sessions() == 1; ++id)
        client.send(id, wire::Unlink{.parent = NodeId{1}, .name = "x"});
    CHECK(world.service->sessions() == 0);
}

TEST_CASE("acknowledged replies are not kept, whatever answered_below says") {
    ServiceOptions options;
    options.grants.max_requests = 10;
    World world(options);
    Connection client(world, "a");
    client.hello();
    for (std::uint64_t id = 2; id < 1000; ++id)
        REQUIRE(client.ask(id, wire::Unlink{.parent = NodeId{1}, .name = "x"}) == Status::ok);
}

TEST_CASE("more bulk data than granted is refused and let go") {
    ServiceOptions options;
    options.grants.request_bytes = 1000;
    World world(options);
    Connection client(world, "a");
    client.hello();
    world.hold_workers = true;
    const auto write = [&](std::uint64_t id) {
        auto writer = client.begin();
        writer.add({.opcode = Opcode::write, .id = RequestId{id}}, wire::Write{.handle = HandleId{id}},
                   Buffer::copy_of(std::string(600, 'w')));
        client.send(std::move(writer));
    };
    write(2);
    write(3);
    CHECK(client.take_one().status == Status::limit_exceeded);
    world.hold_workers = false;
    world.settle();
    CHECK(client.take_one().id == 2);
    write(4);
    CHECK(client.take_one().status == Status::ok);
    CHECK(world.files.calls.back().bulk.size() == 600);
}

TEST_CASE("CANCEL ends what has not begun, and a wait") {
    World world;
    Connection client(world, "a");
    client.hello();

    SECTION("behind another request") {
        world.hold_workers = true;
        client.send(2, wire::Fallocate{.handle = HandleId{1}});
        client.send(3, wire::Fsync{.handle = HandleId{1}});
        client.send(4, wire::Read{.handle = HandleId{1}});
        client.send(5, wire::Cancel{.request = RequestId{3}});
        const auto replies = client.take();
        REQUIRE(replies.size() == 2);
        CHECK(replies[0].id == 3);
        CHECK(replies[0].status == Status::interrupted);
        CHECK(world.executor.waiting.size() == 1);
        world.hold_workers = false;
        world.settle();
        CHECK(world.files.carried_out() == std::vector<std::uint64_t>{2, 4});
        CHECK(client.take().size() == 2);
    }
    SECTION("given to a worker that has not begun") {
        world.hold_workers = true;
        client.send(2, getattr);
        CHECK(client.ask(3, wire::Cancel{.request = RequestId{2}}) == Status::ok);
        world.hold_workers = false;
        world.settle();
        CHECK(client.take_one().status == Status::interrupted);
        CHECK(world.files.calls.empty());
    }
    SECTION("waiting for a lock, which holds up nobody") {
        std::function<void(Outcome)> decide;
        world.files.handler = [&](RequestId, Opcode opcode, const auto& later) -> std::optional<Outcome> {
            if (opcode != Opcode::flock)
                return Outcome{};
            decide = later;
            return std::nullopt;
        };
        client.send(2, wire::Flock{.handle = HandleId{1}, .type = wire::LockType::write, .wait = true});
        CHECK(client.take().empty());
        CHECK(client.ask(3, wire::Fallocate{.handle = HandleId{1}}) == Status::ok);
        CHECK(client.ask(4, wire::Cancel{.request = RequestId{2}}) == Status::ok);
        CHECK(world.files.cancelled == std::vector<std::uint64_t>{2});
        Outcome outcome;
        outcome.status = Status::interrupted;
        decide(outcome.status == Status::interrupted ? std::move(outcome) : Outcome{});
        world.settle();
        CHECK(client.take_one().status == Status::interrupted);
    }
    SECTION("of nothing") {
        CHECK(client.ask(2, wire::Cancel{.request = RequestId{77}}) == Status::ok);
    }
}

TEST_CASE("a wait that the server's stop cuts short is refused, one that its client gives up is interrupted") {
    World world;
    Connection client(world, "a");
    client.hello();
    std::map<std::uint64_t, std::function<void(Outcome)>> decide;
    world.files.handler = [&](RequestId id, Opcode, const auto& later) -> std::optional<Outcome> {
        decide[id.value] = later;
        return std::nullopt;
    };
    client.send(2, wire::Flock{.handle = HandleId{1}, .type = wire::LockType::write, .wait = true});
    client.send(3, wire::Flock{.handle = HandleId{2}, .type = wire::LockType::write, .wait = true});
    CHECK(client.ask(4, wire::Cancel{.request = RequestId{3}}) == Status::ok);
    world.service->stop(5s, [](bool) {});
    CHECK(std::ranges::count(world.files.cancelled, 2U) == 1);
    for (const std::uint64_t each : {2, 3}) {
        Outcome outcome;
        outcome.status = Status::interrupted;
        decide.at(each)(std::move(outcome));
    }
    world.settle();
    std::map<std::uint64_t, Status> statuses;
    for (const auto& reply : client.take())
        statuses[reply.id] = reply.status;
    CHECK(statuses == std::map<std::uint64_t, Status>{{2, Status::shutting_down}, {3, Status::interrupted}});
}

TEST_CASE("credentials say whom a request acts as") {
    ServiceOptions options;
    options.callers.client_identity = true;
    options.callers.allow_root = GENERATE(false, true);
    World world(options);
    Connection client(world, "a");
    CHECK(client.hello().client_identity);
    CHECK(client.ask(2, wire::Credential{.number = 1, .uid = 1000, .gid = 100, .groups = {100, 0, 27}}) == Status::ok);
    CHECK(client.ask(3, wire::Credential{.number = 2, .uid = 0, .gid = 0}) == Status::ok);
    CHECK(client.ask(4, wire::Credential{.number = 0, .uid = 1, .gid = 1}) == Status::invalid);
    CHECK(client.ask(5, wire::Credential{.number = 3, .uid = UINT32_MAX, .gid = 1}) == Status::invalid);
    CHECK(client.ask(6, wire::Credential{.number = 3, .groups = std::vector<std::uint32_t>(1025)}) ==
          Status::limit_exceeded);
    CHECK(client.ask(7, getattr, 0, 1) == Status::ok);
    CHECK(client.ask(8, getattr, 0, 2) == Status::ok);
    CHECK(client.ask(9, getattr, 0, 0) == Status::ok);
    CHECK(client.ask(10, getattr, 0, 9) == Status::invalid);

    const uid_t root = options.callers.allow_root ? 0 : anonymous_id;
    REQUIRE(world.files.calls.size() == 3);
    CHECK(world.files.calls[0].caller.switch_identity);
    CHECK(world.files.calls[0].caller.uid == 1000);
    CHECK(world.files.calls[0].caller.groups == std::vector<gid_t>{100, root, 27});
    CHECK(world.files.calls[1].caller.uid == root);
    CHECK(world.files.calls[1].caller.gid == root);
    CHECK(world.files.calls[2].caller.uid == anonymous_id);
}

TEST_CASE("a request acts as whom its number stood for when it came") {
    ServiceOptions options;
    options.callers = {.client_identity = true, .allow_root = false};
    World world(options);
    Connection client(world, "a");
    client.hello();
    const auto who = [](std::uint32_t number, std::uint32_t uid) {
        return wire::Credential{.number = number, .uid = uid, .gid = uid, .groups = {}};
    };
    REQUIRE(client.ask(2, who(1, 1000)) == Status::ok);
    world.hold_workers = true;
    const wire::Release change{.handle = HandleId{1}};
    client.send(3, change, 0, 1);
    client.send(4, change, 0, 1);  // waits behind the other
    REQUIRE(client.ask(5, who(1, 1001)) == Status::ok);
    client.send(6, change, 0, 1);

    // In one message, each in its place, though the first record has to wait.
    auto writer = client.begin();
    writer.add({.opcode = Opcode::release, .id = RequestId{7}, .detail = 1}, change);
    writer.add({.opcode = Opcode::credential, .id = RequestId{8}}, who(1, 1002));
    writer.add({.opcode = Opcode::release, .id = RequestId{9}, .detail = 1}, change);
    client.send(std::move(writer));
    world.hold_workers = false;
    world.settle();
    std::vector<uid_t> uids;
    for (const FakeFiles::Call& call : world.files.calls)
        uids.push_back(call.caller.uid);
    CHECK(uids == std::vector<uid_t>{1000, 1000, 1001, 1001, 1002});
    for (const Received& reply : client.take())
        CHECK(reply.status == Status::ok);

    // One that another record may cancel would have taken effect already.
    auto linked = client.begin();
    linked.add({.opcode = Opcode::release, .flags = wire::flag_link, .id = RequestId{10}, .detail = 1}, change);
    linked.add({.opcode = Opcode::credential, .id = RequestId{11}}, who(1, 1003));
    client.send(std::move(linked));
    for (const Received& reply : client.take())
        CHECK(reply.status == (reply.id == 10 ? Status::ok : Status::malformed));
}

TEST_CASE("without client identities all act as the server's user") {
    World world;
    Connection client(world, "a");
    client.hello();
    client.ask(2, wire::Credential{.number = 1, .uid = 0, .gid = 0});
    CHECK(client.ask(3, getattr, 0, 1) == Status::ok);
    CHECK_FALSE(world.files.calls.back().caller.switch_identity);
}

TEST_CASE("requests say what becomes of set-id bits") {
    ServiceOptions options;
    options.callers.client_identity = GENERATE(false, true);
    World world(options);
    Connection client(world, "a");
    wire::Hello hello = hello_with(0);
    hello.features = wire::feature_set_id;
    CHECK(client.hello(hello).features == wire::feature_set_id);
    CHECK(client.ask(2, wire::Credential{.number = 1, .uid = 1000, .gid = 100}) == Status::ok);
    std::uint64_t id = 2;
    for (const wire::SetId set_id : {wire::SetId::as_caller, wire::SetId::drop, wire::SetId::keep})
        for (const std::uint32_t credential : {0U, 1U})
            CHECK(client.ask(++id, getattr, static_cast<std::uint8_t>(set_id), credential) == Status::ok);
    REQUIRE(world.files.calls.size() == 6);
    for (std::size_t i = 0; i < 6; ++i) {
        const Caller& caller = world.files.calls[i].caller;
        CHECK(caller.set_id == (i < 2 ? wire::SetId::as_caller : i < 4 ? wire::SetId::drop : wire::SetId::keep));
        CHECK((caller.uid == 1000) == (options.callers.client_identity && i % 2 == 1));
    }
}

TEST_CASE("what one session changes is told to the others that know it") {
    World world;
    Connection writer(world, "w");
    Connection reader(world, "r");
    writer.hello();
    reader.hello();
    const InodePtr file = FakeFiles::some_inode();
    world.files.handler = [&](RequestId, Opcode opcode, const auto&) -> std::optional<Outcome> {
        Outcome outcome;
        if (opcode == Opcode::fallocate)
            outcome.changed = {file};
        return outcome;
    };
    world.files.known = {NodeId{7}, NodeId{8}};

    CHECK(writer.ask(2, wire::Fallocate{.handle = HandleId{1}}) == Status::ok);
    auto pushes = reader.take_pushes();
    REQUIRE(pushes.size() == 1);
    CHECK(pushes[0].as<wire::PushInvalidate>().sequence == 1);
    CHECK(pushes[0].as<wire::PushInvalidate>().nodes == world.files.known);
    CHECK(writer.take_pushes().empty());

    SECTION("at most a few at a time, the rest in one") {
        for (std::uint64_t id = 3; id < 40; ++id)
            CHECK(writer.ask(id, wire::Fallocate{.handle = HandleId{1}}) == Status::ok);
        pushes = reader.take_pushes();
        CHECK(pushes.size() == 7);
        CHECK(reader.ask(2, wire::Invalidated{.sequence = 99}) == Status::invalid);
        reader.send(3, wire::Invalidated{.sequence = 8});
        pushes = reader.take_pushes();
        REQUIRE(pushes.size() == 1);
        CHECK(pushes[0].as<wire::PushInvalidate>().sequence == 9);
    }
    SECTION("again on a new connection, until it is confirmed") {
        Connection again(world, "r2");
        again.send(1, hello_with(0));
        // Another session of the same client would be a third one; this one resumes.
        const auto first = again.take_one().as<wire::HelloReply>();
        writer.ask(3, wire::Fallocate{.handle = HandleId{1}});
        CHECK(again.take_pushes().size() == 1);
        Connection resumed(world, "r3");
        CHECK(resumed.hello(hello_again(first)).resumed);
        CHECK(resumed.pushes.size() == 1);
        resumed.pushes.clear();
        CHECK(resumed.ask(3, wire::Invalidated{.sequence = 1}) == Status::ok);
        Connection last(world, "r4");
        CHECK(last.hello(hello_again(first)).resumed);
        CHECK(last.pushes.empty());
    }
}

TEST_CASE("a lone client costs no search for who knows what") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.files.handler = [](RequestId, Opcode, const auto&) -> std::optional<Outcome> {
        Outcome outcome;
        outcome.changed = {FakeFiles::some_inode()};
        return outcome;
    };
    client.ask(2, wire::Fallocate{.handle = HandleId{1}});
    CHECK(world.files.known_as_calls == 0);
}

TEST_CASE("SERVER_STATUS tells version, clients and counters") {
    ServiceOptions options;
    options.version = "1.2.3";
    World world(options);
    Connection client(world, "a");
    client.hello();
    client.send(2, wire::ServerStatus{});
    const auto status = client.take_one().as<wire::ServerStatusReply>();
    CHECK(status.version == "1.2.3");
    CHECK(status.clients.size() == 1);
    CHECK(std::ranges::any_of(status.counters, [](const auto& counter) {
        return counter.name == "handoff.worker_to_reactor" && counter.value > 0;
    }));
}

TEST_CASE("an exception of a file operation is that request's error alone") {
    World world;
    Connection client(world, "a");
    client.hello();
    world.files.handler = [](RequestId request, Opcode, const auto&) -> std::optional<Outcome> {
        if (request.value == 2)
            throw std::bad_alloc();
        if (request.value == 3)
            throw std::runtime_error("broken");
        return Outcome{};
    };
    CHECK(client.ask(2, getattr) == Status::out_of_memory);
    CHECK(client.ask(3, getattr) == Status::io_error);
    CHECK(client.ask(4, getattr) == Status::ok);
    // What cannot be found to concern nobody is not carried out.
    world.files.pass_fails = true;
    CHECK(client.ask(5, getattr) == Status::out_of_memory);
    world.files.pass_fails = false;
    CHECK(client.ask(6, getattr) == Status::ok);
    CHECK(world.files.carried_out() == std::vector<std::uint64_t>{2, 3, 4, 6});
}

TEST_CASE("an exception on the reactor's thread ends what it was about, and no other session") {
    World world;
    Connection writer(world, "w");
    Connection reader(world, "r");
    writer.hello();
    reader.hello();
    SECTION("a session that cannot be opened") {
        Connection other(world, "o");
        other.send(1, wire::Hello{.root = NodeId{1}, .path = "/too large", .client_name = "other"});
        CHECK(other.take_one().status == Status::out_of_memory);
        CHECK(world.service->sessions() == 2);
    }
    SECTION("a request that was to be answered at once") {
        world.files.at_once_fails = true;
        CHECK(reader.ask(2, getattr) == Status::ok);
        CHECK(world.files.carried_out() == std::vector<std::uint64_t>{2});
        CHECK(world.service->sessions() == 2);
    }
    SECTION("changes that cannot be told") {
        world.files.known_as_fails = true;
        world.files.handler = [](RequestId, Opcode, const auto&) -> std::optional<Outcome> {
            Outcome outcome;
            outcome.changed = {FakeFiles::some_inode()};
            return outcome;
        };
        CHECK(writer.ask(2, wire::Fallocate{.handle = HandleId{1}}) == Status::ok);
        CHECK(world.service->sessions() == 1);
        CHECK(reader.ask(2, wire::Ping{}) == Status::no_session);
    }
    CHECK(writer.ask(9, wire::Ping{}) == Status::ok);
}
