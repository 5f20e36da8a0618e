// SPDX-License-Identifier: MIT
// The session as its users see it, with a server that behaves.
#include "fake_server.hpp"

namespace remofile::client {
namespace {

std::vector<EncodedReply> run_batch(SessionFixture& f, std::vector<EncodedRequest> requests) {
    std::optional<std::vector<EncodedReply>> replies;
    spawn([](Session& session, std::vector<EncodedRequest> batch,
             std::optional<std::vector<EncodedReply>>& out) -> Task<void> {
        out = co_await session.call_batch(std::move(batch));
    }(*f.session, std::move(requests), replies));
    REQUIRE(f.wait_for([&] { return replies.has_value(); }));
    return std::move(*replies);
}

Result<std::uint32_t> ask_credential(SessionFixture& f, std::uint32_t uid) {
    std::optional<Result<std::uint32_t>> number;
    spawn([](Session& session, std::uint32_t user, std::optional<Result<std::uint32_t>>& out) -> Task<void> {
        std::vector<std::uint32_t> groups{user, 7};
        out = co_await session.credential(user, user, std::move(groups));
    }(*f.session, uid, number));
    REQUIRE(f.wait_for([&] { return number.has_value(); }));
    return *number;
}

// The outcome of waiting for the data lane, once there is one.
std::shared_ptr<std::optional<Status>> await_data_lane(SessionFixture& f, Cancellation* cancellation) {
    const auto outcome = std::make_shared<std::optional<Status>>();
    spawn([](Session& session, Cancellation* gives_up, std::shared_ptr<std::optional<Status>> out) -> Task<void> {
        *out = co_await session.data_lane_ready(gives_up);
    }(*f.session, cancellation, outcome));
    return outcome;
}

}  // namespace

TEST_CASE("who waits for the connection of data learns that it is there, or that it will not come") {
    SessionFixture f;
    SECTION("it comes") {
        REQUIRE(f.open());
        const auto outcome = await_data_lane(f, nullptr);
        REQUIRE(f.wait_for([&] { return outcome->has_value(); }));
        CHECK(*outcome == Status::ok);
        CHECK(**await_data_lane(f, nullptr) == Status::ok);
    }
    SECTION("the server refuses it: all goes by the other") {
        f.server.attach_status = Status::limit_exceeded;
        REQUIRE(f.open());
        const auto outcome = await_data_lane(f, nullptr);
        REQUIRE(f.wait_for([&] { return outcome->has_value(); }));
        CHECK(*outcome == Status::ok);
    }
    SECTION("the session ends, or its user does not wait") {
        f.server.ignores_attach = true;
        REQUIRE(f.open());
        Cancellation cancellation;
        const auto impatient = await_data_lane(f, &cancellation);
        const auto patient = await_data_lane(f, nullptr);
        REQUIRE(f.wait_for([&] { return f.server.greetings.size() == 2; }));
        CHECK_FALSE(impatient->has_value());
        cancellation.cancel();
        CHECK(*impatient == Status::interrupted);
        CHECK_FALSE(patient->has_value());
        f.session->close();
        CHECK(*patient == Status::shutting_down);
        CHECK(**await_data_lane(f, nullptr) == Status::shutting_down);
    }
    f.session->close();
}

TEST_CASE("a session opens, asks and closes") {
    SessionFixture f;
    f.connect();
    CHECK(f.session->connected());
    CHECK(f.session->epoch() == 1);
    CHECK(f.session->hello().session == SessionId{77});
    const auto hello = f.server.greetings.front().as<wire::Hello>();
    CHECK(hello.client_name == "test@here");
    CHECK(hello.root == NodeId{1});
    CHECK(f.server.greetings.at(1).header.opcode == Opcode::attach);

    const auto reply = f.ask(wire::Getattr{.node = NodeId{1}});
    REQUIRE(reply.has_value());
    CHECK(reply->body.attributes.mode == 0040755);
    CHECK(f.counted("client.requests.getattr") == 1);

    f.session->close();
    CHECK(f.ask(wire::Getattr{}).status() == Status::shutting_down);
    CHECK(f.wait_for([&] { return !f.server.of(Opcode::bye).empty(); }));
}

TEST_CASE("requests say what becomes of set-id bits, to servers that understand it") {
    SessionFixture f;
    const bool understood = GENERATE(false, true);
    if (understood)
        f.server.greeting.features |= wire::feature_set_id;
    f.connect();
    for (const wire::SetId set_id : {wire::SetId::as_caller, wire::SetId::drop, wire::SetId::keep}) {
        const client::CallOptions options{.set_id = set_id};
        REQUIRE(f.ask(wire::Getattr{.node = NodeId{1}}, options).has_value());
        CHECK(f.server.of(Opcode::getattr).back().header.set_id() == (understood ? set_id : wire::SetId::as_caller));
    }
    f.session->close();
}

TEST_CASE("open says why it failed") {
    SessionFixture f;
    const auto [status, text] = GENERATE(table<Status, std::string>({
        {Status::no_entry, "no directory /missing"},
        {Status::not_directory, "no directory"},
        {Status::bad_token, "asks for a token"},
        {Status::version_mismatch, "version"},
        {Status::limit_exceeded, "as many clients"},
    }));
    f.options.path = "/missing";
    f.server.hello_status = status;
    REQUIRE_FALSE(f.open());
    CHECK(f.failure->status == status);
    CHECK_THAT(f.failure->message, ContainsSubstring(text));
}

TEST_CASE("open reports that nobody listens") {
    SessionFixture f;
    f.server.stop();
    REQUIRE_FALSE(f.open());
    CHECK(f.failure->status == Status::unreachable);
}

TEST_CASE("open gives up on a server that stays silent") {
    SessionFixture f;
    f.server.answers_hello = false;
    f.options.first_connect_timeout = 200ms;
    REQUIRE_FALSE(f.open());
    CHECK(f.failure->status == Status::timed_out);
}

TEST_CASE("a server in use is reported with its holders, or waited for") {
    SessionFixture f;
    f.server.hello_status = Status::in_use;
    f.server.holders = {{.name = "alice@laptop", .address = "192.0.2.7", .since = 1700000000, .exclusive = true}};
    SECTION("refused") {
        REQUIRE_FALSE(f.open());
        CHECK(f.failure->status == Status::in_use);
        CHECK_THAT(f.failure->message, ContainsSubstring("alice@laptop (192.0.2.7) since 2023-11-1"));
        REQUIRE(f.holders.size() == 1);
    }
    SECTION("its turn comes") {
        f.options.wait = Duration::max();
        bool ended = false;
        spawn(f.open_session(ended));
        REQUIRE(f.wait_for([&] { return f.server.greetings.size() >= 2; }));
        CHECK(f.server.greetings.at(0).as<wire::Hello>().wait_ms == 0);
        CHECK(f.server.greetings.at(1).as<wire::Hello>().wait_ms == 3'600'000);
        f.server.hello_status = Status::ok;
        f.server.reply(f.server.greetings.back(), FakeReply::of(f.server.greeting));
        REQUIRE(f.wait_for([&] { return ended; }));
        CHECK(f.session != nullptr);
    }
    SECTION("the server falls silent") {
        f.options.wait = 30ms;
        f.options.first_connect_timeout = 200ms;
        bool ended = false;
        spawn(f.open_session(ended));
        f.server.falls_silent = true;
        REQUIRE(f.wait_for([&] { return ended; }));
        REQUIRE(f.failure);
        CHECK(f.failure->status == Status::in_use);
        CHECK_THAT(f.failure->message, ContainsSubstring("alice@laptop"));
        CHECK(f.server.greetings.size() == 2);
    }
    SECTION("its turn does not come") {
        f.options.wait = 30ms;
        f.options.exclusive = true;
        REQUIRE_FALSE(f.open());
        CHECK(f.failure->status == Status::in_use);
        CHECK(f.server.greetings.at(0).as<wire::Hello>().flags == wire::hello_exclusive);
    }
}

TEST_CASE("a batch is one message, with links, and each record has its answer") {
    SessionFixture f;
    f.connect();
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::open)
            return FakeReply{.status = Status::access_denied};
        if (request.header.opcode == Opcode::read)
            return FakeReply{.status = Status::cancelled};
        return FakeServer::answer(request);
    };
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(wire::Lookup{NodeId{1}, "name", {NodeId{5}, false}}, true));
    requests.push_back(encoded(wire::Open{NodeId{5}, HandleId{9}, wire::open_read}, true));
    requests.push_back(encoded(wire::Read{HandleId{9}, 0, 10}, true));
    const auto replies = run_batch(f, std::move(requests));
    REQUIRE(replies.size() == 3);
    CHECK(replies[0].status == Status::ok);
    CHECK(wire::decode_body<wire::EntryReply>(replies[0].body)->node == NodeId{5});
    CHECK(replies[1].status == Status::access_denied);
    CHECK(replies[2].status == Status::cancelled);

    const auto& got = f.server.requests;
    REQUIRE(got.size() == 3);
    CHECK(got[0].message == got[2].message);
    CHECK((got[0].header.flags & wire::flag_link) != 0);
    CHECK((got[1].header.flags & wire::flag_link) != 0);
    CHECK((got[2].header.flags & wire::flag_link) == 0);
    CHECK(got[2].header.id.value == got[0].header.id.value + 2);
    CHECK(run_batch(f, {}).empty());
}

TEST_CASE("a batch that does not fit a head frame is refused here") {
    SessionFixture f;
    f.connect();
    std::vector<EncodedRequest> requests;
    for (int i = 0; i < 40; ++i)
        requests.push_back(encoded(wire::Symlink{NodeId{1}, "x", {NodeId{2}, false}, std::string(4000, 't')}));
    const auto replies = run_batch(f, std::move(requests));
    CHECK(replies.at(0).status == Status::limit_exceeded);
    CHECK(f.server.requests.empty());
}

TEST_CASE("what is told goes along with the next message") {
    SessionFixture f;
    f.connect();
    f.session->tell(wire::Forget{{{NodeId{5}, 1}}});
    f.session->tell(wire::Forget{{{NodeId{6}, 2}}});
    f.session->tell(wire::Release{HandleId{3}});
    REQUIRE(f.ask(wire::Fsync{}).has_value());
    const auto& got = f.server.requests;
    REQUIRE(got.size() == 3);
    CHECK(got[0].as<wire::Forget>().nodes.size() == 2);
    CHECK(got[1].header.opcode == Opcode::release);
    CHECK(got[2].header.opcode == Opcode::fsync);
    CHECK(got[0].message == got[2].message);
}

TEST_CASE("a FORGET goes by itself if nothing else does") {
    SessionFixture f;
    f.connect();
    f.session->tell(wire::Forget{{{NodeId{5}, 1}}});
    CHECK(f.wait_for([&] { return f.server.requests.size() == 1; }));
}

TEST_CASE("what is given back in several turns shares a message, and goes along with what somebody waits for") {
    SessionFixture f;
    f.connect();
    const std::size_t before = f.server.messages;
    std::function<void(std::uint64_t, std::size_t)> tell_in_turns = [&](std::uint64_t first, std::size_t count) {
        f.session->tell(wire::Release{HandleId{first}});
        if (count > 1)
            f.reactor.post([&, first, count] { tell_in_turns(first + 1, count - 1); });
    };
    tell_in_turns(1, 5);
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 5; }));
    CHECK(f.server.messages - before < 5);
    f.settle();
    tell_in_turns(10, 1);
    CHECK(f.ask(wire::Getattr{}).has_value());
    CHECK(f.server.of(Opcode::release).back().message == f.server.of(Opcode::getattr).back().message);
}

TEST_CASE("quick requests of one turn share a message, slow ones do not") {
    SessionFixture f;
    f.connect();
    const auto first = f.start(wire::Getattr{});
    const auto second = f.start(wire::Getattr{});
    const auto third = f.start(wire::Fsync{});
    const auto fourth = f.start(wire::Getattr{});
    REQUIRE(f.wait_for([&] { return first->done() && second->done() && third->done() && fourth->done(); }));
    const auto& got = f.server.requests;
    CHECK(got[0].message == got[1].message);
    CHECK(got[1].message < got[2].message);
    CHECK(got[2].message < got[3].message);
}

TEST_CASE("bulk data goes both ways by the data lane") {
    SessionFixture f;
    f.connect();
    const auto read = f.ask(wire::Read{HandleId{1}, 0, 100'000}, {.lane = LaneKind::data});
    REQUIRE(read.has_value());
    CHECK(read->bulk.text() == std::string(100'000, 'r'));
    CHECK(f.server.requests.at(0).route == f.server.greetings.at(1).route);

    std::optional<Status> written;
    spawn([](Session& session, std::optional<Status>& out) -> Task<void> {
        CallOptions by_data{.lane = LaneKind::data};
        out = (co_await session.call_with_bulk(wire::Write{}, Buffer::copy_of("hello"), by_data)).status();
    }(*f.session, written));
    REQUIRE(f.wait_for([&] { return written.has_value(); }));
    CHECK(*written == Status::ok);
    CHECK(f.server.requests.at(1).bulk == "hello");
}

TEST_CASE("a server that takes one connection only gets everything by it") {
    SessionFixture f;
    f.server.attach_status = Status::limit_exceeded;
    REQUIRE(f.open());
    CHECK(f.ask(wire::Read{HandleId{1}, 0, 10}, {.lane = LaneKind::data}).has_value());
    CHECK(f.server.requests.at(0).route == f.server.greetings.at(0).route);
}

TEST_CASE("an identity is sent once") {
    SessionFixture f;
    f.connect();
    const auto first = ask_credential(f, 1000);
    REQUIRE(first.has_value());
    CHECK(*ask_credential(f, 1000) == *first);
    CHECK(*ask_credential(f, 1001) != *first);
    REQUIRE(f.server.of(Opcode::credential).size() == 2);
    const auto sent = f.server.of(Opcode::credential).front().as<wire::Credential>();
    CHECK(sent.uid == 1000);
    CHECK(sent.groups == std::vector<std::uint32_t>{1000, 7});

    CHECK(f.ask(wire::Getattr{}, {.credential = *first}).has_value());
    CHECK(f.server.requests.back().header.detail == *first);
    CHECK(f.ask(wire::Getattr{}, {.credential = 99}).status() == Status::no_session);
}

TEST_CASE("an identity that the server refuses is asked for again") {
    SessionFixture f;
    f.connect();
    f.server.on_request = [](const FakeRequest&) { return FakeReply{.status = Status::not_permitted}; };
    CHECK(ask_credential(f, 1000).status() == Status::not_permitted);
    CHECK(ask_credential(f, 1000).status() == Status::not_permitted);
    CHECK(f.server.of(Opcode::credential).size() == 2);
}

TEST_CASE("invalidations are acknowledged in their order") {
    SessionFixture f;
    f.connect();
    std::vector<std::function<void()>> acknowledge;
    f.session->on_invalidate = [&](const Invalidation& invalidation, std::function<void()> done) {
        CHECK(invalidation.nodes == std::vector<NodeId>{NodeId{4}});
        acknowledge.push_back(std::move(done));
    };
    for (const std::uint64_t sequence : {1, 2, 3})
        f.server.push(wire::PushInvalidate{.sequence = sequence, .nodes = {NodeId{4}}});
    REQUIRE(f.wait_for([&] { return acknowledge.size() == 3; }));
    acknowledge[1]();
    f.settle();
    CHECK(f.server.of(Opcode::invalidated).empty());
    acknowledge[0]();
    f.settle();
    REQUIRE(f.server.of(Opcode::invalidated).size() == 1);
    CHECK(f.server.of(Opcode::invalidated)[0].as<wire::Invalidated>().sequence == 2);
    acknowledge[2]();
    acknowledge[2]();
    f.settle();
    CHECK(f.server.of(Opcode::invalidated).size() == 2);
    f.session.reset();
    acknowledge[0]();  // harmless
}

TEST_CASE("an invalidation says what of the leases has changed") {
    using What = wire::LeaseChange::What;
    SessionFixture f;
    f.connect();
    std::vector<Invalidation> heard;
    f.session->on_invalidate = [&](Invalidation invalidation, const std::function<void()>& done) {
        heard.push_back(std::move(invalidation));
        done();
    };
    const std::vector<wire::LeaseChange> changes{{NodeId{4}, What::content, "file"},
                                                 {NodeId{4}, What::name, "made"},
                                                 {NodeId{5}, What::ended, ""},
                                                 {NodeId{4}, What::directory, ""}};
    f.server.push(wire::PushInvalidate{.sequence = 1, .flags = wire::invalidate_all_leases});
    f.server.push(wire::PushInvalidate{.sequence = 2, .nodes = {NodeId{7}}, .changes = changes});
    REQUIRE(f.wait_for([&] { return heard.size() == 2; }));
    CHECK(heard[0].all_leases);
    CHECK(heard[0].changes.empty());
    CHECK_FALSE(heard[1].all_leases);
    CHECK(heard[1].nodes == std::vector<NodeId>{NodeId{7}});
    CHECK(heard[1].changes == changes);
}

TEST_CASE("an invalidation that nobody listens to is acknowledged at once") {
    SessionFixture f;
    f.connect();
    f.server.push(wire::PushInvalidate{.sequence = 8});
    CHECK(f.wait_for([&] { return f.server.of(Opcode::invalidated).size() == 1; }));
}

TEST_CASE("an idle session pings") {
    SessionFixture f;
    f.server.greeting.ping_interval_ms = 300;
    f.connect();
    CHECK(f.wait_for([&] { return f.server.pings.size() >= 2; }));
}

TEST_CASE("destroying a session resumes whoever waits") {
    SessionFixture f;
    f.connect();
    f.server.on_request = [](const FakeRequest&) { return std::nullopt; };
    const auto sent = f.start(wire::Getattr{});
    REQUIRE(f.wait_for([&] { return !f.server.requests.empty(); }));
    const auto unsent = f.start(wire::Getattr{});
    f.session.reset();
    REQUIRE(sent->done());
    REQUIRE(unsent->done());
    CHECK(sent->status() == Status::shutting_down);
    CHECK(unsent->status() == Status::shutting_down);
}

TEST_CASE("a coroutine may destroy the session that resumed it") {
    SessionFixture f;
    f.connect();
    bool ended = false;
    spawn([](SessionFixture& fixture, bool& end) -> Task<void> {
        (void)co_await fixture.session->call(wire::Getattr{});
        fixture.session.reset();
        end = true;
    }(f, ended));
    const auto other = f.start(wire::Getattr{});  // answered by the same message
    REQUIRE(f.wait_for([&] { return ended; }));
    CHECK(other->done());
}

TEST_CASE("a waiting coroutine may be destroyed") {
    SessionFixture f;
    f.connect();
    f.server.on_request = [](const FakeRequest&) { return std::nullopt; };
    {
        std::optional<Task<Result<Reply<wire::Lookup>>>> task;
        task.emplace(f.session->call(wire::Lookup{NodeId{1}, "name", {NodeId{5}, false}}));
        // A stand-in for a coroutine that awaits: starts the task, and is not resumed any more.
        struct Starter {
            struct promise_type {
                Starter get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
                std::suspend_never initial_suspend() noexcept { return {}; }
                std::suspend_always final_suspend() noexcept { return {}; }
                void return_void() {}
                void unhandled_exception() { std::terminate(); }
            };
            std::coroutine_handle<promise_type> handle;
        };
        const Starter starter = [](Task<Result<Reply<wire::Lookup>>> owned) -> Starter {
            (void)co_await std::move(owned);
        }(std::move(*task));
        REQUIRE(f.wait_for([&] { return !f.server.of(Opcode::lookup).empty(); }));
        starter.handle.destroy();
    }
    // Its late answer is given back.
    const FakeRequest lookup = f.server.of(Opcode::lookup).front();
    f.server.reply(lookup, FakeServer::answer(lookup));
    REQUIRE(f.wait_for([&] { return !f.server.of(Opcode::forget).empty(); }));
    CHECK(f.server.of(Opcode::forget)[0].as<wire::Forget>().nodes.at(0).node == NodeId{5});
}

}  // namespace remofile::client
