// SPDX-License-Identifier: MIT
// Callers that give up, at each stage of their request.
#include "client/requests/lock_owners.hpp"
#include "fake_server.hpp"
#include "wire/opcode_table.hpp"

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
    // The server has not got the UNLINK, and had carried out the OPEN.
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::unlink)
            return FakeReply{.status = Status::interrupted};
        return FakeServer::answer(request);
    };
    f.server.start();
    f.settle();
    REQUIRE(f.wait_for([&] { return !f.server.of(Opcode::forget).empty(); }));
    // A look-up does no harm, and its answer tells what to forget.
    REQUIRE(f.server.of(Opcode::lookup).size() == 1);
    CHECK(f.server.of(Opcode::lookup)[0].header.flags == wire::flag_resent);
    // What changes files must not happen long after its caller was told that it would not.
    for (const Opcode opcode : {Opcode::unlink, Opcode::open}) {
        REQUIRE(f.server.of(opcode).size() == 1);
        CHECK(f.server.of(opcode)[0].header.flags == (wire::flag_resent | wire::flag_void));
    }
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
    CHECK(f.server.of(Opcode::release)[0].as<wire::Release>().handle == HandleId{9});
    for (const FakeRequest& request : old) {
        const auto again = f.server.of(request.header.opcode);
        CHECK(again.front().header.id == request.header.id);
    }
    // All is answered, and nothing counted any more.
    f.settle();
    CHECK(f.server.of(Opcode::lookup).size() == 1);
    REQUIRE(f.ask(wire::Getattr{}).has_value());
    const FakeRequest latest = f.server.of(Opcode::getattr).back();
    CHECK(latest.answered_below == latest.header.id);
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

TEST_CASE("soft: when one request has been given up, others do not wait until the server says something") {
    SessionFixture f;
    f.options.request_timeout = 300ms;
    f.options.gives_up_at_once = true;
    f.connect();
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    CHECK(f.ask(some_lookup).status() == Status::timed_out);
    const std::size_t reached = f.server.of(Opcode::lookup).size();
    const auto begun = std::chrono::steady_clock::now();
    for (int i = 0; i < 20; ++i)
        CHECK(f.ask(some_lookup).status() == Status::timed_out);
    CHECK(std::chrono::steady_clock::now() - begun < 3s);  // not 6
    CHECK(f.server.of(Opcode::lookup).size() == reached);
    // One that has a time of its own waits for it.
    const auto patient = f.start(wire::Getattr{}, {.timeout = 1h});
    CHECK_FALSE(patient->done());
    f.server.start();
    CHECK(f.wait_for([&] { return patient->done(); }));
    CHECK(f.ask(some_lookup).status() == Status::ok);
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

namespace {

// A server whose locks are granted late: when the test says so.
struct LateLocks : SessionFixture {
    std::vector<FakeRequest> waiting;

    LateLocks() {
        connect();
        server.on_request = [this](const FakeRequest& request) -> std::optional<FakeReply> {
            if (!wire::waits_for_lock(request.header.opcode, request.body))
                return FakeServer::answer(request);
            waiting.push_back(request);
            return std::nullopt;
        };
    }
    ~LateLocks() { session->close(); }

    // A request whose caller gives up before it is answered; the server has not seen that yet.
    template <class Request>
    void abandon(const Request& request) {
        Cancellation cancellation;
        const std::size_t before = waiting.size();
        const auto outcome = start(request, {}, &cancellation);
        REQUIRE(wait_for([&] { return waiting.size() == before + 1; }));
        cancellation.cancel();
        clock.jump(2s);
        REQUIRE(wait_for([&] { return outcome->done(); }));
        CHECK(outcome->status() == Status::interrupted);
    }
    void grant(std::size_t which) {
        server.reply(waiting.at(which), {});
        settle();
    }
    std::size_t unlocks(Opcode opcode) const {
        return static_cast<std::size_t>(std::ranges::count_if(server.requests, [&](const FakeRequest& request) {
            const auto change = lock_change_of(request.header.opcode, request.body);
            return request.header.opcode == opcode && change->unlocks;
        }));
    }
};

constexpr wire::Setlk some_range{.handle = HandleId{1},
                                 .owner = LockOwner{5},
                                 .range = {.type = wire::LockType::write, .start = 10, .end = 19, .pid = 7},
                                 .wait = true};
constexpr wire::Flock some_file{.handle = HandleId{1}, .type = wire::LockType::write, .wait = true};

}  // namespace

TEST_CASE("a lock that is granted to nobody is given back") {
    LateLocks f;
    SECTION("of a range") {
        f.abandon(some_range);
        f.grant(0);
        REQUIRE(f.wait_for([&] { return f.unlocks(Opcode::setlk) == 1; }));
        const auto unlock = f.server.of(Opcode::setlk).back().as<wire::Setlk>();
        CHECK(unlock.owner == LockOwner{5});
        CHECK(unlock.range.start == 10);
        CHECK(unlock.range.end == 19);
        CHECK_FALSE(unlock.wait);
    }
    SECTION("of a file") {
        f.abandon(some_file);
        f.grant(0);
        REQUIRE(f.wait_for([&] { return f.unlocks(Opcode::flock) == 1; }));
        CHECK(f.server.of(Opcode::flock).back().as<wire::Flock>().handle == HandleId{1});
    }
    SECTION("that was refused, it is not") {
        f.abandon(some_file);
        f.server.reply(f.waiting.at(0), {.status = Status::interrupted});
        f.settle();
        CHECK(f.unlocks(Opcode::flock) == 0);
    }
}

TEST_CASE("a lock that somebody may count on is not given back") {
    LateLocks f;
    SECTION("who has another one") {
        wire::Setlk at_once = some_range;
        at_once.wait = false;
        REQUIRE(f.ask(at_once).has_value());
        f.abandon(some_range);
        f.grant(0);
        CHECK(f.unlocks(Opcode::setlk) == 0);

        // Until he lets go of all.
        REQUIRE(f.ask(wire::Flush{.handle = HandleId{1}, .owner = LockOwner{5}}).has_value());
        f.abandon(some_range);
        f.grant(1);
        CHECK(f.unlocks(Opcode::setlk) == 1);
    }
    SECTION("who has asked again") {
        f.abandon(some_range);
        const auto again = f.start(some_range);
        REQUIRE(f.wait_for([&] { return f.waiting.size() == 2; }));
        f.grant(0);
        f.grant(1);
        REQUIRE(f.wait_for([&] { return again->done(); }));
        CHECK(again->status() == Status::ok);
        CHECK(f.unlocks(Opcode::setlk) == 0);
    }
    SECTION("by the same handle") {
        f.abandon(some_file);
        const auto again = f.start(some_file);
        REQUIRE(f.wait_for([&] { return f.waiting.size() == 2; }));
        f.grant(0);
        CHECK(f.unlocks(Opcode::flock) == 0);
        f.grant(1);
        f.session->tell(wire::Release{HandleId{1}});
        REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
        f.settle();
        f.abandon(some_file);
        f.grant(2);
        CHECK(f.unlocks(Opcode::flock) == 1);
    }
}

namespace {

Task<void> ask_who(Session& session, std::uint32_t uid, Cancellation* cancellation,
                   std::shared_ptr<std::optional<Result<std::uint32_t>>> out) {
    out->emplace(co_await session.credential(uid, uid, {}, cancellation));
}

}  // namespace

TEST_CASE("whoever waits to be told to the server may give up, and the question is asked once") {
    SessionFixture f;
    f.options.request_timeout = GENERATE(std::optional<Duration>(), std::optional<Duration>(5s));
    f.connect();
    f.server.on_request = no_answer;
    const auto ask = [&](Cancellation* cancellation) {
        auto out = std::make_shared<std::optional<Result<std::uint32_t>>>();
        spawn(ask_who(*f.session, 1000, cancellation, out));
        return out;
    };
    Cancellation cancellation;
    const auto impatient = ask(&cancellation);
    const auto patient = ask(nullptr);
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::credential).size() == 1; }));
    cancellation.cancel();
    REQUIRE(impatient->has_value());
    CHECK((*impatient)->error().status == Status::interrupted);
    CHECK_FALSE(patient->has_value());
    CHECK(ask(&cancellation)->value().status() == Status::interrupted);
    if (f.options.request_timeout) {
        f.clock.jump(6s);
        REQUIRE(f.wait_for([&] { return patient->has_value(); }));
        CHECK((*patient)->error().status == Status::timed_out);
    }
    // Nobody's giving up takes the number back, so that no other identity meets it.
    const auto late = ask(nullptr);
    f.server.reply(f.server.of(Opcode::credential)[0], {});
    REQUIRE(f.wait_for([&] { return late->has_value(); }));
    CHECK((*late)->has_value());
    if (!f.options.request_timeout)
        CHECK((*patient)->value() == (*late)->value());
    f.settle();
    CHECK(f.server.of(Opcode::credential).size() == 1);
    CHECK(f.server.of(Opcode::cancel).empty());
}

}  // namespace remofile::client
