// SPDX-License-Identifier: MIT
// Limits of requests and bytes a second: what waits for them, and what does not.
#include "server/sessions/client_rate.hpp"

#include <filesystem>

#include "export_fixture.hpp"
#include "server/files/room.hpp"
#include "service_fixture.hpp"

namespace remofile::server::test {
namespace {

wire::Read read_of(std::uint32_t size) {
    return {.handle = HandleId{1}, .offset = 0, .size = size};
}

struct Limited : World {
    explicit Limited(RateLimits rates) : World(options_of(rates)) {}
    static ServiceOptions options_of(RateLimits rates) {
        ServiceOptions options;
        options.rates = rates;
        return options;
    }
    std::size_t carried_out(Opcode opcode) const {
        return static_cast<std::size_t>(std::ranges::count(files.calls, opcode, &FakeFiles::Call::opcode));
    }
};

// Of a client with that key.
Connection client_of(World& world, const std::string& name, std::uint8_t key) {
    Connection client(world, name);
    client.peer.key.emplace().bytes.fill(key);
    client.hello();
    return client;
}

constexpr std::uint32_t mebibyte = 1U << 20;

struct AmpleRoom final : Room {
    bool is_ample(int /*directory*/, std::uint64_t /*kept_bytes*/) const override { return true; }
};

}  // namespace

TEST_CASE("a debt is waited for, whatever the size of what made it") {
    TimePoint now{1h};
    ClientRate rate({.requests_per_s = 8, .bytes_per_s = 1000}, now);
    const RequestCost small{.requests = 1, .bytes = 0};
    const RequestCost large{.requests = 1, .bytes = 5250};
    CHECK(rate.wait(large, now) == 0s);
    rate.charge(large, now);  // 250 at once, and 5,000 owed
    CHECK(rate.wait(small, now) == 0s);
    CHECK(rate.wait(large, now) >= 5s);
    CHECK(rate.wait(large, now) <= 5001ms);
    now += rate.wait(large, now);
    CHECK(rate.wait(large, now) == 0s);
    // What was not needed comes back.
    rate.charge(large, now);
    rate.charge({.requests = 0, .bytes = -5250}, now);
    CHECK(rate.wait(large, now) == 0s);
    for (int i = 0; i < 3; ++i)
        rate.charge(small, now);
    CHECK(rate.wait(small, now) > 0s);
    // Another limit begins anew; none is none.
    rate.change({}, now);
    rate.charge(large, now);
    CHECK(rate.wait(large, now) == 0s);
    CHECK_FALSE(rate.limits());
}

TEST_CASE("requests over the limit wait, and are carried out in their order, as many a second") {
    Limited world({.requests_per_s = 100});
    Connection client = client_of(world, "a", 1);
    for (std::uint64_t id = 2; id < 302; ++id)
        client.send(id, wire::Getattr{.node = NodeId{1}, .handle = {}});
    CHECK(world.carried_out(Opcode::getattr) == 26);  // the burst, and one that leaves a debt
    for (int second = 1; second <= 2; ++second) {
        for (int i = 0; i < 10; ++i)
            world.pass(100ms);
        CHECK(world.carried_out(Opcode::getattr) == static_cast<std::size_t>(26 + 100 * second));
    }
    // Another client has limits of its own.
    Connection other = client_of(world, "b", 2);
    CHECK(other.ask(2, wire::Getattr{.node = NodeId{1}, .handle = {}}) == Status::ok);
    // Another session of the same client has not.
    Connection same = client_of(world, "c", 1);
    same.send(2, wire::Getattr{.node = NodeId{1}, .handle = {}});
    CHECK(same.take().empty());
    for (int i = 0; i < 20; ++i)
        world.pass(100ms);
    CHECK(same.take_one().status == Status::ok);
    const auto replies = client.take();
    REQUIRE(replies.size() == 300);
    CHECK(std::ranges::is_sorted(replies, {}, &Received::id));
    CHECK(world.count("server.paced_messages") > 0);
}

TEST_CASE("who waits for bytes does not hold up what needs none, and what frees waits for nothing") {
    Limited world({.bytes_per_s = 4 * mebibyte});
    world.files.handler = [](RequestId, Opcode opcode, const auto&) {
        return opcode == Opcode::read ? with_bulk(mebibyte) : Outcome{};
    };
    Connection client = client_of(world, "a", 1);
    for (std::uint64_t id = 2; id < 8; ++id)
        client.send(id, read_of(mebibyte));
    CHECK(client.take().size() == 2);
    CHECK(client.ask(10, wire::Getattr{.node = NodeId{1}, .handle = {}}) == Status::ok);
    CHECK(client.ask(11, wire::Ping{}) == Status::ok);
    for (int i = 0; i < 4; ++i)
        world.pass(300ms);
    CHECK(client.take().size() == 4);

    // With requests used up, too, only what frees goes on.
    world.service->change_rates({.requests_per_s = 1});
    client.send(20, wire::Getattr{.node = NodeId{1}, .handle = {}});
    client.send(21, wire::Getattr{.node = NodeId{1}, .handle = {}});
    client.send(22, wire::Getattr{.node = NodeId{1}, .handle = {}});
    CHECK(client.take().size() == 2);
    CHECK(client.ask(23, wire::Release{HandleId{2}}) == Status::ok);
    CHECK(client.ask(24, wire::Flush{HandleId{3}, LockOwner{1}}) == Status::ok);
    CHECK(client.ask(25, wire::Setlk{.handle = HandleId{3}, .owner = LockOwner{1}, .range = {}, .wait = false}) ==
          Status::ok);
    CHECK(client.ask(26, wire::Flock{.handle = HandleId{3}, .type = wire::LockType::unlock, .wait = false}) ==
          Status::ok);
    // Without limits all does.
    world.service->change_rates({});
    world.settle();
    CHECK(client.take_one().id == 22);
}

TEST_CASE("bytes that a request asks for and does not get are not used up") {
    Limited world({.bytes_per_s = mebibyte});
    world.files.handler = [](RequestId, Opcode, const auto&) { return with_bulk(10); };
    Connection client = client_of(world, "a", 1);
    for (std::uint64_t id = 2; id < 100; ++id)
        CHECK(client.ask(id, read_of(mebibyte)) == Status::ok);
}

TEST_CASE("a write counts with its content, and a message of many leaves the debt of all") {
    Limited world({.bytes_per_s = mebibyte});
    Connection client = client_of(world, "a", 1);
    auto writer = client.begin();
    for (std::uint64_t id = 2; id < 6; ++id)
        writer.add({.opcode = Opcode::write, .id = RequestId{id}}, wire::Write{.handle = HandleId{id}},
                   Buffer::allocate(mebibyte));
    client.send(std::move(writer));
    CHECK(world.carried_out(Opcode::write) == 4);
    client.send(10, read_of(100));
    world.pass(3700ms);
    CHECK(world.carried_out(Opcode::read) == 0);
    world.pass(100ms);
    CHECK(world.carried_out(Opcode::read) == 1);
}

TEST_CASE("what waits for its turn can be cancelled, and holds up nothing then") {
    Limited world({.bytes_per_s = mebibyte});
    world.files.handler = [](RequestId, Opcode opcode, const auto&) {
        return opcode == Opcode::read ? with_bulk(mebibyte) : Outcome{};
    };
    Connection client = client_of(world, "a", 1);
    client.send(2, read_of(mebibyte));
    CHECK(client.take().size() == 1);
    client.send(4, read_of(mebibyte));
    client.send(5, wire::Release{HandleId{1}});  // once nobody reads any more
    CHECK(client.take().empty());
    client.send(6, wire::Cancel{RequestId{4}});
    const auto replies = client.take();
    REQUIRE(replies.size() == 3);
    CHECK(replies[0].status == Status::interrupted);
    CHECK(world.carried_out(Opcode::release) == 1);
    CHECK(world.carried_out(Opcode::read) == 1);
}

TEST_CASE("a server that stops does not wait for what waits for its turn") {
    Limited world({.requests_per_s = 1});
    Connection client = client_of(world, "a", 1);
    for (std::uint64_t id = 2; id < 10; ++id)
        client.send(id, wire::Getattr{.node = NodeId{1}, .handle = {}});
    CHECK(client.take().size() == 2);
    std::optional<bool> stopped;
    world.service->stop(5s, [&](bool finished) { stopped = finished; });
    world.settle();
    CHECK(stopped == true);
    const auto refused = client.take();
    REQUIRE(refused.size() == 6);
    for (const Received& reply : refused)
        CHECK(reply.status == Status::shutting_down);
}

TEST_CASE("a session that ends while it waits leaves nothing behind") {
    Limited world({.requests_per_s = 1});
    Connection client = client_of(world, "a", 1);
    for (std::uint64_t id = 2; id < 10; ++id)
        client.send(id, wire::Getattr{.node = NodeId{1}, .handle = {}});
    CHECK(client.take().size() == 2);
    CHECK(client.ask(10, wire::Bye{}) == Status::ok);
    CHECK(world.service->sessions() == 0);
    world.pass(10s);
    CHECK(world.carried_out(Opcode::getattr) == 2);
}

TEST_CASE("whoever is to share a directory does all that it has answered, whatever the limits") {
    const TemporaryDirectory directory;
    std::filesystem::create_directory(directory / "d");
    World world({}, LeaseTable::Limits{}, [&](const std::shared_ptr<LeaseTable>& leases, Counters& counters) {
        ExportOptions options;
        options.directory = directory.path();
        options.leases = leases;
        options.room = std::make_shared<AmpleRoom>();
        return FileService::open(std::move(options), counters).value();
    });
    wire::Hello hello = hello_with(0);
    hello.features = wire::feature_leases | wire::feature_exclusive_leases;
    Connection holder(world, "a");
    holder.peer.key.emplace().bytes.fill(1);
    holder.hello(hello);
    Connection other(world, "b");
    other.peer.key.emplace().bytes.fill(2);
    other.hello(hello);
    const wire::Lookup lookup{.parent = NodeId{1}, .name = "d", .node = {NodeId{2}, false}};
    CHECK(holder.ask(2, lookup) == Status::ok);
    holder.send(3, wire::TakeLeases{.directories = {NodeId{2}}});
    REQUIRE(holder.take_one().as<wire::TakeLeasesReply>().leases.front().taken);

    world.service->change_rates({.requests_per_s = 1});
    for (std::uint64_t id = 10; id < 16; ++id)
        holder.send(
            id, wire::Mkdir{.parent = NodeId{2}, .name = std::to_string(id), .node = {NodeId{id}, false}, .mode = 0755},
            wire::flag_in_order);
    CHECK(holder.take().size() == 2);
    other.send(2, wire::Mkdir{.parent = NodeId{1}, .name = "e", .node = {NodeId{3}, false}, .mode = 0755});
    CHECK(other.take_one().status == Status::ok);
    CHECK(holder.take().empty());
    other.send(3, lookup);
    CHECK(holder.take().size() == 4);
}

}  // namespace remofile::server::test
