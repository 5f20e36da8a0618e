// SPDX-License-Identifier: MIT
// Callers that give up, at each stage of their request.
#include "fake_server.hpp"

namespace remofile::client {
namespace {

std::optional<FakeReply> no_answer(const FakeRequest&) {
    return std::nullopt;
}

const wire::Lookup some_lookup{NodeId{1}, "name", {NodeId{5}, false}};

}  // namespace

TEST_CASE("cancelled before it starts, a request is not sent") {
    SessionFixture f;
    f.connect();
    Cancellation cancellation;
    cancellation.cancel();
    const auto outcome = f.start(wire::Getattr{}, {}, &cancellation);
    REQUIRE(outcome->done());
    CHECK(outcome->status() == Status::interrupted);
    f.settle();
    CHECK(f.server.requests.empty());
}

TEST_CASE("cancelled while the server is away, a request leaves no trace") {
    SessionFixture f;
    f.connect();
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    Cancellation cancellation;
    const auto outcome = f.start(wire::Getattr{}, {}, &cancellation);
    CHECK_FALSE(outcome->done());
    Cancellation copy = cancellation;
    copy.cancel();
    REQUIRE(outcome->done());
    CHECK(outcome->status() == Status::interrupted);
    CHECK(cancellation.cancelled());
    f.server.start();
    f.settle();
    CHECK(f.server.requests.empty());
}

TEST_CASE("the server decides about a cancelled request") {
    SessionFixture f;
    f.connect();
    const Status verdict = GENERATE(Status::interrupted, Status::ok);
    std::optional<FakeRequest> held;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::cancel) {
            CHECK(request.as<wire::Cancel>().request == held->header.id);
            f.server.reply(*held, {.status = verdict});
            return FakeReply{};
        }
        held = request;
        return std::nullopt;
    };
    Cancellation cancellation;
    const auto outcome = f.start(wire::Setlk{.handle = HandleId{1}, .wait = true}, {}, &cancellation);
    REQUIRE(f.wait_for([&] { return held.has_value(); }));
    cancellation.cancel();
    CHECK_FALSE(outcome->done());
    REQUIRE(f.wait_for([&] { return outcome->done(); }));
    CHECK(outcome->status() == verdict);
    cancellation.cancel();  // harmless
}

TEST_CASE("a silent server does not hold a cancelled request, and its late answer is given back") {
    SessionFixture f;
    f.connect();
    f.server.on_request = no_answer;
    Cancellation cancellation;
    const auto lookup = f.start(some_lookup, {}, &cancellation);
    const wire::Create a_file{NodeId{1}, "new", {NodeId{6}, false}, HandleId{7}};
    const auto create = f.start(a_file, {}, &cancellation);
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 2; }));
    const TimePoint start = Clock::system().now();
    cancellation.cancel();
    REQUIRE(f.wait_for([&] { return lookup->done() && create->done(); }));
    CHECK(lookup->status() == Status::interrupted);
    CHECK(create->status() == Status::interrupted);
    CHECK(Clock::system().now() - start >= 900ms);
    CHECK(f.server.of(Opcode::cancel).size() == 2);

    for (const Opcode opcode : {Opcode::lookup, Opcode::create}) {
        const FakeRequest request = f.server.of(opcode).front();
        f.server.reply(request, FakeServer::answer(request));
    }
    std::set<NodeId> forgotten;
    REQUIRE(f.wait_for([&] {
        for (const FakeRequest& forget : f.server.of(Opcode::forget))
            for (const wire::ForgetNode& node : forget.as<wire::Forget>().nodes)
                forgotten.insert(node.node);
        return forgotten.size() == 2;
    }));
    CHECK(forgotten == std::set<NodeId>{NodeId{5}, NodeId{6}});
    REQUIRE(f.server.of(Opcode::release).size() == 1);
    CHECK(f.server.of(Opcode::release)[0].as<wire::Release>().handle == HandleId{7});
}

TEST_CASE("a lost connection lets a cancelled request go") {
    SessionFixture f;
    f.connect();
    f.server.on_request = no_answer;
    Cancellation cancellation;
    const auto lookup = f.start(some_lookup, {}, &cancellation);
    Cancellation of_unlink;
    const auto unlink = f.start(wire::Unlink{NodeId{1}, "x"}, {}, &of_unlink);
    Cancellation of_open;
    const auto open = f.start(wire::Open{NodeId{1}, HandleId{9}, wire::open_read | wire::open_truncate}, {}, &of_open);
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 3; }));
    const auto old = f.server.requests;

    cancellation.cancel();  // while connected: ends when the connection does
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    REQUIRE(lookup->done());
    CHECK(lookup->status() == Status::interrupted);
    of_unlink.cancel();  // while away: ends at once
    of_open.cancel();
    CHECK(unlink->status() == Status::interrupted);
    CHECK(open->status() == Status::interrupted);

    f.server.requests.clear();
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        return FakeServer::answer(request);
    };
    f.server.start();
    f.settle();
    REQUIRE(f.wait_for([&] { return !f.server.of(Opcode::forget).empty(); }));
    // A look-up does no harm, and its answer tells what to forget.
    REQUIRE(f.server.of(Opcode::lookup).size() == 1);
    CHECK(f.server.of(Opcode::lookup)[0].resent());
    // What changes files must not happen long after its caller was told that it would not.
    CHECK(f.server.of(Opcode::unlink).empty());
    CHECK(f.server.of(Opcode::open).empty());
    REQUIRE(f.server.of(Opcode::release).size() == 1);
    CHECK(f.server.of(Opcode::release)[0].as<wire::Release>().handle == HandleId{9});
    std::set<RequestId> cancelled;
    for (const FakeRequest& request : f.server.of(Opcode::cancel))
        cancelled.insert(request.as<wire::Cancel>().request);
    for (const FakeRequest& request : old) {
        if (request.header.opcode != Opcode::cancel)
            CHECK(cancelled.contains(request.header.id));
    }
}

TEST_CASE("soft: a request times out, wherever it is") {
    SessionFixture f;
    f.options.request_timeout = 100ms;
    f.connect();
    SECTION("at the server") {
        f.server.on_request = no_answer;
        CHECK(f.ask(some_lookup).status() == Status::timed_out);
        CHECK(f.wait_for([&] { return f.server.of(Opcode::cancel).size() == 1; }));
        const FakeRequest request = f.server.of(Opcode::lookup).front();
        f.server.reply(request, FakeServer::answer(request));
        CHECK(f.wait_for([&] { return f.server.of(Opcode::forget).size() == 1; }));
    }
    SECTION("while the server is away") {
        f.server.stop();
        REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
        CHECK(f.ask(some_lookup).status() == Status::timed_out);
    }
    SECTION("with a time of its own") {
        f.server.on_request = no_answer;
        const auto long_call = f.start(wire::Getattr{}, {.timeout = 1h});
        CHECK(f.ask(wire::Getattr{}).status() == Status::timed_out);
        CHECK_FALSE(long_call->done());
        f.session->close();
    }
}

TEST_CASE("soft: a request for data waits for its turn as long as others are answered") {
    SessionFixture f;
    f.options.request_timeout = 200ms;
    f.connect();
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        return request.header.opcode == Opcode::fsync ? std::nullopt : std::optional(FakeServer::answer(request));
    };
    const auto patient = f.start(wire::Fsync{}, {.lane = LaneKind::data});
    const auto begun = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begun < 500ms)
        REQUIRE(f.ask(wire::Getattr{}, {.lane = LaneKind::data}).status() == Status::ok);
    CHECK_FALSE(patient->done());
    REQUIRE(f.wait_for([&] { return patient->done(); }));
    CHECK(patient->status() == Status::timed_out);
}

TEST_CASE("soft: waiting for a lock does not time out while the server is there") {
    SessionFixture f;
    f.options.request_timeout = 30ms;
    f.connect();
    f.server.on_request = no_answer;
    const auto lock = f.start(wire::Setlk{.handle = HandleId{1}, .wait = true});
    CHECK(f.ask(wire::Getattr{}).status() == Status::timed_out);
    CHECK(f.ask(wire::Getattr{}).status() == Status::timed_out);
    CHECK_FALSE(lock->done());
    f.server.stop();
    REQUIRE(f.wait_for([&] { return lock->done(); }));
    CHECK(lock->status() == Status::timed_out);
}

}  // namespace remofile::client
