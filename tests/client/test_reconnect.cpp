// SPDX-License-Identifier: MIT
// Lost connections, requests sent again, and sessions that follow one another.
#include "fake_server.hpp"
#include "wire/kept_answers.hpp"

namespace remofile::client {
namespace {

std::optional<FakeReply> no_answer(const FakeRequest&) {
    return std::nullopt;
}
std::optional<FakeReply> honest(const FakeRequest& request) {
    return FakeServer::answer(request);
}

// The connections end, and can be made again.
void cut(SessionFixture& f) {
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    f.server.start();
}

}  // namespace

TEST_CASE("what was not answered is sent again, under its number, in order") {
    SessionFixture f;
    f.connect();
    f.server.on_request = no_answer;
    const auto first = f.start(wire::Getattr{.node = NodeId{1}});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 1; }));
    const auto second = f.start(wire::Unlink{NodeId{1}, "x"});
    const auto third = f.start(wire::Read{HandleId{1}, 0, 10}, {.lane = LaneKind::data});
    f.session->tell(wire::Release{HandleId{8}});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 4; }));
    const auto before = f.server.requests;
    f.server.requests.clear();
    bool reconnected = false;
    f.session->on_reconnected = [&] { reconnected = true; };

    cut(f);
    f.server.on_request = honest;
    REQUIRE(f.wait_for([&] { return first->done() && second->done() && third->done(); }));
    CHECK(first->status() == Status::ok);
    CHECK(second->status() == Status::ok);
    CHECK(third->result->value().bulk.size() == 10);
    CHECK(reconnected);
    CHECK(f.session->epoch() == 1);

    const auto hello = f.server.greetings.at(2).as<wire::Hello>();
    CHECK(hello.resume == SessionId{77});
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
    std::vector<RequestId> metadata_ids;
    for (const FakeRequest& request : f.server.requests) {
        CHECK(request.resent());
        if (request.header.opcode != Opcode::read)
            metadata_ids.push_back(request.header.id);
    }
    CHECK(metadata_ids.size() == 3);
    CHECK(std::ranges::is_sorted(metadata_ids));
    for (const FakeRequest& request : before) {
        const auto again = f.server.of(request.header.opcode);
        REQUIRE(again.size() == 1);
        CHECK(again[0].header.id == request.header.id);
        CHECK(again[0].answered_below <= request.header.id);
    }
    CHECK(f.counted("client.resent_requests") == 4);
}

TEST_CASE("what was answered is not sent again") {
    SessionFixture f;
    f.connect();
    REQUIRE(f.ask(wire::Unlink{NodeId{1}, "x"}).has_value());
    f.server.requests.clear();
    cut(f);
    REQUIRE(f.wait_for([&] { return f.session->connected(); }));
    f.settle();
    CHECK(f.server.requests.empty());
}

TEST_CASE("requests made while the server is away wait for it") {
    SessionFixture f;
    f.connect();
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    const auto waiting = f.start(wire::Getattr{});
    f.session->tell(wire::Release{HandleId{8}});
    REQUIRE(f.wait_for([&] { return f.counted("client.reconnects") >= 3; }));
    CHECK_FALSE(waiting->done());
    f.server.start();
    REQUIRE(f.wait_for([&] { return waiting->done(); }));
    CHECK(waiting->status() == Status::ok);
    CHECK_FALSE(f.server.of(Opcode::getattr)[0].resent());
    CHECK(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
}

TEST_CASE("the rest of a half-answered batch is sent again") {
    SessionFixture f;
    f.connect();
    const Status of_first = GENERATE(Status::ok, Status::no_entry);
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode != Opcode::lookup)
            return std::nullopt;
        return of_first == Status::ok ? FakeServer::answer(request) : FakeReply{.status = of_first};
    };
    std::vector<EncodedRequest> requests;
    const wire::Lookup lookup{NodeId{1}, "name", {NodeId{5}, false}};
    requests.push_back({.opcode = Opcode::lookup, .body = wire::encode_body(lookup), .link = true});
    requests.push_back({.opcode = Opcode::open, .body = wire::encode_body(wire::Open{NodeId{5}, HandleId{9}, 1})});
    std::optional<std::vector<EncodedReply>> replies;
    spawn([](Session& session, std::vector<EncodedRequest> batch,
             std::optional<std::vector<EncodedReply>>& out) -> Task<void> {
        out = co_await session.call_batch(std::move(batch));
    }(*f.session, std::move(requests), replies));
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 2; }));
    f.settle();
    f.server.requests.clear();
    cut(f);
    f.server.on_request = honest;
    REQUIRE(f.wait_for([&] { return replies.has_value(); }));
    CHECK(replies->at(0).status == of_first);
    if (of_first == Status::ok) {
        CHECK(replies->at(1).status == Status::ok);
        REQUIRE(f.server.requests.size() == 1);
        CHECK(f.server.requests[0].header.opcode == Opcode::open);
    } else {
        // Nothing may be opened after the failed look-up, not even by way of a lost answer.
        CHECK(replies->at(1).status == Status::cancelled);
        CHECK(f.server.requests.empty());
    }
}

TEST_CASE("a lost session ends its requests, and a new one begins") {
    SessionFixture f;
    f.connect();
    std::uint32_t credential = 0;
    spawn([](Session& session, std::uint32_t& out) -> Task<void> {
        out = (co_await session.credential(1, 1, {})).value();
    }(*f.session, credential));
    REQUIRE(f.wait_for([&] { return credential != 0; }));
    f.server.on_request = no_answer;
    const auto lost = f.start(wire::Unlink{NodeId{1}, "x"});
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::unlink).size() == 1; }));
    f.server.requests.clear();

    bool told = false;
    bool reconnected = false;
    f.session->on_new_epoch = [&] {
        told = true;
        CHECK_FALSE(lost->done());
        CHECK(f.session->epoch() == 2);
        CHECK(f.session->hello().session == SessionId{78});
    };
    f.session->on_reconnected = [&] { reconnected = true; };
    f.server.knows_session = false;
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    const auto unsent = f.start(wire::Unlink{NodeId{1}, "y"});
    f.server.on_request = honest;
    f.server.start();
    REQUIRE(f.wait_for([&] { return told; }));
    REQUIRE(lost->done());
    CHECK(lost->status() == Status::no_session);
    CHECK(unsent->status() == Status::no_session);
    f.settle();  // both lanes belong to the new session
    CHECK(f.server.requests.empty());
    CHECK_FALSE(reconnected);
    CHECK(f.ask(wire::Getattr{}, {.credential = credential}).status() == Status::no_session);
    CHECK(f.ask(wire::Getattr{}).has_value());
}

TEST_CASE("a server that forgot the session over a standing connection") {
    SessionFixture f;
    f.connect();
    f.server.knows_session = false;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (f.server.greeting.session == SessionId{77})
            return FakeReply{.status = Status::no_session};
        return FakeServer::answer(request);
    };
    const LaneKind lane = GENERATE(LaneKind::metadata, LaneKind::data);
    CHECK(f.ask(wire::Getattr{}, {.lane = lane}).status() == Status::no_session);
    CHECK(f.session->epoch() == 2);
    CHECK(f.ask(wire::Getattr{}, {.lane = lane}).has_value());
}

namespace {

// A session whose user can tell another server what ids stand for.
struct Restorable : SessionFixture {
    int times_lost = 0;
    std::vector<Status> outcomes;  // of the calls by which it does
    bool succeeds = true;
    std::vector<std::uint64_t> doubts;

    Restorable() {
        connect();
        session->on_session_lost = [this] { return restore(); };
        session->on_change_in_doubt = [this](std::uint64_t change, const std::vector<EncodedRequest>& requests) {
            doubts.push_back(change);
            CHECK(requests.front().opcode == Opcode::unlink);
            Fate fate{.is_known = change < 30, .replies = {}};
            if (change < 20)
                fate.replies.emplace(1);
            return fate;
        };
    }
    Task<bool> restore() {
        ++times_lost;
        const wire::Lookup message{NodeId{1}, "x", {NodeId{5}, false}};
        const CallOptions before_all_else{.restores = true};
        const auto reply = co_await session->call(message, before_all_else);
        outcomes.push_back(reply.status());
        co_return succeeds;
    }
    void lose() {
        server.knows_session = false;
        server.stop();
        REQUIRE(wait_for([&] { return !session->connected(); }));
        server.requests.clear();
    }
};

}  // namespace

TEST_CASE("a lost session is taken up in another by whoever knows what ids stand for") {
    Restorable f;
    f.server.greeting.client_identity = true;
    std::uint32_t credential = 0;
    spawn([](Session& session, std::uint32_t& out) -> Task<void> {
        out = (co_await session.credential(1, 1, {})).value();
    }(*f.session, credential));
    REQUIRE(f.wait_for([&] { return credential != 0; }));
    f.server.greeting.client_identity = false;
    f.server.requests.clear();
    f.server.on_request = no_answer;
    const auto unlink = [&](const char* name, std::uint64_t change) {
        return f.start(wire::Unlink{NodeId{1}, name}, {.change = change});
    };
    const auto read = f.start(wire::Getattr{.node = NodeId{5}}, {.credential = credential});
    const auto unknown = unlink("a", 0);
    const auto carried_out = unlink("b", 10);
    const auto not_carried_out = unlink("c", 20);
    const auto in_doubt = unlink("d", 30);
    f.session->tell(wire::Release{HandleId{8}});
    const auto data = f.start(wire::Read{HandleId{7}, 0, 10}, {.lane = LaneKind::data});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 7; }));
    const std::vector<FakeRequest> before = f.server.requests;
    bool reconnected = false;
    f.session->on_reconnected = [&] { reconnected = true; };
    f.lose();
    const auto unsent = unlink("e", 0);
    f.server.on_request = honest;
    f.server.start();
    REQUIRE(f.wait_for([&] { return data->done() && unsent->done() && not_carried_out->done(); }));
    f.settle();

    CHECK(read->status() == Status::ok);
    CHECK(unknown->status() == Status::no_session);
    CHECK(carried_out->status() == Status::ok);
    CHECK(not_carried_out->status() == Status::ok);
    CHECK(in_doubt->status() == Status::no_session);
    CHECK(data->result->value().bulk.size() == 10);
    CHECK(unsent->status() == Status::ok);
    CHECK(reconnected);
    CHECK(f.session->epoch() == 1);
    CHECK(f.times_lost == 1);
    CHECK(f.doubts == std::vector<std::uint64_t>{10, 20, 30});
    std::vector<Opcode> asked;
    for (const FakeRequest& request : f.server.requests) {
        if (request.header.opcode != Opcode::read)
            asked.push_back(request.header.opcode);
    }
    // What ids stand for, what was not answered, in its order, and what had not been sent.
    CHECK(asked == std::vector{Opcode::credential, Opcode::lookup, Opcode::getattr, Opcode::unlink, Opcode::unlink});
    const auto names = f.server.of(Opcode::unlink);
    CHECK(names[0].as<wire::Unlink>().name == "c");
    CHECK(names[0].resent());
    CHECK(names[1].as<wire::Unlink>().name == "e");
    CHECK(f.server.of(Opcode::getattr)[0].header.id == before[0].header.id);
    CHECK(f.server.of(Opcode::getattr)[0].header.detail == credential);
    CHECK(f.server.of(Opcode::release).empty());
    CHECK(f.ask(wire::Getattr{}, {.credential = credential}).has_value());
}

TEST_CASE("a session that is lost again while ids get their meaning is not gone on with") {
    Restorable f;
    f.server.on_request = no_answer;
    const auto read = f.start(wire::Getattr{.node = NodeId{5}});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 1; }));
    f.lose();
    f.server.start();
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::lookup).size() == 1; }));
    CHECK_FALSE(f.session->connected());
    // The server would know it, but not all of it.
    f.server.knows_session = true;
    f.server.stop();
    REQUIRE(f.wait_for([&] { return f.outcomes.size() == 1; }));
    CHECK(f.outcomes[0] == Status::no_session);
    f.server.on_request = honest;
    f.server.greetings.clear();
    f.server.start();
    REQUIRE(f.wait_for([&] { return read->done(); }));
    CHECK(f.server.greetings[0].as<wire::Hello>().resume == SessionId{});
    CHECK(read->status() == Status::ok);
    CHECK(f.times_lost == 2);
    CHECK(f.session->epoch() == 1);
}

namespace {

std::optional<FakeReply> is_stopping(const FakeRequest&) {
    return FakeReply{.status = Status::shutting_down};
}

}  // namespace

TEST_CASE("what a server refuses because it is stopping waits for the next one") {
    Restorable f;
    f.server.on_request = is_stopping;
    const auto refused = f.start(wire::Mkdir{NodeId{1}, "a", {NodeId{6}, false}});
    const auto data = f.start(wire::Read{HandleId{7}, 0, 10}, {.lane = LaneKind::data});
    const auto given_up = f.start(wire::Getattr{}, {.timeout = 100ms});
    // Who gives up may do so before it has been asked for.
    const auto are_refused = [&] {
        return f.server.of(Opcode::mkdir).size() == 1 && f.server.of(Opcode::read).size() == 1;
    };
    REQUIRE(f.wait_for([&] { return are_refused() && given_up->done(); }));
    CHECK(given_up->status() == Status::timed_out);
    CHECK_FALSE(refused->done());
    f.lose();
    f.server.start();
    // The next one stops, too, before it has been told what ids stand for.
    REQUIRE(f.wait_for([&] { return !f.server.of(Opcode::lookup).empty(); }));
    CHECK_FALSE(refused->done());
    f.lose();
    REQUIRE(f.wait_for([&] { return f.outcomes.size() == 1; }));
    f.server.knows_session = true;  // the one that begins now
    f.server.on_request = honest;
    f.server.start();
    REQUIRE(f.wait_for([&] { return refused->done() && data->done(); }));
    CHECK(refused->status() == Status::ok);
    CHECK(data->result->value().bulk.size() == 10);
    CHECK(f.server.of(Opcode::mkdir).size() == 1);
    CHECK(f.outcomes == std::vector{Status::no_session, Status::ok});
    CHECK(f.session->epoch() == 1);
}

TEST_CASE("what was linked to a request that a stopping server refuses waits with it") {
    Restorable f;
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        return FakeReply{.status = request.header.opcode == Opcode::open ? Status::shutting_down : Status::cancelled};
    };
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(wire::Open{NodeId{1}, HandleId{7}, 0}, true));
    requests.push_back(encoded(wire::Read{HandleId{7}, 0, 10}));
    std::vector<EncodedReply> replies;
    spawn([](Session& session, std::vector<EncodedRequest> asked, std::vector<EncodedReply>& out) -> Task<void> {
        out = co_await session.call_batch(std::move(asked), {});
    }(*f.session, std::move(requests), replies));
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 2; }));
    f.settle();
    CHECK(replies.empty());
    f.lose();
    f.server.on_request = honest;
    f.server.start();
    REQUIRE(f.wait_for([&] { return replies.size() == 2; }));
    CHECK(replies[0].status == Status::ok);
    CHECK(replies[1].status == Status::ok);
}

TEST_CASE("a server that says that it is stopping, and does not, is left") {
    Restorable f;
    f.server.on_request = is_stopping;
    const auto refused = f.start(wire::Getattr{});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 1; }));
    f.server.on_request = honest;
    REQUIRE(f.wait_for([&] { return refused->done(); }));  // after stopping_patience
    CHECK(refused->status() == Status::ok);
}

TEST_CASE("a server that knows the answers of the one before is asked again, whatever it is about") {
    constexpr std::uint64_t of_answers = wire::feature_kept_answers | wire::feature_known_answers;
    Restorable f;
    const std::uint64_t features = f.server.greeting.features;
    CHECK((f.server.greetings[0].as<wire::Hello>().features & of_answers) == of_answers);
    f.server.on_request = no_answer;
    const auto unknown = f.start(wire::Mkdir{NodeId{1}, "a", {NodeId{6}, false}});
    const auto in_doubt = f.start(wire::Unlink{NodeId{1}, "b"}, {.change = 30});
    const auto carried_out = f.start(wire::Unlink{NodeId{1}, "c"}, {.change = 10});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 3; }));
    const std::vector<FakeRequest> before = f.server.requests;
    f.lose();
    SECTION("known from server to server") {
        f.server.greeting.features = features | of_answers;
        f.server.start();
        REQUIRE(f.wait_for([&] { return f.server.of(Opcode::lookup).size() == 1; }));
        f.lose();
        REQUIRE(f.wait_for([&] { return f.outcomes.size() == 1; }));
        const SessionId half_taken_up = f.server.greeting.session;
        f.server.greetings.clear();
        f.server.on_request = honest;
        f.server.start();
        REQUIRE(f.wait_for([&] { return unknown->done() && in_doubt->done() && carried_out->done(); }));
        // Also of a session that was not taken up to its end: it is not to be gone on with, but its answers count.
        CHECK(f.server.greetings[0].as<wire::Hello>().resume == half_taken_up);
        CHECK(unknown->status() == Status::ok);
        CHECK(in_doubt->status() == Status::ok);
        CHECK(carried_out->status() == Status::ok);
        REQUIRE(f.server.of(Opcode::mkdir).size() == 1);
        CHECK(f.server.of(Opcode::mkdir)[0].resent());
        CHECK(f.server.of(Opcode::mkdir)[0].header.id == before[0].header.id);
        REQUIRE(f.server.of(Opcode::unlink).size() == 1);
        CHECK(f.server.of(Opcode::unlink)[0].as<wire::Unlink>().name == "b");
    }
    SECTION("but not once one did not know them") {
        f.server.greeting.features = features | wire::feature_kept_answers;
        f.server.start();
        REQUIRE(f.wait_for([&] { return f.server.of(Opcode::lookup).size() == 1; }));
        CHECK(unknown->status() == Status::no_session);
        f.lose();
        REQUIRE(f.wait_for([&] { return f.outcomes.size() == 1; }));
        f.server.greeting.features = features | of_answers;
        f.server.on_request = honest;
        f.server.start();
        REQUIRE(f.wait_for([&] { return in_doubt->done() && carried_out->done(); }));
        CHECK(in_doubt->status() == Status::no_session);
        CHECK(f.server.of(Opcode::mkdir).empty());
        CHECK(f.server.of(Opcode::unlink).empty());
    }
}

TEST_CASE("a server that has half of a session, and says that it goes on, is asked for another") {
    Restorable f;
    f.server.greeting.features |= wire::feature_kept_answers | wire::feature_known_answers;
    f.server.on_request = no_answer;
    const auto read = f.start(wire::Getattr{.node = NodeId{5}});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 1; }));
    f.lose();
    f.server.start();
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::lookup).size() == 1; }));
    f.server.knows_session = true;
    f.server.stop();
    REQUIRE(f.wait_for([&] { return f.outcomes.size() == 1; }));
    f.server.on_request = honest;
    f.server.greetings.clear();
    f.server.start();
    REQUIRE(f.wait_for([&] { return f.server.greetings.size() >= 2; }));
    CHECK(f.server.greetings[0].as<wire::Hello>().resume == f.server.greeting.session);
    REQUIRE(f.wait_for([&] { return read->done(); }));
    CHECK(f.server.greetings[1].as<wire::Hello>().resume == SessionId{});
    CHECK(read->status() == Status::ok);
    CHECK(f.session->epoch() == 1);
}

TEST_CASE("what cannot be taken up begins anew") {
    Restorable f;
    const bool is_like = GENERATE(true, false);
    f.succeeds = false;
    f.server.on_request = no_answer;
    const auto read = f.start(wire::Getattr{.node = NodeId{5}});
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 1; }));
    f.lose();
    f.server.on_request = honest;
    if (!is_like)
        f.server.greeting.read_only = true;
    f.server.start();
    REQUIRE(f.wait_for([&] { return read->done(); }));
    CHECK(read->status() == Status::no_session);
    CHECK(f.session->epoch() == 2);
    CHECK(f.times_lost == (is_like ? 1 : 0));
    CHECK(f.ask(wire::Getattr{}).has_value());
}

TEST_CASE("what was not answered goes again only as far as the server allows") {
    Restorable f;
    f.server.on_request = no_answer;
    std::vector<std::shared_ptr<SessionFixture::Outcome<wire::Getattr>>> reads;
    for (int i = 0; i < 100; ++i)
        reads.push_back(f.start(wire::Getattr{.node = NodeId{5}}));
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 100; }));
    f.lose();
    f.server.greeting.max_requests = 10;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        return request.header.opcode == Opcode::getattr ? std::nullopt : honest(request);
    };
    f.server.start();
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::getattr).size() == 10; }));
    std::size_t answered = 0;
    while (answered < 100) {
        REQUIRE(f.wait_for([&] { return f.server.of(Opcode::getattr).size() > answered; }));
        const auto asked = f.server.of(Opcode::getattr);
        CHECK(asked.size() <= answered + 10);
        for (; answered < asked.size(); ++answered)
            f.server.reply(asked[answered], FakeServer::answer(asked[answered]));
    }
    REQUIRE(f.wait_for([&] { return std::ranges::all_of(reads, [](const auto& read) { return read->done(); }); }));
    for (const auto& read : reads)
        CHECK(read->status() == Status::ok);
}

TEST_CASE("close returns at once when the network is dead") {
    SessionFixture f;
    f.connect();
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    const auto waiting = f.start(wire::Getattr{});
    const TimePoint start = Clock::system().now();
    f.session->close();
    f.session.reset();
    CHECK(Clock::system().now() - start < 1s);
    CHECK(waiting->status() == Status::shutting_down);
}

}  // namespace remofile::client
