// SPDX-License-Identifier: MIT
// What is answered without the server while it tells of changes, and what is asked for again once it has.
#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "fixture.hpp"

namespace remofile::filesystem {
namespace {

using What = wire::LeaseChange::What;

struct Leased : Fixture {
    // A tree of three directories with two files each, and a file.
    Leased() : Fixture(Leases::granted) {
        for (const char* name : {"a", "b", "c"}) {
            const std::uint64_t number = server_files.make_directory(name).number;
            server_files.make("one", "1", number);
            server_files.make("two", "22", number);
        }
        server_files.make("file", "content");
        settle();  // an answer, so that the term runs
    }

    Result<Entry> look(const std::string& name, InodeNumber parent = root_inode) {
        return ask(&FileSystem::lookup, parent, name);
    }
    // Looks often enough into a directory for its names to be asked for.
    void get_to_know(InodeNumber directory = root_inode) {
        CHECK(look("no such name", directory).status() == Status::no_entry);
        CHECK(look("nor this one", directory).status() == Status::no_entry);
    }
    std::uint64_t size_of(InodeNumber inode) {
        return ask(&FileSystem::getattr, inode, HandleNumber{}).value().attributes.size;
    }
    std::vector<std::string> names(InodeNumber directory = root_inode) {
        const auto opened = ask(&FileSystem::opendir, directory);
        REQUIRE(opened.has_value());
        FakeSink sink(1000);
        REQUIRE(ask(&FileSystem::readdir, opened->handle, std::uint64_t{0}, FileSystem::Listing::plain,
                    static_cast<ListingSink&>(sink))
                    .has_value());
        fs->releasedir(opened->handle);
        return sink.names();
    }
    HandleNumber open(const std::string& name) {
        const InodeNumber inode = lookup(name).inode;
        const auto opened = ask(&FileSystem::open, inode, OpenHow{.flags = wire::open_read});
        REQUIRE(opened.has_value());
        return opened->handle;
    }
    std::string read(HandleNumber handle) {
        const auto data = ask(&FileSystem::read, handle, std::uint64_t{0}, std::size_t{1000});
        REQUIRE(data.has_value());
        std::string text;
        for (const auto piece : data->pieces)
            text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        return text;
    }
    // The server tells, and is told that it has been heard.
    void tell(wire::LeaseChange change) { tell(wire::PushInvalidate{.changes = {std::move(change)}}); }
    void tell(wire::PushInvalidate push) {
        tell_without_waiting(std::move(push));
        REQUIRE(wait_for([&] { return asked(Opcode::invalidated) == sequence_; }));
    }
    void tell_without_waiting(wire::PushInvalidate push) {
        push.sequence = ++sequence_;
        server.push(push);
    }
    // Requests since the last call, but for those that keep the session going.
    std::size_t requests() {
        std::size_t count = 0;
        for (const FakeRequest& request : server.requests)
            if (request.header.opcode != Opcode::ping && request.header.opcode != Opcode::invalidated)
                ++count;
        return count - std::exchange(counted_, count);
    }

private:
    std::uint64_t sequence_ = 0;
    std::size_t counted_ = 0;
};

constexpr NodeId root_node{1};

}  // namespace

TEST_CASE("leases: names, attributes and absent names are known once a directory has been listed") {
    Leased f;
    f.get_to_know();
    CHECK(f.asked(Opcode::list) == 1);
    f.requests();
    const auto file = f.look("file");
    REQUIRE(file.has_value());
    CHECK(file->attributes.size == 7);
    CHECK(f.size_of(file->inode) == 7);
    CHECK(f.look("nothing").status() == Status::no_entry);
    CHECK(f.names() == std::vector<std::string>{".", "..", "a", "b", "c", "file"});
    CHECK(f.requests() == 0);
}

TEST_CASE("leases: what is too long for a name is not absent, but an error of the server's") {
    Leased f;
    f.get_to_know();
    f.requests();
    CHECK(f.look(std::string(wire::max_name_bytes + 1, 'x')).status() != Status::ok);
    CHECK(f.requests() == 1);
}

TEST_CASE("leases: one look-up in a directory does not list it") {
    Leased f;
    CHECK(f.look("file").has_value());
    CHECK(f.asked(Opcode::list) == 0);
    CHECK(f.asked(Opcode::lookup) == 1);
}

TEST_CASE("leases: what the server tells of is asked for again, and nothing else") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.lookup("file").inode;
    f.server_files.write(f.server_files.file("file"), "longer content");
    SECTION("the attributes of a file") {
        f.tell({root_node, What::content, "file"});
        f.requests();
        CHECK(f.size_of(file) == 14);
        CHECK(f.requests() == 2);  // the file was known from the listing alone
        CHECK(f.size_of(file) == 14);
        CHECK(f.requests() == 0);
    }
    SECTION("a name") {
        f.server_files.file(1).names.erase("file");
        f.tell({root_node, What::name, "file"});
        f.requests();
        CHECK(f.look("file").status() == Status::no_entry);
        CHECK(f.requests() == 1);
        CHECK(f.look("file").status() == Status::no_entry);
        CHECK(f.requests() == 0);
        CHECK(f.names() == std::vector<std::string>{".", "..", "a", "b", "c"});
    }
    SECTION("a lease") {
        f.tell({root_node, What::ended, ""});
        CHECK(f.size_of(file) == 14);
    }
    SECTION("who may enter the directory") {
        f.tell({root_node, What::directory, ""});
        CHECK(f.size_of(file) == 14);
    }
    SECTION("all leases") {
        f.tell(wire::PushInvalidate{.flags = wire::invalidate_all_leases});
        CHECK(f.size_of(file) == 14);
    }
    SECTION("none: what the server does not tell of is not seen") {
        CHECK(f.size_of(file) == 7);
    }
}

// By a node that nobody knows, too: it may be the directory's, which two answers under way name by two.
TEST_CASE("leases: a listing under way when the server tells of a change is not kept") {
    Leased f;
    const NodeId told_by = GENERATE(root_node, NodeId{4711});
    f.held = {Opcode::list};
    const auto first = f.begin(&FileSystem::lookup, root_inode, std::string("nothing"));
    CHECK(f.finish(first).status() == Status::no_entry);
    const auto second = f.begin(&FileSystem::lookup, root_inode, std::string("file"));
    REQUIRE(f.await_held(1));
    f.tell({told_by, What::name, "file"});
    f.release();
    CHECK(f.finish(second).value().attributes.size == 7);
    f.requests();
    CHECK(f.look("file").has_value());
    CHECK(f.requests() > 0);
}

TEST_CASE("leases: nothing is known any longer than the term, counted from the latest request that was answered") {
    Leased f;
    f.get_to_know();
    f.requests();
    f.clock.advance(f.lease_term * 8 / 10);
    CHECK(f.look("file").has_value());
    CHECK(f.requests() == 0);
    f.settle();  // an answer renews it
    f.clock.advance(f.lease_term * 8 / 10);
    f.requests();
    CHECK(f.look("file").has_value());
    CHECK(f.requests() == 0);
    f.clock.advance(f.lease_term * 2 / 10);
    CHECK(f.look("file").has_value());
    CHECK(f.requests() > 0);
}

TEST_CASE("leases: where the server does not hear of all changes, what it said is good for a moment") {
    Leased f;
    f.server_files.trust_ms = 1'000;
    f.get_to_know();
    f.requests();
    CHECK(f.look("file").has_value());
    CHECK(f.requests() == 0);
    f.clock.advance(std::chrono::milliseconds(1'001));
    CHECK(f.look("file").has_value());
    CHECK(f.requests() > 0);
}

TEST_CASE("leases: what is made and removed here is known") {
    Leased f;
    f.get_to_know();
    REQUIRE(f.ask(&FileSystem::mkdir, root_inode, std::string("new"), 0755U).has_value());
    REQUIRE(f.ask(&FileSystem::unlink, root_inode, std::string("file")).has_value());
    REQUIRE(f.ask(&FileSystem::rename, root_inode, std::string("b"), root_inode, std::string("z"), 0U).has_value());
    CHECK(f.look("file").status() == Status::no_entry);
    CHECK(f.look("b").status() == Status::no_entry);
    CHECK(f.look("new").has_value());
    CHECK(f.look("z").has_value());
    CHECK(f.names() == std::vector<std::string>{".", "..", "a", "c", "new", "z"});
}

TEST_CASE("leases: a directory in which something was made is looked at once, and then known again") {
    Leased f;
    f.get_to_know();
    const InodeNumber a = f.look("a").value().inode;
    REQUIRE(f.ask(&FileSystem::mkdir, a, std::string("new"), 0755U).has_value());
    const std::size_t before = f.asked(Opcode::lookup);
    CHECK(f.look("a").has_value());
    CHECK(f.asked(Opcode::lookup) == before + 1);
    CHECK(f.look("a").has_value());
    CHECK(f.asked(Opcode::lookup) == before + 1);
}

TEST_CASE("leases: what was written here makes attributes that were known before worthless") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.lookup("file").inode;
    const auto opened = f.ask(&FileSystem::open, file, OpenHow{.flags = wire::open_read | wire::open_write});
    REQUIRE(opened.has_value());
    const std::string data = "a new end";
    const Payload payload{.bytes = std::as_bytes(std::span(data)),
                          .take = [&] { return Buffer::copy_of(std::string_view(data)); }};
    REQUIRE(f.ask(&FileSystem::write, opened->handle, std::uint64_t{7}, payload, WriteHow{}).has_value());
    REQUIRE(f.ask(&FileSystem::fsync, opened->handle, false).has_value());
    CHECK(f.look("file").value().attributes.size == 16);
    CHECK(f.size_of(file) == 16);
    REQUIRE(f.ask(&FileSystem::setattr, file, HandleNumber{}, wire::Setattr{.which = wire::set_size, .size = 3})
                .has_value());
    CHECK(f.look("file").value().attributes.size == 3);
}

TEST_CASE("leases: a walk finds the listings of the next directories there") {
    Leased f;
    f.get_to_know();
    const auto a = f.look("a");
    REQUIRE(a.has_value());
    f.settle();
    CHECK(f.asked(Opcode::list) == 4);
    f.requests();
    CHECK(f.names(a->inode) == std::vector<std::string>{".", "..", "one", "two"});
    for (const char* name : {"b", "c"}) {
        const auto directory = f.look(name);
        REQUIRE(directory.has_value());
        CHECK(f.look("one", directory->inode).value().attributes.size == 1);
        CHECK(f.names(directory->inode) == std::vector<std::string>{".", "..", "one", "two"});
    }
    CHECK(f.requests() == 0);
    CHECK(f.asked(Opcode::lookup) == 1);  // the one before anything was known
}

namespace {

// Reads the files of a directory, one after the other, as far as the second: those behind it are fetched by then.
struct Reading : Leased {
    Reading() {
        for (const char* name : {"f1", "f2", "f3", "f4", "f5"})
            server_files.make(name, std::string("content of ") + name);
        get_to_know();
        for (const char* name : {"f1", "f2"})
            fs->release(open(name));
        settle();
        requests();
    }
};

}  // namespace

TEST_CASE("leases: whoever reads one small file after the other finds the next ones there") {
    Reading f;
    for (const std::string name : {"f3", "f4", "f5"}) {
        const HandleNumber handle = f.open(name);
        CHECK(f.read(handle) == "content of " + name);
        CHECK(f.size_of(f.lookup(name).inode) == 13);
        REQUIRE(f.ask(&FileSystem::flush, handle, LockOwner{9}).has_value());
        f.fs->release(handle);
    }
    CHECK(f.requests() == 0);
    CHECK(f.counted("files.fetched_in_vain") == 0);
}

TEST_CASE("leases: what has been read makes room for what is to be fetched ahead") {
    Leased f;
    const std::string content(60'000, 'x');
    std::vector<std::string> names;
    for (int number = 1000; number < 1200; ++number)
        f.server_files.make(names.emplace_back("f" + std::to_string(number)), content);
    f.get_to_know();
    // That is more than is kept, and yet the next are there.
    constexpr std::size_t read = 180;
    for (std::size_t number = 0; number < read; ++number) {
        f.fs->release(f.open(names[number]));
        f.settle();
    }
    CHECK(f.asked(Opcode::fetch) + f.asked(Opcode::open) >= names.size());
}

TEST_CASE("leases: what is changed here shows under the name that is left of two") {
    Leased f;
    for (const char* name : {"f1", "f2", "f3"})
        f.server_files.make(name, std::string("content of ") + name);
    f.get_to_know();
    const InodeNumber file = f.lookup("f3").inode;
    REQUIRE(f.ask(&FileSystem::link, file, root_inode, std::string("found last")).has_value());
    REQUIRE(f.ask(&FileSystem::unlink, root_inode, std::string("found last")).has_value());
    for (const char* name : {"f1", "f2"})  // f3 is fetched behind them
        f.fs->release(f.open(name));
    f.settle();
    REQUIRE(f.asked(Opcode::fetch) > 0);
    REQUIRE(f.ask(&FileSystem::setattr, file, HandleNumber{}, wire::Setattr{.which = wire::set_size, .size = 3})
                .has_value());
    CHECK(f.look("f3").value().attributes.size == 3);
}

TEST_CASE("leases: what is changed here shows under the new name, whatever an answer from before the rename says") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.lookup("file").inode;
    REQUIRE(f.ask(&FileSystem::setattr, file, HandleNumber{}, wire::Setattr{.which = wire::set_mode, .mode = 0600})
                .has_value());
    f.held = {Opcode::lookup};
    auto before = f.begin(&FileSystem::lookup, root_inode, std::string("file"));
    REQUIRE(f.await_held(1));
    REQUIRE(
        f.ask(&FileSystem::rename, root_inode, std::string("file"), root_inode, std::string("moved"), 0U).has_value());
    f.size_of(file);  // its attributes are current
    auto& names = f.server_files.file(1).names;
    names["file"] = names["moved"];
    f.release();
    REQUIRE(f.wait_for([&] { return before->done(); }));
    names.erase("file");
    REQUIRE(f.ask(&FileSystem::setattr, file, HandleNumber{}, wire::Setattr{.which = wire::set_size, .size = 3})
                .has_value());
    CHECK(f.look("moved").value().attributes.size == 3);
}

TEST_CASE("leases: a content that was fetched is void once the server tells of a change") {
    Reading f;
    f.server_files.write(f.server_files.file("f3"), "changed");
    SECTION("before it is opened") {
        f.tell({root_node, What::content, "f3"});
        CHECK(f.read(f.open("f3")) == "changed");
    }
    SECTION("while it is open") {
        const HandleNumber handle = f.open("f3");
        f.tell({root_node, What::content, "f3"});
        CHECK(f.size_of(f.lookup("f3").inode) == 7);
        CHECK(f.read(handle) == "changed");
    }
}

TEST_CASE("leases: a file that was opened without the server stays readable when its name is gone") {
    Reading f;
    const HandleNumber handle = f.open("f3");
    const InodeNumber inode = f.lookup("f3").inode;
    SECTION("removed here") {
        REQUIRE(f.ask(&FileSystem::unlink, root_inode, std::string("f3")).has_value());
        CHECK(f.asked(Opcode::open) == 2);
    }
    SECTION("replaced here") {
        REQUIRE(
            f.ask(&FileSystem::rename, root_inode, std::string("f4"), root_inode, std::string("f3"), 0U).has_value());
        CHECK(f.asked(Opcode::open) == 2);
    }
    SECTION("removed elsewhere") {
        f.server_files.file(1).names.erase("f3");
        f.tell({root_node, What::name, "f3"});
        CHECK(f.asked(Opcode::open) == 1);
    }
    CHECK(f.read(handle) == "content of f3");
    CHECK(f.size_of(inode) == 13);
    CHECK(f.ask(&FileSystem::fsync, handle, false).status() == Status::ok);
    f.fs->release(handle);
}

TEST_CASE("leases: a file that stays open is opened at the server, too") {
    Reading f;
    const HandleNumber handle = f.open("f3");
    CHECK(f.asked(Opcode::open) == 1);
    REQUIRE(f.wait_for([&] { return f.asked(Opcode::open) == 2; }));
    f.settle();
    f.fs->release(handle);
    REQUIRE(f.wait_for([&] { return f.asked(Opcode::release) == 1; }));
}

TEST_CASE("leases: a server that says that it is stopping promises nothing any more") {
    Leased f;
    f.get_to_know();
    CHECK(f.look("file").has_value());
    f.requests();
    f.server.push(wire::PushShutdown{"maintenance"});
    REQUIRE(f.wait_for([&] { return f.session->stopping(); }));
    CHECK_FALSE(f.front.dropped_names.empty());
    for (int i = 0; i < 3; ++i)
        CHECK(f.look("file").has_value());
    CHECK(f.requests() == 3);
}

TEST_CASE("kept handles: so many, and no longer than they are of use") {
    Fixture f;
    std::vector<HandleId> released;
    KeptHandles kept(
        f.reactor, [&](HandleId handle) { released.push_back(handle); }, std::chrono::milliseconds(50));
    for (std::uint64_t i = 1; i <= KeptHandles::max_kept + 2; ++i)
        kept.put({.inode = i, .directory = 1, .name = std::to_string(i), .credential = 7, .handle = HandleId{i}});
    CHECK(released == std::vector{HandleId{1}, HandleId{2}});
    CHECK_FALSE(kept.take(1, 7).has_value());
    CHECK_FALSE(kept.take(3, 8).has_value());
    CHECK(kept.take(3, 7) == HandleId{3});
    CHECK_FALSE(kept.take(3, 7).has_value());
    REQUIRE(f.wait_for([&] { return released.size() == KeptHandles::max_kept + 1; }));
    CHECK_FALSE(kept.take(4, 7).has_value());
}

TEST_CASE("leases: a file that was read and closed is opened again by the same handle of the server") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.lookup("file").inode;
    f.fs->release(f.open("file"));
    f.requests();
    const HandleNumber again = f.open("file");
    CHECK(f.read(again) == "content");
    CHECK(f.requests() == 0);

    SECTION("one at a time") {
        const HandleNumber other = f.open("file");
        CHECK(f.asked(Opcode::open) == 2);
        f.fs->release(other);
    }
    SECTION("to be read alone") {
        f.fs->release(again);
        const auto writing = f.ask(&FileSystem::open, file, OpenHow{.flags = wire::open_read | wire::open_write});
        REQUIRE(writing.has_value());
        CHECK(f.asked(Opcode::open) == 2);
        f.fs->release(writing->handle);
        REQUIRE(f.wait_for([&] { return f.asked(Opcode::release) == 1; }));
        return;
    }
    SECTION("until it changes") {
        f.fs->release(again);
        f.server_files.write(f.server_files.file("file"), "changed");
        f.tell({root_node, What::content, "file"});
        REQUIRE(f.wait_for([&] { return f.asked(Opcode::release) == 1; }));
        CHECK(f.read(f.open("file")) == "changed");
        return;
    }
    SECTION("until it is removed, here or elsewhere") {
        f.fs->release(again);
        if (GENERATE(true, false)) {
            REQUIRE(f.ask(&FileSystem::unlink, root_inode, std::string("file")).has_value());
        } else {
            f.server_files.file(1).names.erase("file");
            f.tell({root_node, What::name, "file"});
        }
        REQUIRE(f.wait_for([&] { return f.asked(Opcode::release) == 1; }));
        return;
    }
    SECTION("nor with a lock") {
        REQUIRE(f.ask(&FileSystem::flock, again, wire::LockType::read, false).has_value());
        f.fs->release(again);
        REQUIRE(f.wait_for([&] { return f.asked(Opcode::release) == 1; }));
        return;
    }
    f.fs->release(again);
}

TEST_CASE("leases: what is asked of an open file that the server does not know is asked once it does") {
    Reading f;
    const HandleNumber handle = f.open("f3");
    SECTION("a lock") {
        CHECK(f.ask(&FileSystem::flock, handle, wire::LockType::read, false).has_value());
    }
    SECTION("that it is on the disk") {
        CHECK(f.ask(&FileSystem::fsync, handle, false).has_value());
    }
    CHECK(f.asked(Opcode::open) == 2);
}

TEST_CASE("leases: a file that is known from a listing gets its node when one is needed") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.lookup("file").inode;
    SECTION("and is what it was") {
        CHECK(f.ask(&FileSystem::open, file, OpenHow{.flags = wire::open_read}).has_value());
    }
    SECTION("unless the name stands for another by then") {
        f.server_files.file(1).names.erase("file");
        f.server_files.make("file", "another");
        CHECK(f.ask(&FileSystem::open, file, OpenHow{.flags = wire::open_read}).status() == Status::stale);
    }
    SECTION("or for nothing") {
        f.server_files.file(1).names.erase("file");
        CHECK(f.ask(&FileSystem::open, file, OpenHow{.flags = wire::open_read}).status() == Status::stale);
    }
}

TEST_CASE("leases: of files without extended attributes nobody asks the server for them") {
    Leased f;
    f.server_files.make("plain", "x");
    f.server_files.file("file").xattrs["user.a"] = "1";
    f.get_to_know();
    const InodeNumber plain = f.look("plain").value().inode;
    const InodeNumber marked = f.look("file").value().inode;
    const auto acl = [&](InodeNumber inode) {
        return f.ask(&FileSystem::getxattr, inode, std::string("system.posix_acl_access"), std::size_t{100}).status();
    };
    const auto names = [&](InodeNumber inode) {
        return std::string(f.ask(&FileSystem::listxattr, inode, std::size_t{100}).value().bytes.text());
    };
    f.requests();
    CHECK(acl(plain) == Status::no_data);
    CHECK(names(plain).empty());
    CHECK(f.requests() == 0);
    // What needs a permission is decided by the server, which has to be asked for a node first.
    CHECK(f.ask(&FileSystem::getxattr, plain, std::string("user.a"), std::size_t{100}).status() == Status::no_data);
    CHECK(f.requests() == 2);
    // Of others it is asked for, once if there is none.
    CHECK(acl(marked) == Status::no_data);
    CHECK(f.requests() == 2);
    CHECK(acl(marked) == Status::no_data);
    CHECK(f.requests() == 0);
    SECTION("until somebody else changes them") {
        f.server_files.file("plain").xattrs["system.posix_acl_access"] = "acl";
        f.tell(wire::LeaseChange{root_node, What::content, "plain"});
        f.requests();
        CHECK(acl(plain) == Status::ok);
        CHECK(names(plain) == std::string("system.posix_acl_access\0", 24));
        CHECK(f.requests() == 2);
    }
    SECTION("until they are changed from here") {
        REQUIRE(f.ask(&FileSystem::setxattr, plain, std::string("system.posix_acl_access"), Buffer::copy_of("acl"), 0U)
                    .has_value());
        CHECK(acl(plain) == Status::ok);
        CHECK_FALSE(names(plain).empty());
    }
    SECTION("but not when other attributes are") {
        REQUIRE(f.ask(&FileSystem::setattr, plain, HandleNumber{}, wire::Setattr{.which = wire::set_mode, .mode = 0600})
                    .has_value());
        CHECK(f.size_of(plain) == 1);
        f.requests();
        CHECK(acl(plain) == Status::no_data);
        CHECK(f.requests() == 0);
    }
    SECTION("of another file under the name, too") {
        REQUIRE(f.ask(&FileSystem::unlink, root_inode, std::string("plain")).has_value());
        f.server_files.make("plain", "new").xattrs["user.b"] = "2";
        f.tell(wire::LeaseChange{root_node, What::name, "plain"});
        const InodeNumber other = f.look("plain").value().inode;
        CHECK(names(other) == std::string("user.b\0", 7));
    }
}

TEST_CASE("leases: a directory's own extended attributes are known with its listing") {
    Leased f;
    f.get_to_know();
    const auto acl = [&] {
        return f.ask(&FileSystem::getxattr, root_inode, std::string("system.posix_acl_default"), std::size_t{100})
            .status();
    };
    f.requests();
    CHECK(acl() == Status::no_data);
    CHECK(f.requests() == 0);
    f.server_files.file(1).xattrs["system.posix_acl_default"] = "acl";
    f.tell(wire::LeaseChange{root_node, What::directory, ""});
    CHECK(acl() == Status::ok);
}

TEST_CASE("leases: where symlinks of a listed directory lead is known") {
    Leased f;
    f.server_files.make("link", "target").mode = S_IFLNK | 0777U;
    f.get_to_know();
    const InodeNumber link = f.look("link").value().inode;
    f.requests();
    CHECK(f.ask(&FileSystem::readlink, link).value() == "target");
    CHECK(f.requests() == 0);
    // Another link under the name is another inode.
    f.server_files.file(1).names.erase("link");
    f.server_files.make("link", "elsewhere").mode = S_IFLNK | 0777U;
    f.tell(wire::LeaseChange{root_node, What::name, "link"});
    CHECK(f.ask(&FileSystem::readlink, f.look("link").value().inode).value() == "elsewhere");
}

TEST_CASE("leases: what the known mode allows is not asked for") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.look("file").value().inode;
    const InodeNumber a = f.look("a").value().inode;
    f.get_to_know(a);
    const auto may = [&](InodeNumber inode, std::uint32_t mask) {
        return f.ask(&FileSystem::access, inode, mask).status();
    };
    auto asked = [&, before = f.server.accesses]() mutable {
        return f.server.accesses - std::exchange(before, f.server.accesses);
    };
    CHECK(may(file, R_OK) == Status::ok);
    CHECK(may(file, F_OK) == Status::ok);
    CHECK(may(a, R_OK | X_OK) == Status::ok);
    CHECK(asked() == 0);
    // What the server's mounts decide about, or may be refused.
    may(file, W_OK);
    may(file, X_OK);
    may(a, W_OK);
    CHECK(asked() == 3);
    f.server_files.file("file").mode = S_IFREG | 0200U;
    f.tell(wire::LeaseChange{root_node, What::content, "file"});
    f.size_of(file);
    may(file, R_OK);
    CHECK(asked() == 1);
}

TEST_CASE("leases: files with several names are asked for each time") {
    Leased f;
    f.server_files.file("file").links = 2;
    f.get_to_know();
    f.requests();
    CHECK(f.look("file").has_value());
    CHECK(f.requests() == 1);
    f.clock.advance(std::chrono::milliseconds(2));
    CHECK(f.look("file").has_value());
    CHECK(f.requests() == 1);
}

namespace {

// An answer holds two names, and there are more.
struct LargeDirectories : Leased {
    LargeDirectories() {
        server_files.piece_entries = 2;
        for (const char* name : {"1", "2", "3", "4"})
            server_files.make(name, name);
    }
    // Handles of listings are given back behind what they were for.
    void await_handles_given_back() {
        CHECK(wait_for([&] { return server_files.open_handles.empty(); }));
        requests();
    }
};

}  // namespace

TEST_CASE("leases: of a directory that is too large for one answer, looking up names brings no more than one") {
    LargeDirectories f;
    f.get_to_know();
    f.requests();
    CHECK(f.look("2").has_value());
    CHECK(f.requests() == 0);
    CHECK(f.look("3").has_value());
    CHECK(f.requests() == 1);
    CHECK(f.asked(Opcode::readdir) == 0);
}

TEST_CASE("leases: a directory that is too large for one answer is known whole once it has been listed") {
    LargeDirectories f;
    f.server_files.make("symlink", "target").mode = S_IFLNK | 0777U;
    const bool was_known_in_part = GENERATE(false, true);
    if (was_known_in_part)
        f.get_to_know();
    const std::vector<std::string> all{".", "..", "1", "2", "3", "4", "a", "b", "c", "file", "symlink"};
    CHECK(f.names() == all);
    CHECK(f.asked(Opcode::opendir) == 0);
    f.await_handles_given_back();
    for (const char* name : {"1", "2", "3", "4", "file"})
        CHECK(f.look(name).has_value());
    CHECK(f.look("nothing").status() == Status::no_entry);
    CHECK(f.names() == all);
    const InodeNumber symlink = f.look("symlink").value().inode;
    CHECK(f.ask(&FileSystem::readlink, symlink).value() == "target");
    CHECK(f.ask(&FileSystem::getxattr, symlink, std::string("system.posix_acl_access"), std::size_t{100}).status() ==
          Status::no_data);
    CHECK(f.requests() == 0);
    f.tell({root_node, What::name, "symlink"});
    f.requests();
    CHECK(f.look("4").has_value());
    CHECK(f.requests() == 0);
    CHECK(f.look("symlink").has_value());
    CHECK(f.requests() > 0);
}

TEST_CASE("leases: a large listing is not kept if the server tells of a change, or changes come from here, meanwhile") {
    LargeDirectories f;
    const bool from_here = GENERATE(false, true);
    f.held = {Opcode::readdir};
    const auto opening = f.begin(&FileSystem::opendir, root_inode);
    REQUIRE(f.await_held(1));
    if (from_here)
        CHECK(f.ask(&FileSystem::unlink, root_inode, std::string("file")).has_value());
    else
        f.tell({root_node, What::name, "file"});
    f.release();
    const auto opened = f.finish(opening);
    REQUIRE(opened.has_value());
    f.fs->releasedir(opened->handle);
    f.await_handles_given_back();
    CHECK(f.look("3").has_value());
    CHECK(f.requests() > 0);
}

TEST_CASE("leases: a server that does not go on with a listing under a lease has it read as ever") {
    LargeDirectories f;
    f.server_files.reads_on_under_leases = false;
    CHECK(f.names().size() >= 2);
    CHECK(f.asked(Opcode::opendir) == 1);
    f.await_handles_given_back();
    CHECK(f.look("1").has_value());
    CHECK(f.look("2").has_value());
    CHECK(f.requests() == 0);
}

TEST_CASE("leases: whoever looks up many names beyond the first answer has the directory listed") {
    LargeDirectories f;
    for (int i = 0; i < 200; ++i)
        f.server_files.make("n" + std::to_string(i), "");
    f.get_to_know();
    int looked = 0;
    while (looked < 200 && f.asked(Opcode::readdir) == 0)
        CHECK(f.look("n" + std::to_string(looked++)).has_value());
    CHECK(looked > 30);
    CHECK(looked < 100);
    f.await_handles_given_back();
    while (looked < 200)
        CHECK(f.look("n" + std::to_string(looked++)).has_value());
    CHECK(f.requests() == 0);
}

TEST_CASE("leases: a directory that is too large to be kept is read as ever, and is not fetched in vain again") {
    Leased f;
    f.server_files.piece_entries = 500;  // less than the bytes asked for hold
    for (int i = 0; i < 42'000; ++i)
        f.server_files.make("n" + std::to_string(i), "");
    const auto read_some = [&] {
        const auto opened = f.ask(&FileSystem::opendir, root_inode);
        REQUIRE(opened.has_value());
        FakeSink sink(10);
        CHECK(f.ask(&FileSystem::readdir, opened->handle, std::uint64_t{0}, FileSystem::Listing::plain,
                    static_cast<ListingSink&>(sink))
                  .has_value());
        f.fs->releasedir(opened->handle);
    };
    read_some();
    CHECK(f.asked(Opcode::list) == 1);
    CHECK(f.asked(Opcode::opendir) == 1);
    const auto pieces = f.asked(Opcode::readdir);
    read_some();
    CHECK(f.asked(Opcode::list) == 1);
    CHECK(f.asked(Opcode::opendir) == 2);
    CHECK(f.asked(Opcode::readdir) == pieces + 1);
    CHECK(f.wait_for([&] { return f.server_files.open_handles.empty(); }));
    f.requests();
    CHECK(f.look("n0").has_value());
    CHECK(f.requests() == 0);
}

TEST_CASE("leases: where the server tells users apart, they are for one of them") {
    Leased f;
    f.server.greeting.client_identity = true;
    f.settings.facts_of = [](const Caller&) { return CallerFacts{}; };
    f.lose_session();
    f.make_file_system();
    f.settle();
    f.get_to_know();
    CHECK(f.look("file").has_value());
    f.requests();
    CHECK(f.look("file").has_value());
    CHECK(f.requests() == 0);
    f.caller.uid = 1001;
    f.clock.advance(std::chrono::milliseconds(2));
    CHECK(f.look("file").has_value());
    CHECK(f.requests() > 0);
}

TEST_CASE("leases: a content that came for one user is another's only where the mode says so") {
    Leased f;
    f.server.greeting.client_identity = true;
    f.settings.facts_of = [](const Caller&) { return CallerFacts{}; };
    f.settings.front_checks_permissions = true;
    f.lose_session();
    f.make_file_system();
    f.settle();
    const auto has_acl = GENERATE(false, true);
    for (const char* name : {"f1", "f2", "f3"})
        f.server_files.make(name, "content");
    if (has_acl)
        f.server_files.file("f3").xattrs["system.posix_acl_access"] = "acl";
    f.get_to_know();
    const auto asked = [&] { return f.asked(Opcode::fetch) + f.asked(Opcode::open); };
    const auto read_as = [&](std::uint32_t uid, const std::string& name) {
        f.caller.uid = uid;
        const auto before = asked();
        const HandleNumber handle = f.open(name);
        CHECK(f.read(handle) == "content");
        f.fs->release(handle);
        return asked() - before;
    };
    read_as(1000, "f1");
    read_as(1000, "f2");
    f.settle();
    CHECK(read_as(1000, "f3") == 0);
    CHECK(read_as(1001, "f3") == (has_acl ? 1 : 0));
}

TEST_CASE("leases: a new session knows nothing") {
    Leased f;
    f.get_to_know();
    f.server_files.write(f.server_files.file("file"), "longer content");
    f.lose_session();
    CHECK(f.look("file").value().attributes.size == 14);
}

TEST_CASE("leases: names, attributes and absent names are lent to the front for what is left of the term") {
    Leased f;
    f.get_to_know();
    const auto file = f.look("file");
    REQUIRE(file.has_value());
    CHECK(file->entry_life > f.lease_term * 8 / 10);
    CHECK(file->entry_life < f.lease_term);
    CHECK(file->attributes_life > f.lease_term * 8 / 10);
    const auto attributes = f.ask(&FileSystem::getattr, file->inode, HandleNumber{});
    CHECK(attributes.value().life > f.lease_term * 8 / 10);
    CHECK(f.look("nothing").status() == Status::no_entry);
    CHECK(f.fs->life_of_absence(root_inode, "nothing") > f.lease_term * 8 / 10);
    f.clock.advance(f.lease_term / 2);
    CHECK(f.look("file").value().entry_life < f.lease_term / 2);
    // What came with another answer.
    const auto made = f.ask(&FileSystem::mkdir, root_inode, std::string("new"), 0755U);
    CHECK(made.value().entry_life > Duration::zero());
    CHECK(made.value().attributes_life == Duration::zero());
}

TEST_CASE("leases: nothing is lent of what is not known, nor of what is about to be written") {
    Leased f;
    CHECK(f.look("file").value().entry_life == Duration::zero());
    CHECK(f.fs->life_of_absence(root_inode, "nothing") == Duration::zero());
    f.get_to_know();
    const InodeNumber file = f.look("file").value().inode;
    const auto opened = f.ask(&FileSystem::open, file, OpenHow{wire::open_write, false});
    REQUIRE(opened.has_value());
    f.held = {Opcode::write};
    const std::string text(1U << 20, 'x');
    const Payload payload{.bytes = std::as_bytes(std::span(text)),
                          .take = [&] { return Buffer::copy_of(std::as_bytes(std::span(text))); }};
    REQUIRE(f.ask(&FileSystem::write, opened->handle, std::uint64_t{0}, payload, WriteHow{}).has_value());
    CHECK(f.look("file").value().attributes_life == Duration::zero());
    CHECK(f.ask(&FileSystem::getattr, file, HandleNumber{}).value().life == Duration::zero());
    f.release();
    f.fs->release(opened->handle);
}

TEST_CASE("leases: attributes are not lent as they were before a write that was answered first") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.look("file").value().inode;
    const auto opened = f.ask(&FileSystem::open, file, OpenHow{wire::open_write, false});
    REQUIRE(opened.has_value());
    const FakeExport::File& at_server = f.server_files.file("file");
    const FakeReply old = FakeReply::of(wire::AttributesReply{f.server_files.attributes(at_server)});
    f.instead = [&](const FakeRequest& request) {
        return request.header.opcode == Opcode::getattr ? std::optional(old) : std::nullopt;
    };
    f.held = {Opcode::getattr};
    const std::string text(1U << 20, 'x');
    const Payload payload{.bytes = std::as_bytes(std::span(text)),
                          .take = [&] { return Buffer::copy_of(std::as_bytes(std::span(text))); }};
    const auto writing = f.begin(&FileSystem::write, opened->handle, std::uint64_t{0}, payload, WriteHow{});
    const auto asking = f.begin(&FileSystem::getattr, file, HandleNumber{});
    REQUIRE(f.finish(writing).has_value());
    REQUIRE(f.await_held(1));
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    f.release();
    const ShownAttributes shown = f.finish(asking).value();
    CHECK(shown.life > Duration::zero());
    CHECK(shown.attributes.size == text.size());
    CHECK(shown.attributes.modification == at_server.modification);
    f.fs->release(opened->handle);
}

TEST_CASE("leases: what changes from here take away unseen by the front is not lent, or taken back") {
    Leased f;
    SECTION("set-id bits, by writing") {
        f.server_files.file("file").mode |= S_ISUID;
        f.get_to_know();
        CHECK(f.look("file").value().entry_life > Duration::zero());
        CHECK(f.look("file").value().attributes_life == Duration::zero());
    }
    SECTION("the mode, by an ACL") {
        f.get_to_know();
        const InodeNumber file = f.look("file").value().inode;
        REQUIRE(f.ask(&FileSystem::setxattr, file, std::string("system.posix_acl_access"), Buffer::copy_of("acl"), 0U)
                    .has_value());
        CHECK(f.front.dropped_attributes == std::vector<InodeNumber>{file});
    }
}

TEST_CASE("leases: nothing is lent where the server tells users apart, and the front does not") {
    Leased f;
    f.get_to_know();
    f.fs->set_front(static_cast<FrontNames*>(nullptr));
    CHECK(f.look("file").value().entry_life == Duration::zero());
    CHECK(f.fs->life_of_absence(root_inode, "nothing") == Duration::zero());
}

TEST_CASE("leases: what the front keeps of the root's own attributes is dropped, whatever names it knows") {
    Leased f;
    f.get_to_know();
    REQUIRE(f.ask(&FileSystem::getattr, root_inode, HandleNumber{}).value().life > Duration::zero());
    SECTION("by a name in it") {
        f.tell({root_node, What::name, "new"});
    }
    SECTION("by a change of their own") {
        f.tell({root_node, What::directory, {}});
    }
    CHECK(std::ranges::count(f.front.dropped_attributes, root_inode) == 1);
}

TEST_CASE("leases: what was lent is dropped in front, and the server is told afterwards") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.look("file").value().inode;
    f.front.keeps_names = true;
    f.tell_without_waiting(
        wire::PushInvalidate{.changes = {{root_node, What::name, "nothing"}, {root_node, What::content, "file"}}});
    REQUIRE(f.wait_for([&] { return !f.front.dropped_names.empty(); }));
    CHECK(f.front.dropped_names == std::vector<std::string>{"nothing"});
    CHECK(std::ranges::count(f.front.dropped_attributes, file) == 1);
    // Nothing of it is answered from here meanwhile.
    CHECK(f.fs->life_of_absence(root_inode, "nothing") == Duration::zero());
    CHECK(f.asked(Opcode::invalidated) == 0);
    f.front.let_go_of_names();
    CHECK(f.wait_for([&] { return f.asked(Opcode::invalidated) == 1; }));
}

TEST_CASE("leases: a known listing gives out what it names, but directories of which nothing is known") {
    Leased f;
    f.get_to_know();
    const auto list = [&] {
        const auto opened = f.ask(&FileSystem::opendir, root_inode);
        REQUIRE(opened.has_value());
        FakeSink sink(1000);
        REQUIRE(f.ask(&FileSystem::readdir, opened->handle, std::uint64_t{0}, FileSystem::Listing::with_attributes,
                      static_cast<ListingSink&>(sink))
                    .has_value());
        f.fs->releasedir(opened->handle);
        std::set<std::string> given;
        for (const ListedEntry& entry : sink.entries) {
            if (entry.entry.inode == 0)
                continue;
            given.insert(entry.name);
            CHECK(entry.entry.entry_life > Duration::zero());
            f.fs->forget(entry.entry.inode);
        }
        return given;
    };
    f.requests();
    CHECK(list() == std::set<std::string>{"file"});
    CHECK(f.requests() == 0);
    f.get_to_know(f.look("a").value().inode);
    CHECK(list().contains("a"));
}

TEST_CASE("leases: names are kept in front from one reader to the next, until they change") {
    Leased f;
    f.get_to_know();
    const auto open = [&] { return f.ask(&FileSystem::opendir, root_inode).value(); };
    const auto read = [&](const FileSystem::OpenedDirectory& directory, std::uint64_t position) {
        FakeSink sink(1000);
        REQUIRE(f.ask(&FileSystem::readdir, directory.handle, position, FileSystem::Listing::with_attributes,
                      static_cast<ListingSink&>(sink))
                    .has_value());
        return sink;
    };
    const auto first = open();
    CHECK(first.front_may_keep);
    CHECK_FALSE(first.front_is_true);
    const FakeSink all = read(first, 0);
    f.fs->releasedir(first.handle);
    auto next = open();
    CHECK(next.front_may_keep);
    CHECK(next.front_is_true);
    // Who has read the beginning from what is kept goes on from there.
    CHECK(read(next, all.entries[3].position).names() == std::vector<std::string>{"c", "file"});
    CHECK(f.front.dropped_listings.empty());

    SECTION("by others: what is kept is void at once, and again when it is read by who opened it before") {
        f.server_files.make("new");
        f.tell({root_node, What::name, "new"});
        CHECK(f.front.dropped_listings == std::vector<InodeNumber>{root_inode});
        CHECK(read(next, all.entries[4].position).names() == std::vector<std::string>{"file"});
        CHECK(f.front.dropped_listings.size() == 2);
        // They read other names: what one leaves behind is nothing for the other.
        const auto other = open();
        CHECK_FALSE(other.front_may_keep);
        CHECK_FALSE(other.front_is_true);
        f.fs->releasedir(other.handle);
        // It begins anew, and is told of the next change.
        CHECK(read(next, 0).names().back() == "new");
        CHECK(f.front.dropped_listings.size() == 2);
        f.server_files.make("newer");
        f.tell({root_node, What::name, "newer"});
        CHECK(f.front.dropped_listings.size() == 3);
    }
    SECTION("from here: whoever is in front knows") {
        REQUIRE(f.ask(&FileSystem::mkdir, root_inode, std::string("new"), 0755U).has_value());
        CHECK(f.front.dropped_listings.empty());
        f.fs->releasedir(next.handle);
        next = open();
        CHECK(next.front_may_keep);
        CHECK_FALSE(next.front_is_true);
    }
    SECTION("the term ends while nobody is heard") {
        f.clock.advance(Fixture::lease_term);
        REQUIRE(f.wait_for([&] { return !f.front.dropped_listings.empty(); }));
    }
    f.fs->releasedir(next.handle);
}

TEST_CASE("leases: how much room there is is told again without asking, until something is done here") {
    Leased f;
    const auto ask = [&] { return f.ask(&FileSystem::statfs, root_inode).value().blocks; };
    const auto blocks = ask();
    CHECK(ask() == blocks);
    CHECK(f.asked(Opcode::statfs) == 1);
    REQUIRE(f.ask(&FileSystem::mkdir, root_inode, std::string("new"), 0755U).has_value());
    CHECK(ask() == blocks);
    CHECK(ask() == blocks);
    CHECK(f.asked(Opcode::statfs) == 2);
    f.clock.advance(Statistics::life + std::chrono::seconds(1));
    f.settle();
    ask();
    CHECK(f.asked(Opcode::statfs) == 3);
    // Told while something is on its way, it is not told again once that has arrived.
    const auto opened = f.ask(&FileSystem::open, f.lookup("file").inode, OpenHow{.flags = wire::open_write});
    REQUIRE(opened.has_value());
    f.held = {Opcode::write};
    const std::string_view data = "data";
    const Payload payload{.bytes = std::as_bytes(std::span(data)), .take = [&] { return Buffer::copy_of(data); }};
    REQUIRE(f.ask(&FileSystem::write, opened->handle, std::uint64_t{0}, payload, WriteHow{}).has_value());
    ask();
    f.release();
    REQUIRE(f.ask(&FileSystem::fsync, opened->handle, false).has_value());
    ask();
    CHECK(f.asked(Opcode::statfs) == 5);
    f.fs->release(opened->handle);
}

TEST_CASE("leases: a directory that is renamed here has new attributes, whatever is known of the one above") {
    Leased f;
    f.get_to_know();
    const InodeNumber directory = f.look("a").value().inode;
    f.get_to_know(directory);
    f.requests();
    f.size_of(directory);
    CHECK(f.requests() == 0);
    // Of the names in the root nothing is known any more.
    f.tell({root_node, What::name, "a"});
    f.requests();
    REQUIRE(f.ask(&FileSystem::rename, root_inode, std::string("a"), root_inode, std::string("moved"), 0U).has_value());
    f.requests();
    f.size_of(directory);
    CHECK(f.requests() == 1);
}

// The kernel goes by what it knows of the names, and need not look them up in between.
TEST_CASE("leases: a directory that is renamed here again has new attributes, whatever was known before") {
    Leased f;
    f.get_to_know();
    const InodeNumber a = f.look("a").value().inode;
    const InodeNumber b = f.look("b").value().inode;
    f.get_to_know(a);
    f.get_to_know(b);
    const auto rename = [&](const char* from, const char* to, std::uint32_t flags = 0) {
        REQUIRE(
            f.ask(&FileSystem::rename, root_inode, std::string(from), root_inode, std::string(to), flags).has_value());
    };
    const auto is_asked_for = [&](InodeNumber directory) {
        f.requests();
        f.size_of(directory);
        return f.requests() == 1;
    };
    SECTION("it was renamed when nothing was known of its name") {
        f.tell({root_node, What::name, "a"});
        rename("a", "moved");
        CHECK(is_asked_for(a));
        CHECK(!is_asked_for(a));
        rename("moved", "again");
        CHECK(is_asked_for(a));
    }
    SECTION("it had taken another's name, and that one its") {
        rename("a", "b", wire::rename_exchange);
        CHECK(is_asked_for(a));
        CHECK(is_asked_for(b));
        CHECK(!is_asked_for(a));
        rename("b", "moved");
        CHECK(is_asked_for(a));
        CHECK(!is_asked_for(b));
        rename("a", "b");
        CHECK(is_asked_for(b));
    }
}

TEST_CASE("leases: what is renamed here keeps its number and its place") {
    Leased f;
    f.get_to_know();
    const InodeNumber file = f.look("file").value().inode;
    REQUIRE(
        f.ask(&FileSystem::rename, root_inode, std::string("file"), root_inode, std::string("moved"), 0U).has_value());
    // Known from the listing alone: it is found by its new name.
    CHECK(f.size_of(file) == 7);
    CHECK(f.look("moved").value().inode == file);
    CHECK(f.look("file").status() == Status::no_entry);
    f.tell({root_node, What::content, "moved"});
    CHECK(std::ranges::count(f.front.dropped_attributes, file) == 1);
}

// ---------------------------------------------------------------- a server that makes things up

namespace {

FakeReply listing_of(const FakeRequest& request, const wire::Attributes& directory,
                     const std::vector<std::pair<std::string, wire::Attributes>>& files) {
    const auto asked = request.as<wire::List>();
    wire::ListReply body{.entry = {asked.name.empty() ? asked.node : asked.new_node.id, directory},
                         .count = static_cast<std::uint16_t>(files.size()),
                         .end = true,
                         .leased = true,
                         .trust_ms = UINT32_MAX};
    std::vector<std::byte> bytes;
    wire::Encoder encoder(bytes);
    std::uint64_t cookie = 0;
    for (const auto& [name, attributes] : files)
        encoder.put(wire::DirectoryEntry{.cookie = ++cookie,
                                         .inode = attributes.identity.inode,
                                         .type = static_cast<std::uint8_t>(IFTODT(attributes.mode)),
                                         .name = name,
                                         .entry = {NodeId{}, attributes}});
    FakeReply reply = FakeReply::of(body);
    reply.bulk = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return reply;
}

}  // namespace

TEST_CASE("leases: a listing that names dots, and one thing twice, names each once") {
    Leased f;
    const auto file = f.server_files.attributes(f.server_files.file("file"));
    const auto root = f.server_files.attributes(f.server_files.file(1));
    f.instead = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode != Opcode::list)
            return std::nullopt;
        return listing_of(request, root, {{".", root}, {"..", root}, {"file", file}, {"file", root}, {"file", file}});
    };
    CHECK(f.names() == std::vector<std::string>{".", "..", "file"});
    CHECK(f.names() == std::vector<std::string>{".", "..", "file"});
    CHECK(f.look("file")->attributes.mode == file.mode);
    CHECK(f.look("a").status() == Status::no_entry);
}

TEST_CASE("leases: a listing of names that none can have is refused, and the directory is asked name by name") {
    Leased f;
    const auto file = f.server_files.attributes(f.server_files.file("file"));
    const auto root = f.server_files.attributes(f.server_files.file(1));
    for (const std::string& name : {std::string("a/b"), std::string("a\0b", 3), std::string(256, 'n'), std::string()}) {
        f.make_file_system();
        f.instead = [&](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode != Opcode::list)
                return std::nullopt;
            return listing_of(request, root, {{"file", file}, {name, file}});
        };
        f.get_to_know();
        CHECK(f.look("file").has_value());
        CHECK(f.names() == std::vector<std::string>{".", "..", "a", "b", "c", "file"});
        const std::size_t listings = f.asked(Opcode::list);
        f.get_to_know();
        CHECK(f.asked(Opcode::list) == listings);
    }
}

TEST_CASE("leases: an export that contains itself is an error there, and a walk through it ends") {
    Leased f;
    const auto root = f.server_files.attributes(f.server_files.file(1));
    const auto a = f.server_files.attributes(f.server_files.file("a"));
    // Each directory has the root and "a" in it, which has itself in it.
    f.instead = [&](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::list) {
            const auto asked = request.as<wire::List>();
            const bool is_root = asked.name == "root" || (asked.name.empty() && asked.node == root_node);
            return listing_of(request, is_root ? root : a, {{"a", a}, {"root", root}});
        }
        if (request.header.opcode == Opcode::forget)
            return FakeReply{};
        if (request.header.opcode != Opcode::lookup)
            return std::nullopt;
        const auto asked = request.as<wire::Lookup>();
        return FakeReply::of(wire::EntryReply{asked.node.id, asked.name == "root" ? root : a});
    };
    InodeNumber at = root_inode;
    for (int level = 0; level < 50; ++level) {
        CHECK(f.look("root", at).status() == Status::io_error);
        const auto entry = f.look("a", at);
        REQUIRE(entry.has_value());
        at = entry->inode;
        CHECK(f.names(at) == std::vector<std::string>{".", "..", "a", "root"});
    }
    // Ahead of a walk no more is asked for than a tree of two directories holds, again and again.
    CHECK(f.asked(Opcode::list) < 500);
    CHECK(f.ask(&FileSystem::getattr, root_inode, HandleNumber{}).value().attributes.mode == root.mode);
}

TEST_CASE("leases: attributes of another type than the file's are an error, and are not kept") {
    Leased f;
    const Entry file = f.lookup("file");
    f.get_to_know();
    const auto lie = [&](std::uint32_t mode) {
        f.instead = [&f, mode](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode != Opcode::getattr)
                return std::nullopt;
            auto attributes = f.server_files.attributes(f.server_files.file("file"));
            attributes.mode = mode;
            return FakeReply::of(wire::AttributesReply{attributes});
        };
    };
    f.tell({root_node, What::content, "file"});
    f.tell({root_node, What::directory, ""});
    lie(S_IFDIR | 0755);
    CHECK(f.ask(&FileSystem::getattr, file.inode, HandleNumber{}).status() == Status::stale);
    lie(S_IFREG | 0644);
    CHECK(f.ask(&FileSystem::getattr, root_inode, HandleNumber{}).status() == Status::stale);
    f.instead = nullptr;
    CHECK(S_ISREG(f.ask(&FileSystem::getattr, file.inode, HandleNumber{}).value().attributes.mode));
    CHECK(S_ISDIR(f.ask(&FileSystem::getattr, root_inode, HandleNumber{}).value().attributes.mode));
}

TEST_CASE("leases: pushes for nodes that were never given, and the same ones again and again, cost nothing") {
    Leased f;
    f.get_to_know();
    f.requests();
    for (std::uint64_t round = 0; round < 50; ++round) {
        wire::PushInvalidate push;
        for (std::uint64_t i = 0; i < 500; ++i) {
            push.nodes.push_back(NodeId{1'000'000 + round * 500 + i});
            push.changes.push_back({NodeId{1'000'000 + round * 500 + i}, What::name, "name"});
        }
        f.tell(std::move(push));
        f.tell({root_node, What::content, "no such name"});
    }
    CHECK(f.look("file").has_value());
    CHECK(f.look("no such name").status() == Status::no_entry);
    CHECK(f.requests() == 0);
    for (int round = 0; round < 50; ++round)
        f.tell({root_node, What::ended, ""});
    // Nobody lists a directory because the server pushes.
    CHECK(f.requests() == 0);
}

}  // namespace remofile::filesystem
