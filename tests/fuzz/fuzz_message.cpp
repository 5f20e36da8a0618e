// SPDX-License-Identifier: MIT
// Messages from a peer, in both directions. The input is a byte for the kind, then frames, each led by its length
// (u16).
#include <string_view>

#include "../wire/all_structures.hpp"
#include "base/assert.hpp"
#include "fuzz_target.hpp"
#include "wire/frame.hpp"

using namespace remofile;
using namespace remofile::wire;

namespace {

// What decodes is exactly what encodes to these bytes.
template <Structure T>
void check_body(std::span<const std::byte> body) {
    if (const auto decoded = decode_body<T>(body)) {
        const auto again = encode_body(*decoded);
        REMOFILE_ASSERT(std::equal(again.begin(), again.end(), body.begin(), body.end()));
    }
}

Message split(std::string_view input) {
    Message message;
    bool first = true;
    while (input.size() >= 2) {
        const std::size_t size = static_cast<unsigned char>(input[0]) | static_cast<unsigned char>(input[1]) << 8;
        input.remove_prefix(2);
        Buffer frame = Buffer::copy_of(input.substr(0, size));
        input.remove_prefix(frame.size());
        if (first)
            message.head = std::move(frame);
        else
            message.bulk.push_back(std::move(frame));
        first = false;
    }
    return message;
}

void append_frame(std::string& input, std::string_view frame) {
    input += static_cast<char>(frame.size() & 0xff);
    input += static_cast<char>(frame.size() >> 8);
    input += frame;
}

std::string join(const Message& message, MessageKind kind) {
    std::string input(1, static_cast<char>(kind));
    append_frame(input, message.head.text());
    for (const Buffer& frame : message.bulk)
        append_frame(input, frame.text());
    return input;
}

template <class Body>
std::string one_record(MessageKind kind) {
    MessageWriter writer(kind);
    writer.add({.opcode = Body::opcode, .id = RequestId{1}}, Body{});
    return join(std::move(writer).finish(), kind);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const auto kind = static_cast<MessageKind>(1 + data[0] % 3);
    const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    const auto parsed = parse_message(split(rest), kind);
    if (!parsed)
        return 0;
    REMOFILE_ASSERT(!parsed->records.empty() && parsed->records.size() <= max_records);
    for (const Record& record : parsed->records) {
        REMOFILE_ASSERT(record.header.bulk_size <= max_bulk_bytes);
        for_each_structure([&]<class T>() { check_body<T>(record.body); });
    }
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    std::vector<std::string> seeds;
    const auto requests = [&]<class... T>(std::tuple<T...>*) {
        (seeds.push_back(one_record<T>(MessageKind::request)), ...);
    };
    const auto pushes = [&]<class... T>(std::tuple<T...>*) {
        (seeds.push_back(one_record<T>(MessageKind::push)), ...);
    };
    requests(static_cast<Requests*>(nullptr));
    pushes(static_cast<Pushes*>(nullptr));

    MessageWriter writer(MessageKind::request);
    writer.add({.opcode = Opcode::create, .flags = flag_link, .id = RequestId{1}},
               Create{.parent = NodeId{1}, .name = "name", .node = {.id = NodeId{2}}, .handle = HandleId{1}});
    writer.add({.opcode = Opcode::write, .flags = flag_link, .id = RequestId{2}}, Write{.handle = HandleId{1}},
               Buffer::copy_of("some data"));
    writer.add({.opcode = Opcode::release, .id = RequestId{3}}, Release{.handle = HandleId{1}});
    seeds.push_back(join(std::move(writer).finish(RequestId{1}, 1000), MessageKind::request));
    return seeds;
}
