// SPDX-License-Identifier: MIT
#include <sys/stat.h>

#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "spool/format.hpp"

namespace remofile::spool {
namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
}

Contents example() {
    Contents contents{.source = "host:/data", .ended_at = 1'790'000'000, .objects = {}, .changes = {}, .written = {}};
    contents.objects = {{.type = S_IFDIR},
                        {.path = "letters/old.txt",
                         .identity = {.device = 1, .inode = 77, .birth = {5, 6}},
                         .type = S_IFREG,
                         .is_told = true,
                         .told = {.size = 12, .modification = {7, 8}}},
                        {.is_new = true, .type = S_IFREG}};
    contents.changes = {
        {.kind = ChangeKind::make, .object = 2, .directory = 0, .name = "new", .mode = S_IFREG | 0644U, .umask = 022},
        {.kind = ChangeKind::rename,
         .object = 2,
         .directory = 0,
         .name = "new",
         .new_directory = 0,
         .new_name = "target",
         .flags = 1},
        {.kind = ChangeKind::set, .object = 1, .setting = {.which = wire::set_modification, .modification = {9, 10}}}};
    contents.written = {{.object = 1, .size = 20, .extents = {{12, bytes_of("appended")}}},
                        {.object = 2, .size = 5, .extents = {{0, bytes_of("he")}, {2, bytes_of("llo")}}}};
    return contents;
}

}  // namespace

TEST_CASE("spool format: what was put in comes out") {
    const Contents contents = example();
    const auto decoded = decode(encode(contents));
    REQUIRE(decoded.has_value());
    CHECK(decoded->source == contents.source);
    CHECK(decoded->ended_at == contents.ended_at);
    REQUIRE(decoded->objects.size() == 3);
    CHECK(decoded->objects[1].path == "letters/old.txt");
    CHECK(decoded->objects[1].identity == contents.objects[1].identity);
    CHECK(decoded->objects[1].told == contents.objects[1].told);
    CHECK(decoded->objects[2].is_new);
    REQUIRE(decoded->changes.size() == 3);
    CHECK(decoded->changes[1].new_name == "target");
    CHECK(decoded->changes[2].setting.modification == contents.changes[2].setting.modification);
    REQUIRE(decoded->written.size() == 2);
    CHECK(decoded->written[0].size == 20);
    CHECK(decoded->written[1].extents == contents.written[1].extents);
    CHECK(decoded->bytes() == 13);
}

TEST_CASE("spool format: each truncation, and what was added, is refused") {
    const auto whole = encode(example());
    for (std::size_t size = 0; size < whole.size(); ++size) {
        INFO("of " << whole.size() << " bytes " << size);
        CHECK(decode(std::span(whole).first(size)).status() == Status::malformed);
    }
    auto longer = whole;
    longer.push_back(std::byte{0});
    CHECK(decode(longer).status() == Status::malformed);
}

TEST_CASE("spool format: each changed bit is refused") {
    const auto whole = encode(example());
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (unsigned bit = 0; bit < 8; ++bit) {
            auto changed = whole;
            changed[at] ^= static_cast<std::byte>(1U << bit);
            INFO("byte " << at << ", bit " << bit);
            CHECK_FALSE(decode(changed).has_value());
        }
    }
}

TEST_CASE("spool format: what other programs have written is told apart") {
    const auto text = bytes_of("#!/bin/sh\necho this is no spool file, but long enough for one\n");
    CHECK(decode(text).error().message == "not a spool file of remofs");
    auto damaged = encode(example());
    damaged.back() ^= std::byte{1};
    CHECK(decode(damaged).error().message == "damaged: its checksum is wrong");
}

TEST_CASE("spool format: records that do not fit together are refused, whatever the checksum") {
    Contents contents = example();
    SECTION("a change of something that is not there") {
        contents.changes[0].object = 3;
    }
    SECTION("a directory that is not there") {
        contents.changes[0].directory = 3;
    }
    SECTION("a name that leads elsewhere") {
        contents.changes[0].name = "..";
    }
    SECTION("a path for a name") {
        contents.changes[1].new_name = "a/b";
    }
    SECTION("something made that was there") {
        contents.changes[0].object = 1;
    }
    SECTION("bytes of a directory") {
        contents.written[0].object = 0;
    }
    SECTION("no root") {
        contents.objects.clear();
    }
    CHECK(decode(encode(contents)).status() == Status::malformed);
}

TEST_CASE("spool format: of steps, those before the first that is not whole are known") {
    const Step placed{.kind = StepKind::placed, .number = 2, .directory = 0, .name = "target", .identity = {1, 2, {}}};
    const Step about{.kind = StepKind::about_to_write, .number = 1, .digests = {1, 2, 3}};
    auto bytes = encode(placed);
    const std::size_t first = bytes.size();
    const auto second = encode(about);
    bytes.insert(bytes.end(), second.begin(), second.end());
    const Steps whole = decode_steps(bytes);
    REQUIRE(whole.steps.size() == 2);
    CHECK(whole.bytes == bytes.size());
    CHECK(whole.steps[0].name == "target");
    CHECK(whole.steps[0].identity == placed.identity);
    CHECK(whole.steps[1].digests == about.digests);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const Steps part = decode_steps(std::span(bytes).first(size));
        CHECK(part.steps.size() == (size < first ? 0 : 1));
        CHECK(part.bytes == (size < first ? 0 : first));
    }
    for (std::size_t at = first; at < bytes.size(); ++at) {
        auto changed = bytes;
        changed[at] ^= std::byte{0x10};
        CHECK(decode_steps(changed).steps.size() == 1);
    }
}

}  // namespace remofile::spool
