// SPDX-License-Identifier: MIT
// What is kept of files' contents when others change them, and what fsync makes sure of.
#include "filesystem/file_contents.hpp"

#include <sys/stat.h>

#include "client/fake_server.hpp"

namespace remofile::filesystem {
namespace {

using client::FakeReply;
using client::FakeRequest;
using wire::Opcode;

constexpr HandleId one_handle{11};
constexpr HandleId other_handle{12};

wire::Attributes attributes_of(std::uint64_t version) {
    wire::Attributes attributes;
    attributes.identity.inode = 7;
    attributes.mode = S_IFREG | 0644;
    attributes.size = 100;
    attributes.version = version << 1U;  // bit 0 is no part of it
    return attributes;
}

wire::WriteReply written(std::uint64_t before, std::uint64_t after, std::uint32_t size = 4) {
    return {.size = size, .attributes = attributes_of(after), .version_before = before << 1U};
}

// One open file of version 1.
struct Fixture : client::SessionFixture {
    Fixture() {
        connect();
        contents.emplace(*session, reactor.clock(), inodes, files, counters, std::size_t{64} << 20,
                         [this](InodeNumber) { ++drops; });
        std::vector<wire::ForgetNode> unneeded;
        Inode* inode = inodes.adopt(root_inode, {NodeId{2}, attributes_of(1)}, unneeded);
        inode->open_count = 1;
        file = inode->id;
        server.on_request = [](const FakeRequest&) { return std::optional<FakeReply>(); };
    }
    ~Fixture() { session->close(); }

    void write(std::uint64_t offset, const std::string& data, HandleId handle) {
        spawn([](FileContents& to, client::WriteBehind::Target target, std::uint64_t at, Buffer bytes) -> Task<void> {
            (void)co_await to.writes().write(target, at, std::move(bytes), nullptr);
        }(*contents, {.file = file, .handle = handle}, offset, Buffer::copy_of(std::string_view(data))));
    }
    FakeRequest await(Opcode opcode, std::size_t index) {
        REQUIRE(wait_for([&] { return server.of(opcode).size() > index; }));
        return server.of(opcode)[index];
    }
    void answer_write(std::size_t index, const wire::WriteReply& reply) {
        server.reply(await(Opcode::write, index), FakeReply::of(reply));
    }
    bool nothing_pending() {
        return wait_for([&] { return !contents->writes().pending(file); });
    }

    InodeMap inodes{1, NodeId{1}, client::some_attributes()};
    HandleTable<FileHandle> files;
    std::optional<FileContents> contents;
    InodeNumber file = 0;
    int drops = 0;
};

}  // namespace

TEST_CASE("contents: a write keeps what is kept if the file was as it was known") {
    Fixture f;
    f.write(0, "aaaa", one_handle);
    f.answer_write(0, written(1, 2));
    REQUIRE(f.nothing_pending());
    f.write(4, "bbbb", one_handle);
    f.answer_write(1, written(2, 3));
    REQUIRE(f.nothing_pending());
    CHECK(f.drops == 0);
}

TEST_CASE("contents: a change made elsewhere is noticed although a write from here came after it") {
    Fixture f;
    f.write(0, "aaaa", one_handle);
    f.answer_write(0, written(5, 6));
    REQUIRE(f.nothing_pending());
    CHECK(f.drops == 1);
}

TEST_CASE("contents: writes through several handles at once are not taken for others'") {
    Fixture f;
    f.write(0, "aaaa", one_handle);
    f.write(8, "bbbb", other_handle);
    f.contents->writes().send(f.file);
    (void)f.await(Opcode::write, 1);
    f.answer_write(1, written(2, 3));
    f.answer_write(0, written(1, 3));
    REQUIRE(f.nothing_pending());
    CHECK(f.drops == 0);
    // Once they are through, it counts again.
    f.write(0, "cccc", one_handle);
    f.answer_write(2, written(9, 10));
    REQUIRE(f.nothing_pending());
    CHECK(f.drops == 1);
}

TEST_CASE("contents: a change of size or mode from here does not hide another's") {
    Fixture f;
    f.contents->resized(f.file, attributes_of(2));
    CHECK(f.drops == 1);
    f.contents->touched(f.file, attributes_of(3));
    CHECK(f.drops == 1);
    f.contents->seen(f.file, attributes_of(3), f.contents->now());
    CHECK(f.drops == 1);
    f.contents->seen(f.file, attributes_of(4), f.contents->now());
    CHECK(f.drops == 2);
}

TEST_CASE("contents: what was asked for before a write, or before others' change was told, is known to be old") {
    Fixture f;
    const std::uint64_t asked_at = f.contents->now();
    CHECK_FALSE(f.contents->changed_since(f.file, asked_at));
    f.write(0, "aaaa", one_handle);
    CHECK(f.contents->changed_since(f.file, asked_at));
    f.answer_write(0, written(1, 2));
    REQUIRE(f.nothing_pending());
    CHECK(f.contents->changed_since(f.file, asked_at));
    CHECK_FALSE(f.contents->keeps(f.file, attributes_of(1), asked_at));
    CHECK_FALSE(f.contents->recent(f.file));

    const std::uint64_t later = f.contents->now();
    CHECK_FALSE(f.contents->changed_since(f.file, later));
    f.contents->forget(f.file);
    CHECK(f.contents->changed_since(f.file, later));
}

TEST_CASE("contents: fsync is repeated for the rest of a write of which the server took a part") {
    Fixture f;
    f.write(0, "abcd", one_handle);
    std::optional<Status> synced;
    spawn([](FileContents& contents, InodeNumber file, std::optional<Status>& outcome) -> Task<void> {
        const wire::Fsync message{one_handle, false};
        outcome = co_await contents.sync(file, message, nullptr);
    }(*f.contents, f.file, synced));
    f.answer_write(0, written(1, 2, 1));
    f.server.reply(f.await(Opcode::fsync, 0), {});
    const FakeRequest rest = f.await(Opcode::write, 1);
    CHECK(rest.bulk == "bcd");
    CHECK_FALSE(synced);
    f.answer_write(1, written(2, 3, 3));
    const FakeRequest again = f.await(Opcode::fsync, 1);
    CHECK_FALSE(synced);
    f.server.reply(again, {});
    REQUIRE(f.wait_for([&] { return synced.has_value(); }));
    CHECK(*synced == Status::ok);
}

}  // namespace remofile::filesystem
