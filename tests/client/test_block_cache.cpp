// SPDX-License-Identifier: MIT
#include <random>

#include "catch.hpp"
#include "client/block_cache.hpp"
#include "wire/compression.hpp"

using namespace remofile;
using namespace remofile::client;

namespace {

constexpr std::size_t charge_bytes = block_bytes + block_overhead_bytes;

struct Cache {
    explicit Cache(std::size_t capacity_blocks) : budget(capacity_blocks * charge_bytes) {}

    bool insert(const BlockKey& key) {
        MemoryBudget::Charge charge;
        if (!budget.charge(charge_bytes, charge))
            return false;
        Buffer data = Buffer::allocate(block_bytes);
        std::memcpy(data.data(), &key.index, sizeof key.index);
        blocks.insert(key, std::move(data), std::move(charge));
        return true;
    }
    // As a reader does: fetches what is not there. Returns whether it was.
    bool use(const BlockKey& key) {
        if (blocks.find(key) != nullptr)
            return true;
        REQUIRE(insert(key));
        return false;
    }

    Counters counters;
    MemoryBudget budget;
    BlockCache blocks{budget, counters};
};

}  // namespace

TEST_CASE("a block is found under its file, generation and index only") {
    Cache cache(4);
    REQUIRE(cache.insert({.file = 1, .generation = 2, .index = 3}));
    CHECK(cache.blocks.find({.file = 1, .generation = 2, .index = 3}) != nullptr);
    CHECK(cache.blocks.find({.file = 1, .generation = 3, .index = 3}) == nullptr);
    CHECK(cache.blocks.find({.file = 2, .generation = 2, .index = 3}) == nullptr);
    CHECK(cache.blocks.find({.file = 1, .generation = 2, .index = 4}) == nullptr);
    cache.blocks.erase({.file = 1, .generation = 2, .index = 3});
    CHECK(cache.blocks.find({.file = 1, .generation = 2, .index = 3}) == nullptr);
    CHECK(cache.budget.used_bytes() == 0);
}

TEST_CASE("a short block is charged by what it holds") {
    Cache cache(4);
    MemoryBudget::Charge charge;
    REQUIRE(cache.budget.charge(charge_bytes, charge));
    cache.blocks.insert({.file = 1}, Buffer::allocate(100), std::move(charge));
    CHECK(cache.budget.used_bytes() == 100 + block_overhead_bytes);
}

TEST_CASE("small data is kept in memory of its own, large data where it came") {
    Cache cache(4);
    // As ZeroMQ's batches: nobody lets go of them before the block does.
    static int held = 0;
    held = 0;
    const auto insert = [&](std::uint64_t file, std::size_t size) {
        MemoryBudget::Charge charge;
        REQUIRE(cache.budget.charge(charge_bytes, charge));
        auto* batch = new std::byte[max_batched_bytes + size]{};
        ++held;
        Buffer part(
            batch + 5, size,
            [](void* hint) noexcept {
                --held;
                delete[] static_cast<std::byte*>(hint);
            },
            batch);
        return cache.blocks.insert({.file = file}, std::move(part), std::move(charge));
    };
    const auto small = insert(1, 2000);
    CHECK(held == 0);
    CHECK(small->data.size() == 2000);
    CHECK(insert(2, max_batched_bytes)->data.size() == max_batched_bytes);
    CHECK(held == 0);
    CHECK(insert(3, max_batched_bytes + 1)->data.size() == max_batched_bytes + 1);
    CHECK(held == 1);
    cache.blocks.erase({.file = 3});
    CHECK(held == 0);
}

TEST_CASE("zeros take no memory") {
    Cache cache(4);
    for (std::uint64_t index = 0; index < 100; ++index) {
        MemoryBudget::Charge charge;
        REQUIRE(cache.budget.charge(charge_bytes, charge));
        const auto block = cache.blocks.insert({.file = 1, .index = index}, wire::shared_zeros(block_bytes - index),
                                               std::move(charge));
        CHECK(block->data.size() == block_bytes - index);
        CHECK(wire::is_all_zeros(block->data.bytes()));
    }
    CHECK(cache.blocks.blocks() == 100);
    CHECK(cache.budget.used_bytes() == 100 * block_overhead_bytes);
}

TEST_CASE("what is kept of a file goes at once when it is forgotten") {
    Cache cache(20);
    for (std::uint64_t file = 1; file <= 3; ++file)
        for (std::uint64_t generation = 1; generation <= 2; ++generation)
            for (std::uint64_t index = 0; index < 3; ++index)
                REQUIRE(cache.insert({.file = file, .generation = generation, .index = index}));
    const auto reading = cache.blocks.find({.file = 2, .generation = 1, .index = 0});
    cache.blocks.erase_before(2, 2);
    CHECK(cache.blocks.blocks() == 15);
    CHECK_FALSE(cache.blocks.contains({.file = 2, .generation = 1, .index = 2}));
    CHECK(cache.blocks.contains({.file = 2, .generation = 2, .index = 0}));
    CHECK(cache.budget.used_bytes() == 16 * charge_bytes);  // one is still being read
    cache.blocks.erase_before(2, ~std::uint64_t{0});
    CHECK(cache.blocks.blocks() == 12);
    CHECK(cache.blocks.contains({.file = 1, .generation = 2, .index = 2}));
    CHECK(cache.blocks.contains({.file = 3, .generation = 1, .index = 0}));
    cache.blocks.erase_before(4, ~std::uint64_t{0});
    CHECK(cache.blocks.blocks() == 12);
}

TEST_CASE("the budget is never exceeded, whatever is inserted, erased and kept out of the cache") {
    Cache cache(16);
    std::mt19937 random(std::random_device{}());
    std::vector<MemoryBudget::Charge> dirty;
    for (int step = 0; step < 20000; ++step) {
        const BlockKey key{.file = random() % 3, .generation = random() % 2, .index = random() % 20};
        switch (random() % 8) {
            case 0:
                cache.blocks.erase(key);
                break;
            case 1:
                if (MemoryBudget::Charge charge; cache.budget.charge(charge_bytes, charge))
                    dirty.push_back(std::move(charge));
                break;
            case 2:
                if (dirty.size() > 8)
                    dirty.clear();
                break;
            default:
                if (const auto block = cache.blocks.find(key)) {
                    REQUIRE(std::memcmp(block->data.data(), &key.index, sizeof key.index) == 0);
                } else {
                    // Only dirty data that fills the whole budget can keep a block out.
                    REQUIRE((cache.insert(key) || dirty.size() == 16));
                }
        }
        REQUIRE(cache.budget.used_bytes() <= cache.budget.limit_bytes());
        REQUIRE(cache.budget.used_bytes() == (cache.blocks.blocks() + dirty.size()) * charge_bytes);
    }
}

TEST_CASE("a block that is evicted while a reader holds it stays whole and charged") {
    Cache cache(2);
    REQUIRE(cache.insert({.file = 1, .index = 7}));
    auto held = cache.blocks.find({.file = 1, .index = 7});
    for (std::uint64_t index = 0; index < 4; ++index)
        cache.insert({.file = 2, .index = index});
    CHECK_FALSE(cache.blocks.contains({.file = 1, .index = 7}));
    std::uint64_t index = 0;
    std::memcpy(&index, held->data.data(), sizeof index);
    CHECK(index == 7);
    CHECK(cache.budget.used_bytes() == 2 * charge_bytes);
    held.reset();
    CHECK(cache.budget.used_bytes() == charge_bytes);
}

TEST_CASE("what does not fit the budget at all is refused") {
    Cache cache(4);
    MemoryBudget::Charge charge;
    CHECK_FALSE(cache.budget.charge(cache.budget.limit_bytes() + 1, charge));
    CHECK(charge.bytes() == 0);
}

TEST_CASE("a scan does not empty the cache of blocks in use") {
    constexpr std::size_t blocks = 64;
    constexpr std::uint64_t working_set = 32;
    Cache cache(blocks);
    std::uint64_t scanned = 0;
    // The working set is used again and again between pieces of a scan: it becomes frequent.
    for (int round = 0; round < 8; ++round) {
        for (std::uint64_t index = 0; index < working_set; ++index)
            cache.use({.file = 1, .index = index});
        for (int i = 0; i < 40; ++i)
            cache.use({.file = 2, .index = scanned++});
    }
    // A scan of many times the cache's size ...
    for (std::size_t i = 0; i < 20 * blocks; ++i)
        cache.use({.file = 2, .index = scanned++});
    // ... leaves it where it is.
    std::uint64_t hits = 0;
    for (std::uint64_t index = 0; index < working_set; ++index)
        hits += cache.use({.file = 1, .index = index}) ? 1 : 0;
    CHECK(hits == working_set);
}

TEST_CASE("blocks that make room before anybody asked for them are counted as wasted") {
    Cache cache(4);
    for (std::uint64_t index = 0; index < 4; ++index)
        REQUIRE(cache.insert({.file = 1, .index = index}));
    REQUIRE(cache.blocks.find({.file = 1, .index = 0}) != nullptr);
    REQUIRE(cache.insert({.file = 1, .index = 4}));
    CHECK(cache.blocks.wasted_blocks() == 0);  // the first had been used
    REQUIRE(cache.insert({.file = 1, .index = 5}));
    CHECK(cache.blocks.wasted_blocks() == 1);
}
