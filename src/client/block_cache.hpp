// SPDX-License-Identifier: MIT
// File contents in memory: immutable blocks, each of one generation of a file.
//
// The policy is 2Q (Johnson and Shasha, VLDB 1994): a block starts in a first-in-first-out queue and joins the
// least-recently-used list only if it is asked for again after it has left that queue. A scan of a large file passes
// through the queue and leaves the list alone, which a plain LRU would lose to it. ARC adapts the split by itself but
// needs four lists; here the split matters little, since the kernel's page cache stands in front and takes the quick
// repetitions.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/buffer.hpp"
#include "base/counters.hpp"
#include "client/memory_budget.hpp"

namespace remofile::client {

// 256 KiB: large enough that a request's fixed cost is small against its data, small enough that random readers of a
// slow link do not wait long for bytes they did not ask for. Four of them fit a message of the protocol's bulk limit.
inline constexpr std::size_t block_bytes = 256U << 10;

// What a cached block costs beyond its data: nodes of the list and the map, the Buffer and what ZeroMQ keeps.
inline constexpr std::size_t block_overhead_bytes = 512;

// Data up to here is copied into memory of its size: ZeroMQ receives small messages into batches of 8 KiB, and each
// message keeps the whole batch.
inline constexpr std::size_t max_batched_bytes = 8U << 10;

struct BlockKey {
    std::uint64_t file = 0;        // the client's number for the file
    std::uint64_t generation = 0;  // of its content, as the client counts
    std::uint64_t index = 0;       // offset / block_bytes
    friend auto operator<=>(const BlockKey&, const BlockKey&) = default;
};

struct BlockKeyHash {
    std::size_t operator()(const BlockKey& key) const noexcept;
};

// One thread. All operations take logarithmic time, an insertion as many evictions as it needs room.
class BlockCache {
public:
    // Charges its blocks to `budget` and gives them back when the budget asks; both must outlive it.
    BlockCache(MemoryBudget& budget, Counters& counters);
    ~BlockCache();
    BlockCache(const BlockCache&) = delete;
    BlockCache& operator=(const BlockCache&) = delete;

    // A block's bytes and their share of the budget: held by the cache, and by readers that are replying from it, so
    // that an evicted block stays whole, and charged, until the last of them is done.
    struct Contents {
        Buffer data;
        MemoryBudget::Charge charge;
    };

    // The block, or null. Counts as a use.
    std::shared_ptr<const Contents> find(const BlockKey& key);
    // The same without counting as a use.
    const Contents* peek(const BlockKey& key) const;
    bool contains(const BlockKey& key) const { return resident_.contains(key); }

    // Keeps a block of at most block_bytes, of which `charge` holds the memory already (it may be larger: the rest is
    // given back; shared zeros cost nothing). A block that is there already stays, and the new one is dropped. Returns
    // the one that is there. `used` says that somebody reads it at once.
    std::shared_ptr<const Contents> insert(const BlockKey& key, Buffer data, MemoryBudget::Charge charge,
                                           bool used = false);

    // Drops a block, if it is there.
    void erase(const BlockKey& key);
    // Drops all of a file's blocks of generations before this one.
    void erase_before(std::uint64_t file, std::uint64_t generation);

    std::size_t blocks() const { return resident_.size(); }
    // How many blocks had to make room before anybody asked for them.
    std::uint64_t wasted_blocks() const { return wasted_.value(); }

private:
    struct Block {
        BlockKey key;
        std::shared_ptr<const Contents> contents;
        bool frequent = false;
        bool used = false;
    };
    using Queue = std::list<Block>;
    using Ghosts = std::list<BlockKey>;

    void reclaim(std::size_t bytes);
    void evict_one();
    void drop(Queue::iterator block);
    void remember(const BlockKey& key);

    MemoryBudget& budget_;
    Counters::Counter& hits_;
    Counters::Counter& misses_;
    Counters::Counter& evictions_;
    Counters::Counter& wasted_;
    Queue recent_;    // first in, first out; the newest in front
    Queue frequent_;  // least recently used at the back
    Ghosts ghosts_;   // keys that left recent_ lately; the newest in front
    std::size_t recent_bytes_ = 0;
    std::map<BlockKey, Queue::iterator> resident_;
    std::unordered_map<BlockKey, Ghosts::iterator, BlockKeyHash> remembered_;
};

}  // namespace remofile::client
