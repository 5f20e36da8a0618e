// SPDX-License-Identifier: MIT
// Nothing that a server says may hang, crash or mislead the client.
#include "client/remote_tree.hpp"
#include "fake_server.hpp"
#include "wire/codec.hpp"
#include "wire/compression.hpp"

namespace remofile::client {
namespace {

using Script = std::function<std::optional<FakeReply>(const FakeRequest&)>;

template <class Request>
Status outcome_of(SessionFixture& f, Request request, Script script) {
    f.server.on_request = std::move(script);
    const Status status = f.ask(std::move(request)).status();
    f.server.on_request = [](const FakeRequest& honest) -> std::optional<FakeReply> {
        return FakeServer::answer(honest);
    };
    // Whatever it was, the session goes on.
    CHECK(f.ask(wire::Getattr{}).has_value());
    return status;
}

Script answer_with(FakeReply reply) {
    return [reply](const FakeRequest&) { return reply; };
}

// A server that has a key, and its client.
struct EncryptedFixture : SessionFixture {
    transport::KeyPair key = transport::KeyPair::generate();
    transport::KeyPair identity = transport::KeyPair::generate();
    transport::KeySet authorizer{{identity.public_key()}};
    std::vector<std::vector<transport::PublicKey>> announced;

    EncryptedFixture() {
        server.stop();
        server.options.endpoints = {"tcp://127.0.0.1:*"};
        server.options.server_key = key;
        server.options.authorizer = &authorizer;
        server.start();
        options.lane.endpoint = server.endpoint();
        options.lane.identity = identity;
        options.lane.server_key = key.public_key();
        options.on_server_keys = [this](auto keys) { announced.emplace_back(keys.begin(), keys.end()); };
    }
    ~EncryptedFixture() {
        session.reset();
        server.stop();
    }
};

wire::PushNextKeys next_keys(std::size_t count, std::uint8_t first) {
    wire::PushNextKeys push;
    for (std::size_t i = 0; i < count; ++i)
        push.keys.push_back({static_cast<std::uint8_t>(first + i)});
    return push;
}

}  // namespace

TEST_CASE("replies that make no sense end as input/output errors") {
    SessionFixture f;
    f.connect();
    const std::vector<std::byte> junk(7);
    auto attributes = some_attributes();

    CHECK(outcome_of(f, wire::Getattr{}, answer_with({})) == Status::io_error);
    CHECK(outcome_of(f, wire::Getattr{}, answer_with({.body = junk})) == Status::io_error);
    CHECK(outcome_of(f, wire::Unlink{}, answer_with({.body = junk})) == Status::io_error);
    CHECK(outcome_of(f, wire::Unlink{}, answer_with({.status = static_cast<Status>(4711)})) == Status::io_error);
    attributes.mode = 0777;  // no file type
    CHECK(outcome_of(f, wire::Getattr{}, answer_with(FakeReply::of(wire::AttributesReply{attributes}))) ==
          Status::io_error);
    attributes = some_attributes();
    attributes.size = UINT64_MAX;
    CHECK(outcome_of(f, wire::Getattr{}, answer_with(FakeReply::of(wire::AttributesReply{attributes}))) ==
          Status::io_error);
    attributes = some_attributes();
    attributes.access.nanoseconds = 1'000'000'000;
    CHECK(outcome_of(f, wire::Getattr{}, answer_with(FakeReply::of(wire::AttributesReply{attributes}))) ==
          Status::io_error);

    const wire::Lookup lookup{NodeId{1}, "name", {NodeId{5}, false}};
    CHECK(outcome_of(f, lookup, answer_with(FakeReply::of(wire::EntryReply{NodeId{6}, some_attributes()}))) ==
          Status::io_error);
    CHECK(outcome_of(f, lookup, answer_with(FakeReply::of(wire::EntryReply{NodeId{0}, some_attributes()}))) ==
          Status::io_error);
    CHECK(outcome_of(f, wire::Readlink{}, answer_with(FakeReply::of(wire::ReadlinkReply{""}))) == Status::io_error);
    CHECK(outcome_of(f, wire::Readlink{}, answer_with(FakeReply::of(wire::ReadlinkReply{std::string("a\0b", 3)}))) ==
          Status::io_error);
    CHECK(outcome_of(f, wire::Write{}, answer_with(FakeReply::of(wire::WriteReply{0, 1, some_attributes()}))) ==
          Status::io_error);
    CHECK(outcome_of(f, wire::CopyRange{.size = 10}, answer_with(FakeReply::of(wire::CopyRangeReply{11}))) ==
          Status::io_error);
    CHECK(outcome_of(f, wire::Readdir{.size = 100}, answer_with(FakeReply::of(wire::ReaddirReply{0, false}))) ==
          Status::io_error);
    CHECK(outcome_of(f, wire::Getxattr{.size = 100}, answer_with(FakeReply::of(wire::XattrReply{5}))) ==
          Status::io_error);
    CHECK(outcome_of(f, wire::Readdir{.size = 100, .max_entries = 2},
                     answer_with(FakeReply::of(wire::ReaddirReply{3, false}))) == Status::io_error);
    CHECK(f.counted("client.rejected_replies") == 16);
}

TEST_CASE("more bulk data than was asked for is an error") {
    SessionFixture f;
    f.connect();
    CHECK(outcome_of(f, wire::Read{.size = 10}, answer_with({.bulk = std::string(11, 'x')})) == Status::io_error);
    CHECK(outcome_of(f, wire::Getattr{}, answer_with({.bulk = "x"})) == Status::io_error);
    CHECK(outcome_of(f, wire::Read{.size = 10}, answer_with({.bulk = std::string(9, 'x')})) == Status::ok);
    CHECK(outcome_of(f, wire::Read{.size = 10}, answer_with({})) == Status::ok);
}

TEST_CASE("zeros and LZ4 are decoded, and refused where they are not in force or do not fit") {
    SessionFixture f;
    const bool in_force = GENERATE(true, false);
    f.server.greeting.features = in_force ? wire::feature_lz4 | wire::feature_zeros : 0;
    f.connect();
    const auto answer_zeros = [&](std::uint32_t size) {
        return outcome_of(f, wire::Read{.size = 1000}, [&, size](const FakeRequest& request) {
            wire::RecordHeader header{.opcode = Opcode::read};
            header.id = request.header.id;
            header.bulk_encoding = wire::BulkEncoding::zeros;
            header.bulk_size = size;
            f.server.send(request.route, header, {}, "");
            return std::optional<FakeReply>();
        });
    };
    CHECK(answer_zeros(1000) == (in_force ? Status::ok : Status::io_error));
    CHECK(answer_zeros(1001) == Status::io_error);
}

TEST_CASE("LZ4 is decoded on a thread of its own where it is long, and refused where it lies") {
    SessionFixture f;
    f.connect();
    constexpr std::uint32_t size = 500'000;
    Counters counters;
    wire::CompressionMeter meter(counters, "test");
    Buffer data = Buffer::copy_of(std::string(size, 'd'));
    const wire::EncodedBulk bulk =
        wire::encode_bulk(std::move(data), {.zeros = true, .level = 1, .adaptive = false}, nullptr, meter);
    const auto answer_lz4 = [&](std::uint32_t asked, std::uint32_t declared, std::string_view block) {
        f.server.on_request = [&f, declared, block](const FakeRequest& request) -> std::optional<FakeReply> {
            wire::RecordHeader header{.opcode = Opcode::read};
            header.id = request.header.id;
            header.bulk_encoding = wire::BulkEncoding::lz4;
            header.bulk_size = declared;
            f.server.send(request.route, header, {}, std::string(block));
            return std::nullopt;
        };
        return f.ask(wire::Read{.size = asked});
    };
    const auto good = answer_lz4(size, size, bulk.data.text());
    REQUIRE(good.has_value());
    CHECK(good->bulk.text() == std::string(size, 'd'));
    CHECK(answer_lz4(size, size - 1, bulk.data.text()).status() == Status::io_error);
    CHECK(answer_lz4(size, size, bulk.data.text().substr(1)).status() == Status::io_error);
    CHECK(answer_lz4(size - 1, size, bulk.data.text()).status() == Status::io_error);
    CHECK(answer_lz4(size, size, std::string(1000, '\xff')).status() == Status::io_error);
    CHECK(answer_lz4(100, 100, std::string(10, '\xff')).status() == Status::io_error);
    CHECK(f.counted("client.rejected_replies") == 5);
}

TEST_CASE("closing a session ends calls whose reply is being decoded") {
    SessionFixture f;
    f.connect();
    constexpr std::uint32_t size = 1'000'000;
    Counters counters;
    wire::CompressionMeter meter(counters, "test");
    Buffer data = Buffer::copy_of(std::string(size, 'd'));
    const wire::EncodedBulk bulk =
        wire::encode_bulk(std::move(data), {.zeros = true, .level = 1, .adaptive = false}, nullptr, meter);
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        wire::RecordHeader header{.opcode = Opcode::read};
        header.id = request.header.id;
        header.bulk_encoding = wire::BulkEncoding::lz4;
        header.bulk_size = size;
        f.server.send(request.route, header, {}, std::string(bulk.data.text()));
        return std::nullopt;
    };
    std::vector<std::shared_ptr<SessionFixture::Outcome<wire::Read>>> outcomes;
    for (int i = 0; i < 20; ++i)
        outcomes.push_back(f.start(wire::Read{.size = size}));
    REQUIRE(f.wait_for([&] { return outcomes.front()->done(); }));
    f.session->close();
    for (const auto& outcome : outcomes) {
        REQUIRE(outcome->done());
        CHECK((outcome->status() == Status::ok || outcome->status() == Status::shutting_down));
    }
}

TEST_CASE("replies with wrong numbers, twice, or from the wrong lane are ignored") {
    SessionFixture f;
    f.connect();
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        FakeRequest other = request;
        for (const std::uint64_t id : {request.header.id.value + 1, std::uint64_t{1}, UINT64_MAX}) {
            other.header.id.value = id;
            f.server.reply(other, FakeServer::answer(request));
        }
        other = request;
        other.route = f.server.greetings.at(1).route;
        f.server.reply(other, {.status = Status::io_error});
        f.server.reply(request, FakeServer::answer(request));
        return FakeServer::answer(request);
    };
    CHECK(f.ask(wire::Getattr{}).has_value());
    f.server.on_request = [](const FakeRequest&) { return FakeReply{}; };
    f.settle();
    CHECK(f.counted("client.unknown_replies") >= 5);
    CHECK(f.session->connected());
}

TEST_CASE("a reply for another kind of request is an error") {
    SessionFixture f;
    f.connect();
    CHECK(outcome_of(f, wire::Getattr{}, [&](const FakeRequest& request) {
              FakeRequest other = request;
              other.header.opcode = Opcode::open;
              f.server.reply(other, FakeServer::answer(request));
              return std::optional<FakeReply>();
          }) == Status::io_error);
}

TEST_CASE("replies may come in any order") {
    SessionFixture f;
    f.connect();
    f.server.on_request = [](const FakeRequest&) { return std::nullopt; };
    std::vector<std::shared_ptr<SessionFixture::Outcome<wire::Seek>>> outcomes;
    for (std::uint64_t i = 0; i < 5; ++i)
        outcomes.push_back(f.start(wire::Seek{.offset = i}));
    REQUIRE(f.wait_for([&] { return f.server.requests.size() == 5; }));
    for (auto request = f.server.requests.rbegin(); request != f.server.requests.rend(); ++request)
        f.server.reply(*request, FakeReply::of(wire::SeekReply{request->as<wire::Seek>().offset}));
    for (std::uint64_t i = 0; i < 5; ++i) {
        REQUIRE(f.wait_for([&] { return outcomes[i]->done(); }));
        CHECK(outcomes[i]->result->value().body.offset == i);
    }
}

TEST_CASE("a message that cannot be taken apart costs the connection, not the request") {
    SessionFixture f;
    f.connect();
    bool broken = false;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (!std::exchange(broken, true)) {
            wire::Message junk;
            junk.head = Buffer::copy_of("this is no message of Remofile");
            f.server.listener->send(request.route, std::move(junk));
            return std::nullopt;
        }
        return FakeServer::answer(request);
    };
    CHECK(f.ask(wire::Getattr{}).has_value());
    CHECK(f.counted("client.rejected_messages") == 1);
    CHECK(f.server.of(Opcode::getattr).size() == 2);
}

TEST_CASE("a message that the server rejects ends the requests of its lane") {
    SessionFixture f;
    f.connect();
    CHECK(outcome_of(f, wire::Getattr{}, [&](const FakeRequest& request) {
              wire::RecordHeader header{};
              header.detail = static_cast<std::uint32_t>(Status::malformed);
              f.server.send(request.route, header, {});
              return std::optional<FakeReply>();
          }) == Status::malformed);
}

TEST_CASE("a HELLO that makes no sense is refused") {
    SessionFixture f;
    SECTION("another root") {
        f.server.greeting.root = NodeId{2};
    }
    SECTION("no session") {
        f.server.greeting.session = {};
    }
    SECTION("another version") {
        f.server.greeting.version = 3;
    }
    SECTION("a root that is nothing") {
        f.server.greeting.root_attributes.mode = 0;
    }
    REQUIRE_FALSE(f.open());
    CHECK(f.failure->status == Status::malformed);
}

TEST_CASE("a server that grants nothing is still served one by one") {
    SessionFixture f;
    f.server.greeting.max_requests = 0;
    f.server.greeting.request_bytes = 0;
    f.server.greeting.reply_window_bytes = 0;
    f.server.greeting.ping_interval_ms = 0;
    f.connect();
    const auto first = f.start(wire::Getattr{});
    const auto second = f.start(wire::Fsync{});
    REQUIRE(f.wait_for([&] { return first->done() && second->done(); }));
    CHECK(second->status() == Status::ok);
}

TEST_CASE("listings and fetched files that make no sense end as input/output errors") {
    SessionFixture f;
    f.connect();
    const auto directory = some_attributes();
    auto attributes = directory;
    attributes.mode = 0100644;
    const wire::List list{.node = NodeId{1}, .name = "d", .new_node = {NodeId{5}, false}, .size = 4096};
    const auto listing = [](std::vector<wire::DirectoryEntry> entries) {
        std::vector<std::byte> bytes;
        for (const auto& entry : entries)
            wire::Encoder(bytes).put(entry);
        return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    const wire::DirectoryEntry good{.cookie = 1, .name = "a", .entry = {{}, attributes}};
    const auto answer = [&](const wire::ListReply& reply, std::string bulk) {
        FakeReply made = FakeReply::of(reply);
        made.bulk = std::move(bulk);
        return answer_with(made);
    };
    const wire::ListReply honest{.entry = {NodeId{5}, directory}, .count = 1, .end = true};
    CHECK(outcome_of(f, list, answer(honest, listing({good}))) == Status::ok);
    const auto wrong = [&](const auto& change) {
        wire::ListReply reply = honest;
        change(reply);
        return outcome_of(f, list, answer(reply, listing({good})));
    };
    CHECK(wrong([](auto& reply) { reply.entry.node = NodeId{6}; }) == Status::io_error);
    CHECK(wrong([&](auto& reply) { reply.entry.attributes = attributes; }) == Status::io_error);  // a file
    CHECK(wrong([](auto& reply) { reply.count = 2; }) == Status::io_error);
    CHECK(wrong([](auto& reply) { reply.count = 0; }) == Status::io_error);
    CHECK(wrong([](auto& reply) { reply.leased = true; }) == Status::io_error);  // not asked for
    wire::ListReply empty = honest;
    empty.count = 0;
    CHECK(outcome_of(f, list, answer(empty, "")) == Status::ok);
    empty.end = false;
    CHECK(outcome_of(f, list, answer(empty, "")) == Status::io_error);
    for (const std::string& name :
         {std::string(), std::string("a/b"), std::string("a\0b", 3), std::string(256, 'n'), std::string("x")}) {
        wire::DirectoryEntry bad = good;
        bad.name = name;
        bad.entry.node = NodeId{name == "x" ? 9U : 0U};  // nodes were not asked for
        CHECK(outcome_of(f, list, answer(honest, listing({bad}))) == Status::io_error);
    }
    wire::DirectoryEntry bad = good;
    bad.entry.attributes.mode = 0777;  // no file type
    CHECK(outcome_of(f, list, answer(honest, listing({bad}))) == Status::io_error);
    wire::List by_node = list;
    by_node.name.clear();
    CHECK(outcome_of(f, by_node, answer(honest, listing({good}))) == Status::io_error);  // another node

    const wire::Fetch fetch{NodeId{1}, "f", 10};
    auto file = attributes;
    file.size = 3;
    const auto fetched = [&](const wire::Attributes& about, bool complete, std::string_view content) {
        FakeReply made = FakeReply::of(wire::FetchReply{about, complete});
        if (!content.empty())
            made.bulk = std::string(content);
        return outcome_of(f, fetch, answer_with(made));
    };
    CHECK(fetched(file, true, "abc") == Status::ok);
    CHECK(fetched(file, false, "") == Status::ok);
    CHECK(fetched(file, true, "ab") == Status::io_error);
    CHECK(fetched(file, false, "abc") == Status::io_error);
    CHECK(fetched(directory, true, "") == Status::io_error);
    file.size = 11;
    CHECK(fetched(file, true, "abcdefghijk") == Status::io_error);  // more than was asked for
}

TEST_CASE("a directory that a server lists for ever is given up") {
    SessionFixture f;
    f.connect();
    std::uint64_t listed = 0;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode != Opcode::readdir)
            return FakeServer::answer(request);
        std::vector<std::byte> bytes;
        wire::Encoder encoder(bytes);
        constexpr std::uint16_t count = 100;
        for (int i = 0; i < count; ++i) {
            auto attributes = some_attributes();
            attributes.identity.inode = ++listed;
            const NodeId node{request.as<wire::Readdir>().first_node.value + static_cast<std::uint64_t>(i)};
            encoder.put(
                wire::DirectoryEntry{.cookie = listed, .name = std::to_string(listed), .entry = {node, attributes}});
        }
        FakeReply reply = FakeReply::of(wire::ReaddirReply{count, false});
        reply.bulk = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return reply;
    };
    RemoteTree tree(*f.session, 1'000);
    std::optional<Status> status;
    spawn([](RemoteTree& asked, std::optional<Status>& out) -> Task<void> {
        out = (co_await asked.list(NodeId{1})).status();
    }(tree, status));
    REQUIRE(f.wait_for([&] { return status.has_value(); }));
    CHECK(status == Status::limit_exceeded);
    CHECK(listed == 1'100);
    // All of it is given back.
    const auto given_back = [&] {
        std::size_t nodes = 0;
        for (const FakeRequest& request : f.server.of(Opcode::forget))
            nodes += request.as<wire::Forget>().nodes.size();
        return nodes;
    };
    CHECK(f.wait_for([&] { return given_back() == listed && f.server.of(Opcode::releasedir).size() == 1; }));
}

TEST_CASE("a server that pushes without end, and answers no confirmation, gets few of them, and the last one") {
    SessionFixture f;
    f.server.greeting.max_requests = 100;
    f.connect();
    f.session->on_invalidate = [](const Invalidation&, const std::function<void()>& acknowledge) { acknowledge(); };
    std::vector<FakeRequest> unanswered;
    f.server.on_request = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        unanswered.push_back(request);
        return std::nullopt;
    };
    constexpr std::uint64_t pushes = 5'000;
    for (std::uint64_t sequence = 1; sequence <= pushes; ++sequence) {
        f.server.push(wire::PushInvalidate{.sequence = sequence, .nodes = {NodeId{sequence}}});
        f.server.push(wire::PushShutdown{"tired"});
        // Of what nobody takes ZeroMQ keeps a thousand messages.
        if (sequence % 100 == 0)
            REQUIRE(f.wait_for([&] { return f.counted("client.invalidations") == sequence; }));
    }
    CHECK(f.session->connected());
    // As many as may be unanswered, and one for all the rest.
    REQUIRE(f.wait_for([&] {
        for (const FakeRequest& request : std::exchange(unanswered, {}))
            f.server.reply(request, {});
        const auto heard = f.server.of(Opcode::invalidated);
        return !heard.empty() && heard.back().as<wire::Invalidated>().sequence == pushes;
    }));
    CHECK(f.server.of(Opcode::invalidated).size() <= 101);
}

TEST_CASE("a server that does not wait for confirmations loses the connection") {
    SessionFixture f;
    f.connect();
    std::size_t heard = 0;
    f.session->on_invalidate = [&](const Invalidation&, const std::function<void()>&) { ++heard; };
    for (std::uint64_t sequence = 1; sequence <= 100; ++sequence)
        f.server.push(wire::PushInvalidate{.sequence = sequence, .nodes = {NodeId{4}}});
    CHECK(f.wait_for([&] { return !f.session->connected(); }));
    CHECK(heard == 16);
    f.session->on_invalidate = nullptr;
    CHECK(f.ask(wire::Getattr{}).has_value());
}

TEST_CASE("unknown and wrong pushes are ignored") {
    SessionFixture f;
    f.connect();
    f.session->on_invalidate = [](const Invalidation&, const std::function<void()>&) { FAIL("not an invalidation"); };
    wire::RecordHeader header{.opcode = static_cast<Opcode>(0x8abc)};
    f.server.send(f.server.greetings[0].route, header, {}, {}, wire::MessageKind::push);
    header.opcode = Opcode::push_invalidate;
    f.server.send(f.server.greetings[0].route, header, std::vector<std::byte>(3), {}, wire::MessageKind::push);
    using What = wire::LeaseChange::What;
    f.server.push(wire::PushInvalidate{.sequence = 1, .flags = 2});
    for (const auto& [what, name] :
         {std::pair(What::content, ""), std::pair(What::name, "a/b"), std::pair(What::name, ".."),
          std::pair(What::ended, "name"), std::pair(What::directory, "name"), std::pair(static_cast<What>(4), "name")})
        f.server.push(wire::PushInvalidate{.sequence = 1, .changes = {{NodeId{1}, what, name}}});
    f.server.push(wire::PushShutdown{"tired"});
    f.settle();
    CHECK(f.counted("client.rejected_pushes") == 9);
    CHECK(f.session->connected());
}

TEST_CASE("of the keys that a server announces those are taken that make sense, once a connection") {
    EncryptedFixture f;
    f.connect();
    CHECK((f.server.greetings.front().as<wire::Hello>().features & wire::feature_next_keys) != 0);
    f.server.push(next_keys(100, 1));
    f.server.push(next_keys(wire::max_next_keys + 1, 1));
    f.settle();
    CHECK(f.announced.empty());
    CHECK(f.counted("client.rejected_pushes") == 2);
    // Its own, one twice, and one that no handshake can be made with.
    wire::PushNextKeys odd = next_keys(2, 0);
    odd.keys.push_back(f.key.public_key().bytes);
    odd.keys.push_back(odd.keys.back());
    f.server.push(odd);
    f.settle();
    REQUIRE(f.announced.size() == 1);
    CHECK(f.announced.front() == std::vector<transport::PublicKey>{f.key.public_key(), {odd.keys[0]}, {odd.keys[1]}});
    // Each would be written down.
    for (std::uint8_t i = 1; i <= 20; ++i)
        f.server.push(next_keys(1, i));
    f.settle();
    CHECK(f.announced.size() == 1);
    CHECK(f.counted("client.rejected_pushes") == 22);
    CHECK(f.session->connected());
}

TEST_CASE("what a server announces to a client that was given its key, or without encryption, is nothing to it") {
    const bool encrypted = GENERATE(false, true);
    EncryptedFixture given;
    given.options.on_server_keys = nullptr;
    SessionFixture plain;
    plain.options.on_server_keys = [](auto) { FAIL("nobody has proved a key"); };
    SessionFixture& f = encrypted ? given : plain;
    f.connect();
    CHECK((f.server.greetings.front().as<wire::Hello>().features & wire::feature_next_keys) == 0);
    f.server.push(next_keys(1, 1));
    f.settle();
    CHECK(f.session->connected());
}

TEST_CASE("a server is found by any of its keys, and none of them is no end of attempts") {
    EncryptedFixture f;
    const transport::PublicKey other = transport::KeyPair::generate().public_key();
    f.options.lane.server_key = other;
    SECTION("it has the last") {
        f.options.more_server_keys = {transport::PublicKey{}, f.key.public_key()};
        f.connect();
        f.server.push(next_keys(0, 0));
        f.settle();
        REQUIRE(f.announced.size() == 1);
        CHECK(f.announced.front() == std::vector{f.key.public_key()});
    }
    SECTION("it has none") {
        f.options.more_server_keys = {transport::KeyPair::generate().public_key()};
        CHECK_FALSE(f.open());
        REQUIRE(f.failure.has_value());
        CHECK(f.failure->status == Status::wrong_server_key);
        CHECK_THAT(f.failure->message, ContainsSubstring(other.to_text()) &&
                                           ContainsSubstring(f.options.more_server_keys.front().to_text()));
    }
}

}  // namespace remofile::client
