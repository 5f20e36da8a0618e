// SPDX-License-Identifier: MIT
// Names and the inodes behind them: who holds what, and that the server gets its own back.
#include "fixture.hpp"

namespace remofile::filesystem {

TEST_CASE("an entry is held once for each look-up, and its node given back with the last") {
    Fixture f;
    f.server_files.make("file", "content");
    const Entry first = f.lookup("file");
    const Entry second = f.lookup("file");
    CHECK(first.inode == second.inode);
    CHECK(first.attributes.size == 7);
    CHECK(f.fs->usage().known_files == 2);
    f.fs->forget(first.inode);
    f.settle();
    CHECK(f.asked(Opcode::forget) == 0);
    f.fs->forget(first.inode);
    CHECK(f.fs->usage().known_files == 1);
    REQUIRE(f.wait_for([&] { return f.server_files.held_nodes.empty(); }));
    CHECK(f.asked(Opcode::forget) == 1);
}

TEST_CASE("an inode forgotten is found again under another number") {
    Fixture f;
    f.server_files.make("file");
    const InodeNumber first = f.lookup("file").inode;
    f.fs->forget(first);
    CHECK(f.lookup("file").inode != first);
    CHECK(f.ask(&FileSystem::mkdir, first, "below", 0755U).status() == Status::stale);
}

TEST_CASE("a name that is not there is an error of the server's") {
    Fixture f;
    CHECK(f.ask(&FileSystem::lookup, root_inode, "nothing").status() == Status::no_entry);
    CHECK(f.fs->usage().known_files == 1);
}

TEST_CASE("what is made is named, held and has the caller's umask") {
    Fixture f;
    const auto directory = f.ask(&FileSystem::mkdir, root_inode, "directory", 0777U);
    REQUIRE(directory.has_value());
    CHECK(f.server.of(Opcode::mkdir)[0].as<wire::Mkdir>().umask == 022U);
    const auto fifo = f.ask(&FileSystem::mknod, directory->inode, "fifo", S_IFIFO | 0600U, 0U, 0U);
    REQUIRE(fifo.has_value());
    CHECK((fifo->attributes.mode & S_IFMT) == S_IFIFO);
    const auto second_name = f.ask(&FileSystem::link, fifo->inode, root_inode, "second");
    REQUIRE(second_name.has_value());
    CHECK(second_name->inode == fifo->inode);
    CHECK(second_name->attributes.links == 2);
    CHECK(f.server_files.file("second").links == 2);
    f.fs->forget(fifo->inode, 2);
    f.fs->forget(directory->inode);
    CHECK(f.wait_for([&] { return f.server_files.held_nodes.empty(); }));
}

TEST_CASE("names are removed and moved") {
    Fixture f;
    f.server_files.make("file");
    f.server_files.make_directory("directory");
    const InodeNumber directory = f.lookup("directory").inode;
    CHECK(f.ask(&FileSystem::rename, root_inode, "file", directory, "moved", 0U).has_value());
    CHECK(f.lookup("moved", directory).attributes.identity.inode == 100);
    CHECK(f.ask(&FileSystem::unlink, directory, "moved").has_value());
    CHECK(f.ask(&FileSystem::rmdir, root_inode, "directory").has_value());
    CHECK(f.ask(&FileSystem::unlink, root_inode, "directory").status() == Status::no_entry);
}

TEST_CASE("a symlink's target is told unless it leaves a file system that contains its links") {
    Fixture f;
    const auto inside = f.ask(&FileSystem::symlink, root_inode, "inside", "a/b");
    const auto outside = f.ask(&FileSystem::symlink, root_inode, "outside", "../etc/passwd");
    REQUIRE((inside.has_value() && outside.has_value()));
    CHECK(f.ask(&FileSystem::readlink, inside->inode).value() == "a/b");
    CHECK(f.ask(&FileSystem::readlink, outside->inode).value() == "../etc/passwd");

    f.settings.contain_symlinks = true;
    f.make_file_system();
    CHECK(f.ask(&FileSystem::readlink, f.lookup("inside").inode).value() == "a/b");
    CHECK(f.ask(&FileSystem::readlink, f.lookup("outside").inode).status() == Status::access_denied);
}

TEST_CASE("an operation that is cancelled ends, and what its late answer names is given back") {
    Fixture f;
    f.server_files.make("file");
    f.held = {Opcode::lookup};
    const auto looking = f.begin(&FileSystem::lookup, root_inode, "file");
    REQUIRE(f.await_held(1));
    looking->operation.cancellation.cancel();
    CHECK(f.finish(looking).status() == Status::interrupted);
    f.release();
    CHECK(f.wait_for([&] { return f.asked(Opcode::forget) == 1; }));
    CHECK(f.server_files.held_nodes.empty());
}

TEST_CASE("a server that acts as its callers is told who they are and of which groups") {
    Fixture f;
    f.server.greeting.client_identity = true;
    std::vector<Caller> asked_for;
    f.settings.facts_of = [&](const Caller& caller) {
        asked_for.push_back(caller);
        return CallerFacts{.groups = {7, 8}};
    };
    f.fs.reset();
    f.session->close();
    f.session.reset();
    f.server.greetings.clear();
    f.connect();
    f.make_file_system();
    f.server_files.make("file");
    f.lookup("file");
    f.caller.uid = 1001;
    f.lookup("file");
    f.lookup("file");
    const auto credentials = f.server.of(Opcode::credential);
    REQUIRE(credentials.size() == 2);
    CHECK(credentials[0].as<wire::Credential>().uid == 1000);
    CHECK(credentials[1].as<wire::Credential>().uid == 1001);
    CHECK(credentials[0].as<wire::Credential>().groups == std::vector<std::uint32_t>{7, 8});
    CHECK(asked_for.size() == 3);
}

}  // namespace remofile::filesystem
