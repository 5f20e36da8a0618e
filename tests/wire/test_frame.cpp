// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"

using namespace remofile;
using namespace remofile::wire;

TEST_CASE("a message survives the way over the wire") {
    MessageWriter writer(MessageKind::request);
    writer.add({.opcode = Opcode::lookup, .flags = flag_link, .id = RequestId{7}, .detail = 3},
               Lookup{.parent = NodeId{1}, .name = "name", .node = {.id = NodeId{2}, .reuse = true}});
    writer.add({.opcode = Opcode::write, .id = RequestId{8}}, Write{.handle = HandleId{9}, .offset = 10},
               Buffer::copy_of("data"));
    auto parsed = parse_message(std::move(writer).finish(RequestId{5}, 6), MessageKind::request);
    REQUIRE(parsed);
    CHECK(parsed->header.answered_below == RequestId{5});
    CHECK(parsed->header.received_bytes == 6);
    REQUIRE(parsed->records.size() == 2);

    const Record& first = parsed->records[0];
    CHECK(first.linked());
    CHECK(first.header.id == RequestId{7});
    CHECK(first.header.detail == 3);
    const auto lookup = decode_body<Lookup>(first.body);
    REQUIRE(lookup);
    CHECK(lookup->name == "name");
    CHECK(lookup->node.reuse);

    const Record& second = parsed->records[1];
    CHECK(second.bulk.text() == "data");
    CHECK(second.header.bulk_size == 4);
    CHECK(decode_body<Write>(second.body)->offset == 10);
}

TEST_CASE("a message of the wrong kind or size is refused") {
    MessageWriter writer(MessageKind::request);
    writer.add({.opcode = Opcode::ping, .id = RequestId{1}}, Ping{});
    CHECK(parse_message(std::move(writer).finish(), MessageKind::reply).status() == Status::malformed);

    Message pickle{.head = Buffer::copy_of("\x80\x04\x95"), .bulk = {}};
    CHECK(parse_message(std::move(pickle), MessageKind::request).status() == Status::malformed);
}
