// SPDX-License-Identifier: MIT
// What the server grants is respected, and what it sends is acknowledged.
#include <deque>

#include "fake_server.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::client {
namespace {

std::optional<FakeReply> no_answer(const FakeRequest&) {
    return std::nullopt;
}

void answer_one(SessionFixture& f, std::size_t index) {
    f.server.reply(f.server.requests.at(index), FakeServer::answer(f.server.requests.at(index)));
}

// Without copying them, for those that are many.
std::size_t received(const SessionFixture& f, Opcode opcode) {
    const auto is_one = [opcode](const FakeRequest& request) { return request.header.opcode == opcode; };
    return static_cast<std::size_t>(std::ranges::count_if(f.server.requests, is_one));
}

}  // namespace

TEST_CASE("no more requests than granted are unanswered") {
    SessionFixture f;
    f.server.greeting.max_requests = 10;
    f.connect();
    f.server.on_request = no_answer;
    std::vector<std::shared_ptr<SessionFixture::Outcome<wire::Fsync>>> outcomes;
    for (int i = 0; i < 15; ++i)
        outcomes.push_back(f.start(wire::Fsync{}));
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 10; }));
    Cancellation cancellation;
    const auto held_back = f.start(wire::Fsync{}, {}, &cancellation);
    cancellation.cancel();
    CHECK(held_back->status() == Status::interrupted);
    answer_one(f, 3);
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 11; }));
    f.session->close();
    for (const auto& outcome : outcomes)
        CHECK(outcome->done());
}

TEST_CASE("what gives back goes although all requests are in use") {
    SessionFixture f;
    f.server.greeting.max_requests = 4;
    f.connect();
    f.server.on_request = no_answer;
    std::vector<std::shared_ptr<SessionFixture::Outcome<wire::Fsync>>> outcomes;
    for (int i = 0; i < 4; ++i)
        outcomes.push_back(f.start(wire::Fsync{}));
    f.session->tell(wire::Release{HandleId{3}});
    f.session->tell(wire::Forget{{{NodeId{3}, 1}}});
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::forget).size() == 1; }));
    f.session->close();
}

TEST_CASE("thousands of handles are given back with no more unanswered than the server takes, whatever it does") {
    SessionFixture f;
    f.server.greeting.max_requests = 100;
    f.connect();
    std::deque<FakeRequest> unanswered;
    std::size_t most = 0;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        unanswered.push_back(request);
        most = std::max(most, unanswered.size());
        return std::nullopt;
    };
    constexpr std::size_t count = 5000;
    for (std::size_t i = 0; i < count; ++i)
        f.session->tell(wire::Release{HandleId{i + 1}}, i % 2 == 0 ? LaneKind::data : LaneKind::metadata);
    // The server is silent. What others wait for goes all the same, and first.
    REQUIRE(f.wait_for([&] { return unanswered.size() == 100 - 32; }));
    f.session->on_invalidate = [](const Invalidation&, const std::function<void()>& acknowledge) { acknowledge(); };
    f.server.push(wire::PushInvalidate{.sequence = 1, .nodes = {NodeId{1}}});
    REQUIRE(f.wait_for([&] { return f.counted("client.invalidations") == 1; }));
    const auto known = std::make_shared<std::optional<Status>>();
    spawn([](Session& session, std::shared_ptr<std::optional<Status>> out) -> Task<void> {
        const auto number = co_await session.credential(1, 1, {});
        *out = number.status();
    }(*f.session, known));
    const std::size_t before = f.server.requests.size();
    for (int i = 0; i < 2; ++i) {
        f.server.reply(unanswered.front(), {});
        unanswered.pop_front();
    }
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == before + 2; }));
    CHECK(f.server.requests[before].header.opcode == Opcode::invalidated);
    CHECK(f.server.requests[before + 1].header.opcode == Opcode::credential);

    REQUIRE(f.wait_for([&] {
        for (const FakeRequest& request : std::exchange(unanswered, {}))
            f.server.reply(request, {});
        return received(f, Opcode::release) == count;
    }));
    CHECK(most <= 100 - 32);
    CHECK(*known == Status::ok);
}

TEST_CASE("waits for locks hold up nothing, and their number is limited") {
    SessionFixture f;
    f.server.greeting.max_requests = 100;
    f.connect();
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (wire::waits_for_lock(request.header.opcode, request.body))
            return std::nullopt;
        return FakeServer::answer(request);
    };
    Cancellation all;
    const wire::Setlk wait{.handle = HandleId{1}, .range = {.type = wire::LockType::write}, .wait = true};
    std::vector<std::shared_ptr<SessionFixture::Outcome<wire::Setlk>>> outcomes;
    for (std::size_t i = 0; i < wire::max_lock_waits; ++i)
        outcomes.push_back(f.start(wait, {}, &all));
    const auto one_more = f.start(wait);
    REQUIRE(one_more->done());
    CHECK(one_more->status() == Status::no_locks);
    REQUIRE(f.wait_for([&] { return received(f, Opcode::setlk) == wire::max_lock_waits; }));
    CHECK(f.ask(wire::Getattr{}).has_value());
    CHECK(f.ask(wire::Setlk{.handle = HandleId{2}, .range = {.type = wire::LockType::unlock}}).has_value());
    CHECK(f.ask(wire::Read{.size = 10}, {.lane = LaneKind::data}).has_value());

    // One that ends makes room for another.
    f.server.reply(f.server.of(Opcode::setlk).front(), {});
    REQUIRE(f.wait_for([&] { return outcomes.front()->done(); }));
    const auto in_its_place = f.start(wait, {}, &all);
    CHECK_FALSE(in_its_place->done());
    const auto beyond = f.start(wait);
    CHECK(beyond->done());

    // Giving all of them up takes no more than other controls may.
    f.settle();
    f.server.requests.clear();
    f.server.on_request = no_answer;
    all.cancel();
    f.settle();
    CHECK(f.server.of(Opcode::cancel).size() == 100 - 32);
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        return FakeServer::answer(request);
    };
    for (const FakeRequest& request : f.server.of(Opcode::cancel))
        f.server.reply(request, {});
    REQUIRE(f.wait_for([&] { return received(f, Opcode::cancel) == wire::max_lock_waits; }));
    f.session->close();
}

TEST_CASE("the heads of unanswered messages stay within what the server takes") {
    SessionFixture f;
    f.connect();
    std::size_t unanswered = 0;
    std::size_t most = 0;
    std::deque<FakeRequest> held;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        unanswered += wire::RecordHeader::encoded_bytes + request.body.size();
        most = std::max(most, unanswered);
        held.push_back(request);
        return std::nullopt;
    };
    constexpr std::size_t count = 400;
    for (std::size_t i = 0; i < count; ++i) {
        wire::Forget forget;
        for (std::uint64_t node = 0; node < wire::max_forgets; ++node)
            forget.nodes.push_back({NodeId{2 + node + i * wire::max_forgets}, 1});
        f.session->tell(forget);
    }
    REQUIRE(f.wait_for([&] {
        for (const FakeRequest& request : std::exchange(held, {})) {
            unanswered -= wire::RecordHeader::encoded_bytes + request.body.size();
            f.server.reply(request, {});
        }
        return received(f, Opcode::forget) == count;
    }));
    CHECK(most <= wire::max_unanswered_head_bytes);
    CHECK(most > wire::max_unanswered_head_bytes / 2);
}

TEST_CASE("no more bulk bytes than granted are unanswered, and data leaves some to metadata") {
    SessionFixture f;
    f.server.greeting.request_bytes = 1000;
    f.connect();
    f.server.on_request = no_answer;
    const auto write = [&](std::size_t size, LaneKind lane) {
        spawn([](Session& session, std::size_t bytes, LaneKind by) -> Task<void> {
            Buffer bulk = Buffer::copy_of(std::string(bytes, 'w'));
            CallOptions by_lane{.lane = by};
            (void)co_await session.call_with_bulk(wire::Write{}, std::move(bulk), by_lane);
        }(*f.session, size, lane));
    };
    write(800, LaneKind::data);
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 1; }));
    write(100, LaneKind::data);  // beyond what data may take
    write(100, LaneKind::metadata);
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 2; }));
    CHECK(f.server.of(Opcode::write)[1].route == f.server.greetings.at(0).route);
    write(200, LaneKind::metadata);  // beyond what is granted to both
    f.turn();
    f.turn();
    REQUIRE(f.server.of(Opcode::write).size() == 2);
    for (const FakeRequest& request : f.server.of(Opcode::write))
        f.server.reply(request, FakeServer::answer(request));
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 4; }));
    f.session->close();
}

TEST_CASE("no more bulk bytes than granted are unanswered on a lane") {
    SessionFixture f;
    f.server.greeting.request_bytes = 1000;
    f.connect();
    f.server.on_request = no_answer;
    const auto write = [&](std::size_t size) {
        spawn([](Session& session, std::size_t bytes) -> Task<void> {
            Buffer bulk = Buffer::copy_of(std::string(bytes, 'w'));
            (void)co_await session.call_with_bulk(wire::Write{}, std::move(bulk));
        }(*f.session, size));
    };
    write(600);
    write(600);
    write(100);  // keeps its place behind the second
    f.session->tell(wire::Release{HandleId{3}});
    const auto on_data_lane = f.start(wire::Fsync{}, {.lane = LaneKind::data});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 2; }));
    CHECK(f.server.of(Opcode::write).size() == 1);
    CHECK(f.server.of(Opcode::fsync).size() == 1);
    const FakeRequest first = f.server.of(Opcode::write)[0];
    f.server.reply(first, FakeServer::answer(first));
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
    CHECK(f.server.of(Opcode::write).size() == 3);

    // Larger than all that is granted: alone.
    for (const FakeRequest& request : f.server.of(Opcode::write))
        f.server.reply(request, FakeServer::answer(request));
    write(5000);
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 4; }));
    f.session->close();
}

TEST_CASE("received bytes are acknowledged, by a PING if by nothing else") {
    SessionFixture f;
    f.server.greeting.reply_window_bytes = 1U << 20;
    f.connect();
    const CallOptions by_data{.lane = LaneKind::data};
    const auto route = f.server.greetings.at(1).route;
    for (int i = 0; i < 3; ++i)
        REQUIRE(f.ask(wire::Read{.size = 100'000}, by_data).has_value());
    CHECK(f.server.received_bytes[route] >= 200'000);
    CHECK(f.server.received_bytes[route] < 300'000);
    CHECK(f.server.pings.empty());
    f.server.on_request = no_answer;
    const auto last = f.start(wire::Read{.size = 1'000'000}, by_data);
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::read).size() == 4; }));
    answer_one(f, 3);
    REQUIRE(f.wait_for([&] { return !f.server.pings.empty(); }));
    CHECK(f.server.pings[0].route == route);
    CHECK(f.server.pings[0].received_bytes > 1'300'000);
}

TEST_CASE("answered_below follows the answers") {
    SessionFixture f;
    f.connect();
    f.server.on_request = no_answer;
    const auto first = f.start(wire::Fsync{});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 1; }));
    const auto second = f.start(wire::Fsync{});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 2; }));
    answer_one(f, 1);
    REQUIRE(f.wait_for([&] { return second->done(); }));
    const auto third = f.start(wire::Fsync{}, {.lane = LaneKind::data});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 3; }));
    CHECK(f.server.requests[2].answered_below == f.server.requests[0].header.id);
    answer_one(f, 0);
    REQUIRE(f.wait_for([&] { return first->done(); }));
    const auto fourth = f.start(wire::Fsync{});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 4; }));
    CHECK(f.server.requests[3].answered_below == f.server.requests[2].header.id);
    f.session->close();
}

TEST_CASE("contents wait for the bandwidth limit, a piece at a time, and nothing else does") {
    constexpr std::uint32_t piece = 1U << 20;
    constexpr CallOptions by_data_lane{.lane = LaneKind::data};
    SessionFixture f;
    f.options.bandwidth_limit = piece / 16;  // a piece is 16 s
    f.connect();
    const auto has_come = [&](Opcode opcode) {
        // What could have been sent before is there.
        CHECK(f.ask(wire::Getattr{}).has_value());
        CHECK(f.ask(wire::Getattr{}).has_value());
        return received(f, opcode);
    };
    SECTION("asked for") {
        const wire::Read read{.handle = HandleId{1}, .offset = 0, .size = piece};
        std::vector<std::shared_ptr<SessionFixture::Outcome<wire::Read>>> outcomes;
        Cancellation cancellation;
        for (int i = 0; i < 3; ++i)
            outcomes.push_back(f.start(read, by_data_lane));
        outcomes.push_back(f.start(read, by_data_lane, &cancellation));
        REQUIRE(f.wait_for([&] { return outcomes[0]->done(); }));
        CHECK(has_come(Opcode::read) == 1);
        cancellation.cancel();
        CHECK(outcomes[3]->status() == Status::interrupted);
        for (std::size_t i = 1; i < 3; ++i) {
            f.clock.jump(17s);
            REQUIRE(f.wait_for([&] { return outcomes[i]->done(); }));
            CHECK(has_come(Opcode::read) == i + 1);
        }
    }
    SECTION("asked for, and not had") {
        f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
            return request.header.opcode == Opcode::read ? FakeReply{.bulk = std::string(1, 'r')}
                                                         : FakeServer::answer(request);
        };
        for (int i = 0; i < 50; ++i)
            CHECK(f.ask(wire::Read{.handle = HandleId{1}, .offset = 0, .size = piece}, by_data_lane).has_value());
    }
    SECTION("sent") {
        int written = 0;
        const auto write = [](SessionFixture& of, int& count) -> Task<void> {
            Buffer content = Buffer::allocate(piece);
            // What cannot be compressed.
            std::uint32_t random = 1;
            for (std::size_t i = 0; i < content.size(); ++i)
                content.data()[i] = static_cast<std::byte>((random = random * 1'664'525 + 1'013'904'223) >> 24U);
            const CallOptions call_options{.lane = LaneKind::data};
            const wire::Write message{.handle = HandleId{1}};
            (void)co_await of.session->call_with_bulk(message, std::move(content), call_options);
            ++count;
        };
        for (int i = 0; i < 3; ++i)
            spawn(write(f, written));
        for (int i = 1; i <= 3; ++i) {
            REQUIRE(f.wait_for([&] { return written == i; }));
            CHECK(has_come(Opcode::write) == static_cast<std::size_t>(i));
            f.clock.jump(17s);
        }
    }
}

TEST_CASE("what waits for the bandwidth limit does not time out for it") {
    SessionFixture f;
    f.options.bandwidth_limit = 64U << 10;
    f.options.request_timeout = 3s;
    f.connect();
    const wire::Read read{.handle = HandleId{1}, .offset = 0, .size = 1U << 20};
    const auto first = f.start(read, {.lane = LaneKind::data});
    const auto second = f.start(read, {.lane = LaneKind::data});
    REQUIRE(f.wait_for([&] { return first->done(); }));
    for (int i = 0; i < 4; ++i) {
        f.clock.jump(4s);
        CHECK(f.ask(wire::Getattr{}).has_value());
    }
    f.clock.jump(1s);
    REQUIRE(f.wait_for([&] { return second->done(); }));
    CHECK(second->status() == Status::ok);
}

}  // namespace remofile::client
