// SPDX-License-Identifier: MIT
// The block cache when everything is there, and when each block drives out another.
#include "client/block_cache.hpp"

#include <benchmark/benchmark.h>

#include <random>

namespace {

using namespace remofile;
using namespace remofile::client;

constexpr std::size_t blocks = 1024;

// Blocks of one byte, so that the cache is measured and not the memory; charged like full ones.
void insert(BlockCache& cache, MemoryBudget& budget, std::uint64_t index) {
    MemoryBudget::Charge charge;
    if (budget.charge(block_bytes + block_overhead_bytes, charge))
        cache.insert({.file = 1, .generation = 1, .index = index}, Buffer::allocate(1), std::move(charge));
}

void find_cached(benchmark::State& state) {
    MemoryBudget budget(2 * blocks * block_bytes);
    Counters counters;
    BlockCache cache(budget, counters);
    for (std::uint64_t index = 0; index < blocks; ++index)
        insert(cache, budget, index);
    std::mt19937_64 random(1);
    for ([[maybe_unused]] auto _ : state)
        benchmark::DoNotOptimize(cache.find({.file = 1, .generation = 1, .index = random() % blocks}));
}
BENCHMARK(find_cached);

void scan_through_full_cache(benchmark::State& state) {
    // A block of one byte keeps a charge of its own size: room for so many.
    MemoryBudget budget(block_bytes + blocks * (block_overhead_bytes + 1));
    Counters counters;
    BlockCache cache(budget, counters);
    std::uint64_t index = 0;
    for ([[maybe_unused]] auto _ : state) {
        benchmark::DoNotOptimize(cache.find({.file = 1, .generation = 1, .index = index}));
        insert(cache, budget, index++);
    }
    state.counters["blocks"] = static_cast<double>(cache.blocks());
}
BENCHMARK(scan_through_full_cache);

}  // namespace

BENCHMARK_MAIN();
