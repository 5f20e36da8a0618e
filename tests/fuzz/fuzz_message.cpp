// SPDX-License-Identifier: MIT
// Messages from a peer, in both directions. The input is a byte for the kind, then frames, each led by its length
// (u16).
#include <algorithm>

#include "../wire/all_structures.hpp"
#include "base/assert.hpp"
#include "fuzz_input.hpp"
#include "fuzz_target.hpp"
#include "wire/opcode_table.hpp"

using namespace remofile;
using namespace remofile::wire;

namespace {

// What decodes encodes to these bytes, which decode to the same.
template <Structure T>
void check_body(std::span<const std::byte> body) {
    const auto decoded = decode_body<T>(body);
    if (!decoded)
        return;
    const auto encoded = encode_body(*decoded);
    REMOFILE_ASSERT(std::ranges::equal(encoded, body));
    const auto again = decode_body<T>(encoded);
    REMOFILE_ASSERT(again.has_value() && encode_body(*again) == encoded);
}

// What is known of a request before its body is decoded.
void check_facts(Opcode opcode, std::span<const std::byte> body) {
    const OpcodeFacts* facts = find_opcode(opcode);
    REMOFILE_ASSERT(reply_bulk_limit(facts, body) <= max_bulk_bytes);
    const bool waits = waits_for_lock(opcode, body);
    REMOFILE_ASSERT(!waits || (facts != nullptr && facts->may_wait));
    REMOFILE_ASSERT(waits == (account_of(opcode, body) == Account::lock_wait));
    if (facts != nullptr)
        static_cast<void>(may_be_done_again(*facts, body));
}

Message split(FuzzInput input) {
    Message message;
    if (!input.empty())
        message.head = Buffer::copy_of(input.frame());
    while (!input.empty())
        message.bulk.push_back(Buffer::copy_of(input.frame()));
    return message;
}

std::string join(const Message& message, MessageKind kind) {
    std::string input(1, static_cast<char>(static_cast<int>(kind) - 1));
    append_frames(input, message);
    return input;
}

template <class Body>
std::string one_record(MessageKind kind, Opcode opcode) {
    MessageWriter writer(kind);
    writer.add({.opcode = opcode, .id = RequestId{1}}, Body{});
    return join(std::move(writer).finish(), kind);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzInput input(data, size);
    const auto kind = static_cast<MessageKind>(1 + input.number<std::uint8_t>() % 3);
    const auto parsed = parse_message(split(input), kind);
    if (!parsed)
        return 0;
    REMOFILE_ASSERT(!parsed->records.empty() && parsed->records.size() <= max_records);
    for (const Record& record : parsed->records) {
        REMOFILE_ASSERT(record.header.bulk_size <= max_bulk_bytes);
        for_each_structure([&]<class T>() { check_body<T>(record.body); });
        check_facts(record.header.opcode, record.body);
    }
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    std::vector<std::string> seeds;
    const auto requests = [&]<class... T>(std::tuple<T...>*) {
        (seeds.push_back(one_record<T>(MessageKind::request, T::opcode)), ...);
        (seeds.push_back(one_record<typename T::Reply>(MessageKind::reply, T::opcode)), ...);
    };
    const auto pushes = [&]<class... T>(std::tuple<T...>*) {
        (seeds.push_back(one_record<T>(MessageKind::push, T::opcode)), ...);
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

std::vector<std::string> fuzz_words() {
    return {std::string("RF\x02\x01", 4), std::string("RF\x02\x02", 4), std::string("RF\x02\x03", 4)};
}
