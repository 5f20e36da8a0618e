// SPDX-License-Identifier: MIT
// What a peer may send and a message or body must survive: every truncation, random changes, and each limit.
#include <rapidcheck.h>

#include <algorithm>
#include <random>

#include "all_structures.hpp"
#include "catch.hpp"
#include "wire/frame.hpp"

using namespace remofile;
using namespace remofile::wire;

namespace {

// Fills a structure, field by field, with what rapidcheck comes up with.
struct Filler {
    template <std::integral T>
    void fill(T& value) {
        value = *rc::gen::arbitrary<T>();
    }
    template <class T>
    requires std::is_enum_v<T>
    void fill(T& value) { value = static_cast<T>(*rc::gen::arbitrary<std::underlying_type_t<T>>()); }
    template <class Tag>
    void fill(StrongId<Tag>& id) {
        fill(id.value);
    }
    void fill(std::string& text) { text = *rc::gen::arbitrary<std::string>(); }
    template <class T>
    void fill(std::vector<T>& elements) {
        elements.resize(*rc::gen::inRange<std::size_t>(0, 5));
        for (T& element : elements)
            fill(element);
    }
    template <class T, std::size_t N>
    void fill(std::array<T, N>& elements) {
        for (T& element : elements)
            fill(element);
    }
    template <Structure T>
    void fill(T& value) {
        std::apply([&](auto... member) { (fill(value.*member), ...); }, T::fields);
    }
};

RecordHeader header_of(Opcode opcode, std::uint64_t id) {
    return {.opcode = opcode, .id = RequestId{id}};
}

// A message with several records, of which two own bulk frames.
Message sample_message() {
    MessageWriter writer(MessageKind::request);
    writer.add(header_of(Opcode::lookup, 1), Lookup{.parent = NodeId{1}, .name = "name", .node = {.id = NodeId{2}}});
    writer.add(header_of(Opcode::write, 2), Write{.handle = HandleId{1}}, Buffer::copy_of("some data"));
    writer.add(header_of(Opcode::ping, 3), Ping{});
    writer.add(header_of(Opcode::setxattr, 4), Setxattr{.node = NodeId{2}, .name = "user.x"}, Buffer::copy_of("v"));
    return std::move(writer).finish(RequestId{1}, 100);
}

Message copy_of(const Message& message) {
    Message copy{.head = Buffer::copy_of(std::as_const(message.head).bytes()), .bulk = {}};
    for (const Buffer& frame : message.bulk)
        copy.bulk.push_back(Buffer::copy_of(frame.bytes()));
    return copy;
}

Status status_of(Message message) {
    return parse_message(std::move(message), MessageKind::request).status();
}

// Parses `message` after `change` was made to the byte at `offset` of its head.
Status status_with(std::size_t offset, std::uint8_t value) {
    Message message = sample_message();
    message.head.data()[offset] = std::byte{value};
    return status_of(std::move(message));
}

constexpr std::size_t first_record = MessageHeader::encoded_bytes;
constexpr std::size_t flags_offset = first_record + 6;
constexpr std::size_t encoding_offset = first_record + 7;
constexpr std::size_t bulk_size_offset = first_record + 20;

}  // namespace

TEST_CASE("every structure survives the way over the wire") {
    for_each_structure([]<class T>() {
        CHECK(rc::check([] {
            T value;
            Filler().fill(value);
            const auto bytes = encode_body(value);
            const auto decoded = decode_body<T>(bytes);
            RC_ASSERT(decoded.has_value());
            RC_ASSERT(encode_body(*decoded) == bytes);
            if (!bytes.empty()) {
                const auto cut = *rc::gen::inRange<std::size_t>(0, bytes.size());
                RC_ASSERT(decode_body<T>(std::span(bytes).first(cut)).status() == Status::malformed);
            }
        }));
    });
}

TEST_CASE("bytes that decode are the encoding of what they decode to") {
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for_each_structure([&]<class T>() {
        const auto good = encode_body(T{});
        for (int round = 0; round < 300; ++round) {
            auto bytes = good;
            const std::size_t changes = random() % 8;
            for (std::size_t i = 0; i < changes && !bytes.empty(); ++i)
                bytes[random() % bytes.size()] = static_cast<std::byte>(random());
            bytes.resize(bytes.size() + random() % 3 * (random() % 40));
            if (const auto decoded = decode_body<T>(bytes))
                REQUIRE(encode_body(*decoded) == bytes);
        }
    });
}

TEST_CASE("a message cut short anywhere is refused") {
    const Message whole = sample_message();
    REQUIRE(status_of(copy_of(whole)) == Status::ok);
    for (std::size_t size = 0; size < whole.head.size(); ++size) {
        Message cut = copy_of(whole);
        cut.head.shrink(size);
        CHECK(status_of(std::move(cut)) == Status::malformed);
    }
    for (std::size_t frame = 0; frame < whole.bulk.size(); ++frame) {
        Message cut = copy_of(whole);
        cut.bulk[frame].shrink(cut.bulk[frame].size() - 1);
        CHECK(status_of(std::move(cut)) == Status::malformed);
        cut = copy_of(whole);
        cut.bulk.erase(cut.bulk.begin() + static_cast<std::ptrdiff_t>(frame));
        CHECK(status_of(std::move(cut)) == Status::malformed);
    }
    Message extended = copy_of(whole);
    extended.bulk.push_back(Buffer());
    CHECK(status_of(std::move(extended)) == Status::malformed);
}

TEST_CASE("bytes after the last record are refused") {
    const Message whole = sample_message();
    Message longer{.head = Buffer::allocate(whole.head.size() + 1), .bulk = {}};
    std::ranges::copy(whole.head.bytes(), longer.head.data());
    longer.head.data()[whole.head.size()] = std::byte{0};
    for (const Buffer& frame : whole.bulk)
        longer.bulk.push_back(Buffer::copy_of(frame.bytes()));
    CHECK(status_of(std::move(longer)) == Status::malformed);
}

TEST_CASE("each field of the headers is checked") {
    CHECK(status_with(0, 0x53) == Status::malformed);
    CHECK(status_with(2, 1) == Status::version_mismatch);
    CHECK(status_with(2, 3) == Status::version_mismatch);
    for (const int kind : {0, 2, 3, 4, 255})
        CHECK(status_with(3, static_cast<std::uint8_t>(kind)) == Status::malformed);
    CHECK(status_with(4, 0) == Status::malformed);    // records
    CHECK(status_with(4, 3) == Status::malformed);    // fewer than there are
    CHECK(status_with(4, 5) == Status::malformed);    // more
    CHECK(status_with(4, 255) == Status::malformed);  // more than allowed
    CHECK(status_with(6, 1) == Status::malformed);    // flags: requests have none
    CHECK(status_with(7, 1) == Status::malformed);
    CHECK(status_with(flags_offset, 0x80) == Status::malformed);
    CHECK(status_with(flags_offset, set_id_flags) == Status::malformed);  // one of the two
    CHECK(status_with(encoding_offset, 1) == Status::malformed);          // an encoding without bulk data
    CHECK(status_with(bulk_size_offset, 1) == Status::malformed);
    CHECK(status_with(first_record + 3, 0x80) == Status::malformed);  // a body of 2 GiB
    CHECK(status_with(first_record + 3, 0xff) == Status::malformed);
}

TEST_CASE("the number of records is limited") {
    const auto pings = [](std::size_t count) {
        // Built by hand: MessageWriter rightly refuses to write 65.
        std::vector<std::byte> head = encode_body(MessageHeader{.records = static_cast<std::uint16_t>(count)});
        for (std::size_t i = 0; i < count; ++i) {
            const auto record = encode_body(header_of(Opcode::ping, i + 1));
            head.insert(head.end(), record.begin(), record.end());
        }
        return Message{.head = Buffer::copy_of(head), .bulk = {}};
    };
    CHECK(status_of(pings(64)) == Status::ok);
    CHECK(status_of(pings(65)) == Status::malformed);
    CHECK(status_of(pings(0)) == Status::malformed);
}

TEST_CASE("lengths are limited") {
    const auto with_body = [](std::size_t size) {
        MessageWriter writer(MessageKind::request);
        writer.add_encoded(header_of(Opcode::ping, 1), std::vector<std::byte>(size));
        return std::move(writer).finish();
    };
    const std::size_t headers = MessageHeader::encoded_bytes + RecordHeader::encoded_bytes;
    CHECK(status_of(with_body(131'072 - headers)) == Status::ok);
    CHECK(status_of(with_body(131'072 - headers + 1)) == Status::malformed);

    const auto with_bulk = [](std::size_t size, BulkEncoding encoding, std::uint32_t decoded_size) {
        MessageWriter writer(MessageKind::request);
        writer.add({.opcode = Opcode::write, .bulk_encoding = encoding, .id = RequestId{1}, .bulk_size = decoded_size},
                   Write{}, Buffer::copy_of(std::string(size, 'x')));
        return std::move(writer).finish();
    };
    CHECK(status_of(with_bulk(1'048'576, BulkEncoding::raw, 0)) == Status::ok);
    CHECK(status_of(with_bulk(1'048'577, BulkEncoding::raw, 0)) == Status::malformed);
    CHECK(status_of(with_bulk(1'052'704, BulkEncoding::lz4, 1'048'576)) == Status::ok);
    CHECK(status_of(with_bulk(1'052'705, BulkEncoding::lz4, 1'048'576)) == Status::malformed);
    CHECK(status_of(with_bulk(10, BulkEncoding::lz4, 1'048'577)) == Status::malformed);
    CHECK(status_of(with_bulk(0, BulkEncoding::zeros, 1'048'576)) == Status::ok);
    CHECK(status_of(with_bulk(0, BulkEncoding::zeros, 1'048'577)) == Status::malformed);
    CHECK(status_of(with_bulk(1, BulkEncoding::zeros, 1)) == Status::malformed);
    CHECK(status_of(with_bulk(1, static_cast<BulkEncoding>(3), 1)) == Status::malformed);
    CHECK(status_of(with_bulk(4, BulkEncoding::lz4, 0)) == Status::ok);  // whoever decompresses it finds out
}

TEST_CASE("a bool is 0 or 1") {
    auto bytes = encode_body(Fsync{.handle = HandleId{1}, .data_only = true});
    for (int value = 2; value < 256; ++value) {
        bytes.back() = static_cast<std::byte>(value);
        CHECK(decode_body<Fsync>(bytes).status() == Status::malformed);
    }
}

TEST_CASE("a count or length beyond the bytes present claims no memory") {
    const std::vector<std::byte> much(2, std::byte{0xff});
    CHECK(decode_body<Forget>(much).status() == Status::malformed);
    CHECK(decode_body<ReadlinkReply>(much).status() == Status::malformed);
    CHECK(decode_body<InUse>(much).status() == Status::malformed);
}

TEST_CASE("a randomly changed message is parsed or refused, nothing else") {
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const Message good = sample_message();
    int parsed = 0;
    for (int round = 0; round < 20'000; ++round) {
        Message message = copy_of(good);
        const std::size_t changes = 1 + random() % 4;
        for (std::size_t i = 0; i < changes; ++i)
            message.head.data()[random() % message.head.size()] = static_cast<std::byte>(random());
        if (auto result = parse_message(std::move(message), MessageKind::request)) {
            ++parsed;
            for (const Record& record : result->records)
                static_cast<void>(decode_body<Lookup>(record.body));
        } else {
            const Status status = result.status();
            REQUIRE((status == Status::malformed || status == Status::version_mismatch));
        }
    }
    CHECK(parsed > 0);  // bodies and ids may hold anything
}
