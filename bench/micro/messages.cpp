// SPDX-License-Identifier: MIT
// What each request costs before and after the network: encoding, taking apart, decoding.
#include <benchmark/benchmark.h>

#include "wire/frame.hpp"
#include "wire/messages.hpp"

namespace {

using namespace remofile;
using namespace remofile::wire;

constexpr std::size_t bulk_bytes = 128 << 10;

Read example(const Read*) {
    return {HandleId{7}, 123'456'789, bulk_bytes};
}

Write example(const Write*) {
    return {HandleId{7}, 123'456'789, false};
}

Lookup example(const Lookup*) {
    Lookup message;
    message.parent = NodeId{3};
    message.name = "a name of usual length.txt";
    return message;
}

// With a bulk frame where the request has one; its memory is not touched.
template <class Body>
Message encode(const Body& body) {
    static std::byte data[bulk_bytes];
    MessageWriter writer(MessageKind::request);
    const RecordHeader header{.opcode = Body::opcode, .id = RequestId{42}};
    if constexpr (std::is_same_v<Body, Write>)
        writer.add(header, body,
                   Buffer(
                       data, bulk_bytes, [](void*) noexcept {}, nullptr));
    else
        writer.add(header, body);
    return std::move(writer).finish(RequestId{40}, 1'000'000);
}

template <class Body>
void encode_request(benchmark::State& state) {
    const Body body = example(static_cast<const Body*>(nullptr));
    for ([[maybe_unused]] auto _ : state) {
        Message message = encode(body);
        benchmark::DoNotOptimize(message.head.data());
    }
}
BENCHMARK_TEMPLATE(encode_request, Read);
BENCHMARK_TEMPLATE(encode_request, Write);
BENCHMARK_TEMPLATE(encode_request, Lookup);

// Encodes as well: a message is spent by being taken apart.
template <class Body>
void encode_and_parse_request(benchmark::State& state) {
    const Body body = example(static_cast<const Body*>(nullptr));
    for ([[maybe_unused]] auto _ : state) {
        auto parsed = parse_message(encode(body), MessageKind::request);
        auto decoded = decode_body<Body>(parsed->records.front().body);
        benchmark::DoNotOptimize(decoded);
    }
}
BENCHMARK_TEMPLATE(encode_and_parse_request, Read);
BENCHMARK_TEMPLATE(encode_and_parse_request, Write);
BENCHMARK_TEMPLATE(encode_and_parse_request, Lookup);

void decode_attributes(benchmark::State& state) {
    const std::vector<std::byte> bytes = encode_body(EntryReply{});
    for ([[maybe_unused]] auto _ : state) {
        auto reply = decode_body<EntryReply>(bytes);
        benchmark::DoNotOptimize(reply);
    }
}
BENCHMARK(decode_attributes);

}  // namespace

BENCHMARK_MAIN();
