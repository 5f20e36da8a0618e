// SPDX-License-Identifier: MIT
// What the server grants is respected, and what it sends is acknowledged.
#include "fake_server.hpp"

namespace remofile::client {
namespace {

std::optional<FakeReply> no_answer(const FakeRequest&) {
    return std::nullopt;
}

void answer_one(SessionFixture& f, std::size_t index) {
    f.server.reply(f.server.requests.at(index), FakeServer::answer(f.server.requests.at(index)));
}

}  // namespace

TEST_CASE("no more requests than granted are unanswered") {
    SessionFixture f;
    f.server.greeting.max_requests = 20;  // of which half is kept free
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
    const auto first = f.start(wire::Fsync{});
    const auto second = f.start(wire::Fsync{});
    f.session->tell(wire::Release{HandleId{3}});
    f.session->tell(wire::Forget{{{NodeId{3}, 1}}});
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::forget).size() == 1; }));
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

}  // namespace remofile::client
