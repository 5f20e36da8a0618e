// SPDX-License-Identifier: MIT
#include <random>
#include <set>

#include "catch.hpp"
#include "client/block_cache.hpp"
#include "client/readahead.hpp"

using namespace remofile::client;

namespace {

constexpr std::uint64_t file_size = 1U << 30;
constexpr std::uint64_t window_limit = 8U << 20;

// A reader whose fetches arrive at once, over blocks; counts what it had to wait for.
struct Reader {
    Readahead readahead;
    std::set<std::uint64_t> blocks;
    std::uint64_t fetched_bytes = 0;
    unsigned waits = 0;

    void read(std::uint64_t offset, std::uint64_t size, std::uint64_t end = file_size) {
        bool waited = false;
        for (auto block = offset / block_bytes; block <= (offset + size - 1) / block_bytes; ++block)
            waited |= blocks.insert(block).second;
        waits += waited ? 1 : 0;
        for (const ByteRange& range : readahead.on_read(offset, size, end, waited, window_limit).ranges) {
            REQUIRE(range.size > 0);
            REQUIRE(range.offset + range.size <= end);
            fetched_bytes += range.size;
            for (auto block = range.offset / block_bytes; block <= (range.offset + range.size - 1) / block_bytes;
                 ++block)
                blocks.insert(block);
        }
    }
};

}  // namespace

TEST_CASE("a forward reader waits once") {
    Reader reader;
    for (std::uint64_t offset = 0; offset < 64U << 20; offset += 128U << 10)
        reader.read(offset, 128U << 10);
    CHECK(reader.waits == 1);
    CHECK(reader.fetched_bytes <= (64U << 20) + window_limit);
}

TEST_CASE("a forward reader that begins in the middle is recognised at its second read") {
    Reader reader;
    for (std::uint64_t offset = 100U << 20; offset < 110U << 20; offset += 128U << 10)
        reader.read(offset, 128U << 10);
    CHECK(reader.waits <= 2);
}

TEST_CASE("reads of one reader may arrive out of order") {
    Reader reader;
    for (std::uint64_t offset = 0; offset < 32U << 20; offset += 256U << 10) {
        reader.read(offset + (128U << 10), 128U << 10);
        reader.read(offset, 128U << 10);
    }
    CHECK(reader.waits <= 2);
}

TEST_CASE("a backward reader is recognised") {
    Reader reader;
    for (std::uint64_t offset = 64U << 20; offset > 32U << 20; offset -= 128U << 10)
        reader.read(offset, 128U << 10);
    CHECK(reader.waits <= 3);
    reader = {};
    for (std::uint64_t offset = 4U << 20; offset > 0; offset -= 128U << 10)  // down to the beginning
        reader.read(offset, 128U << 10);
}

TEST_CASE("a strided reader is recognised, forward and backward") {
    Reader reader;
    for (std::uint64_t i = 0; i < 50; ++i)
        reader.read((3U << 20) + i * (5U << 20), 64U << 10);
    CHECK(reader.waits <= 4);
    CHECK(reader.fetched_bytes <= 60 * (64U << 10));

    Reader backward;
    for (std::uint64_t i = 50; i > 0; --i)
        backward.read(i * (5U << 20) + 4096, 64U << 10);
    CHECK(backward.waits <= 4);
}

TEST_CASE("several readers of one file are told apart") {
    Reader reader;
    for (std::uint64_t step = 0; step < 100; ++step)
        for (std::uint64_t who = 0; who < 4; ++who)
            reader.read(who * (200U << 20) + step * (128U << 10), 128U << 10);
    CHECK(reader.waits <= 8);
}

TEST_CASE("random reads fetch next to nothing") {
    Reader reader;
    std::mt19937_64 random(1);
    for (int i = 0; i < 1000; ++i)
        reader.read(random() % (file_size / 4096) * 4096, 4096);
    CHECK(reader.fetched_bytes < 1000 * 4096);
}

TEST_CASE("the window grows while the reader waits, keeps to its limit and shrinks when it was wasted") {
    Readahead readahead;
    for (std::uint64_t offset = 0; offset < 64U << 20; offset += 128U << 10)
        readahead.on_read(offset, 128U << 10, file_size, true, window_limit);
    CHECK(readahead.window_bytes() == window_limit);
    readahead.note_wasted(1);
    CHECK(readahead.window_bytes() == window_limit / 2);
    CHECK(readahead.on_read(64U << 20, 128U << 10, file_size, true, 0).ranges.empty());
}

TEST_CASE("nothing is fetched beyond the end of the file, nor twice") {
    Reader reader;
    constexpr std::uint64_t end = (3U << 20) + 12345;
    for (std::uint64_t offset = 0; offset < end; offset += 64U << 10)
        reader.read(offset, std::min<std::uint64_t>(64U << 10, end - offset), end);
    CHECK(reader.fetched_bytes <= end);
    CHECK(reader.waits == 1);
}
