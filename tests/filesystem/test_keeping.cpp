// SPDX-License-Identifier: MIT
// What the server has not answered when a mount ends, and another session that carries it out.
#include <cstdlib>
#include <filesystem>

#include "filesystem/replay.hpp"
#include "fixture.hpp"

namespace remofile::filesystem {
namespace {

// A directory "d" of the root that is held exclusively, with two files in it. What changes something is not answered.
struct Keeping : Fixture {
    InodeNumber d = 0;

    Keeping() : Fixture(Leases::exclusive) {
        settings.borrows_inodes = false;
        settings.keeps_unsent = true;
        make_file_system();
        const auto number = server_files.make_directory("d").number;
        server_files.make("old", "old content", number);
        server_files.make("gone", "gone content", number);
        d = lookup("d").inode;
        lookup("old", d);
        lookup("old", d);
        for (const char* name : {"first", "second in a row"})
            REQUIRE(ask(&FileSystem::mkdir, d, name, 0755U).has_value());
        REQUIRE(wait_for([&] { return counted("leases.exclusive_taken") > 0 && fs->usage().pending_changes == 0; }));
        held = {Opcode::create, Opcode::mkdir, Opcode::rename, Opcode::unlink, Opcode::write, Opcode::symlink};
    }
    FakeExport::File& directory() { return server_files.file("d"); }

    void make(const std::string& name, const std::string& text) {
        const auto created =
            ask(&FileSystem::create, d, name, 0644U, OpenHow{.flags = wire::open_write | wire::open_exclusive});
        REQUIRE(created.has_value());
        const auto bytes = std::as_bytes(std::span(text));
        const Payload payload{.bytes = bytes, .take = [&] { return Buffer::copy_of(bytes); }};
        REQUIRE(ask(&FileSystem::write, created->opened.handle, std::uint64_t{0}, payload, WriteHow{}).has_value());
    }
    spool::Contents work() {
        make("new", "new content");
        REQUIRE(ask(&FileSystem::rename, d, "old", d, "moved", 0U).has_value());
        REQUIRE(ask(&FileSystem::unlink, d, "gone").has_value());
        auto unsent = fs->take_unsent();
        CHECK(unsent.lost.empty());
        unsent.contents.source = "server:/";
        unsent.contents.ended_at = 1'790'000'000;
        return std::move(unsent.contents);
    }
};

// Another session with the same files, and a place to note how far it is.
struct Replaying : Fixture {
    std::string folder = (std::filesystem::temp_directory_path() / "remofs-keeping-XXXXXX").string();
    std::optional<spool::Directory> spool;

    explicit Replaying(const FakeExport& files) {
        server_files = files;
        server_files.new_session();
        REQUIRE(mkdtemp(folder.data()) != nullptr);
        auto opened = spool::Directory::open(folder, "/nowhere");
        REQUIRE(opened.has_value());
        spool.emplace(std::move(*opened));
        instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode == Opcode::fsync || request.header.opcode == Opcode::fsyncdir)
                return FakeReply::of(wire::Empty{});
            return std::nullopt;
        };
    }
    ~Replaying() { std::filesystem::remove_all(folder); }

    Replay::Outcome replay(const spool::Contents& contents, const std::string& name) {
        auto progress = spool::Progress::open(*spool, name);
        REQUIRE(progress.has_value());
        Replay replay(*session, contents, *progress, 0);
        std::optional<Result<Replay::Outcome>> outcome;
        spawn(run(replay, outcome));
        REQUIRE(wait_for([&] { return outcome.has_value(); }));
        REQUIRE(outcome->has_value());
        CHECK((*outcome)->failure.empty());
        return **outcome;
    }
    std::map<std::string, std::string> files() {
        std::map<std::string, std::string> found;
        for (const auto& [name, number] : server_files.file("d").names)
            if (S_ISREG(server_files.file(number).mode))
                found[name] = server_files.file(number).content;
        return found;
    }

private:
    static Task<void> run(Replay& replay, std::optional<Result<Replay::Outcome>>& outcome) {
        outcome.emplace(co_await replay.run());
    }
};

}  // namespace

TEST_CASE("keeping: what is not answered is told by paths, in its order") {
    Keeping f;
    const auto contents = f.work();
    REQUIRE(contents.changes.size() == 3);
    CHECK(contents.changes[0].kind == spool::ChangeKind::make);
    CHECK(contents.changes[0].name == "new");
    CHECK(contents.changes[1].kind == spool::ChangeKind::rename);
    CHECK(contents.changes[1].new_name == "moved");
    CHECK(contents.changes[2].kind == spool::ChangeKind::remove);
    const auto& moved = contents.objects[contents.changes[1].object];
    CHECK(moved.path == "d/old");
    CHECK(moved.told.size == 11);
    CHECK(contents.objects[contents.changes[2].object].path == "d/gone");
    CHECK(contents.objects[contents.changes[0].object].is_new);
    REQUIRE(contents.written.size() == 1);
    CHECK(contents.bytes() == 11);
    CHECK(spool::decode(spool::encode(contents)).has_value());
}

TEST_CASE("keeping: another session carries it out, and twice does no harm") {
    Keeping f;
    const auto contents = f.work();
    Replaying g(f.server_files);
    const std::map<std::string, std::string> expected{{"moved", "old content"}, {"new", "new content"}};
    const auto outcome = g.replay(contents, "first.spool");
    CHECK(outcome.conflicts.empty());
    CHECK(outcome.files == 1);
    CHECK(outcome.changes == 3);
    CHECK(g.files() == expected);
    // What was noted is lost: it is found by the names.
    CHECK(g.replay(contents, "second.spool").conflicts.empty());
    CHECK(g.files() == expected);
    // And it is not.
    CHECK(g.replay(contents, "first.spool").conflicts.empty());
    CHECK(g.files() == expected);
}

TEST_CASE("keeping: what the server had carried out unanswered is not done again") {
    const std::size_t count = GENERATE(0U, 1U, 2U, 3U);
    Keeping f;
    const auto contents = f.work();
    REQUIRE(f.await_held(4));
    f.carry_out_held(count);
    Replaying g(f.server_files);
    CHECK(g.replay(contents, "one.spool").conflicts.empty());
    CHECK(g.files() == std::map<std::string, std::string>{{"moved", "old content"}, {"new", "new content"}});
}

TEST_CASE("keeping: what others have changed stays") {
    Keeping f;
    const auto contents = f.work();
    f.server_files.write(f.server_files.file("old", f.directory().number), "changed");
    f.server_files.write(f.server_files.file("gone", f.directory().number), "changed, too");
    f.server_files.make("new", "of somebody else", f.directory().number);
    Replaying g(f.server_files);
    const auto outcome = g.replay(contents, "one.spool");
    CHECK(outcome.conflicts.size() == 3);
    auto files = g.files();
    CHECK(files["old"] == "changed");
    CHECK(files["gone"] == "changed, too");
    CHECK(files["new"] == "of somebody else");
    CHECK(files.size() == 4);
}

}  // namespace remofile::filesystem
