// SPDX-License-Identifier: MIT
#include "filesystem/unsynced_writes.hpp"

#include <random>
#include <string>
#include <tuple>

#include "catch.hpp"

namespace remofile::filesystem {
namespace {

using namespace std::chrono_literals;
using Files = std::vector<InodeNumber>;

constexpr TimePoint start{1h};
constexpr std::size_t limit = 64U << 10;

struct Unsynced {
    client::MemoryBudget memory{1U << 20};
    UnsyncedWrites writes{memory, limit};

    void write(InodeNumber file, std::uint64_t offset, const std::string& text, TimePoint now = start) {
        writes.accepted(file);
        writes.keep(file, offset, text.size(),
                    {std::make_shared<Buffer>(Buffer::copy_of(std::string_view(text))), 0, text.size()}, now);
        writes.answered(file, now);
    }
    void resize(InodeNumber file, std::uint64_t size, TimePoint now = start) {
        writes.accepted(file);
        writes.keep_size(file, size, now);
        writes.answered(file, now);
    }
    // What becomes of a file of that content when all that is kept is carried out.
    std::string sent_to(InodeNumber file, std::string content) const {
        for (const UnsyncedWrites::Change& change : writes.changes(file)) {
            if (change.bytes == nullptr) {
                content.resize(change.size);
                continue;
            }
            const bool is_hole = change.bytes->memory == nullptr;
            if (!is_hole || change.offset + change.size > content.size())
                content.resize(std::max<std::size_t>(content.size(), change.offset + change.size));
            const std::string bytes = is_hole
                                          ? std::string(change.size, '\0')
                                          : std::string(change.bytes->memory->text().substr(change.start, change.size));
            content.replace(change.offset, change.size, bytes);
        }
        return content;
    }
    Files lost(TimePoint at) {
        writes.lose(at);
        return writes.lost();
    }
};

}  // namespace

TEST_CASE("what the server has and was not asked to make durable is lost with its machine") {
    Unsynced unsynced;
    UnsyncedWrites& writes = unsynced.writes;
    for (const InodeNumber file : {1U, 2U, 3U, 4U})
        writes.accepted(file);
    for (const InodeNumber file : {1U, 2U, 4U})  // it has nothing of 3 yet
        writes.answered(file, start);
    writes.synced(2, writes.mark(2));
    SECTION("until it was sent again") {
        CHECK(unsynced.lost(start + 1s) == Files{1, 4});
        writes.sent_again(1, start + 2s);
        writes.forget(4);
        CHECK(writes.lost().empty());
        writes.answered(3, start + 2s);
        CHECK(unsynced.lost(start + 3s) == Files{1, 3});
    }
    SECTION("what was accepted after it was asked for is not durable") {
        const auto mark = writes.mark(1);
        writes.accepted(1);
        writes.synced(1, mark);
        CHECK(unsynced.lost(start) == Files{1, 4});
    }
    SECTION("but what is old has been written") {
        writes.answered(4, start + 60s);
        CHECK(unsynced.lost(start + UnsyncedWrites::written_back_after) == Files{4});
    }
    SECTION("and is forgotten then, unless it is to be sent again") {
        CHECK(unsynced.lost(start + 1s) == Files{1, 4});
        writes.sent_again(4, start + 1s);
        writes.forget_old(start + 1s + UnsyncedWrites::written_back_after);
        CHECK(writes.knows(1));
        CHECK(writes.knows(3));
        CHECK(!writes.knows(4));
    }
}

TEST_CASE("what is not durable is kept as it is to be sent again") {
    Unsynced unsynced;
    SECTION("in its order, where writes overlap") {
        unsynced.write(1, 0, "abcdef");
        unsynced.write(1, 2, "CD");
        unsynced.write(1, 5, "FG");
        unsynced.write(1, 0, "A");
        CHECK(unsynced.sent_to(1, "") == "AbCDeFG");
        CHECK(unsynced.writes.changes(1).size() == 5);
    }
    SECTION("with what the file had before and after it") {
        unsynced.write(1, 2, "XX");
        CHECK(unsynced.sent_to(1, "abcdefgh") == "abXXefgh");
    }
    SECTION("with its sizes in between") {
        unsynced.write(1, 0, "abcdef");
        unsynced.resize(1, 3);
        unsynced.write(1, 4, "EF");
        unsynced.resize(1, 8);
        CHECK(unsynced.sent_to(1, "old content") == std::string("abc\0EF\0\0", 8));
        CHECK(unsynced.sent_to(1, "") == std::string("abc\0EF\0\0", 8));
    }
    SECTION("with holes") {
        unsynced.write(1, 0, "abcdef");
        unsynced.writes.keep_hole(1, 1, 3, start);
        CHECK(unsynced.sent_to(1, "") == std::string("a\0\0\0ef", 6));
    }
    SECTION("whatever was lost of it") {
        // Any number of the changes may be on the disk already.
        std::mt19937 random(1);
        for (int round = 0; round < 200; ++round) {
            Unsynced several;
            std::string content = "what was durable";
            std::vector<std::string> states{content};
            for (int i = 0; i < 12; ++i) {
                const std::size_t at = random() % 20;
                if (random() % 4 == 0) {
                    content.resize(at);
                    several.resize(1, at);
                } else {
                    const std::string text(1 + random() % 8, static_cast<char>('a' + i));
                    content.resize(std::max(content.size(), at + text.size()));
                    content.replace(at, text.size(), text);
                    several.write(1, at, text);
                }
                states.push_back(content);
            }
            for (const std::string& state : states)
                CHECK(several.sent_to(1, state) == content);
        }
    }
}

TEST_CASE("what is durable is kept no longer") {
    Unsynced unsynced;
    UnsyncedWrites& writes = unsynced.writes;
    InodeNumber ended = 0;
    writes.on_ended = [&](InodeNumber file) { ended = file; };
    unsynced.write(1, 0, "abc");
    SECTION("if all of it is") {
        writes.synced(1, writes.mark(1));
        CHECK(ended == 1);
        CHECK(writes.kept_bytes() == 0);
        CHECK(unsynced.memory.used_bytes() == 0);
    }
    SECTION("nor if something was written since") {
        const auto mark = writes.mark(1);
        unsynced.write(1, 1, "BCD");
        writes.synced(1, mark);
        CHECK(ended == 0);
        CHECK(writes.changes(1).size() == 1);
        CHECK(unsynced.sent_to(1, "abc") == "aBCD");
    }
    SECTION("but its size is, if that has changed since") {
        unsynced.resize(1, 2);
        const auto mark = writes.mark(1);
        unsynced.write(1, 2, "C");
        unsynced.resize(1, 4);
        writes.synced(1, mark);
        CHECK(unsynced.sent_to(1, "ab") == std::string("abC\0", 4));
    }
    SECTION("and what is old is durable") {
        const TimePoint later = start + UnsyncedWrites::written_back_after;
        unsynced.write(1, 1, "B", later - 1s);
        writes.forget_old(later);
        CHECK(unsynced.sent_to(1, "...") == ".B.");
        CHECK(ended == 0);
        writes.forget_old(later + UnsyncedWrites::written_back_after);
        CHECK(ended == 1);
        CHECK(writes.empty());
    }
}

TEST_CASE("no more is kept than fits, and its files cannot be sent again then") {
    Unsynced unsynced;
    UnsyncedWrites& writes = unsynced.writes;
    const auto is_whole = [&](InodeNumber file) { return writes.is_whole(file); };
    SECTION("of many files the oldest go") {
        for (InodeNumber file = 1; file <= 20; ++file)
            unsynced.write(file, 0, std::string(limit / 10, 'x'));
        CHECK(writes.kept_bytes() <= limit);
        CHECK(!is_whole(1));
        CHECK(writes.changes(1).empty());
        CHECK(is_whole(20));
        CHECK(unsynced.sent_to(20, "").size() == limit / 10);
    }
    SECTION("of a large one its own") {
        unsynced.write(1, 0, "small");
        for (std::uint64_t offset = 0; offset < 4 * limit; offset += limit / 8)
            unsynced.write(2, offset, std::string(limit / 8, 'x'));
        CHECK(writes.kept_bytes() <= limit);
        CHECK(is_whole(1));
        CHECK(!is_whole(2));
        // Later it is like any other.
        const TimePoint later = start + UnsyncedWrites::written_back_after;
        unsynced.write(2, 0, "y", later);
        writes.forget_old(later);
        CHECK(is_whole(2));
        CHECK(unsynced.sent_to(2, "x") == "y");
    }
    SECTION("nor more than there is memory for") {
        client::MemoryBudget::Charge all;
        REQUIRE(unsynced.memory.charge(unsynced.memory.limit_bytes(), all));
        unsynced.write(1, 0, "x");
        CHECK(!is_whole(1));
    }
    SECTION("nor what was changed otherwise") {
        unsynced.write(1, 0, "x");
        writes.cannot_keep(1, start);
        CHECK(!is_whole(1));
        writes.cannot_keep(2, start);
        CHECK(!writes.knows(2));
    }
    SECTION("memory that is used to a small part is not kept") {
        const auto memory = std::make_shared<Buffer>(Buffer::allocate(limit));
        for (InodeNumber file = 1; file <= 10; ++file)
            writes.keep(file, 0, 100, {memory, 50, limit}, start);
        CHECK(memory.use_count() == 1);
        CHECK(is_whole(1));
    }
}

}  // namespace remofile::filesystem
