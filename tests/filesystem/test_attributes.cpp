// SPDX-License-Identifier: MIT
// Attributes, extended attributes, and what is shown of the root while the server is silent.
#include "fixture.hpp"

namespace remofile::filesystem {

TEST_CASE("attributes are asked for each time, except by a handle within a second") {
    Fixture f;
    f.server_files.make("file", "content");
    const InodeNumber inode = f.lookup("file").inode;
    CHECK(f.ask(&FileSystem::getattr, inode, HandleNumber{}).value().attributes.size == 7);
    CHECK(f.ask(&FileSystem::getattr, inode, HandleNumber{}).value().attributes.size == 7);
    CHECK(f.asked(Opcode::getattr) == 2);

    const auto opened = f.ask(&FileSystem::open, inode, OpenHow{.flags = wire::open_read});
    REQUIRE(opened.has_value());
    CHECK(f.ask(&FileSystem::getattr, inode, opened->handle).value().attributes.size == 7);
    CHECK(f.asked(Opcode::getattr) == 2);
    CHECK(f.ask(&FileSystem::getattr, inode, HandleNumber{}).value().attributes.size == 7);
    CHECK(f.asked(Opcode::getattr) == 3);
    f.clock.advance(std::chrono::milliseconds(1001));
    CHECK(f.ask(&FileSystem::getattr, inode, opened->handle).value().attributes.size == 7);
    CHECK(f.asked(Opcode::getattr) == 4);
}

TEST_CASE("attributes that a look-up has brought are those of the thread's next question, if that comes at once") {
    Fixture f;
    f.server_files.make("file", "content");
    const auto looked_up = f.ask(&FileSystem::lookup, root_inode, std::string("file"));
    REQUIRE(looked_up.has_value());
    CHECK(f.ask(&FileSystem::getattr, looked_up->inode, HandleNumber{}).value().attributes.size == 7);
    CHECK(f.asked(Opcode::getattr) == 0);
    CHECK(f.ask(&FileSystem::getattr, looked_up->inode, HandleNumber{}).value().attributes.size == 7);
    CHECK(f.asked(Opcode::getattr) == 1);
}

TEST_CASE("the root and the file system's size are told as last heard if the server is silent") {
    Fixture f;
    const std::uint64_t version = f.ask(&FileSystem::getattr, root_inode, HandleNumber{}).value().attributes.version;
    const auto before = f.ask(&FileSystem::statfs, root_inode);
    REQUIRE(before.has_value());
    f.held = {Opcode::getattr, Opcode::statfs};
    CHECK(f.ask(&FileSystem::getattr, root_inode, HandleNumber{}).value().attributes.version == version);
    CHECK(f.ask(&FileSystem::statfs, root_inode).value().blocks == before->blocks);
}

TEST_CASE("security modules' attributes stay on their machine") {
    Fixture f;
    FakeExport::File& file = f.server_files.make("file");
    file.xattrs = {{"security.selinux", "a"}, {"user.colour", "blue"}, {"system.posix_acl_access", "acl"}};
    const InodeNumber inode = f.lookup("file").inode;
    CHECK_FALSE(f.ask(&FileSystem::getxattr, inode, "security.selinux", 100U).has_value());
    CHECK_FALSE(f.ask(&FileSystem::setxattr, inode, "security.selinux", Buffer::copy_of("b"), 0U).has_value());
    CHECK_FALSE(f.ask(&FileSystem::removexattr, inode, "security.selinux").has_value());
    CHECK(f.server.requests.size() == 1);
    const auto names = f.ask(&FileSystem::listxattr, inode, 100U);
    using namespace std::string_view_literals;
    CHECK(names.value().bytes.text() == "system.posix_acl_access\0user.colour\0"sv);
    CHECK(f.ask(&FileSystem::getxattr, inode, "user.colour", 100U).value().bytes.text() == "blue");
    const auto size = f.ask(&FileSystem::getxattr, inode, "user.colour", 0U);
    CHECK(size.value().size == 4);
    CHECK(size.value().bytes.empty());
}

TEST_CASE("attributes that the server does not support are not asked for again for a minute") {
    Fixture f;
    f.server_files.make("one");
    f.server_files.make("two");
    f.server_files.make_directory("directory");
    f.instead = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode != Opcode::getxattr)
            return std::nullopt;
        return FakeReply{.status = Status::not_supported};
    };
    const auto ask_for = [&](const char* name, const char* attribute) {
        CHECK(f.ask(&FileSystem::getxattr, f.lookup(name).inode, attribute, 100U).status() == Status::not_supported);
    };
    ask_for("one", "user.a");
    ask_for("two", "user.b");
    CHECK(f.asked(Opcode::getxattr) == 1);
    ask_for("directory", "user.a");
    CHECK(f.asked(Opcode::getxattr) == 2);
    ask_for("one", "system.posix_acl_access");
    CHECK(f.asked(Opcode::getxattr) == 3);
    f.clock.advance(std::chrono::minutes(2));
    ask_for("two", "user.a");
    CHECK(f.asked(Opcode::getxattr) == 4);
}

}  // namespace remofile::filesystem
