// SPDX-License-Identifier: MIT
#include "client/file_reader.hpp"

#include <algorithm>
#include <utility>

#include "client/waiters.hpp"

namespace remofile::client {
namespace {

// A reader's window may take this part of the memory, so that four of them fit.
constexpr std::size_t window_share = 4;

// Blocks on their way may take this part of the memory; the rest is for what is read and written meanwhile.
constexpr std::size_t under_way_share = 2;

constexpr std::size_t block_charge_bytes = block_bytes + block_overhead_bytes;

}  // namespace

// A block on its way.
struct FileReader::Fetch {
    BlockKey key;
    HandleId handle;
    MemoryBudget::Charge charge;
    std::uint64_t expected_bytes = 0;
    TimePoint asked{};
    bool ended = false;
    Status status = Status::ok;
    std::shared_ptr<const BlockCache::Contents> contents;
    Waiters waiting;
    bool outdated = false;  // the file was written meanwhile
};

FileReader::FileReader(Session& session, MemoryBudget& budget, Counters& counters)
    : session_(session),
      budget_(budget),
      cache_(budget_, counters),
      fetched_ahead_(counters.at("readahead.blocks")),
      uncached_(counters.at("reads.uncached")) {}

FileReader::~FileReader() = default;

Task<Result<FileReader::Data>> FileReader::read(ReadSource source, Readahead* readahead, std::uint64_t offset,
                                                std::uint32_t size, Cancellation* cancellation) {
    readahead->note_wasted(cache_.wasted_blocks());
    const bool waits = !resident(source, offset, size);
    const std::uint64_t window = std::min<std::uint64_t>(budget_.limit_bytes() / window_share, window_.bytes());
    const Readahead::Advice advice = readahead->on_read(offset, size, source.file_size, waits, window);
    // A reader that jumps about gets what it asked for and no more: a whole block would cost it time.
    if (waits && !advice.follows_pattern) {
        fetch_ahead(source, advice.ranges);
        co_return co_await read_uncached(source.handle, offset, size, cancellation);
    }

    // All requests go out before the first is waited for.
    const std::uint64_t last_block = (offset + size - 1) / block_bytes;
    for (std::uint64_t index = offset / block_bytes; index <= last_block; ++index)
        prepare(source, index);
    fetch_ahead(source, advice.ranges);

    Data data;
    const std::uint64_t end = offset + size;
    std::uint64_t position = offset;
    while (position < end) {
        const std::uint64_t index = position / block_bytes;
        auto found = co_await block(source, index, cancellation);
        if (!found)
            co_return Result<Data>(found.error());
        if (*found == nullptr)
            co_return co_await read_uncached(source.handle, offset, size, cancellation);
        const std::span<const std::byte> bytes = (*found)->data.bytes();
        const std::uint64_t skip = position - index * block_bytes;
        if (skip >= bytes.size())
            break;  // the end of the file
        const std::uint64_t wanted = std::min<std::uint64_t>(end - position, bytes.size() - skip);
        data.pieces.push_back(bytes.subspan(skip, wanted));
        data.blocks.push_back(std::move(*found));
        position += wanted;
        if (bytes.size() < block_bytes)
            break;
    }
    co_return Result<Data>(std::move(data));
}

Task<Result<FileReader::Data>> FileReader::read_uncached(HandleId handle, std::uint64_t offset, std::uint32_t size,
                                                         Cancellation* cancellation) {
    uncached_.add();
    // Where there is none it is read all the same: the limits of the session bound how much that can be.
    MemoryBudget::Charge charge;
    budget_.charge(size, charge);
    const wire::Read message{handle, offset, size};
    const CallOptions options{.lane = LaneKind::data};
    auto reply = co_await session_.call(message, options, cancellation);
    if (!reply)
        co_return Result<Data>(reply.error());
    Data data;
    data.charge = std::move(charge);
    data.uncached = std::move(reply->bulk);
    data.pieces.push_back(std::as_const(data.uncached).bytes());
    co_return Result<Data>(std::move(data));
}

// The block, fetched if need be. Null without an error: there is no memory for it.
Task<Result<std::shared_ptr<const BlockCache::Contents>>> FileReader::block(ReadSource source, std::uint64_t index,
                                                                            Cancellation* cancellation) {
    using Found = Result<std::shared_ptr<const BlockCache::Contents>>;
    const BlockKey key{source.file, source.generation, index};
    for (;;) {
        if (is_cached(source, index)) {
            if (auto found = cache_.find(key))
                co_return Found(std::move(found));
        }
        const std::shared_ptr<Fetch> fetch = fetch_of(source, index);
        if (fetch == nullptr)
            co_return Found(nullptr);
        // Where there is no session any more, it ended before it could be waited for.
        Status status = fetch->status;
        if (!fetch->ended)
            status = co_await fetch->waiting.wait(cancellation);
        if (status == Status::ok)
            co_return Found(fetch->contents);
        // Another reader's handle may have failed where this one's need not.
        if (status == Status::interrupted || fetch->handle == source.handle)
            co_return Found(status);
    }
}

bool FileReader::is_cached(const ReadSource& source, std::uint64_t index) {
    const BlockKey key{source.file, source.generation, index};
    const auto cached = cache_.peek(key);
    if (cached == nullptr)
        return false;
    // It was the file's last, and the file has grown since.
    const bool outgrown =
        cached->data.size() < block_bytes && source.file_size > index * block_bytes + cached->data.size();
    if (outgrown)
        cache_.erase(key);
    return !outgrown;
}

// True if the block is there or on its way; false if there is no memory for it.
bool FileReader::prepare(const ReadSource& source, std::uint64_t index) {
    if (!under_way_.contains({source.file, source.generation, index}) && is_cached(source, index))
        return true;
    return fetch_of(source, index) != nullptr;
}

// What brings the block, begun if need be; it may have ended already. Null if there is no memory for it.
std::shared_ptr<FileReader::Fetch> FileReader::fetch_of(const ReadSource& source, std::uint64_t index) {
    const BlockKey key{source.file, source.generation, index};
    if (const auto known = under_way_.find(key); known != under_way_.end())
        return known->second;
    MemoryBudget::Charge charge;
    if (under_way_bytes_ + block_charge_bytes > budget_.limit_bytes() / under_way_share ||
        !budget_.charge(block_charge_bytes, charge))
        return nullptr;
    auto started = std::make_shared<Fetch>();
    started->key = key;
    started->handle = source.handle;
    started->charge = std::move(charge);
    started->expected_bytes =
        std::clamp<std::uint64_t>(source.file_size - std::min(source.file_size, index * block_bytes), 1, block_bytes);
    started->asked = session_.clock().now();
    under_way_.emplace(key, started);
    under_way_bytes_ += block_charge_bytes;
    window_.note_asked(started->expected_bytes, started->asked);
    spawn(carry_out(started), [this, started](Status status) { end(*started, status); });
    return started;
}

Task<void> FileReader::carry_out(std::shared_ptr<Fetch> fetch) {
    const wire::Read message{fetch->handle, fetch->key.index * block_bytes, block_bytes};
    const CallOptions options{.lane = LaneKind::data};
    auto reply = co_await session_.call(message, options);
    if (reply && fetch->outdated) {
        fetch->contents =
            std::make_shared<const BlockCache::Contents>(std::move(reply->bulk), std::move(fetch->charge));
    } else if (reply) {
        const bool wanted = !fetch->waiting.empty();
        fetch->contents = cache_.insert(fetch->key, std::move(reply->bulk), std::move(fetch->charge), wanted);
    }
    end(*fetch, reply.status());
}

void FileReader::end(Fetch& fetch, Status status) {
    fetch.ended = true;
    fetch.status = status;
    if (status == Status::ok)
        window_.note_arrived(fetch.expected_bytes, fetch.asked, session_.clock().now());
    else
        window_.note_failed(fetch.expected_bytes, session_.clock().now());
    under_way_bytes_ -= block_charge_bytes;
    if (const auto known = under_way_.find(fetch.key); known != under_way_.end() && known->second.get() == &fetch)
        under_way_.erase(known);
    fetch.waiting.wake(status);
}

void FileReader::fetch_ahead(const ReadSource& source, const std::vector<ByteRange>& ranges) {
    for (const ByteRange& range : ranges) {
        const std::uint64_t last_block = (range.offset + range.size - 1) / block_bytes;
        for (std::uint64_t index = range.offset / block_bytes; index <= last_block; ++index) {
            if (!prepare(source, index))
                return;
            fetched_ahead_.add();
        }
    }
}

bool FileReader::resident(const ReadSource& source, std::uint64_t offset, std::uint64_t size) const {
    const std::uint64_t last_block = (offset + size - 1) / block_bytes;
    for (std::uint64_t index = offset / block_bytes; index <= last_block; ++index)
        if (!cache_.contains({source.file, source.generation, index}))
            return false;
    return true;
}

std::optional<FileReader::Data> FileReader::whole(std::uint64_t file, std::uint64_t generation, std::uint64_t size) {
    auto contents = size > block_bytes ? nullptr : cache_.find({file, generation, 0});
    if (contents == nullptr || contents->data.size() != size)
        return std::nullopt;
    Data data;
    data.pieces.push_back(contents->data.bytes());
    data.blocks.push_back(std::move(contents));
    return data;
}

bool FileReader::knows_beginning(std::uint64_t file, std::uint64_t generation) const {
    const BlockKey key{file, generation, 0};
    return cache_.contains(key) || under_way_.contains(key);
}

void FileReader::put_beginning(std::uint64_t file, std::uint64_t generation, Buffer data) {
    MemoryBudget::Charge charge;
    if (data.size() <= block_bytes && budget_.charge(data.size() + block_overhead_bytes, charge))
        cache_.insert({file, generation, 0}, std::move(data), std::move(charge));
}

void FileReader::forget_before(std::uint64_t file, std::uint64_t generation) {
    cache_.erase_before(file, generation);
    std::erase_if(under_way_, [&](const auto& entry) {
        const auto& [key, fetch] = entry;
        const bool goes = key.file == file && key.generation < generation;
        if (goes)
            fetch->outdated = true;  // whoever waits for it still gets it
        return goes;
    });
}

void FileReader::changed(std::uint64_t file, std::uint64_t generation, std::uint64_t offset, std::uint64_t size) {
    const std::uint64_t last_block = (offset + std::max<std::uint64_t>(size, 1) - 1) / block_bytes;
    for (std::uint64_t index = offset / block_bytes; index <= last_block; ++index) {
        const BlockKey key{file, generation, index};
        cache_.erase(key);
        // Whoever waits for it asked before the write was answered, and may get either state; nobody else may join.
        if (const auto known = under_way_.find(key); known != under_way_.end()) {
            known->second->outdated = true;
            under_way_.erase(known);
        }
    }
}

}  // namespace remofile::client
