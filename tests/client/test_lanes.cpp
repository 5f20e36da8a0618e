// SPDX-License-Identifier: MIT
// The data lane is lost, its requests go by the metadata lane, and by their own again when it is to be had.
#include <set>

#include "fake_server.hpp"
#include "wire/compression.hpp"

using namespace remofile;
using namespace remofile::client;

namespace {

constexpr CallOptions by_data{.lane = LaneKind::data};

std::optional<FakeReply> no_answer(const FakeRequest&) {
    return std::nullopt;
}

// Numbered, so that no two are alike.
std::string text_of(std::size_t number, std::size_t size) {
    std::string text;
    while (text.size() < size)
        text += "block " + std::to_string(number) + ", word " + std::to_string(text.size() * number % 9973) + "\n";
    text.resize(size);
    return text;
}

std::string decoded(const FakeRequest& request) {
    const auto bulk = wire::decode_bulk(request.header, Buffer::copy_of(std::string_view(request.bulk)),
                                        wire::encoding_features, wire::max_bulk_bytes);
    return bulk ? std::string(bulk->text()) : std::string("does not decode");
}

std::optional<FakeReply> take_all(const FakeRequest& request) {
    if (request.header.opcode != Opcode::write)
        return FakeServer::answer(request);
    return FakeReply::of(wire::WriteReply{0, request.header.bulk_size, some_attributes()});
}

struct Lanes : SessionFixture {
    std::size_t answered = 0;

    ~Lanes() {
        if (session)
            session->close();
    }
    void write(std::uint64_t offset, std::string data) {
        spawn([](Lanes& f, std::uint64_t at, std::string bytes) -> Task<void> {
            Buffer bulk = Buffer::copy_of(std::string_view(bytes));
            wire::Write request{.handle = HandleId{1}, .offset = at};
            const auto reply = co_await f.session->call_with_bulk(std::move(request), std::move(bulk), by_data);
            CHECK(reply.status() == Status::ok);
            ++f.answered;
        }(*this, offset, std::move(data)));
    }
    transport::RouteId data_route() const {
        const auto last = std::ranges::find_if(server.greetings.rbegin(), server.greetings.rend(),
                                               [](const auto& each) { return each.header.opcode == Opcode::attach; });
        return last->route;
    }
    transport::RouteId metadata_route() const {
        const auto last = std::ranges::find_if(server.greetings.rbegin(), server.greetings.rend(),
                                               [](const auto& each) { return each.header.opcode == Opcode::hello; });
        return last->route;
    }
    // The data lane is lost, and is not to be had again.
    void lose_data_lane() {
        server.attach_status = Status::limit_exceeded;
        const std::size_t before = server.attaches();
        server.send_garbage(data_route());
        REQUIRE(wait_for([&] { return server.attaches() > before; }));
        settle();
    }
    // It is, once the client asks.
    void allow_data_lane() {
        server.attach_status = Status::ok;
        const std::size_t before = server.attaches();
        clock.jump(merged_retry);
        REQUIRE(wait_for([&] { return server.attaches() > before; }));
        // The client takes the lane only when the answer has come: that it has, what is sent behind it shows.
        const std::uint64_t unknown = counted("client.unknown_replies");
        wire::RecordHeader behind{.opcode = Opcode::access};
        behind.id = RequestId{UINT64_MAX};
        server.send(data_route(), behind, {});
        REQUIRE(wait_for([&] { return counted("client.unknown_replies") > unknown; }));
    }
    static constexpr Duration merged_retry = 30s;
};

}  // namespace

TEST_CASE("a compressed upload survives the loss of its lane with a full window") {
    Lanes f;
    f.options.compression = 12;  // slow enough for blocks to be with the codec thread when the lanes merge
    f.server.greeting.request_bytes = 200'000;
    f.connect();
    f.server.on_request = no_answer;
    constexpr std::size_t count = 24;
    constexpr std::size_t block = 500'000;
    for (std::size_t i = 0; i < count; ++i)
        f.write(i * block, text_of(i, block));
    REQUIRE(f.wait_for([&] { return !f.server.of(Opcode::write).empty(); }));
    const transport::RouteId lost = f.data_route();

    if (GENERATE(true, false)) {  // five attempts fail
        f.server.broken_attaches = 5;
        f.server.send_garbage(f.data_route());
        REQUIRE(f.wait_for([&] { return f.server.broken_attaches == 0; }));
    } else {  // the first is refused
        f.server.attach_status = Status::limit_exceeded;
        f.server.send_garbage(f.data_route());
    }
    f.server.on_request = take_all;
    f.server.requests.clear();
    REQUIRE(f.wait_for([&] { return f.answered == count; }));
    std::set<std::uint64_t> ids;
    std::uint64_t next_offset = 0;
    for (const FakeRequest& request : f.server.of(Opcode::write)) {
        if (request.route == lost)  // it was on its way when the lane was lost, and nobody hears the answer
            continue;
        ids.insert(request.header.id.value);
        const std::uint64_t offset = request.as<wire::Write>().offset;
        CHECK(offset == next_offset);
        next_offset += block;
        CHECK(request.header.bulk_size == block);
        CHECK(decoded(request) == text_of(offset / block, block));
    }
    CHECK(ids.size() == count);
    CHECK(next_offset == count * block);
}

TEST_CASE("a data lane that is to be had again is used again, in order") {
    Lanes f;
    f.connect();
    f.lose_data_lane();
    f.server.on_request = no_answer;
    f.write(1, "first");
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 1; }));
    CHECK(f.server.of(Opcode::write)[0].route == f.metadata_route());

    f.allow_data_lane();
    f.write(2, "second");
    f.session->tell(wire::Release{HandleId{1}}, LaneKind::data);
    // Requests of the other kind go on, those of this kind wait until the first is answered.
    const auto other = f.start(wire::Getattr{});
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::getattr).size() == 1; }));
    CHECK(f.server.of(Opcode::write).size() == 1);
    CHECK(f.server.of(Opcode::release).empty());
    f.server.on_request = take_all;
    f.server.reply(f.server.of(Opcode::write)[0], *take_all(f.server.of(Opcode::write)[0]));
    REQUIRE(f.wait_for([&] { return f.answered == 2; }));
    CHECK(f.server.of(Opcode::write)[1].route == f.data_route());
    CHECK(f.data_route() != f.metadata_route());
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::release).size() == 1; }));
    CHECK(f.server.of(Opcode::release)[0].route == f.data_route());
    CHECK(f.counted("client.resent_requests") == 0);
}

TEST_CASE("a data lane that is not to be had is asked for at a slow pace, and nothing else notices") {
    Lanes f;
    f.connect();
    f.lose_data_lane();
    const std::uint64_t lost = f.counted("client.lost_connections");
    const std::size_t refused = f.server.attaches();
    f.clock.jump(Lanes::merged_retry - 5s);
    REQUIRE(f.ask(wire::Read{.size = 10}, by_data).has_value());
    CHECK(f.server.attaches() == refused);
    for (std::size_t again = 1; again <= 3; ++again) {
        f.clock.jump(Lanes::merged_retry);
        REQUIRE(f.wait_for([&] { return f.server.attaches() == refused + again; }));
        REQUIRE(f.ask(wire::Read{.size = 10}, by_data).has_value());
    }
    CHECK(f.counted("client.lost_connections") == lost);
    for (const FakeRequest& request : f.server.of(Opcode::read))
        CHECK_FALSE(request.resent());
}

TEST_CASE("a data lane that goes again before it was used takes nothing with it") {
    Lanes f;
    f.connect();
    f.lose_data_lane();
    f.server.on_request = no_answer;
    f.write(1, "first");
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 1; }));
    f.allow_data_lane();
    f.write(2, "second");
    bool turned = false;
    f.reactor.at_end_of_turn([&] { turned = true; });
    REQUIRE(f.wait_for([&] { return turned; }));
    f.server.broken_attaches = 5;
    f.server.send_garbage(f.data_route());
    REQUIRE(f.wait_for([&] { return f.server.broken_attaches == 0; }));
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 2; }));
    f.server.on_request = take_all;
    for (const FakeRequest& request : f.server.of(Opcode::write)) {
        CHECK(request.route == f.metadata_route());
        f.server.reply(request, *take_all(request));
    }
    REQUIRE(f.wait_for([&] { return f.answered == 2; }));
    CHECK(f.server.of(Opcode::write)[1].as<wire::Write>().offset == 2);
}

TEST_CASE("a new session asks for a data lane at once") {
    Lanes f;
    f.connect();
    f.lose_data_lane();
    f.server.attach_status = Status::ok;
    f.server.knows_session = false;
    const std::size_t before = f.server.attaches();
    f.server.send_garbage(f.metadata_route());
    REQUIRE(f.wait_for([&] { return f.session->epoch() == 2 && f.server.attaches() > before; }));
    f.settle();
    REQUIRE(f.ask(wire::Read{.size = 10}, by_data).has_value());
    CHECK(f.server.of(Opcode::read).back().route == f.data_route());
}
