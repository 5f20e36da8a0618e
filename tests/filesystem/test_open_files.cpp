// SPDX-License-Identifier: MIT
// Open files: what is kept of their contents and for how long, what is shown of them while writes are pending, and who
// is told of a write that failed.
#include "fixture.hpp"
#include "wire/machine_start.hpp"

namespace remofile::filesystem {
namespace {

constexpr OpenHow to_read{.flags = wire::open_read};
// More than whoever asks what the file is like waits for.
const std::string much(1U << 20, 'x');
constexpr OpenHow to_write{.flags = wire::open_read | wire::open_write};

struct OpenFiles : Fixture {
    explicit OpenFiles(std::string content = "content") {
        server_files.make("file", std::move(content));
        inode = lookup("file").inode;
    }

    FakeExport::File& at_server() { return server_files.file("file"); }
    Opened open(OpenHow how = to_read) {
        const auto opened = ask(&FileSystem::open, inode, how);
        REQUIRE(opened.has_value());
        return *opened;
    }
    static std::string text_of(const Result<client::FileReader::Data>& data) {
        std::string text;
        for (const auto piece : data.value().pieces)
            text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        return text;
    }
    std::string read(HandleNumber handle, std::uint64_t offset = 0, std::size_t size = 1000) {
        const auto data = ask(&FileSystem::read, handle, offset, size);
        REQUIRE(data.has_value());
        return text_of(data);
    }
    // As remofs writes.
    static Payload payload(const std::string& data) {
        const auto bytes =
            std::make_shared<std::string>(data);  // shared with the function, whose copies may outlive it
        return {.bytes = std::as_bytes(std::span(*bytes)),
                .take = [bytes] { return Buffer::copy_of(std::string_view(*bytes)); }};
    }
    Status write(HandleNumber handle, std::uint64_t offset, const std::string& data, WriteHow how = {}) {
        return ask(&FileSystem::write, handle, offset, payload(data), how).status();
    }
    Status flush(HandleNumber handle) { return ask(&FileSystem::flush, handle, LockOwner{9}).status(); }
    Status fsync(HandleNumber handle) { return ask(&FileSystem::fsync, handle, false).status(); }
    std::uint64_t size() {
        const auto shown = ask(&FileSystem::getattr, inode, HandleNumber{});
        REQUIRE(shown.has_value());
        return shown->attributes.size;
    }
    void refuse_writes(Status status) {
        instead = [status](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode != Opcode::write)
                return std::nullopt;
            return FakeReply{.status = status};
        };
    }
    NodeId node() const { return server.of(Opcode::lookup)[0].as<wire::Lookup>().node.id; }

    InodeNumber inode = 0;
};

}  // namespace

// ---------------------------------------------------------------- what is kept

TEST_CASE("a small file's content comes with the answer to OPEN") {
    OpenFiles f;
    const std::size_t messages = f.server.messages;
    const Opened opened = f.open();
    CHECK(f.server.messages == messages + 1);
    CHECK(f.asked(Opcode::read) == 1);
    CHECK(f.read(opened.handle) == "content");
    CHECK(f.asked(Opcode::read) == 1);
}

TEST_CASE("a byte is looked at as the server has it, through a handle that may read") {
    OpenFiles f;
    CHECK(f.ask(&FileSystem::peek, f.inode, std::uint64_t{6}).value() == std::nullopt);
    f.open({.flags = wire::open_write});
    CHECK(f.ask(&FileSystem::peek, f.inode, std::uint64_t{6}).value() == std::nullopt);
    f.open();
    f.server_files.write(f.at_server(), "other");
    CHECK(f.ask(&FileSystem::peek, f.inode, std::uint64_t{4}).value() == std::byte{'r'});
    CHECK(f.ask(&FileSystem::peek, f.inode, std::uint64_t{6}).value() == std::nullopt);
}

TEST_CASE("no content is asked for with OPEN where it would be of no use") {
    OpenFiles f(std::string(100'000, 'x'));
    SECTION("the file is large") {
        f.open();
    }
    f.server_files.write(f.at_server(), "small");
    CHECK(f.size() == 5);
    SECTION("it is opened to be written") {
        f.open(to_write);
    }
    SECTION("it is emptied") {
        f.open({.flags = wire::open_read | wire::open_write | wire::open_truncate});
    }
    SECTION("it is read past the cache") {
        f.open({.flags = wire::open_read, .past_cache = true});
    }
    SECTION("it is empty") {
        f.server_files.write(f.at_server(), "");
        CHECK(f.size() == 0);
        f.open();
    }
    CHECK(f.asked(Opcode::open) == 1);
    CHECK(f.asked(Opcode::read) == 0);
}

TEST_CASE("what was read is kept from one open to the next while the version stays") {
    OpenFiles f;
    Opened opened = f.open();
    CHECK_FALSE(opened.front_is_true);
    CHECK(f.read(opened.handle) == "content");
    f.fs->release(opened.handle);
    CHECK(f.fs->usage().open_files == 0);

    opened = f.open();
    CHECK(opened.front_is_true);
    CHECK(f.read(opened.handle) == "content");
    CHECK(f.asked(Opcode::read) == 1);
    f.fs->release(opened.handle);

    f.server_files.write(f.at_server(), "another");
    opened = f.open();
    CHECK_FALSE(opened.front_is_true);
    CHECK(f.read(opened.handle) == "another");
}

TEST_CASE("what was read under a fresh version is not kept for the next open") {
    OpenFiles f;
    f.server_files.fresh = true;
    for (const char* content : {"content", "changed"}) {
        // Within the same tick of the server's clock: the version says nothing of it.
        f.at_server().content = content;
        const Opened opened = f.open();
        CHECK_FALSE(opened.front_is_true);
        CHECK(f.read(opened.handle) == content);
        f.fs->release(opened.handle);
    }
}

TEST_CASE("what was written from here is not kept for the next open") {
    OpenFiles f;
    Opened opened = f.open(to_write);
    CHECK(f.write(opened.handle, 0, "CON") == Status::ok);
    CHECK(f.flush(opened.handle) == Status::ok);
    f.fs->release(opened.handle);
    opened = f.open();
    CHECK_FALSE(opened.front_is_true);
    CHECK(f.read(opened.handle) == "CONtent");
}

TEST_CASE("a file that others change while it is open is read anew, here and in front") {
    OpenFiles f;
    const Opened opened = f.open();
    CHECK(f.read(opened.handle) == "content");
    f.server_files.write(f.at_server(), "changed");
    SECTION("when its attributes are seen") {
        CHECK(f.size() == 7);
    }
    SECTION("when the server tells of it") {
        f.server.push(wire::PushInvalidate{.sequence = 1, .nodes = {f.node()}});
        REQUIRE(f.wait_for([&] { return f.asked(Opcode::invalidated) == 1; }));
    }
    CHECK(f.front.dropped == std::vector<InodeNumber>{f.inode});
    CHECK(f.read(opened.handle) == "changed");
}

TEST_CASE("an invalidation is acknowledged at once, as what is in front goes by itself") {
    OpenFiles f;
    f.open();
    f.front.slow = true;
    f.server.push(wire::PushInvalidate{.sequence = 4, .nodes = {f.node(), NodeId{4711}}});
    REQUIRE(f.wait_for([&] { return !f.front.dropped.empty(); }));
    REQUIRE(f.wait_for([&] { return f.asked(Opcode::invalidated) == 1; }));
    CHECK(f.server.of(Opcode::invalidated)[0].as<wire::Invalidated>().sequence == 4);
}

TEST_CASE("a lost connection makes what is kept of open files doubtful") {
    OpenFiles f;
    const Opened opened = f.open();
    CHECK(f.read(opened.handle) == "content");
    f.server.stop();
    REQUIRE(f.wait_for([&] { return !f.session->connected(); }));
    // The push that tells of it is lost.
    f.server_files.write(f.at_server(), "changed");
    f.server.start();
    REQUIRE(f.wait_for([&] { return f.session->connected(); }));
    f.settle();
    CHECK(f.front.dropped == std::vector<InodeNumber>{f.inode});
    CHECK(f.read(opened.handle) == "changed");
}

TEST_CASE("an open that finds its content kept waits until the front has dropped what was void") {
    OpenFiles f;
    f.fs->release(f.open().handle);
    f.front.slow = true;
    f.front.drop(f.inode, nullptr);
    const auto opening = f.begin(&FileSystem::open, f.inode, to_read);
    REQUIRE(f.wait_for([&] { return f.asked(Opcode::open) == 2; }));
    f.settle();
    CHECK_FALSE(opening->done());
    SECTION("and then says so") {
        f.front.settle();
        CHECK(f.finish(opening).value().front_is_true);
    }
    SECTION("unless its caller gives up") {
        opening->operation.cancellation.cancel();
        CHECK(f.finish(opening).status() == Status::interrupted);
        CHECK(f.wait_for([&] { return f.server_files.open_handles.empty(); }));
        CHECK(f.fs->usage().open_files == 0);
    }
}

TEST_CASE("an emptied or cut file is read anew") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    CHECK(f.read(opened.handle) == "content");
    SECTION("cut by its name") {
        const auto shown =
            f.ask(&FileSystem::setattr, f.inode, HandleNumber{}, wire::Setattr{.which = wire::set_size, .size = 3});
        CHECK(shown.value().attributes.size == 3);
        CHECK(f.read(opened.handle) == "con");
    }
    SECTION("emptied by another open") {
        f.open({.flags = wire::open_write | wire::open_truncate});
        CHECK(f.read(opened.handle).empty());
    }
}

// ---------------------------------------------------------------- what is shown while writes are pending

TEST_CASE("whoever asks what a file is like waits for what was written to it, unless that is much") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    f.held = {Opcode::write};
    REQUIRE(f.write(opened.handle, 0, "new") == Status::ok);
    const auto asked = f.begin(&FileSystem::getattr, f.inode, HandleNumber{});
    REQUIRE(f.await_held(1));
    CHECK_FALSE(asked->done());
    CHECK(f.asked(Opcode::getattr) == 0);
    f.release();
    CHECK(f.finish(asked).value().attributes.modification == f.at_server().modification);

    f.held = {Opcode::write};
    REQUIRE(f.write(opened.handle, 0, much) == Status::ok);
    CHECK(f.size() == much.size());
    f.release();
}

TEST_CASE("programs see their writes' size wherever those are") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    f.held = {Opcode::write};
    CHECK(f.write(opened.handle, 7, much) == Status::ok);
    CHECK(f.size() == 7 + much.size());
    REQUIRE(f.await_held(1));
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    CHECK(f.size() == 7 + much.size());
    CHECK(f.at_server().content == "content" + much);
}

TEST_CASE("what is written to a file that others have cut makes it no larger than that") {
    OpenFiles f("a long content");
    Opened opened = f.open(to_write);
    f.server_files.write(f.at_server(), "x");
    SECTION("when it is opened once more, which is all that is heard of it") {
        f.fs->release(opened.handle);
        opened = f.open(to_write);
    }
    SECTION("when the server tells of it") {
        f.server.push(wire::PushInvalidate{.sequence = 1, .nodes = {f.node()}});
        REQUIRE(f.wait_for([&] { return f.asked(Opcode::invalidated) == 1; }));
    }
    f.held = {Opcode::write};
    CHECK(f.write(opened.handle, 3, much) == Status::ok);
    CHECK(f.size() == 3 + much.size());
    f.release();
}

TEST_CASE("attributes that were asked for before a write do not take it back") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    f.held = {Opcode::getattr};
    const auto asking = f.begin(&FileSystem::getattr, f.inode, HandleNumber{});
    REQUIRE(f.await_held(1));
    const FakeReply old = FakeReply::of(wire::AttributesReply{f.server_files.attributes(f.at_server())});
    CHECK(f.write(opened.handle, 7, "12345") == Status::ok);
    CHECK(f.flush(opened.handle) == Status::ok);
    f.instead = [&](const FakeRequest& request) {
        return request.header.opcode == Opcode::getattr ? std::optional(old) : std::nullopt;
    };
    f.release();
    CHECK(f.finish(asking).value().attributes.size == 12);
    CHECK(f.front.dropped.empty());
    CHECK(f.read(opened.handle) == "content12345");
}

TEST_CASE("a read waits for the pending writes that it needs, and for no others") {
    OpenFiles f(std::string(1000, 'x'));
    const Opened opened = f.open(to_write);
    CHECK(f.read(opened.handle, 0, 3) == "xxx");
    f.held = {Opcode::write};
    CHECK(f.write(opened.handle, 500, "12345") == Status::ok);
    REQUIRE(f.await_held(1));
    CHECK(f.read(opened.handle, 0, 3) == "xxx");
    const auto reading = f.begin(&FileSystem::read, opened.handle, 498U, 10U);
    f.settle();
    CHECK_FALSE(reading->done());
    f.release();
    CHECK(f.text_of(f.finish(reading)) == "xx12345xxx");
}

TEST_CASE("a write that must not be waited behind goes through") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    f.held = {Opcode::write};
    const auto writing = f.begin(&FileSystem::write, opened.handle, 0U, f.payload("CON"), WriteHow{.through = true});
    REQUIRE(f.await_held(1));
    CHECK_FALSE(writing->done());
    f.release();
    CHECK(f.finish(writing).value() == 3);
    CHECK(f.write(opened.handle, 0, "!", {.append = true, .through = true}) == Status::ok);
    CHECK(f.at_server().content == "CONtent!");
    // The front put the bytes elsewhere.
    CHECK(f.front.dropped == std::vector<InodeNumber>{f.inode});
}

// ---------------------------------------------------------------- writes that fail

TEST_CASE("a write that failed is told to every handle that was open, once each") {
    OpenFiles f;
    const Opened writer = f.open(to_write);
    const Opened other = f.open(to_write);
    f.refuse_writes(Status::no_space);
    CHECK(f.write(writer.handle, 0, "x") == Status::ok);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    const Opened later = f.open(to_write);
    f.instead = nullptr;
    CHECK(f.fsync(other.handle) == Status::no_space);
    CHECK(f.fsync(other.handle) == Status::ok);
    CHECK(f.write(writer.handle, 0, "x") == Status::no_space);
    CHECK(f.write(writer.handle, 0, "x") == Status::ok);
    // The program may not have heard of the write's, nor of what its children were told when they closed it.
    CHECK(f.flush(writer.handle) == Status::no_space);
    CHECK(f.flush(writer.handle) == Status::no_space);
    CHECK(f.fsync(writer.handle) == Status::no_space);
    CHECK(f.fsync(writer.handle) == Status::ok);
    CHECK(f.flush(writer.handle) == Status::ok);
    CHECK(f.flush(later.handle) == Status::ok);
    CHECK(f.at_server().content == "xontent");
}

TEST_CASE("a write that failed shows no more, here and in front") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    f.refuse_writes(Status::no_space);
    CHECK(f.write(opened.handle, 7, "12345") == Status::ok);
    CHECK(f.flush(opened.handle) == Status::no_space);
    CHECK(f.size() == 7);
    CHECK(f.read(opened.handle) == "content");
    CHECK(f.front.dropped == std::vector<InodeNumber>{f.inode});
}

TEST_CASE("flush asks nothing for a handle through which nothing was written or locked") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    CHECK(f.flush(opened.handle) == Status::ok);
    CHECK(f.asked(Opcode::flush) == 0);
    CHECK(f.write(opened.handle, 0, "x") == Status::ok);
    CHECK(f.fsync(opened.handle) == Status::ok);
    CHECK(f.flush(opened.handle) == Status::ok);
    CHECK(f.asked(Opcode::flush) == 0);
    CHECK(f.write(opened.handle, 0, "y") == Status::ok);
    CHECK(f.flush(opened.handle) == Status::ok);
    CHECK(f.asked(Opcode::flush) == 1);
}

TEST_CASE("what is open goes on in the session that takes a lost one's place") {
    OpenFiles f;
    f.server_files.make("in it", "more", f.server_files.make_directory("directory").number);
    const InodeNumber directory = f.lookup("directory").inode;
    const InodeNumber in_it = f.lookup("in it", directory).inode;
    const auto names = f.ask(&FileSystem::opendir, directory);
    const Opened written = f.open(to_write);
    const Opened only_read = f.open();
    REQUIRE(f.read(only_read.handle) == "content");
    f.held = {Opcode::write};
    CHECK(f.write(written.handle, 0, "C") == Status::ok);
    REQUIRE(f.await_held(1));

    f.lose_session();
    REQUIRE(f.await_held(1));  // sent again
    f.held.clear();
    f.release();
    CHECK(f.flush(written.handle) == Status::ok);
    CHECK(f.read(only_read.handle) == "Content");
    CHECK(f.server_files.file("file").content == "Content");
    CHECK(f.session->epoch() == 1);
    CHECK(f.ask(&FileSystem::getattr, in_it, HandleNumber{}).value().attributes.size == 4);
    FakeSink sink(10);
    CHECK(f.ask(&FileSystem::readdir, names->handle, 0U, FileSystem::Listing::plain, sink).has_value());
    CHECK(sink.names().back() == "in it");
    // Each is counted once at the server, and can be given back.
    for (const auto& [node, count] : f.server_files.held_nodes)
        CHECK(count == 1);
    f.fs->releasedir(names->handle);
    f.fs->release(written.handle);
    f.fs->release(only_read.handle);
    f.fs->forget(in_it);
    f.fs->forget(directory);
    REQUIRE(f.wait_for([&] { return f.server_files.held_nodes.size() == 1; }));
    f.settle();
    CHECK(f.server_files.open_handles.empty());
}

TEST_CASE(
    "what was not synced may be lost with the server's machine, and who wrote what cannot be sent again is told") {
    OpenFiles f;
    std::uint32_t starts = 0;
    const auto restart = [&](std::uint32_t machine) {
        f.server.greeting.boot = wire::make_boot(machine, ++starts);
        f.server_files.touch(f.at_server());  // by somebody else
        f.lose_session();
    };
    f.server_files.make("other");
    const InodeNumber other_inode = f.lookup("other").inode;
    restart(1);
    const Opened writer = f.open(to_write);
    const Opened reader = f.open();
    const auto other = f.ask(&FileSystem::open, other_inode, to_write);
    CHECK(f.write(writer.handle, 0, "C") == Status::ok);
    CHECK(f.write(other->handle, 0, "c") == Status::ok);
    CHECK(f.fsync(other->handle) == Status::ok);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    SECTION("of every handle, once") {
        restart(2);
        CHECK(f.fsync(other->handle) == Status::ok);
        CHECK(f.fsync(writer.handle) == Status::io_error);
        CHECK(f.fsync(writer.handle) == Status::ok);
        CHECK(f.flush(reader.handle) == Status::io_error);
        restart(3);
        CHECK(f.fsync(writer.handle) == Status::ok);
    }
    SECTION("by its directory, if it was closed") {
        CHECK(f.flush(writer.handle) == Status::ok);
        f.fs->release(writer.handle);
        f.fs->release(reader.handle);
        restart(2);
        const auto directory = f.ask(&FileSystem::opendir, root_inode);
        CHECK(f.ask(&FileSystem::fsyncdir, directory->handle, false).status() == Status::io_error);
        CHECK(f.ask(&FileSystem::fsyncdir, directory->handle, false).status() == Status::ok);
    }
    SECTION("not with the server alone, nor if it does not know") {
        restart(1);
        CHECK(f.fsync(writer.handle) == Status::ok);
        CHECK(f.write(writer.handle, 0, "D") == Status::ok);
        REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
        restart(0);
        CHECK(f.fsync(writer.handle) == Status::ok);
    }
    SECTION("unless each write was durable when it was answered") {
        CHECK(f.fsync(writer.handle) == Status::ok);
        const Opened durable = f.open({.flags = wire::open_write | wire::open_dsync});
        CHECK(f.write(durable.handle, 0, "D", {.through = true}) == Status::ok);
        restart(2);
        CHECK(f.fsync(durable.handle) == Status::ok);
        CHECK(f.write(durable.handle, 0, "E", {.through = true}) == Status::ok);
        CHECK(f.write(writer.handle, 0, "E", {.through = true}) == Status::ok);
        restart(3);
        CHECK(f.flush(durable.handle) == Status::io_error);
    }
    SECTION("once, also where the session could not be taken up") {
        const auto take_up = std::exchange(f.session->on_session_lost, nullptr);
        restart(2);
        f.session->on_session_lost = take_up;
        REQUIRE(f.session->epoch() == 2);
        f.inode = f.lookup("file").inode;
        const Opened later = f.open(to_write);
        CHECK(f.write(later.handle, 0, "F") == Status::ok);
        REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
        restart(2);
        CHECK(f.fsync(later.handle) == Status::ok);
    }
    SECTION("and what was not answered is sent again") {
        CHECK(f.fsync(writer.handle) == Status::ok);
        f.held = {Opcode::write};
        CHECK(f.write(writer.handle, 0, "E") == Status::ok);
        REQUIRE(f.await_held(1));
        f.server.greeting.boot = wire::make_boot(2, ++starts);
        f.lose_session();
        REQUIRE(f.await_held(1));
        f.release();
        CHECK(f.fsync(writer.handle) == Status::ok);
        CHECK(f.at_server().content == "Eontent");
    }
}

namespace {

// On a server whose machine can lose its power.
struct LosingPower : OpenFiles {
    LosingPower() {
        settings.facts_of = [](const Caller&) { return CallerFacts{}; };
        make_file_system();
        inode = lookup("file").inode;
        restart();
    }
    void restart() {
        ++starts;
        server.greeting.boot = wire::make_boot(starts, starts);
        lose_session();
    }
    // With all that was done to the file since durable() was called.
    void lose_power() {
        at_server() = durable_;
        restart();
    }
    // The same without waiting until all is as before.
    void begin_to_lose_power() {
        at_server() = durable_;
        ++starts;
        server.greeting.boot = wire::make_boot(starts, starts);
        begin_to_lose_session();
    }
    void durable() { durable_ = at_server(); }
    void all_answered() {
        REQUIRE(wait_for([&] { return fs->usage().pending_write_bytes == 0; }));
    }
    Status resize(std::uint64_t size) {
        return ask(&FileSystem::setattr, inode, HandleNumber{}, wire::Setattr{.which = wire::set_size, .size = size})
            .status();
    }
    void forget_file(HandleNumber handle) {
        fs->release(handle);
        fs->forget(inode);
    }

    std::uint32_t starts = 0;

private:
    FakeExport::File durable_;
};

}  // namespace

TEST_CASE("what the server's machine has lost is sent again, and nobody notices") {
    LosingPower f;
    const Opened writer = f.open(to_write);
    f.durable();
    CHECK(f.write(writer.handle, 0, "abcdef") == Status::ok);
    CHECK(f.write(writer.handle, 4, "EFGH") == Status::ok);
    f.all_answered();
    std::string content = "abcdEFGH";
    SECTION("to an open file, with what was read and told before") {
        const auto before = f.ask(&FileSystem::getattr, f.inode, HandleNumber{});
        f.lose_power();
        const auto after = f.ask(&FileSystem::getattr, f.inode, HandleNumber{});
        CHECK(after->attributes.modification == before->attributes.modification);
        CHECK(after->attributes.size == before->attributes.size);
    }
    SECTION("with sizes in between, and what was written through") {
        CHECK(f.resize(2) == Status::ok);
        CHECK(f.write(writer.handle, 3, "xyz") == Status::ok);
        f.all_answered();
        CHECK(f.write(writer.handle, 4, "Y", {.through = true}) == Status::ok);
        CHECK(f.resize(7) == Status::ok);
        content = std::string("ab\0xYz\0", 7);
        f.lose_power();
    }
    SECTION("and holes") {
        CHECK(f.ask(&FileSystem::fallocate, writer.handle, 3U, std::uint64_t{1}, std::uint64_t{2}).has_value());
        content = std::string("a\0\0dEFGH", 8);
        f.lose_power();
    }
    SECTION("of what was written since it was synced, that alone") {
        CHECK(f.fsync(writer.handle) == Status::ok);
        f.durable();
        CHECK(f.write(writer.handle, 1, "B") == Status::ok);
        f.all_answered();
        const std::size_t writes = f.asked(Opcode::write);
        content = "aBcdEFGH";
        f.lose_power();
        CHECK(f.asked(Opcode::write) == writes + 1);
    }
    SECTION("as often as it is lost") {
        f.lose_power();
        f.lose_power();
    }
    SECTION("also when the connection is lost once more meanwhile") {
        f.held = {Opcode::write};
        f.begin_to_lose_power();
        REQUIRE(f.await_held(2));
        f.begin_to_lose_session();
        REQUIRE(f.await_held(2));
        f.release();
    }
    SECTION("before anybody can see the file as it was left") {
        f.held = {Opcode::write};
        f.begin_to_lose_power();
        REQUIRE(f.await_held(2));
        const auto reading = f.begin(&FileSystem::read, writer.handle, std::uint64_t{0}, std::size_t{100});
        CHECK(!reading->done());
        f.release();
        CHECK(OpenFiles::text_of(f.finish(reading)) == content);
    }
    SECTION("under another name, which it was given since") {
        REQUIRE(f.ask(&FileSystem::rename, root_inode, std::string("file"), root_inode, std::string("other"), 0U)
                    .has_value());
        f.server_files.touch(f.server_files.file("other"));
        auto& file = f.server_files.file("other");
        file.content = "content";
        file.modification = {};
        f.lookup("other");
        f.restart();
        CHECK(f.flush(writer.handle) == Status::ok);
        CHECK(f.server_files.file("other").content == content);
        return;
    }
    REQUIRE(f.wait_for([&] { return f.at_server().content == content; }));
    CHECK(f.read(writer.handle) == content);
    CHECK(f.flush(writer.handle) == Status::ok);
    CHECK(f.fsync(writer.handle) == Status::ok);
}

TEST_CASE("what the server's machine has lost of a file is sent again if nobody has it open, or knows it any more") {
    LosingPower f;
    const Opened writer = f.open(to_write);
    f.durable();
    CHECK(f.write(writer.handle, 0, "C") == Status::ok);
    SECTION("as it keeps its name") {
        CHECK(f.flush(writer.handle) == Status::ok);
        f.forget_file(writer.handle);
        f.lose_power();
        REQUIRE(f.wait_for([&] { return f.at_server().content == "Content"; }));
        f.settle();
        CHECK(f.server_files.open_handles.empty());
    }
    SECTION("but not once it is removed") {
        f.all_answered();
        REQUIRE(f.ask(&FileSystem::unlink, root_inode, std::string("file")).has_value());
        f.forget_file(writer.handle);
        f.restart();
        const auto directory = f.ask(&FileSystem::opendir, root_inode);
        CHECK(f.ask(&FileSystem::fsyncdir, directory->handle, false).status() == Status::ok);
    }
}

TEST_CASE("what the server's machine has lost is not sent again to what is another's by now") {
    LosingPower f;
    const Opened writer = f.open(to_write);
    f.durable();
    CHECK(f.write(writer.handle, 0, "C") == Status::ok);
    f.all_answered();
    const std::size_t writes = f.asked(Opcode::write);
    std::string content = "theirs";
    SECTION("if somebody else has changed it since") {
        f.server_files.write(f.at_server(), content);
        f.restart();
        CHECK(f.read(writer.handle) == content);
        CHECK(f.size() == content.size());
    }
    SECTION("if somebody else had changed it before, which was noticed") {
        f.server_files.write(f.at_server(), content);
        CHECK(f.size() == content.size());
        content = "content";
        f.lose_power();
    }
    SECTION("if it has gone") {
        f.server_files.file(1).names.erase("file");
        f.server_files.make("file", content);
        f.restart();
    }
    CHECK(f.flush(writer.handle) == Status::io_error);
    CHECK(f.asked(Opcode::write) == writes);
    CHECK(f.at_server().content == content);
}

TEST_CASE("what the server cannot take again is told of") {
    LosingPower f;
    const Opened writer = f.open(to_write);
    f.durable();
    CHECK(f.write(writer.handle, 0, "C") == Status::ok);
    f.all_answered();
    f.refuse_writes(Status::no_space);
    f.lose_power();
    CHECK(f.flush(writer.handle) == Status::io_error);
}

TEST_CASE("a file that was given another name goes on under that one") {
    OpenFiles f;
    const bool others_take_the_name = GENERATE(false, true);
    const Opened opened = f.open(to_write);
    REQUIRE(f.ask(&FileSystem::link, f.inode, root_inode, std::string("other")).has_value());
    const bool first = GENERATE(true, false);
    REQUIRE(f.ask(&FileSystem::unlink, root_inode, std::string(first ? "file" : "other")).has_value());
    if (others_take_the_name)
        f.server_files.make(first ? "file" : "other", "another");
    f.lose_session();
    CHECK(f.read(opened.handle) == "content");
    CHECK(f.write(opened.handle, 0, "C") == Status::ok);
    CHECK(f.flush(opened.handle) == Status::ok);
    CHECK(f.server_files.file(first ? "other" : "file").content == "Content");
    f.fs->release(opened.handle);
    f.settle();
    for (const auto& [node, count] : f.server_files.held_nodes)
        CHECK(count == 1);
}

TEST_CASE("what was replaced, or others may have locked, while the session was lost, is stale") {
    OpenFiles f;
    f.server_files.make("locked");
    f.server_files.make("other", "other");
    const InodeNumber locked = f.lookup("locked").inode;
    const InodeNumber other = f.lookup("other").inode;
    const auto opened = f.ask(&FileSystem::open, locked, to_write);
    REQUIRE(f.ask(&FileSystem::flock, opened->handle, wire::LockType::write, false).has_value());
    const Opened replaced = f.open();
    f.server_files.file(1).names.erase("file");
    f.server_files.make("file", "another");
    f.lose_session();
    CHECK(f.ask(&FileSystem::read, replaced.handle, 0U, 10U).status() == Status::stale);
    CHECK(f.ask(&FileSystem::read, opened->handle, 0U, 10U).status() == Status::stale);
    CHECK(f.ask(&FileSystem::getattr, other, HandleNumber{}).value().attributes.size == 5);
    CHECK(f.ask(&FileSystem::getattr, locked, HandleNumber{}).has_value());
    CHECK(f.lookup("file").inode != 0);
    f.fs->release(replaced.handle);
    f.fs->release(opened->handle);
    f.settle();
    for (const auto& [node, count] : f.server_files.held_nodes)
        CHECK(count == 1);
}

TEST_CASE("locks of a lost session are had again, but for those of files that others have locked meanwhile") {
    OpenFiles f;
    f.server.greeting.features |= wire::feature_reclaim_locks;
    f.server_files.make("other", "other");
    const auto opened = f.ask(&FileSystem::open, f.lookup("file").inode, to_write);
    const auto theirs = f.ask(&FileSystem::open, f.lookup("other").inode, to_write);
    const auto lock = [&f](HandleNumber handle, LockOwner owner, wire::LockRange range) {
        REQUIRE(f.ask(&FileSystem::setlk, handle, owner, range, false).has_value());
    };
    using wire::LockType;
    REQUIRE(f.ask(&FileSystem::flock, opened->handle, LockType::read, false).has_value());
    lock(opened->handle, LockOwner{7}, {.type = LockType::write, .start = 0, .end = 99});
    lock(opened->handle, LockOwner{7}, {.type = LockType::unlock, .start = 10, .end = 99});
    lock(opened->handle, LockOwner{8}, {.type = LockType::read, .start = 50, .end = 59});
    REQUIRE(f.ask(&FileSystem::flush, opened->handle, LockOwner{8}).has_value());
    lock(theirs->handle, LockOwner{7}, {.type = LockType::write, .start = 0, .end = INT64_MAX});
    f.server_files.locked_by_others.insert(f.server_files.file("other").number);
    f.lose_session();

    CHECK(f.ask(&FileSystem::read, opened->handle, 0U, 10U).has_value());
    CHECK(f.ask(&FileSystem::read, theirs->handle, 0U, 10U).status() == Status::stale);
    const auto asked = f.server.of(Opcode::reclaim_locks);
    REQUIRE(asked.size() == 1);
    const auto reclaimed = asked.front().as<wire::ReclaimLocks>();
    CHECK_FALSE(reclaimed.more);
    REQUIRE(reclaimed.locks.size() == 3);
    CHECK(reclaimed.locks[0].whole);
    CHECK(reclaimed.locks[0].range.type == LockType::read);
    CHECK(reclaimed.locks[1].owner == LockOwner{7});
    CHECK(reclaimed.locks[1].range.type == LockType::write);
    CHECK(reclaimed.locks[1].range.end == 9);
    // The server keeps nothing of what reports errors now.
    CHECK(f.server_files.open_handles.size() == 1);
    f.fs->release(opened->handle);
    f.fs->release(theirs->handle);
    f.settle();
    CHECK(f.server_files.open_handles.empty());
}

TEST_CASE("a handle of a lost session whose file is gone fails, and flush tells whether something was lost") {
    OpenFiles f;
    const Opened written = f.open(to_write);
    const Opened only_read = f.open();
    f.held = {Opcode::write};
    CHECK(f.write(written.handle, 0, "x") == Status::ok);
    f.server_files.file(1).names.erase("file");
    f.lose_session();
    f.held.clear();
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    CHECK(f.ask(&FileSystem::read, only_read.handle, 0U, 10U).status() == Status::stale);
    CHECK(f.flush(only_read.handle) == Status::io_error);  // it had the file open when the write was lost
    CHECK(f.flush(only_read.handle) == Status::io_error);
    CHECK(f.fsync(only_read.handle) == Status::io_error);
    CHECK(f.write(written.handle, 0, "x") == Status::io_error);
    CHECK(f.flush(written.handle) == Status::io_error);
    CHECK(f.fsync(written.handle) == Status::io_error);
    f.fs->release(written.handle);
    f.fs->release(only_read.handle);
    f.settle();
    CHECK(f.asked(Opcode::release) == 0);
    f.held.clear();
}

TEST_CASE("a file of a lost session that has lost its name is asked for by its identity, if it is open") {
    OpenFiles f;
    f.server.greeting.features |= wire::feature_kept_files;
    f.server_files.make("closed", "closed");
    f.server_files.make("lost", "lost");
    const Entry closed = f.lookup("closed");
    const Opened opened = f.open(to_write);
    const auto lost = f.ask(&FileSystem::open, f.lookup("lost").inode, to_write);
    REQUIRE(lost.has_value());
    const auto remove = [&](const std::string& name) {
        FakeExport::File& file = f.server_files.file(name);
        f.server_files.file(1).names.erase(name);
        file.links = 0;
        return &file;
    };
    remove("file")->kept = true;
    remove("closed")->kept = true;
    remove("lost");
    // Another one has its name now.
    f.server_files.make("file", "another");
    f.held = {Opcode::write};
    CHECK(f.write(opened.handle, 0, "x") == Status::ok);
    f.lose_session();
    f.held.clear();
    f.release();

    const auto asked = f.server.of(Opcode::find_kept);
    REQUIRE(asked.size() == 2);
    for (const FakeRequest& request : asked)
        CHECK(request.as<wire::FindKept>().identity.inode != closed.attributes.identity.inode);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    CHECK(f.ask(&FileSystem::read, opened.handle, 0U, 10U).has_value());
    CHECK(f.write(opened.handle, 0, "y") == Status::ok);
    CHECK(f.fsync(opened.handle) == Status::ok);
    CHECK(f.ask(&FileSystem::read, lost->handle, 0U, 10U).status() == Status::stale);
    CHECK(f.server_files.file("file").content == "another");
    f.fs->release(opened.handle);
    f.fs->release(lost->handle);
    f.settle();
}

TEST_CASE("what has lost its name is not asked for where the server keeps nothing") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    f.server_files.file(1).names.erase("file");
    f.lose_session();
    CHECK(f.asked(Opcode::find_kept) == 0);
    CHECK(f.ask(&FileSystem::read, opened.handle, 0U, 10U).status() == Status::stale);
    f.fs->release(opened.handle);
    f.settle();
}

TEST_CASE("a rename waits for what was written to any file") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    f.held = {Opcode::write};
    CHECK(f.write(opened.handle, 0, "x") == Status::ok);
    const auto renaming = f.begin(&FileSystem::rename, root_inode, "file", root_inode, "other", 0U);
    REQUIRE(f.await_held(1));
    f.settle();
    CHECK(f.asked(Opcode::rename) == 0);
    f.release();
    CHECK(f.finish(renaming).has_value());
}

// ---------------------------------------------------------------- created files

TEST_CASE("a created file is named, open and empty") {
    Fixture f;
    const auto created = f.ask(&FileSystem::create, root_inode, "new", 0640U, to_write);
    REQUIRE(created.has_value());
    CHECK(f.server_files.file("new").mode == (S_IFREG | 0640U));
    CHECK(f.fs->usage().open_files == 1);
    f.fs->release(created->opened.handle);
    f.fs->forget(created->entry.inode);
    CHECK(f.wait_for([&] { return f.server_files.held_nodes.empty() && f.server_files.open_handles.empty(); }));
    CHECK(f.fs->usage().known_files == 1);
}

// ---------------------------------------------------------------- locks

TEST_CASE("whoever gets a lock sees what its last holder wrote") {
    OpenFiles f;
    const Opened opened = f.open();
    CHECK(f.read(opened.handle) == "content");
    f.server_files.write(f.at_server(), "changed");
    const std::size_t messages = f.server.messages;
    CHECK(f.ask(&FileSystem::flock, opened.handle, wire::LockType::read, false).has_value());
    CHECK(f.server.messages == messages + 1);
    CHECK(f.front.dropped == std::vector<InodeNumber>{f.inode});
    CHECK(f.read(opened.handle) == "changed");
}

TEST_CASE("what was written under a lock is at the server before the lock goes") {
    OpenFiles f;
    const Opened opened = f.open(to_write);
    const wire::LockRange range{.type = wire::LockType::write, .start = 0, .end = INT64_MAX};
    CHECK(f.ask(&FileSystem::setlk, opened.handle, LockOwner{9}, range, false).has_value());
    f.held = {Opcode::write};
    CHECK(f.write(opened.handle, 0, "x") == Status::ok);
    REQUIRE(f.await_held(1));
    const wire::LockRange none{.type = wire::LockType::unlock, .start = 0, .end = INT64_MAX};
    const auto unlocking = f.begin(&FileSystem::setlk, opened.handle, LockOwner{9}, none, false);
    f.settle();
    CHECK(f.asked(Opcode::setlk) == 1);
    f.release();
    CHECK(f.finish(unlocking).has_value());
    CHECK(f.asked(Opcode::setlk) == 2);
}

TEST_CASE("a question about locks waits for the release of a handle that had one") {
    OpenFiles f;
    const Opened locked = f.open();
    const Opened other = f.open();
    CHECK(f.ask(&FileSystem::flock, locked.handle, wire::LockType::write, false).has_value());
    f.held = {Opcode::release};
    f.fs->release(locked.handle);
    REQUIRE(f.await_held(1));
    const auto locking = f.begin(&FileSystem::flock, other.handle, wire::LockType::write, false);
    f.settle();
    CHECK(f.asked(Opcode::flock) == 1);
    f.release();
    CHECK(f.finish(locking).has_value());
    CHECK(f.asked(Opcode::flock) == 2);
}

}  // namespace remofile::filesystem
