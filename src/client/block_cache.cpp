// SPDX-License-Identifier: MIT
#include "client/block_cache.hpp"

#include <utility>

#include "base/assert.hpp"
#include "wire/compression.hpp"

namespace remofile::client {
namespace {

// The share of the budget that the first-in-first-out queue may hold before it is the one to evict from: the 25 % that
// the authors of 2Q recommend.
constexpr std::size_t recent_share = 4;

// How many keys are remembered after their block has gone, as blocks that would fill half the budget (again the
// authors' figure). A key takes about 100 bytes, so that this costs some 0.02 % of the budget.
constexpr std::size_t ghost_share = 2;

}  // namespace

std::size_t BlockKeyHash::operator()(const BlockKey& key) const noexcept {
    // Multiplicative mixing by odd 64-bit constants; indexes and file numbers are small and dense.
    std::uint64_t hash = key.file * 0x9e3779b97f4a7c15U;
    hash = (hash ^ (hash >> 32) ^ key.generation) * 0xbf58476d1ce4e5b9U;
    hash = (hash ^ (hash >> 29) ^ key.index) * 0x94d049bb133111ebU;
    return static_cast<std::size_t>(hash ^ (hash >> 31));
}

BlockCache::BlockCache(MemoryBudget& budget, Counters& counters)
    : budget_(budget),
      hits_(counters.at("cache.hits")),
      misses_(counters.at("cache.misses")),
      evictions_(counters.at("cache.evictions")),
      wasted_(counters.at("cache.wasted")) {
    budget_.set_reclaimer([this](std::size_t bytes) { reclaim(bytes); });
}

BlockCache::~BlockCache() {
    budget_.set_reclaimer(nullptr);
}

std::shared_ptr<const BlockCache::Contents> BlockCache::find(const BlockKey& key) {
    const auto found = resident_.find(key);
    if (found == resident_.end()) {
        misses_.add();
        return nullptr;
    }
    hits_.add();
    found->second->used = true;
    // A second use while the block is still in recent_ says little: it is the rest of the same read.
    if (found->second->frequent)
        frequent_.splice(frequent_.begin(), frequent_, found->second);
    return found->second->contents;
}

const BlockCache::Contents* BlockCache::peek(const BlockKey& key) const {
    const auto found = resident_.find(key);
    return found == resident_.end() ? nullptr : found->second->contents.get();
}

std::shared_ptr<const BlockCache::Contents> BlockCache::insert(const BlockKey& key, Buffer data,
                                                               MemoryBudget::Charge charge, bool used) {
    REMOFILE_ASSERT(data.size() <= block_bytes);
    REMOFILE_ASSERT(charge.bytes() >= data.size() + block_overhead_bytes);
    if (const auto found = resident_.find(key); found != resident_.end())
        return found->second->contents;
    const bool shared = wire::is_shared_zeros(data);
    if (data.size() <= max_batched_bytes && !shared)
        data = Buffer::copy_of(std::as_const(data).bytes());
    charge.resize((shared ? 0 : data.size()) + block_overhead_bytes);

    const auto ghost = remembered_.find(key);
    const bool frequent = ghost != remembered_.end();
    if (frequent) {
        ghosts_.erase(ghost->second);
        remembered_.erase(ghost);
    } else {
        recent_bytes_ += charge.bytes();
    }
    Queue& queue = frequent ? frequent_ : recent_;
    auto contents = std::make_shared<const Contents>(std::move(data), std::move(charge));
    queue.push_front(Block{key, contents, frequent, used});
    resident_.emplace(key, queue.begin());
    return contents;
}

void BlockCache::erase(const BlockKey& key) {
    const auto found = resident_.find(key);
    if (found == resident_.end())
        return;
    const auto block = found->second;
    resident_.erase(found);
    drop(block);
}

void BlockCache::drop(Queue::iterator block) {
    if (!block->frequent)
        recent_bytes_ -= block->contents->charge.bytes();
    (block->frequent ? frequent_ : recent_).erase(block);
}

void BlockCache::erase_before(std::uint64_t file, std::uint64_t generation) {
    const auto first = resident_.lower_bound({.file = file});
    const auto end = resident_.lower_bound({.file = file, .generation = generation});
    for (auto block = first; block != end; ++block)
        drop(block->second);
    resident_.erase(first, end);
}

void BlockCache::reclaim(std::size_t bytes) {
    const std::size_t before = budget_.used_bytes();
    while (!resident_.empty() && before - budget_.used_bytes() < bytes)
        evict_one();
}

void BlockCache::evict_one() {
    const bool from_recent = frequent_.empty() || recent_bytes_ > budget_.limit_bytes() / recent_share;
    const BlockKey key = (from_recent && !recent_.empty() ? recent_ : frequent_).back().key;
    const Block& leaving = *resident_.at(key);
    if (!leaving.frequent)
        remember(key);
    evictions_.add();
    if (!leaving.used)
        wasted_.add();
    erase(key);
}

void BlockCache::remember(const BlockKey& key) {
    ghosts_.push_front(key);
    remembered_.emplace(key, ghosts_.begin());
    const std::size_t most = budget_.limit_bytes() / block_bytes / ghost_share;
    while (ghosts_.size() > most) {
        remembered_.erase(ghosts_.back());
        ghosts_.pop_back();
    }
}

}  // namespace remofile::client
