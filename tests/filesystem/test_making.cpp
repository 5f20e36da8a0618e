// SPDX-License-Identifier: MIT
// Making, removing and renaming in directories of which this client alone has the lease: what is answered before the
// server has been asked, what waits for it, and what is said if it goes wrong.
#include <algorithm>

#include "fixture.hpp"

namespace remofile::filesystem {
namespace {

// A directory "d" of the root that is held exclusively, with a file "old" in it.
struct Making : Fixture {
    InodeNumber d = 0;
    FakeExport::File* directory = nullptr;

    explicit Making(std::optional<std::size_t> max_changes = std::nullopt, const std::vector<std::string>& listed = {})
        : Fixture(Leases::exclusive) {
        settings.borrows_inodes = false;
        if (max_changes)
            settings.max_changes_behind = *max_changes;
        make_file_system();
        directory = &server_files.make_directory("d");
        server_files.make("old", "old content", directory->number);
        for (const std::string& name : listed)
            server_files.make(name, {}, directory->number);
        d = lookup("d").inode;
        // Whoever looks into a directory again learns all of it, and whoever changes something gets its lease.
        lookup("old", d);
        lookup("old", d);
        for (const char* name : {"first", "second in a row"}) {
            const auto made = ask(&FileSystem::mkdir, d, name, 0755U);
            REQUIRE(made.has_value());
        }
        REQUIRE(wait_for([&] { return counted("leases.exclusive_taken") > 0; }));
    }

    // The server lends inodes, and its answers are held back from now on.
    void borrow() {
        settings.borrows_inodes = true;
        make_file_system();
        d = lookup("d").inode;
        lookup("old", d);
        lookup("old", d);
        for (const char* name : {"third", "fourth", "fifth"})
            REQUIRE(ask(&FileSystem::mkdir, d, name, 0755U).has_value());
        REQUIRE(wait_for([&] { return fs->usage().pending_changes == 0; }));
        const auto lent = [&] {
            std::size_t asked_for_some = 0;
            for (const auto& request : server.of(Opcode::lend_inodes))
                asked_for_some += request.as<wire::LendInodes>().files > 0 ? 1 : 0;
            return asked_for_some > 0;
        };
        REQUIRE(wait_for(lent));
        REQUIRE(ask(&FileSystem::access, root_inode, std::uint32_t{0}).has_value());
        held = {Opcode::make_lent, Opcode::mkdir, Opcode::create, Opcode::setattr, Opcode::write};
    }
    wire::Attributes attributes_at_once(InodeNumber inode) {
        const auto attributes = at_once(&FileSystem::getattr, inode, HandleNumber{});
        REQUIRE(attributes.has_value());
        REQUIRE(attributes->has_value());
        return (*attributes)->attributes;
    }
    void let_all_through() {
        held.clear();
        release();
        REQUIRE(wait_for([&] { return fs->usage().pending_changes == 0 && fs->usage().pending_write_bytes == 0; }));
    }

    bool at_server(const std::string& name) { return directory->names.contains(name); }
    // The answer, if it is there at once.
    template <class T, class... Parameters, class... Arguments>
    std::optional<T> at_once(Task<T> (FileSystem::*method)(Operation&, Parameters...), Arguments&&... arguments) {
        return begin(method, std::forward<Arguments>(arguments)...)->answer;
    }
    Created create(const std::string& name, InodeNumber parent) {
        const OpenHow how{.flags = wire::open_write | wire::open_exclusive};
        auto created = at_once(&FileSystem::create, parent, name, 0644U, how);
        REQUIRE(created.has_value());
        REQUIRE(created->has_value());
        return **created;
    }
    void write(HandleNumber handle, const std::string& text, std::uint64_t offset = 0) {
        const auto bytes = std::as_bytes(std::span(text));
        const auto written =
            at_once(&FileSystem::write, handle, offset,
                    Payload{.bytes = bytes, .take = [&] { return Buffer::copy_of(bytes); }}, WriteHow{});
        REQUIRE(written.has_value());
        REQUIRE(written->has_value());
    }
    void tell(wire::LeaseChange change) {
        wire::PushInvalidate push{.sequence = ++sequence_, .changes = {std::move(change)}};
        server.push(push);
        REQUIRE(wait_for([&] { return asked(Opcode::invalidated) == sequence_; }));
    }
    NodeId node_of_d() { return server.of(Opcode::mkdir)[0].as<wire::Mkdir>().parent; }

private:
    std::uint64_t sequence_ = 0;
};

}  // namespace

TEST_CASE("making: the second change in a row asks for the directory's exclusive lease") {
    Making f;
    const auto mkdir = f.server.of(Opcode::mkdir);
    const auto take = f.server.of(Opcode::take_leases);
    REQUIRE((mkdir.size() == 2 && take.size() == 1));
    CHECK(mkdir[0].header.id < take[0].header.id);
    CHECK(take[0].header.id < mkdir[1].header.id);
    CHECK(take[0].as<wire::TakeLeases>().directories[0] == mkdir[0].as<wire::Mkdir>().parent);
}

TEST_CASE("making: far from the server, who makes a directory has it to himself with the answer") {
    Making f;
    f.settings.far_from = Duration::zero();
    f.settings.borrows_inodes = GENERATE(false, true);
    f.make_file_system();
    CHECK(f.ask(&FileSystem::mkdir, root_inode, "d", 0755U).status() == Status::exists);
    const auto made = f.ask(&FileSystem::mkdir, root_inode, "new", 0755U);
    REQUIRE(made.has_value());
    const auto mkdir = f.server.of(Opcode::mkdir).back();
    const auto take = f.server.of(Opcode::take_leases).back();
    CHECK(take.message == mkdir.message);
    CHECK((mkdir.header.flags & wire::flag_link) != 0);
    CHECK(take.as<wire::TakeLeases>().directories == std::vector{mkdir.as<wire::Mkdir>().node.id});
    f.held = {Opcode::mkdir, Opcode::create, Opcode::make_lent, Opcode::lookup};
    const Created file = f.create("file", made->inode);
    CHECK(f.at_once(&FileSystem::mkdir, made->inode, "below", 0755U)->has_value());
    CHECK(f.at_once(&FileSystem::lookup, made->inode, "nothing")->status() == Status::no_entry);
    CHECK(f.at_once(&FileSystem::lookup, made->inode, "file")->value().inode == file.entry.inode);
    f.let_all_through();
    CHECK(f.server.of(Opcode::make_lent).size() == (f.settings.borrows_inodes ? 2 : 0));
}

TEST_CASE(
    "making: who is told that another wants to look, before the directory is known to be made, does not have it") {
    using What = wire::LeaseChange::What;
    Making f;
    f.settings.far_from = Duration::zero();
    f.make_file_system();
    const auto what = GENERATE(What::shared, What::ended);
    f.lookup("d");
    f.held = {Opcode::take_leases};
    const auto making = f.begin(&FileSystem::mkdir, root_inode, "new", 0755U);
    REQUIRE(f.await_held(1));
    f.tell({.directory = f.server.of(Opcode::mkdir).back().as<wire::Mkdir>().node.id, .what = what, .name = {}});
    f.release();
    const auto made = f.finish(making);
    REQUIRE(made.has_value());
    f.held = {Opcode::create};
    const OpenHow how{.flags = wire::open_write | wire::open_exclusive};
    const auto creating = f.begin(&FileSystem::create, made->inode, "file", 0644U, how);
    REQUIRE(f.await_held(1));
    CHECK_FALSE(creating->done());
    f.let_all_through();
    CHECK(f.finish(creating).has_value());
}

TEST_CASE("making: a directory is made at once, and all below it, and the server follows in order") {
    Making f;
    f.held = {Opcode::mkdir, Opcode::create, Opcode::take_leases};
    const auto made = f.at_once(&FileSystem::mkdir, f.d, "new", 0755U);
    REQUIRE((made && made->has_value()));
    const InodeNumber inode = (*made)->inode;
    CHECK((*made)->attributes_life == Duration::zero());
    const Created file = f.create("file", inode);
    CHECK(f.lookup("new", f.d).inode == inode);
    CHECK(f.lookup("file", inode).inode == file.entry.inode);
    CHECK(f.at_once(&FileSystem::lookup, inode, "nothing")->status() == Status::no_entry);
    REQUIRE(f.await_held(3));
    const auto mkdir = f.server.of(Opcode::mkdir).back();
    const auto create = f.server.of(Opcode::create).back();
    CHECK((mkdir.header.flags & wire::flag_in_order) != 0);
    CHECK((create.header.flags & wire::flag_in_order) != 0);
    CHECK(create.as<wire::Create>().parent == mkdir.as<wire::Mkdir>().node.id);
    CHECK(mkdir.header.id < create.header.id);
    CHECK(mkdir.message == create.message);

    // The number of the file is the server's affair.
    const auto looking = f.begin(&FileSystem::getattr, inode, HandleNumber{});
    CHECK_FALSE(looking->done());
    f.release();
    const auto attributes = f.finish(looking);
    REQUIRE(attributes.has_value());
    CHECK(attributes->attributes.identity.inode == f.directory->names.at("new"));
    CHECK(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    const Entry again = f.lookup("file", inode);
    CHECK(again.inode == file.entry.inode);
    CHECK(again.attributes.identity.inode == f.server_files.file("file", f.directory->names.at("new")).number);
}

TEST_CASE("making: what is made of something lent has its number and times before the server has made it") {
    Making f;
    f.borrow();
    const auto made = f.at_once(&FileSystem::mkdir, f.d, "new", 0750U);
    REQUIRE((made && made->has_value()));
    const InodeNumber directory = (*made)->inode;
    const wire::Attributes of_directory = f.attributes_at_once(directory);
    CHECK(of_directory.mode == (S_IFDIR | 0750));
    const Created file = f.create("file", f.d);
    f.write(file.opened.handle, "four");
    const wire::Attributes of_file = f.attributes_at_once(file.entry.inode);
    CHECK(of_file.mode == (S_IFREG | 0644));
    CHECK(of_file.size == 4);
    CHECK(of_file.blocks == 8);
    CHECK(of_file.modification == of_file.change);
    CHECK(f.attributes_at_once(file.entry.inode).modification == of_file.modification);

    f.let_all_through();
    CHECK(of_directory.identity.inode == f.directory->names.at("new"));
    CHECK(of_file.identity.inode == f.directory->names.at("file"));
    // The server's change time is another, which is not shown; the modification time is what was told.
    for (const auto& [inode, told] : {std::pair{directory, of_directory}, std::pair{file.entry.inode, of_file}}) {
        const auto now = f.ask(&FileSystem::getattr, inode, HandleNumber{});
        REQUIRE(now.has_value());
        CHECK(now->attributes.identity == told.identity);
        CHECK(now->attributes.modification == told.modification);
        CHECK(now->attributes.change == told.change);
    }
    auto& at_server = f.server_files.file("file", f.directory->number);
    CHECK(at_server.change != of_file.change);
    CHECK(at_server.modification == of_file.modification);
    // A change by somebody else shows as it is.
    f.server_files.write(at_server, "another");
    f.tell({.directory = f.node_of_d(), .what = wire::LeaseChange::What::directory});
    const auto changed = f.ask(&FileSystem::getattr, file.entry.inode, HandleNumber{});
    REQUIRE(changed.has_value());
    CHECK(changed->attributes.change == at_server.change);
    CHECK(changed->attributes.size == 7);
}

TEST_CASE("making: a directory in which things are made has its time when it is looked at") {
    Making f;
    f.borrow();
    const auto made = f.at_once(&FileSystem::mkdir, f.d, "new", 0750U);
    REQUIRE((made && made->has_value()));
    const InodeNumber inode = (*made)->inode;
    CHECK(f.attributes_at_once(inode).links == 2);
    const auto inner = f.at_once(&FileSystem::mkdir, inode, "inner", 0750U);
    REQUIRE((inner && inner->has_value()));
    f.create("file", inode);
    const wire::Attributes told = f.attributes_at_once(inode);
    CHECK(told.links == 3);
    f.let_all_through();
    auto& at_server = f.server_files.file("new", f.directory->number);
    CHECK(at_server.modification == told.modification);
    const auto now = f.ask(&FileSystem::getattr, inode, HandleNumber{});
    REQUIRE(now.has_value());
    CHECK(now->attributes.modification == told.modification);
    CHECK(now->attributes.change == told.change);
}

TEST_CASE("making: the links of a directory in which something was made are asked for when its time is set") {
    Making f;
    f.borrow();
    const auto inner = f.at_once(&FileSystem::mkdir, f.d, "inner", 0755U);
    REQUIRE((inner && inner->has_value()));
    f.let_all_through();
    f.directory->links = 17;
    f.held = {Opcode::setattr};
    const wire::Setattr change{.which = wire::set_modification, .modification = {1'000, 1}};
    REQUIRE(f.at_once(&FileSystem::setattr, f.d, HandleNumber{}, change).has_value());
    const auto asked = f.begin(&FileSystem::getattr, f.d, HandleNumber{});
    REQUIRE(f.await_held(1));
    f.release();
    const auto shown = f.finish(asked);
    REQUIRE(shown.has_value());
    CHECK(shown->attributes.links == 17);
    CHECK(shown->attributes.modification.seconds == 1'000);
}

TEST_CASE("making: what is asked of a directory while its mode is on its way does not outlive the change") {
    Making f;
    const auto inner = f.at_once(&FileSystem::mkdir, f.d, "inner", 0755U);
    REQUIRE((inner && inner->has_value()));
    const InodeNumber inode = (*inner)->inode;
    f.create("file", inode);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    // The name is asked for again when it could not be removed.
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::rmdir)
            return FakeReply{.status = Status::not_empty};
        return std::nullopt;
    };
    CHECK(f.ask(&FileSystem::rmdir, f.d, "inner").status() == Status::not_empty);
    f.held = {Opcode::setattr};
    const wire::Setattr change{.which = wire::set_mode, .mode = 0700};
    REQUIRE(f.at_once(&FileSystem::setattr, inode, HandleNumber{}, change).has_value());
    const std::size_t asked = f.asked(Opcode::lookup);
    CHECK(f.lookup("inner", f.d).attributes_life == Duration::zero());
    CHECK(f.asked(Opcode::lookup) == asked + 1);
    REQUIRE(f.await_held(1));
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    CHECK(f.lookup("inner", f.d).attributes.mode == (S_IFDIR | 0700U));
    const auto now = f.ask(&FileSystem::getattr, inode, HandleNumber{});
    REQUIRE(now.has_value());
    CHECK(now->attributes.mode == (S_IFDIR | 0700U));
}

TEST_CASE("making: what was written is known when all is carried out, whatever is answered first") {
    Making f;
    f.borrow();
    const Created file = f.create("file", f.d);
    f.write(file.opened.handle, "four");
    REQUIRE(f.at_once(&FileSystem::flush, file.opened.handle, LockOwner{1}).has_value());
    f.fs->release(file.opened.handle);
    f.let_all_through();
    const std::size_t asked = f.asked(Opcode::getattr);
    const auto now = f.ask(&FileSystem::getattr, file.entry.inode, HandleNumber{});
    REQUIRE(now.has_value());
    CHECK(now->attributes.size == 4);
    CHECK(f.asked(Opcode::getattr) == asked);
}

TEST_CASE("making: what a write's answer says of a file is not believed where a link's has overtaken it") {
    Making f;
    const Created file = f.create("file", f.d);
    f.let_all_through();
    f.held = {Opcode::write};
    f.write(file.opened.handle, "text");
    REQUIRE(f.await_held(1));
    const FakeReply of_write = f.server_files.answer(f.server.of(Opcode::write).back());
    f.instead = [&](const FakeRequest& request) {
        return request.header.opcode == Opcode::write ? std::optional(of_write) : std::nullopt;
    };
    REQUIRE(f.ask(&FileSystem::link, file.entry.inode, f.d, "second").has_value());
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    f.let_all_through();
    const auto attributes = f.ask(&FileSystem::getattr, file.entry.inode, HandleNumber{});
    REQUIRE(attributes.has_value());
    CHECK(attributes->attributes.links == 2);
    CHECK(attributes->attributes.size == 4);
}

TEST_CASE("making: a server that has none to lend, or makes another in its place") {
    Making f;
    SECTION("none") {
        f.server_files.lends = false;
        const std::size_t asked_before = f.server.of(Opcode::lend_inodes).size();
        f.settings.borrows_inodes = true;
        f.make_file_system();
        f.d = f.lookup("d").inode;
        f.lookup("old", f.d);
        f.lookup("old", f.d);
        for (const char* name : {"a", "b", "c", "d", "e"})
            REQUIRE(f.ask(&FileSystem::mkdir, f.d, name, 0755U).has_value());
        REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
        CHECK(f.server.of(Opcode::make_lent).empty());
        CHECK(f.server.of(Opcode::lend_inodes).size() - asked_before <= 3);
    }
    SECTION("another") {
        f.borrow();
        f.instead = [&](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode != Opcode::make_lent)
                return std::nullopt;
            auto asked = request.as<wire::MakeLent>();
            const wire::Mkdir ordinary{.parent = asked.parent, .name = asked.name, .node = asked.node, .mode = 0755};
            return f.server_files.make_directory_for(ordinary);
        };
        const auto made = f.at_once(&FileSystem::mkdir, f.d, "new", 0755U);
        REQUIRE((made && made->has_value()));
        f.let_all_through();
        const auto attributes = f.ask(&FileSystem::getattr, (*made)->inode, HandleNumber{});
        REQUIRE(attributes.has_value());
        CHECK(attributes->attributes.identity.inode == f.directory->names.at("new"));
    }
}

TEST_CASE("making: attributes that are set one after the other are one request, before whatever follows") {
    Making f;
    f.borrow();
    const Created file = f.create("file", f.d);
    const std::size_t before = f.server.of(Opcode::setattr).size();
    const auto set = [&](const wire::Setattr& change) {
        const auto answer = f.at_once(&FileSystem::setattr, file.entry.inode, HandleNumber{}, change);
        REQUIRE(answer.has_value());
        REQUIRE(answer->has_value());
    };
    set({.which = wire::set_modification, .modification = {.seconds = 1}});
    set({.which = wire::set_mode, .mode = 0600});
    set({.which = wire::set_access | wire::set_modification, .access = {.seconds = 2}, .modification = {.seconds = 3}});
    f.write(file.opened.handle, "text");
    set({.which = wire::set_modification, .modification = {.seconds = 4}});
    f.let_all_through();
    const auto asked = f.server.of(Opcode::setattr);
    REQUIRE(asked.size() - before == 2);
    const auto first = asked[before].as<wire::Setattr>();
    CHECK(first.which == (wire::set_mode | wire::set_access | wire::set_modification));
    CHECK(first.mode == 0600);
    CHECK(first.modification.seconds == 3);
    CHECK(asked[before].header.id < f.server.of(Opcode::write).back().header.id);
    CHECK(f.server.of(Opcode::write).back().header.id < asked.back().header.id);
    const auto now = f.ask(&FileSystem::getattr, file.entry.inode, HandleNumber{});
    REQUIRE(now.has_value());
    CHECK(now->attributes.mode == (S_IFREG | 0600));
    CHECK(now->attributes.modification.seconds == 4);
}

TEST_CASE("making: what is written after a time to come was set has the time of the write") {
    Making f;
    f.borrow();
    const Created file = f.create("file", f.d);
    const wire::Setattr to_come{.which = wire::set_modification, .modification = {.seconds = 3'000'000'000}};
    REQUIRE(f.at_once(&FileSystem::setattr, file.entry.inode, HandleNumber{}, to_come).has_value());
    CHECK(f.attributes_at_once(file.entry.inode).modification.seconds == 3'000'000'000);
    f.write(file.opened.handle, "text");
    const wire::Attributes written = f.attributes_at_once(file.entry.inode);
    CHECK(written.modification == written.change);
    CHECK(written.modification.seconds < 3'000'000'000);
}

TEST_CASE("making: a file that has lost one of two names under way shows one link and when") {
    Making f;
    f.borrow();
    f.held.insert({Opcode::link, Opcode::unlink, Opcode::rename});
    const Created file = f.create("file", f.d);
    f.fs->release(file.opened.handle);
    const InodeNumber inode = file.entry.inode;
    const auto linked = f.at_once(&FileSystem::link, inode, f.d, "other");
    REQUIRE((linked && linked->has_value()));
    const wire::Attributes before = f.attributes_at_once(inode);
    CHECK(before.links == 2);
    f.clock.advance(std::chrono::milliseconds(20));
    SECTION("by unlink") {
        REQUIRE(f.at_once(&FileSystem::unlink, f.d, "other").has_value());
    }
    SECTION("by a rename over it") {
        f.fs->release(f.create("new", f.d).opened.handle);
        REQUIRE(f.at_once(&FileSystem::rename, f.d, "new", f.d, "other", 0U).has_value());
    }
    const wire::Attributes after = f.attributes_at_once(inode);
    CHECK(after.links == 1);
    CHECK(after.change > before.change);
    CHECK(after.modification == before.modification);
}

TEST_CASE("making: a small new file is copied by reading it") {
    Making f;
    f.borrow();
    const auto source = f.ask(&FileSystem::open, f.lookup("old", f.d).inode, OpenHow{.flags = wire::open_read});
    REQUIRE(source.has_value());
    const Created target = f.create("copy", f.d);
    const auto copied = f.at_once(&FileSystem::copy_range, source->handle, std::uint64_t{0}, target.opened.handle,
                                  std::uint64_t{0}, std::uint64_t{100});
    REQUIRE(copied.has_value());
    CHECK(copied->status() == Status::not_supported);
}

TEST_CASE("making: a small file that is here is copied by reading it, whether or not the new one is there") {
    Making f;
    f.borrow();
    const auto source = f.ask(&FileSystem::open, f.lookup("old", f.d).inode, OpenHow{.flags = wire::open_read});
    REQUIRE(source.has_value());
    REQUIRE(f.ask(&FileSystem::read, source->handle, std::uint64_t{0}, std::size_t{100}).has_value());
    const Created target = f.create("copy", f.d);
    f.let_all_through();
    const auto copied = f.at_once(&FileSystem::copy_range, source->handle, std::uint64_t{0}, target.opened.handle,
                                  std::uint64_t{0}, std::uint64_t{100});
    REQUIRE(copied.has_value());
    CHECK(copied->status() == Status::not_supported);
    CHECK(f.asked(Opcode::copy_range) == 0);
}

TEST_CASE("making: what is written to a new file follows it, and closing it waits for nothing") {
    Making f;
    f.held = {Opcode::create, Opcode::write};
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "some text");
    const auto closed = f.at_once(&FileSystem::flush, created.opened.handle, LockOwner{1});
    REQUIRE(closed.has_value());
    CHECK(closed->has_value());
    f.fs->release(created.opened.handle);
    REQUIRE(f.await_held(2));
    const auto write = f.server.of(Opcode::write).back();
    CHECK(write.message == f.server.of(Opcode::create).back().message);
    CHECK((write.header.flags & wire::flag_in_order) != 0);
    CHECK(f.asked(Opcode::release) == 0);
    CHECK(f.asked(Opcode::flush) == 0);
    // Who asks what the file is like waits for it.
    const auto looking = f.begin(&FileSystem::getattr, created.entry.inode, HandleNumber{});
    CHECK_FALSE(looking->done());
    f.release();
    const auto attributes = f.finish(looking);
    REQUIRE(attributes.has_value());
    CHECK(attributes->attributes.size == 9);
    CHECK(f.server_files.file("file", f.directory->number).content == "some text");
    CHECK(f.wait_for([&] { return f.asked(Opcode::release) == 1; }));
}

TEST_CASE("making: much that is written to a new file waits until it is there, and goes by the data lane in order") {
    Making f;
    f.held = {Opcode::create};
    const Created created = f.create("file", f.d);
    const std::string much(300'000, 'm');
    f.write(created.opened.handle, much);
    f.write(created.opened.handle, "end", much.size());
    f.write(created.opened.handle, "MM");
    const auto closing = f.begin(&FileSystem::flush, created.opened.handle, LockOwner{1});
    REQUIRE(f.await_held(1));
    f.settle();
    CHECK(f.asked(Opcode::write) == 0);
    f.release();
    CHECK(f.finish(closing).has_value());
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    CHECK(f.server_files.file("file", f.directory->number).content == "MM" + much.substr(2) + "end");
    for (const auto& write : f.server.of(Opcode::write))
        CHECK((write.header.flags & wire::flag_in_order) == 0);
}

TEST_CASE("making: files are removed at once, and the directory that they leave empty") {
    Making f;
    const auto made = f.ask(&FileSystem::mkdir, f.d, "new", 0755U);
    const InodeNumber inode = made->inode;
    f.fs->release(f.create("file", inode).opened.handle);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    f.held = {Opcode::unlink, Opcode::rmdir, Opcode::mkdir};
    CHECK(f.at_once(&FileSystem::unlink, inode, "file")->has_value());
    CHECK(f.at_once(&FileSystem::lookup, inode, "file")->status() == Status::no_entry);
    CHECK(f.at_once(&FileSystem::rmdir, f.d, "new")->has_value());
    CHECK(f.at_once(&FileSystem::lookup, f.d, "new")->status() == Status::no_entry);
    // The name is free.
    const auto anew = f.at_once(&FileSystem::mkdir, f.d, "new", 0755U);
    REQUIRE((anew && anew->has_value()));
    CHECK((*anew)->inode != inode);
    REQUIRE(f.await_held(3));
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    CHECK(f.lookup("new", f.d).inode == (*anew)->inode);
}

TEST_CASE("making: a file of which only its name is known is looked for before it goes, if somebody holds it") {
    Making f({}, {"one", "two", "three"});
    const std::size_t looked_up = f.asked(Opcode::lookup);
    const auto remove = [&](const char* name, bool is_forgotten) {
        const auto found = f.at_once(&FileSystem::lookup, f.d, name);
        REQUIRE((found && found->has_value()));
        CHECK(f.at_once(&FileSystem::unlink, f.d, name)->has_value());
        if (is_forgotten)
            f.fs->forget((*found)->inode, 1);
    };
    remove("one", true);
    remove("two", false);
    remove("three", true);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    CHECK(f.asked(Opcode::unlink) == 3);
    const auto look_ups = f.server.of(Opcode::lookup);
    REQUIRE(look_ups.size() == looked_up + 1);
    CHECK(look_ups.back().as<wire::Lookup>().name == "two");
    for (const char* name : {"one", "two", "three"})
        CHECK_FALSE(f.at_server(name));
}

TEST_CASE("making: the name of a file that is open is taken when the server says that it can be") {
    Making f;
    f.create("file", f.d);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::unlink)
            return FakeReply{.status = Status::too_many_files};
        return std::nullopt;
    };
    CHECK(f.ask(&FileSystem::unlink, f.d, "file").status() == Status::too_many_files);
}

TEST_CASE("making: a directory that may have entries is not removed without asking") {
    Making f;
    const auto made = f.ask(&FileSystem::mkdir, f.d, "new", 0755U);
    f.create("file", made->inode);
    f.held = {Opcode::rmdir};
    const auto removing = f.begin(&FileSystem::rmdir, f.d, "new");
    REQUIRE(f.await_held(1));
    CHECK_FALSE(removing->done());
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::rmdir)
            return FakeReply{.status = Status::not_empty};
        return std::nullopt;
    };
    f.release();
    CHECK(f.finish(removing).status() == Status::not_empty);
}

TEST_CASE("making: a new file takes another's place at once, with its content") {
    Making f;
    f.held = {Opcode::create, Opcode::write, Opcode::rename};
    const Created created = f.create("temporary", f.d);
    f.write(created.opened.handle, "new content");
    REQUIRE(f.at_once(&FileSystem::flush, created.opened.handle, LockOwner{1}).has_value());
    CHECK(f.at_once(&FileSystem::rename, f.d, "temporary", f.d, "old", 0U)->has_value());
    CHECK(f.at_once(&FileSystem::lookup, f.d, "temporary")->status() == Status::no_entry);
    CHECK(f.lookup("old", f.d).inode == created.entry.inode);
    REQUIRE(f.await_held(3));
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    CHECK(f.lookup("old", f.d).inode == created.entry.inode);
    CHECK(f.server_files.file("old", f.directory->number).content == "new content");
    CHECK_FALSE(f.at_server("temporary"));
}

TEST_CASE("making: what is written through while a change is under way is what it was when it was written") {
    Making f;
    const Created created = f.create("file", f.d);
    f.held = {Opcode::setattr};
    const auto set = f.at_once(&FileSystem::setattr, created.entry.inode, HandleNumber{},
                               wire::Setattr{.which = wire::set_mode, .mode = 0600});
    REQUIRE((set && set->has_value()));
    std::string text = "text";
    const auto bytes = std::as_bytes(std::span(text));
    const auto writing =
        f.begin(&FileSystem::write, created.opened.handle, std::uint64_t{0},
                Payload{.bytes = bytes, .take = [&] { return Buffer::copy_of(bytes); }}, WriteHow{.through = true});
    CHECK_FALSE(writing->done());
    // Whoever is in front reads the next request into the same place.
    text = "next";
    f.let_all_through();
    CHECK(f.finish(writing).has_value());
    CHECK(f.server_files.file("file", f.directory->number).content == "text");
}

TEST_CASE("making: times and permissions are set at once, and shown when the server has set them") {
    Making f;
    const Created created = f.create("file", f.d);
    f.held = {Opcode::setattr};
    const auto set = f.at_once(&FileSystem::setattr, created.entry.inode, HandleNumber{},
                               wire::Setattr{.which = wire::set_mode, .mode = 0600});
    REQUIRE((set && set->has_value()));
    CHECK(((*set)->attributes.mode & 07777) == 0600);
    CHECK((*set)->life == Duration::zero());
    const auto looking = f.begin(&FileSystem::getattr, created.entry.inode, HandleNumber{});
    REQUIRE(f.await_held(1));
    CHECK_FALSE(looking->done());
    f.release();
    CHECK((f.finish(looking)->attributes.mode & 07777) == 0600);
    // A set-user-id bit is not given lightly.
    f.held = {Opcode::setattr};
    const auto asking = f.begin(&FileSystem::setattr, created.entry.inode, HandleNumber{},
                                wire::Setattr{.which = wire::set_mode, .mode = 04755});
    REQUIRE(f.await_held(1));
    CHECK_FALSE(asking->done());
}

TEST_CASE("making: what was written before a time is set, or the file moved, goes before that") {
    Making f;
    f.held = {Opcode::create, Opcode::write, Opcode::setattr, Opcode::rename};
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "one");
    f.write(created.opened.handle, "two", 3);  // waits to be joined with more
    wire::Setattr times{.which = wire::set_modification};
    times.modification = {.seconds = 1000};
    REQUIRE(f.at_once(&FileSystem::setattr, created.entry.inode, created.opened.handle, times).has_value());
    f.write(created.opened.handle, "three", 6);
    f.write(created.opened.handle, "four", 11);
    REQUIRE(f.at_once(&FileSystem::rename, f.d, "file", f.d, "moved", 0U).has_value());
    REQUIRE(f.await_held(6));
    std::vector<Opcode> order;
    for (const FakeRequest& request : f.server.requests)
        if (f.held.contains(request.header.opcode))
            order.push_back(request.header.opcode);
    CHECK(order == std::vector<Opcode>{Opcode::create, Opcode::write, Opcode::write, Opcode::setattr, Opcode::write,
                                       Opcode::rename});
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    CHECK(f.server_files.file("moved", f.directory->number).content == "onetwothreefour");
}

TEST_CASE("making: what was written before a file that is there already is moved goes before that") {
    Making f;
    f.held = {Opcode::write};
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "one");
    REQUIRE(f.await_held(1));
    // The file is there, and its first bytes are on their way.
    f.write(created.opened.handle, "two", 3);  // waits to be joined with more
    REQUIRE(f.at_once(&FileSystem::rename, f.d, "file", f.d, "moved", 0U).has_value());
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    std::vector<Opcode> order;
    for (const FakeRequest& request : f.server.requests)
        if (std::set{Opcode::write, Opcode::rename}.contains(request.header.opcode))
            order.push_back(request.header.opcode);
    CHECK(order == std::vector<Opcode>{Opcode::write, Opcode::write, Opcode::rename});
    CHECK((f.server.of(Opcode::write).back().header.flags & wire::flag_in_order) != 0);
}

TEST_CASE("making: a time that is set does not go before more than can be sent in order with it") {
    Making f;
    f.held = {Opcode::write};
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "one");
    const std::string much(70'000, 'm');
    f.write(created.opened.handle, much.substr(0, 35'000), 3);
    f.write(created.opened.handle, much.substr(35'000), 35'003);
    wire::Setattr times{.which = wire::set_modification};
    times.modification = {.seconds = 1000};
    const auto setting = f.begin(&FileSystem::setattr, created.entry.inode, created.opened.handle, times);
    REQUIRE(f.await_held(1));
    f.settle();
    CHECK(f.asked(Opcode::setattr) == 0);
    f.release();
    REQUIRE(f.finish(setting).has_value());
    CHECK(f.server.requests.back().header.opcode == Opcode::setattr);
    CHECK(f.server_files.file("file", f.directory->number).content == "one" + much);
}

TEST_CASE("making: what is moved is not shown as it was before something was set that the server alone knows") {
    Making f;
    f.borrow();
    const auto link = f.at_once(&FileSystem::symlink, f.d, "link", "target");
    REQUIRE(link.has_value());
    f.let_all_through();
    wire::Setattr times{.which = wire::set_modification};
    times.modification = {.seconds = 1000};
    REQUIRE(f.ask(&FileSystem::setattr, (*link)->inode, HandleNumber{}, times).has_value());
    f.clock.advance(std::chrono::milliseconds(20));
    f.held = {Opcode::rename};
    REQUIRE(f.at_once(&FileSystem::rename, f.d, "link", f.d, "moved", 0U).has_value());
    const auto looking = f.begin(&FileSystem::getattr, (*link)->inode, HandleNumber{});
    f.release();
    CHECK(f.finish(looking)->attributes.modification.seconds == 1000);
}

TEST_CASE("making: a symlink and a second name are made at once") {
    Making f;
    f.held = {Opcode::symlink, Opcode::link, Opcode::create};
    const auto link = f.at_once(&FileSystem::symlink, f.d, "link", "target");
    REQUIRE((link && link->has_value()));
    CHECK((*link)->attributes.size == 6);
    const Created created = f.create("file", f.d);
    const auto second = f.at_once(&FileSystem::link, created.entry.inode, f.d, "second");
    REQUIRE((second && second->has_value()));
    CHECK((*second)->inode == created.entry.inode);
    CHECK((*second)->attributes.links == 2);
    CHECK(f.lookup("second", f.d).inode == created.entry.inode);
    REQUIRE(f.await_held(3));
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    CHECK(f.ask(&FileSystem::readlink, (*link)->inode).value() == "target");
    CHECK(f.ask(&FileSystem::getattr, created.entry.inode, HandleNumber{})->attributes.links == 2);
    f.fs->release(created.opened.handle);
    f.fs->forget(created.entry.inode, 3);
    CHECK(f.ask(&FileSystem::unlink, f.d, "file").has_value());
    CHECK(f.ask(&FileSystem::unlink, f.d, "second").has_value());
}

TEST_CASE(
    "making: another client's wish to look is granted once all is carried out, and nothing is made at once then") {
    Making f;
    f.held = {Opcode::create, Opcode::write};
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "text");
    REQUIRE(f.at_once(&FileSystem::flush, created.opened.handle, LockOwner{1}).has_value());
    REQUIRE(f.await_held(2));
    f.tell({f.node_of_d(), wire::LeaseChange::What::shared, {}});
    f.settle();
    CHECK(f.asked(Opcode::share_leases) == 0);
    const auto another = f.begin(&FileSystem::mkdir, f.d, "another", 0755U);
    CHECK_FALSE(another->done());
    f.release();
    CHECK(f.wait_for([&] { return f.asked(Opcode::share_leases) == 1; }));
    CHECK(f.server.of(Opcode::share_leases)[0].as<wire::ShareLeases>().directories ==
          std::vector<NodeId>{f.node_of_d()});
    CHECK(f.finish(another).has_value());
    // Not asked for again at once.
    CHECK(f.asked(Opcode::take_leases) == 1);
    f.clock.advance(std::chrono::seconds(3));
    f.settle();
    CHECK(f.ask(&FileSystem::mkdir, f.d, "later", 0755U).has_value());
    CHECK(f.asked(Opcode::take_leases) == 2);
}

TEST_CASE("making: a directory that is not held is shared when asked for all the same") {
    Making f;
    f.tell({NodeId{4711}, wire::LeaseChange::What::shared, {}});
    CHECK(f.wait_for([&] { return f.asked(Opcode::share_leases) == 1; }));
}

TEST_CASE("making: fsync waits for all that was made before, and unmounting does") {
    Making f;
    f.held = {Opcode::create, Opcode::mkdir};
    const Created created = f.create("file", f.d);
    REQUIRE(f.at_once(&FileSystem::mkdir, f.d, "new", 0755U).has_value());
    const auto syncing = f.begin(&FileSystem::fsync, created.opened.handle, false);
    bool all = false;
    spawn([](FileSystem& fs, bool& done) -> Task<void> {
        co_await fs.all_written_out();
        done = true;
    }(*f.fs, all));
    REQUIRE(f.await_held(2));
    f.settle();
    CHECK(f.asked(Opcode::fsync) == 0);
    CHECK_FALSE(all);
    f.release();
    CHECK(f.finish(syncing).has_value());
    CHECK(f.asked(Opcode::fsync) == 1);
    CHECK(f.wait_for([&] { return all; }));
}

TEST_CASE("making: what goes wrong behind is told to whoever has the file open, and to fsync of the directory once") {
    Making f;
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::create)
            return FakeReply{.status = Status::no_space};
        if (request.header.opcode == Opcode::write)
            return FakeReply{.status = Status::bad_handle};
        return std::nullopt;
    };
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "text");
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    CHECK(f.ask(&FileSystem::flush, created.opened.handle, LockOwner{1}).status() == Status::no_space);
    f.instead = nullptr;
    CHECK(f.ask(&FileSystem::lookup, f.d, "file").status() == Status::no_entry);
    CHECK(std::ranges::count(f.front.dropped_names, "file") > 0);
    CHECK(f.ask(&FileSystem::getattr, created.entry.inode, HandleNumber{}).status() == Status::stale);
    const auto opened = f.ask(&FileSystem::opendir, f.d);
    CHECK(f.ask(&FileSystem::fsyncdir, opened->handle, false).status() == Status::no_space);
    CHECK(f.ask(&FileSystem::fsyncdir, opened->handle, false).has_value());
}

TEST_CASE("making: a directory that the server has not made as it was answered takes what is in it along") {
    Making f;
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        switch (request.header.opcode) {
            case Opcode::mkdir:
                return FakeReply{.status = Status::exists};
            case Opcode::create:
                return FakeReply{.status = Status::stale};
            case Opcode::take_leases:
                return FakeReply::of(wire::TakeLeasesReply{.leases = {{}}});
            default:
                return std::nullopt;
        }
    };
    const auto made = f.at_once(&FileSystem::mkdir, f.d, "new", 0755U);
    const Created created = f.create("file", (*made)->inode);
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    f.instead = nullptr;
    CHECK(f.ask(&FileSystem::lookup, f.d, "new").status() == Status::no_entry);
    CHECK(f.ask(&FileSystem::lookup, (*made)->inode, "file").status() == Status::stale);
    CHECK(f.ask(&FileSystem::flush, created.opened.handle, LockOwner{1}).status() == Status::io_error);
    f.fs->release(created.opened.handle);
    f.fs->forget(created.entry.inode);
    f.fs->forget((*made)->inode);
}

TEST_CASE("making: what is not held, or was lost, waits for the server") {
    Making f;
    using What = wire::LeaseChange::What;
    const auto what = GENERATE(What::ended, What::directory);
    f.tell({f.node_of_d(), what, {}});
    f.held = {Opcode::mkdir};
    const auto making = f.begin(&FileSystem::mkdir, f.d, "new", 0755U);
    REQUIRE(f.await_held(1));
    CHECK_FALSE(making->done());
}

TEST_CASE("making: who may change a directory is the server's to say again when that was changed") {
    Making f;
    REQUIRE(f.ask(&FileSystem::setattr, f.d, HandleNumber{}, wire::Setattr{.which = wire::set_mode, .mode = 0555})
                .has_value());
    f.lookup("old", f.d);
    f.lookup("old", f.d);
    f.held = {Opcode::mkdir};
    const auto making = f.begin(&FileSystem::mkdir, f.d, "new", 0755U);
    REQUIRE(f.await_held(1));
    CHECK_FALSE(making->done());
}

TEST_CASE("making: a name that is removed while it is listed is not given out again") {
    Making f;
    const auto opened = f.ask(&FileSystem::opendir, f.d);
    REQUIRE(opened.has_value());
    FakeSink first(2);
    REQUIRE(f.ask(&FileSystem::readdir, opened->handle, std::uint64_t{0}, FileSystem::Listing::with_attributes, first)
                .has_value());
    f.held = {Opcode::unlink};
    REQUIRE(f.at_once(&FileSystem::unlink, f.d, "old").has_value());
    FakeSink rest(100);
    REQUIRE(f.ask(&FileSystem::readdir, opened->handle, first.entries.back().position,
                  FileSystem::Listing::with_attributes, rest)
                .has_value());
    const auto listed = std::ranges::find(rest.entries, "old", &ListedEntry::name);
    REQUIRE(listed != rest.entries.end());
    CHECK(listed->entry.inode == 0);
}

TEST_CASE("making: a write that its writer was told of is not told to fsync of the directory") {
    Making f;
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::write)
            return FakeReply{.status = Status::no_space};
        return std::nullopt;
    };
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "text");
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    const auto opened = f.ask(&FileSystem::opendir, f.d);
    CHECK(f.ask(&FileSystem::fsyncdir, opened->handle, false).has_value());
    CHECK(f.ask(&FileSystem::flush, created.opened.handle, LockOwner{1}).status() == Status::no_space);
}

TEST_CASE("making: a write that fails between close and release is told to fsync of the directory") {
    Making f;
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::write)
            return FakeReply{.status = Status::no_space};
        return std::nullopt;
    };
    f.held = {Opcode::write};
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "text");
    const auto closed = f.at_once(&FileSystem::flush, created.opened.handle, LockOwner{1});
    REQUIRE(closed.has_value());
    CHECK(closed->has_value());
    REQUIRE(f.await_held(1));
    f.release();
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_write_bytes == 0; }));
    f.fs->release(created.opened.handle);
    const auto opened = f.ask(&FileSystem::opendir, f.d);
    CHECK(f.ask(&FileSystem::fsyncdir, opened->handle, false).status() == Status::no_space);
    CHECK(f.ask(&FileSystem::fsyncdir, opened->handle, false).has_value());
}

TEST_CASE("making: who closes a new file that another has open waits, and is told what failed") {
    Making f;
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "text");
    const auto reader = f.ask(&FileSystem::open, created.entry.inode, OpenHow{.flags = wire::open_read});
    REQUIRE(reader.has_value());
    CHECK(f.fs->usage().pending_write_bytes == 0);
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::write)
            return FakeReply{.status = Status::no_space};
        return std::nullopt;
    };
    f.held = {Opcode::write};
    f.write(created.opened.handle, "more", 4);
    const auto closing = f.begin(&FileSystem::flush, created.opened.handle, LockOwner{1});
    REQUIRE(f.await_held(1));
    CHECK_FALSE(closing->done());
    f.release();
    CHECK(f.finish(closing).status() == Status::no_space);
    f.fs->release(created.opened.handle);
    f.fs->release(reader->handle);
}

TEST_CASE("making: a new file that is closed is opened to be read, changed and closed without waiting") {
    Making f;
    f.held = {Opcode::create, Opcode::write, Opcode::open, Opcode::setattr, Opcode::unlink};
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "text");
    CHECK(f.at_once(&FileSystem::flush, created.opened.handle, LockOwner{1})->has_value());
    f.fs->release(created.opened.handle);
    const auto opened = f.at_once(&FileSystem::open, created.entry.inode, OpenHow{.flags = wire::open_read});
    REQUIRE(opened.has_value());
    REQUIRE(opened->has_value());
    CHECK((*opened)->size == 4);
    const HandleNumber reader = (*opened)->handle;
    const wire::Setattr change{.which = wire::set_mode, .mode = 0600};
    CHECK(f.at_once(&FileSystem::setattr, created.entry.inode, reader, change)->has_value());
    SECTION("closed at once") {
        CHECK(f.at_once(&FileSystem::flush, reader, LockOwner{1})->has_value());
        f.fs->release(reader);
        f.let_all_through();
        // Both, whichever was there first.
        CHECK(f.wait_for([&] { return f.asked(Opcode::release) == 2; }));
    }
    SECTION("it is read when it is there") {
        const auto reading = f.begin(&FileSystem::read, reader, std::uint64_t{0}, std::size_t{100});
        CHECK_FALSE(reading->done());
        f.let_all_through();
        const auto data = f.finish(reading);
        REQUIRE(data.has_value());
        CHECK((!data->pieces.empty() && data->pieces.front().size() == 4));
        CHECK(f.asked(Opcode::open) == 1);
        f.fs->release(reader);
    }
    SECTION("its name goes when it is open there") {
        const auto removing = f.begin(&FileSystem::unlink, f.d, "file");
        CHECK_FALSE(removing->done());
        f.let_all_through();
        CHECK(f.finish(removing).has_value());
        const auto open = f.server.of(Opcode::open);
        REQUIRE(open.size() == 1);
        CHECK(open[0].header.id < f.server.of(Opcode::unlink)[0].header.id);
        CHECK(f.server.of(Opcode::create)[0].header.id < open[0].header.id);
        f.fs->release(reader);
    }
    SECTION("what the server says of it is told to who reads") {
        f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode == Opcode::open)
                return FakeReply{.status = Status::too_many_files};
            return std::nullopt;
        };
        f.let_all_through();
        CHECK(f.ask(&FileSystem::read, reader, std::uint64_t{0}, std::size_t{100}).status() == Status::too_many_files);
        CHECK(f.asked(Opcode::open) == 2);
        CHECK(f.ask(&FileSystem::flush, reader, LockOwner{1}).has_value());
        f.fs->release(reader);
    }
}

TEST_CASE("making: a directory that is being filled is opened without waiting, and read once all is there") {
    Making f;
    f.held = {Opcode::create, Opcode::opendir};
    const Created created = f.create("file", f.d);
    f.fs->release(created.opened.handle);
    const auto opening = f.at_once(&FileSystem::opendir, f.d);
    REQUIRE(opening.has_value());
    REQUIRE(opening->has_value());
    const HandleNumber handle = (*opening)->handle;
    FakeSink sink(1000);
    const auto list = [&] {
        return f.begin(&FileSystem::readdir, handle, std::uint64_t{0}, FileSystem::Listing::plain,
                       static_cast<ListingSink&>(sink));
    };
    SECTION("read") {
        const auto reading = list();
        CHECK_FALSE(reading->done());
        f.let_all_through();
        CHECK(f.finish(reading).has_value());
        CHECK(std::ranges::count(sink.names(), "file") == 1);
        CHECK(f.asked(Opcode::opendir) == 0);
    }
    SECTION("synced") {
        const auto syncing = f.begin(&FileSystem::fsyncdir, handle, false);
        CHECK_FALSE(syncing->done());
        f.let_all_through();
        CHECK(f.finish(syncing).has_value());
    }
    SECTION("it is opened at the server before it may not be any more") {
        f.held.erase(Opcode::opendir);
        const wire::Setattr change{.which = wire::set_mode, .mode = 0};
        const auto setting = f.begin(&FileSystem::setattr, f.d, HandleNumber{}, change);
        CHECK_FALSE(setting->done());
        f.let_all_through();
        CHECK(f.finish(setting).has_value());
        REQUIRE(f.asked(Opcode::opendir) == 1);
        CHECK(f.server.of(Opcode::opendir)[0].header.id < f.server.of(Opcode::setattr)[0].header.id);
        CHECK(f.finish(list()).has_value());
        CHECK(std::ranges::count(sink.names(), "file") == 1);
        CHECK(f.asked(Opcode::opendir) == 1);
    }
    f.fs->releasedir(handle);
}

TEST_CASE("making: whoever else opens a new file, and who may not read it, waits for the server") {
    Making f;
    f.held = {Opcode::create};
    const Created created = f.create("file", f.d);
    SECTION("to write") {
        const auto opening =
            f.begin(&FileSystem::open, created.entry.inode, OpenHow{.flags = wire::open_read | wire::open_write});
        CHECK_FALSE(opening->done());
        f.let_all_through();
        CHECK(f.finish(opening).has_value());
    }
    SECTION("what may not be read") {
        const wire::Setattr change{.which = wire::set_mode, .mode = 0200};
        REQUIRE(f.at_once(&FileSystem::setattr, created.entry.inode, HandleNumber{}, change)->has_value());
        const auto opening = f.begin(&FileSystem::open, created.entry.inode, OpenHow{.flags = wire::open_read});
        CHECK_FALSE(opening->done());
        f.let_all_through();
        CHECK(f.finish(opening).has_value());
        CHECK(f.asked(Opcode::open) == 1);
    }
}

TEST_CASE("making: after a failure the server is asked before anything else is answered in the directory") {
    Making f;
    const auto failing = GENERATE(Opcode::write, Opcode::setattr);
    f.instead = [failing](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == failing)
            return FakeReply{.status = Status::no_space};
        return std::nullopt;
    };
    const Created created = f.create("file", f.d);
    f.write(created.opened.handle, "text");
    const wire::Setattr change{.which = wire::set_mode, .mode = 0600};
    REQUIRE(f.at_once(&FileSystem::setattr, created.entry.inode, HandleNumber{}, change).has_value());
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0 && f.fs->usage().pending_write_bytes == 0; }));
    CHECK(f.ask(&FileSystem::flush, created.opened.handle, LockOwner{1}).status() == Status::no_space);
    f.fs->release(created.opened.handle);
    f.held = {Opcode::mkdir};
    const auto making = f.begin(&FileSystem::mkdir, f.d, "new", 0755U);
    REQUIRE(f.await_held(1));
    CHECK_FALSE(making->done());
}

TEST_CASE("making: a directory that is put in the place of one that was made is found there") {
    Making f;
    const InodeNumber moved = f.lookup("first", f.d).inode;
    const auto made = f.at_once(&FileSystem::mkdir, f.d, "made", 0755U);
    REQUIRE((made && made->has_value()));
    REQUIRE(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    REQUIRE(f.ask(&FileSystem::rename, f.d, "first", f.d, "made", 0U).has_value());
    CHECK(f.lookup("made", f.d).inode == moved);
}

TEST_CASE("making: when the term has run out the server is asked") {
    Making f;
    f.clock.advance(f.lease_term);
    f.held = {Opcode::mkdir};
    const auto making = f.begin(&FileSystem::mkdir, f.d, "new", 0755U);
    REQUIRE(f.await_held(1));
    CHECK_FALSE(making->done());
}

TEST_CASE("making: a server that refuses, or does not notice all changes, is asked for each") {
    Fixture f(Fixture::Leases::exclusive);
    SECTION("refuses") {
        f.server_files.gives_exclusive_leases = false;
    }
    SECTION("does not notice") {
        f.server_files.trust_ms = 1000;
    }
    SECTION("the mount waits for names") {
        f.settings.waits_for_names = true;
        f.make_file_system();
    }
    const auto& directory = f.server_files.make_directory("d");
    f.server_files.make("old", "", directory.number);
    const InodeNumber d = f.lookup("d").inode;
    f.lookup("old", d);
    f.lookup("old", d);
    REQUIRE(f.ask(&FileSystem::mkdir, d, "first", 0755U).has_value());
    REQUIRE(f.ask(&FileSystem::mkdir, d, "second", 0755U).has_value());
    f.settle();
    f.held = {Opcode::mkdir};
    const auto making = f.begin(&FileSystem::mkdir, d, "third", 0755U);
    REQUIRE(f.await_held(1));
    CHECK_FALSE(making->done());
}

TEST_CASE("making: no more changes are under way than there is room for") {
    constexpr std::size_t max_changes = 20;
    Making f(max_changes);
    f.held = {Opcode::mkdir};
    std::size_t made = 0;
    while (f.at_once(&FileSystem::mkdir, f.d, "new" + std::to_string(made), 0755U).has_value() && made <= max_changes)
        ++made;
    CHECK(made == max_changes);
    f.release();
    CHECK(f.wait_for([&] { return f.fs->usage().pending_changes == 0; }));
    CHECK(f.at_server("new" + std::to_string(made)));
}

namespace {

// Makes, links, renames and removes, without an answer to any of it; and what has become of it.
struct LostInTheMiddle : Making {
    explicit LostInTheMiddle(bool lent) {
        if (lent)
            borrow();
        held = {Opcode::make_lent, Opcode::mkdir, Opcode::create, Opcode::symlink, Opcode::link,
                Opcode::unlink,    Opcode::rmdir, Opcode::rename, Opcode::setattr, Opcode::write};
    }
    HandleNumber begin_changes() {
        const auto made = at_once(&FileSystem::mkdir, d, "new", 0755U);
        REQUIRE((made && *made));
        inner = (*made)->inode;
        REQUIRE(at_once(&FileSystem::mkdir, d, "gone", 0755U).has_value());
        const Created first = create("first of all", d);
        write(first.opened.handle, "text");
        fs->release(first.opened.handle);
        const Created within = create("within", inner);
        write(within.opened.handle, "more text");
        kept = within.entry.inode;
        const std::optional<Result<>> outcomes[] = {
            at_once(&FileSystem::rename, d, "first of all", inner, "renamed", 0U),
            at_once(&FileSystem::rename, inner, "within", d, "moved", 0U),
            at_once(&FileSystem::unlink, d, "old"),
            at_once(&FileSystem::rmdir, d, "gone"),
        };
        for (const auto& outcome : outcomes)
            REQUIRE((outcome && *outcome));
        const Created short_lived = create("short-lived", inner);
        fs->release(short_lived.opened.handle);
        const auto removed = at_once(&FileSystem::unlink, inner, "short-lived");
        REQUIRE((removed && *removed));
        const Created last = create("last", inner);
        write(last.opened.handle, "the end");
        fs->release(last.opened.handle);
        return within.opened.handle;
    }
    void check_all_is_there_once() {
        CHECK(directory->names.contains("new"));
        CHECK_FALSE(directory->names.contains("old"));
        CHECK_FALSE(directory->names.contains("gone"));
        CHECK_FALSE(directory->names.contains("first of all"));
        FakeExport::File& made = server_files.file("new", directory->number);
        CHECK(made.names.size() == 2);
        CHECK(server_files.file("renamed", made.number).content == "text");
        CHECK(server_files.file("last", made.number).content == "the end");
        CHECK(server_files.file("moved", directory->number).content == "more text!");
    }
    InodeNumber inner = 0;
    InodeNumber kept = 0;
};

}  // namespace

TEST_CASE("making: wherever the server is lost, each change is carried out once") {
    const bool lent = GENERATE(false, true);
    std::size_t changes = 1;
    for (std::size_t carried_out = 0; carried_out <= changes; ++carried_out) {
        LostInTheMiddle f(lent);
        const HandleNumber open = f.begin_changes();
        REQUIRE(f.wait_for([&] { return f.held_back() >= 12; }));
        f.settle();
        changes = f.held_back();
        INFO(carried_out << " of " << changes << (lent ? ", lent" : ""));
        f.carry_out_held(carried_out);
        f.lose_session();
        f.let_all_through();
        f.write(open, "!", 9);
        CHECK(f.ask(&FileSystem::flush, open, LockOwner{1}).has_value());
        f.check_all_is_there_once();
        const auto opened = f.ask(&FileSystem::opendir, f.d);
        CHECK(f.ask(&FileSystem::fsyncdir, opened->handle, false).has_value());
        CHECK(f.ask(&FileSystem::getattr, f.kept, HandleNumber{}).value().attributes.size == 10);
        CHECK(f.lookup("moved", f.d).inode == f.kept);
        f.fs->releasedir(opened->handle);
        f.fs->release(open);
        f.settle();
        CHECK(f.server_files.open_handles.empty());
    }
}

TEST_CASE("making: the server may be lost again before it has been told all") {
    LostInTheMiddle f(false);
    const HandleNumber open = f.begin_changes();
    REQUIRE(f.wait_for([&] { return f.held_back() >= 12; }));
    for (int time = 0; time < 3; ++time) {
        f.carry_out_held(2);
        f.lose_session();
        REQUIRE(f.wait_for([&] { return f.held_back() >= 4; }));
        f.settle();
    }
    f.let_all_through();
    f.write(open, "!", 9);
    CHECK(f.ask(&FileSystem::flush, open, LockOwner{1}).has_value());
    f.check_all_is_there_once();
    f.fs->release(open);
}

TEST_CASE("making: a change that somebody waits for is told to be in doubt if only the lost server knew") {
    Fixture f;
    f.server_files.make("there");
    f.lookup("there");
    f.held = {Opcode::mkdir, Opcode::create, Opcode::unlink, Opcode::rename};
    const bool carried_out = GENERATE(false, true);
    const auto made = f.begin(&FileSystem::mkdir, root_inode, "new", 0755U);
    REQUIRE(f.await_held(1));
    f.lose_session_after(carried_out ? 1 : 0);
    if (carried_out)
        CHECK(f.finish(made).status() == Status::io_error);  // it may have been somebody else who has made it
    else
        CHECK(f.finish(made).has_value());
    f.held = {Opcode::unlink};
    const auto removed = f.begin(&FileSystem::unlink, root_inode, "there");
    REQUIRE(f.await_held(1));
    f.lose_session_after(carried_out ? 1 : 0);
    CHECK(f.finish(removed).has_value());
    CHECK_FALSE(f.server_files.file(1).names.contains("there"));
}

TEST_CASE("making: a rename in doubt to a name of which nothing is known is carried out once") {
    Fixture f;
    const std::uint64_t number = f.server_files.make("there", "text").number;
    const bool is_known = GENERATE(false, true);
    const bool replaces = GENERATE(false, true);
    const bool carried_out = GENERATE(false, true);
    if (is_known)
        f.lookup("there");
    if (replaces)
        f.server_files.make("target", "of before");
    f.held = {Opcode::rename};
    const auto renamed = f.begin(&FileSystem::rename, root_inode, "there", root_inode, "target", 0U);
    REQUIRE(f.await_held(1));
    f.lose_session_after(carried_out ? 1 : 0);
    CHECK(f.finish(renamed).has_value());
    CHECK_FALSE(f.server_files.file(1).names.contains("there"));
    CHECK(f.server_files.file("target").number == number);
}

TEST_CASE("making: two names that nothing is known of are not exchanged twice") {
    Fixture f;
    const std::uint64_t one = f.server_files.make("one").number;
    f.server_files.make("other");
    f.held = {Opcode::rename};
    const auto renamed =
        f.begin(&FileSystem::rename, root_inode, "one", root_inode, "other", std::uint32_t{wire::rename_exchange});
    REQUIRE(f.await_held(1));
    f.lose_session_after(1);
    CHECK(f.finish(renamed).status() == Status::io_error);  // only the lost server knew
    CHECK(f.server_files.file("other").number == one);
}

TEST_CASE("making: a file whose name is changed in doubt stays open") {
    Fixture f;
    f.server_files.make("there", "text");
    const InodeNumber inode = f.lookup("there").inode;
    const auto opened = f.ask(&FileSystem::open, inode, OpenHow{.flags = wire::open_read | wire::open_write});
    REQUIRE(opened.has_value());
    const bool carried_out = GENERATE(false, true);
    f.held = {Opcode::rename};
    const auto renamed = f.begin(&FileSystem::rename, root_inode, "there", root_inode, "moved", 0U);
    REQUIRE(f.await_held(1));
    f.lose_session_after(carried_out ? 1 : 0);
    CHECK(f.finish(renamed).has_value());
    const std::string end = "!";
    const auto bytes = std::as_bytes(std::span(end));
    REQUIRE(f.ask(&FileSystem::write, opened->handle, std::uint64_t{4},
                  Payload{.bytes = bytes, .take = [&] { return Buffer::copy_of(bytes); }}, WriteHow{})
                .has_value());
    CHECK(f.ask(&FileSystem::flush, opened->handle, LockOwner{1}).has_value());
    CHECK(f.server_files.file("moved").content == "text!");
    CHECK(f.lookup("moved").inode == inode);
    f.fs->release(opened->handle);
}

TEST_CASE("making: a file of several names, one of which has been renamed here, is found under that one") {
    Making f;
    const InodeNumber old = f.lookup("old", f.d).inode;
    const auto linked = f.ask(&FileSystem::link, old, f.d, std::string("other"));
    REQUIRE(linked.has_value());
    REQUIRE(f.ask(&FileSystem::rename, f.d, std::string("other"), f.d, std::string("third"), 0U).has_value());
    f.let_all_through();
    f.lookup("old", f.d);
    REQUIRE(f.ask(&FileSystem::unlink, f.d, std::string("old")).has_value());
    f.let_all_through();
    f.lose_session();
    CHECK(f.ask(&FileSystem::getattr, old, HandleNumber{}).value().attributes.size == 11);
}

TEST_CASE("making: names that somebody else has changed while the server was lost are not guessed at") {
    LostInTheMiddle f(false);
    const HandleNumber open = f.begin_changes();
    REQUIRE(f.wait_for([&] { return f.held_back() >= 12; }));
    f.server_files.make("last", "of another", f.server_files.make_directory("new", f.directory->number).number);
    f.lose_session();
    f.let_all_through();
    const auto opened = f.ask(&FileSystem::opendir, f.d);
    CHECK(f.ask(&FileSystem::fsyncdir, opened->handle, false).status() == Status::io_error);
    CHECK(f.at_server("old"));
    f.fs->releasedir(opened->handle);
    f.fs->release(open);
}

}  // namespace remofile::filesystem
