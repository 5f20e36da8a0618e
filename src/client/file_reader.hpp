// SPDX-License-Identifier: MIT
// Reads the contents of files through the block cache, ahead of their readers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "client/block_cache.hpp"
#include "client/fetch_window.hpp"
#include "client/memory_budget.hpp"
#include "client/readahead.hpp"
#include "client/session.hpp"

namespace remofile::client {

// What is read: one open handle, and the state of the file's content that its bytes belong to. Whoever calls raises
// `generation` when the content changes as a whole, so that bytes of different states never meet under one number;
// what one write changes is told by FileReader::changed().
struct ReadSource {
    std::uint64_t file = 0;
    std::uint64_t generation = 0;
    std::uint64_t file_size = 0;  // as last heard
    HandleId handle;
};

// One thread: that of the session. Must outlive the session's requests.
class FileReader {
public:
    // Charges what it keeps, and what is on its way, to `budget`.
    FileReader(Session& session, MemoryBudget& budget, Counters& counters);
    ~FileReader();
    FileReader(const FileReader&) = delete;
    FileReader& operator=(const FileReader&) = delete;

    // Bytes in the order of the file. The spans are valid as long as the object.
    struct Data {
        std::vector<std::span<const std::byte>> pieces;
        std::vector<std::shared_ptr<const BlockCache::Contents>> blocks;
        Buffer uncached;
        std::shared_ptr<const Buffer> whole;  // of somebody else's, in which the pieces are
        MemoryBudget::Charge charge;          // of `uncached`, where there was room for it
    };

    // At most `size` bytes from `offset`; fewer only at the end of the file. `readahead` is the handle's own and must,
    // like `cancellation`, live until then. Errors: those of READ; interrupted.
    Task<Result<Data>> read(ReadSource source, Readahead* readahead, std::uint64_t offset, std::uint32_t size,
                            Cancellation* cancellation);
    // The same past the cache.
    Task<Result<Data>> read_uncached(HandleId handle, std::uint64_t offset, std::uint32_t size,
                                     Cancellation* cancellation);

    // Whether the first block of a file is in memory.
    // The whole of a file of this size, at most a block, if it is in the cache.
    std::optional<Data> whole(std::uint64_t file, std::uint64_t generation, std::uint64_t size);
    bool knows_beginning(std::uint64_t file, std::uint64_t generation) const;
    // Takes in the first block of a file, as read by somebody else.
    void put_beginning(std::uint64_t file, std::uint64_t generation, Buffer data);

    // The range was written, and the server has answered: what is cached of it goes, and what is on its way will not
    // be kept.
    void changed(std::uint64_t file, std::uint64_t generation, std::uint64_t offset, std::uint64_t size);

    // Nobody will ask for earlier generations of the file any more, nor, with every_generation, for the file.
    static constexpr std::uint64_t every_generation = ~std::uint64_t{0};
    void forget_before(std::uint64_t file, std::uint64_t generation);

    // The link may be another one from now on, of another delay.
    void reconnected() { window_.forget_delay(); }

private:
    struct Fetch;

    Task<Result<std::shared_ptr<const BlockCache::Contents>>> block(ReadSource source, std::uint64_t index,
                                                                    Cancellation* cancellation);
    bool prepare(const ReadSource& source, std::uint64_t index);
    std::shared_ptr<Fetch> fetch_of(const ReadSource& source, std::uint64_t index);
    Task<void> carry_out(std::shared_ptr<Fetch> fetch);
    void end(Fetch& fetch, Status status);
    void fetch_ahead(const ReadSource& source, const std::vector<ByteRange>& ranges);
    bool is_cached(const ReadSource& source, std::uint64_t index);
    bool resident(const ReadSource& source, std::uint64_t offset, std::uint64_t size) const;

    Session& session_;
    MemoryBudget& budget_;
    BlockCache cache_;
    Counters::Counter& fetched_ahead_;
    Counters::Counter& uncached_;
    std::size_t under_way_bytes_ = 0;
    FetchWindow window_;
    // Shared with the coroutine that fetches and those that wait for it.
    std::unordered_map<BlockKey, std::shared_ptr<Fetch>, BlockKeyHash> under_way_;
};

}  // namespace remofile::client
