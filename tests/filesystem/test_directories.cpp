// SPDX-License-Identifier: MIT
// Listings: in pieces, taken as there is room, and what becomes of what nobody takes.
#include "fixture.hpp"

namespace remofile::filesystem {
namespace {

using Listing = FileSystem::Listing;

struct Listings : Fixture {
    explicit Listings(std::size_t files) {
        for (std::size_t i = 0; i < files; ++i)
            server_files.make(std::to_string(100 + i));
    }
    HandleNumber opendir() {
        const auto handle = ask(&FileSystem::opendir, root_inode);
        REQUIRE(handle.has_value());
        return handle->handle;
    }
    FakeSink read(HandleNumber handle, std::uint64_t position, std::size_t room, Listing listing = Listing::plain) {
        FakeSink sink(room);
        REQUIRE(list(handle, position, listing, sink).has_value());
        return sink;
    }
    Result<> list(HandleNumber handle, std::uint64_t position, Listing listing, FakeSink& sink) {
        auto asked = std::make_shared<Asked<Result<>>>();
        asked->operation = fs->begin(caller);
        spawn([](FileSystem& system, std::shared_ptr<Asked<Result<>>> kept, HandleNumber number, std::uint64_t place,
                 Listing what, FakeSink& into) -> Task<void> {
            kept->answer.emplace(co_await system.readdir(kept->operation, number, place, what, into));
        }(*fs, asked, handle, position, listing, sink));
        return finish(asked);
    }
    // All of it, a few entries at a time.
    std::vector<std::string> all(HandleNumber handle, std::size_t room, Listing listing) {
        std::vector<std::string> names;
        for (std::uint64_t position = 0;;) {
            const FakeSink piece = read(handle, position, room, listing);
            if (piece.entries.empty())
                return names;
            for (const std::string& name : piece.names())
                names.push_back(name);
            position = piece.entries.back().position;
        }
    }
    void forget(const FakeSink& sink) {
        for (const ListedEntry& entry : sink.entries)
            if (entry.entry.inode != 0)
                fs->forget(entry.entry.inode);
    }
};

}  // namespace

TEST_CASE("a listing is whole whatever the sizes of what is fetched and of what is taken") {
    for (const std::uint16_t fetched : {1, 2, 3, 7, 1024}) {
        for (const std::size_t taken : {1U, 2U, 5U, 100U}) {
            Listings f(10);
            f.server_files.piece_entries = fetched;
            const HandleNumber handle = f.opendir();
            for (const Listing listing : {Listing::plain, Listing::with_attributes}) {
                CAPTURE(fetched, taken, listing);
                CHECK(f.all(handle, taken, listing) == std::vector<std::string>{".", "..", "100", "101", "102", "103",
                                                                                "104", "105", "106", "107", "108",
                                                                                "109"});
            }
        }
    }
}

TEST_CASE("a piece is fetched once, however many entries at a time are taken of it") {
    Listings f(10);
    const HandleNumber handle = f.opendir();
    f.all(handle, 1, Listing::plain);
    CHECK(f.asked(Opcode::readdir) == 1);
}

TEST_CASE("a listing goes on at any place that it told of") {
    Listings f(10);
    f.server_files.piece_entries = 4;
    const HandleNumber handle = f.opendir();
    const FakeSink beginning = f.read(handle, 0, 4);
    const FakeSink more = f.read(handle, beginning.entries[3].position, 3);
    CHECK(more.names() == std::vector<std::string>{"102", "103", "104"});
    CHECK(f.read(handle, beginning.entries[1].position, 2).names() == std::vector<std::string>{"100", "101"});
    CHECK(f.read(handle, 0, 1).names() == std::vector<std::string>{"."});
}

TEST_CASE("entries with attributes are held by whoever took them; those that nobody took are given back") {
    Listings f(10);
    const HandleNumber handle = f.opendir();
    const FakeSink taken = f.read(handle, 0, 6, Listing::with_attributes);
    CHECK(taken.entries[0].entry.inode == 0);
    CHECK(taken.entries[2].entry.inode != 0);
    CHECK(taken.entries[2].entry.attributes.identity.inode == 100);
    CHECK(taken.entries[2].identity.inode == 100);
    CHECK(f.fs->usage().known_files == 1 + 4);
    CHECK(f.server_files.held_nodes.size() == 10);

    SECTION("when the directory is closed") {
        f.fs->releasedir(handle);
    }
    SECTION("when it is read from another place") {
        f.read(handle, 0, 0, Listing::plain);
    }
    REQUIRE(f.wait_for([&] { return f.server_files.held_nodes.size() == 4; }));
    f.forget(taken);
    CHECK(f.wait_for([&] { return f.server_files.held_nodes.empty(); }));
    CHECK(f.fs->usage().known_files == 1);
}

TEST_CASE("nodes that came with entries taken without attributes are given back") {
    Listings f(5);
    const HandleNumber handle = f.opendir();
    f.read(handle, 0, 1, Listing::with_attributes);
    CHECK(f.server_files.held_nodes.size() == 5);
    f.read(handle, f.read(handle, 0, 1, Listing::with_attributes).entries[0].position, 100, Listing::plain);
    CHECK(f.wait_for([&] { return f.server_files.held_nodes.empty(); }));
}

TEST_CASE("a piece that arrives after its directory was closed is given back") {
    Listings f(5);
    const HandleNumber handle = f.opendir();
    f.held = {Opcode::readdir};
    FakeSink sink(100);
    bool ended = false;
    Operation operation = f.fs->begin(f.caller);
    spawn([](FileSystem& system, Operation& asking, HandleNumber number, FakeSink& into, bool& end) -> Task<void> {
        CHECK_FALSE((co_await system.readdir(asking, number, 0, Listing::with_attributes, into)).has_value());
        end = true;
    }(*f.fs, operation, handle, sink, ended));
    REQUIRE(f.await_held(1));
    f.fs->releasedir(handle);
    f.release();
    REQUIRE(f.wait_for([&] { return ended; }));
    CHECK(sink.entries.empty());
    CHECK(f.wait_for([&] { return f.server_files.held_nodes.empty(); }));
}

TEST_CASE("attributes of a listing that waited while later ones were heard are not told") {
    Listings f(3);
    const HandleNumber handle = f.opendir();
    const FakeSink first = f.read(handle, 0, 2, Listing::with_attributes);
    f.lookup("101");
    const FakeSink rest = f.read(handle, first.entries[1].position, 100, Listing::with_attributes);
    CHECK(rest.names() == std::vector<std::string>{"100", "101", "102"});
    CHECK(rest.entries[0].entry.inode != 0);
    CHECK(rest.entries[1].entry.inode == 0);
    CHECK(rest.entries[2].entry.inode != 0);
}

TEST_CASE(
    "a listing that the server goes on with for ever costs a request for each piece that is taken, and is not kept") {
    Listings f(0);
    std::uint64_t cookie = 0;
    f.instead = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode != Opcode::readdir)
            return std::nullopt;
        // Round and round through the same names.
        std::vector<std::byte> bytes;
        wire::Encoder encoder(bytes);
        for (int i = 0; i < 2; ++i) {
            cookie = cookie % 3 + 1;
            encoder.put(wire::DirectoryEntry{
                .cookie = cookie, .inode = cookie, .type = DT_REG, .name = std::to_string(cookie)});
        }
        FakeReply reply = FakeReply::of(wire::ReaddirReply{2, false});
        reply.bulk = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return reply;
    };
    const HandleNumber handle = f.opendir();
    std::uint64_t position = 0;
    for (std::size_t piece = 1; piece <= 500; ++piece) {
        const FakeSink taken = f.read(handle, position, 100);
        REQUIRE(taken.entries.size() == 2);
        position = taken.entries.back().position;
        REQUIRE(f.asked(Opcode::readdir) == piece);
    }
    f.fs->releasedir(handle);
    CHECK(f.wait_for([&] { return f.server_files.open_handles.empty(); }));
}

}  // namespace remofile::filesystem
