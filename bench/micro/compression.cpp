// SPDX-License-Identifier: MIT
// LZ4's way through encode_bulk() and decode_bulk(), on blocks as they travel: text, random bytes and zeros.
#include "wire/compression.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>

namespace {

using namespace remofile;
using namespace remofile::wire;

constexpr std::size_t block_bytes = 256 << 10;

enum Kind { text, random_bytes, zeros };

// Text: words of a small vocabulary, the frequent ones more often, which LZ4 makes about half as long.
Buffer block_of(Kind kind) {
    constexpr std::string_view vocabulary[] = {"the",  "file",    "of",     "server",  "a",       "to",        "block",
                                               "and",  "read",    "offset", "request", "written", "kernel",    "is",
                                               "page", "mounted", "when",   "client",  "in",      "directory", "reply"};
    std::mt19937 random(1);
    std::string bytes;
    while (kind == text && bytes.size() < block_bytes) {
        const std::size_t words = std::size(vocabulary);
        bytes += vocabulary[random() % words * (random() % words) / words];
        bytes += random() % 12 == 0 ? ".\n" : " ";
    }
    bytes.resize(block_bytes, '\0');
    for (std::size_t at = 0; kind == random_bytes && at < block_bytes; ++at)
        bytes[at] = static_cast<char>(random());
    return Buffer::copy_of(bytes);
}

// Memory that stays with the benchmark: encode_bulk() and decode_bulk() take buffers over.
Buffer lend(Buffer& block) {
    return {block.data(), block.size(), [](void*) noexcept {}, nullptr};
}

void encode(benchmark::State& state) {
    Buffer block = block_of(static_cast<Kind>(state.range(0)));
    const EncodingPlan plan{.zeros = true, .level = static_cast<std::uint8_t>(state.range(1))};
    Counters counters;
    CompressionMeter meter(counters, "bench");
    std::size_t encoded_bytes = 0;
    for ([[maybe_unused]] auto _ : state)
        encoded_bytes = encode_bulk(lend(block), plan, nullptr, meter).data.size();
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(block_bytes));
    state.counters["times_shorter"] =
        static_cast<double>(block_bytes) / static_cast<double>(std::max<std::size_t>(encoded_bytes, 1));
}
BENCHMARK(encode)
    ->ArgNames({"kind", "level"})
    ->Args({text, 1})
    ->Args({text, 3})
    ->Args({random_bytes, 1})
    ->Args({zeros, 1});

void decode(benchmark::State& state) {
    const EncodingPlan plan{.zeros = true, .level = 1};
    Counters counters;
    CompressionMeter meter(counters, "bench");
    EncodedBulk encoded = encode_bulk(block_of(static_cast<Kind>(state.range(0))), plan, nullptr, meter);
    const RecordHeader header{.bulk_encoding = encoded.encoding, .bulk_size = encoded.size};
    for ([[maybe_unused]] auto _ : state) {
        auto decoded = decode_bulk(header, lend(encoded.data), encoding_features, block_bytes);
        benchmark::DoNotOptimize(decoded);
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(block_bytes));
}
BENCHMARK(decode)->ArgNames({"kind"})->Arg(text)->Arg(random_bytes)->Arg(zeros);

}  // namespace

BENCHMARK_MAIN();
