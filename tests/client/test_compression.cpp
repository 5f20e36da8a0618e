// SPDX-License-Identifier: MIT
// What a session makes of the data that it sends.
#include "fake_server.hpp"
#include "wire/compression.hpp"
#include "wire/kept_answers.hpp"

using namespace remofile;
using namespace remofile::client;

namespace {

std::string text_of(std::size_t size) {
    std::string text;
    while (text.size() < size)
        text += "a text of words, words, and words; number " + std::to_string(text.size()) + "\n";
    text.resize(size);
    return text;
}

std::string decoded(const FakeRequest& request) {
    const auto bulk = wire::decode_bulk(request.header, Buffer::copy_of(std::string_view(request.bulk)),
                                        wire::encoding_features, wire::max_bulk_bytes);
    REQUIRE(bulk.has_value());
    return std::string(bulk->text());
}

// Answers as one who has taken in all of the decoded data.
std::optional<FakeReply> take_all(const FakeRequest& request) {
    if (request.header.opcode != Opcode::write)
        return FakeServer::answer(request);
    return FakeReply::of(wire::WriteReply{0, request.header.bulk_size, some_attributes()});
}

struct Writing : SessionFixture {
    int answered = 0;

    void write(std::string data, std::uint64_t offset = 0) {
        spawn([](Writing& f, std::string bytes, std::uint64_t at) -> Task<void> {
            const std::size_t size = bytes.size();
            Buffer bulk = Buffer::copy_of(std::string_view(bytes));
            wire::Write request{.handle = HandleId{1}, .offset = at};
            CallOptions by_data{.lane = LaneKind::data};
            const auto reply = co_await f.session->call_with_bulk(std::move(request), std::move(bulk), by_data);
            CHECK(reply.has_value());
            if (reply)
                CHECK(reply->body.size == size);
            ++f.answered;
        }(*this, std::move(data), offset));
    }
};

}  // namespace

TEST_CASE("data is sent as the option says") {
    Writing f;
    const std::string text = text_of(300'000);
    f.server.on_request = take_all;
    const auto sent_as = [&](std::uint8_t compression) {
        f.options.compression = compression;
        f.connect();
        f.write(text);
        REQUIRE(f.wait_for([&] { return f.answered == 1; }));
        const FakeRequest write = f.server.of(Opcode::write).at(0);
        CHECK(decoded(write) == text);
        return write.header.bulk_encoding;
    };
    SECTION("each level") {
        const auto level = static_cast<std::uint8_t>(GENERATE(1, 2, 3, 9, 12));
        CHECK(sent_as(level) == wire::BulkEncoding::lz4);
        CHECK(f.server.greetings.front().as<wire::Hello>().compression == level);
    }
    SECTION("off") {
        CHECK(sent_as(wire::compression_off) == wire::BulkEncoding::raw);
        CHECK(f.server.greetings.front().as<wire::Hello>().features ==
              (wire::feature_zeros | wire::feature_set_id | wire::feature_kept_answers | wire::feature_known_answers |
               wire::feature_reclaim_locks | wire::feature_exports | wire::feature_kept_files));
    }
    SECTION("automatic, on this machine") {
        CHECK(sent_as(wire::compression_automatic) == wire::BulkEncoding::raw);
        CHECK(f.counted("client.compression.bytes_in") == 0);
    }
    SECTION("with a server that cannot decode") {
        f.server.greeting.features = 0;
        CHECK(sent_as(9) == wire::BulkEncoding::raw);
    }
}

TEST_CASE("requests keep their order while data is being compressed") {
    Writing f;
    f.options.compression = 12;
    f.server.on_request = take_all;
    f.connect();
    const std::string text = text_of(1 << 20);
    constexpr int count = 30;
    for (int i = 0; i < count; ++i)
        f.write(i % 3 == 0 ? text : text.substr(0, 1000), static_cast<std::uint64_t>(i));
    f.session->tell(wire::Release{HandleId{1}}, LaneKind::data);
    REQUIRE(f.wait_for([&] { return f.answered == count; }));
    const auto writes = f.server.of(Opcode::write);
    REQUIRE(writes.size() == count);
    for (int i = 0; i < count; ++i)
        CHECK(writes[static_cast<std::size_t>(i)].as<wire::Write>().offset == static_cast<std::uint64_t>(i));
    REQUIRE(f.wait_for([&] { return !f.server.of(Opcode::release).empty(); }));
    CHECK(f.server.requests.back().header.opcode == Opcode::release);
}

TEST_CASE("zeros are told, and sent to a server that does not know them") {
    Writing f;
    f.server.on_request = take_all;
    const bool knows = GENERATE(true, false);
    f.server.greeting.features = knows ? wire::feature_zeros : 0;
    f.connect();
    f.write(std::string(500'000, '\0'));
    REQUIRE(f.wait_for([&] { return f.answered == 1; }));
    const FakeRequest write = f.server.of(Opcode::write).at(0);
    CHECK(write.bulk.size() == (knows ? 0 : 500'000));
    CHECK(decoded(write) == std::string(500'000, '\0'));
}

TEST_CASE("a call that is given up while its data is compressed is not sent") {
    Writing f;
    f.options.compression = 12;
    f.server.on_request = take_all;
    f.connect();
    Cancellation cancellation;
    bool ended = false;
    spawn([](Writing& g, Cancellation& wish, bool& end) -> Task<void> {
        Buffer bulk = Buffer::copy_of(text_of(1 << 20));
        wire::Write request{.handle = HandleId{1}};
        const auto reply = co_await g.session->call_with_bulk(std::move(request), std::move(bulk), {}, &wish);
        CHECK(reply.status() == Status::interrupted);
        end = true;
    }(f, cancellation, ended));
    bool turned = false;
    f.reactor.at_end_of_turn([&] { turned = true; });
    REQUIRE(f.wait_for([&] { return turned; }));
    cancellation.cancel();
    if (f.server.of(Opcode::write).empty())
        CHECK(ended);
    f.write(text_of(1000));
    REQUIRE(f.wait_for([&] { return f.answered == 1 && ended; }));
}

TEST_CASE("what was compressed is sent again as it was") {
    Writing f;
    f.options.compression = 1;
    f.connect();
    f.server.on_request = [](const FakeRequest&) { return std::optional<FakeReply>(); };
    const std::string text = text_of(200'000);
    f.write(text);
    REQUIRE(f.wait_for([&] { return f.server.of(Opcode::write).size() == 1; }));
    f.server.on_request = take_all;
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    f.server.start();
    REQUIRE(f.wait_for([&] { return f.answered == 1; }));
    const FakeRequest again = f.server.of(Opcode::write).back();
    CHECK(again.resent());
    CHECK(decoded(again) == text);
}
