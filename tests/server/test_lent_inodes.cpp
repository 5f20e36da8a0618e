// SPDX-License-Identifier: MIT
// Inodes that are lent and get names later, over real files: docs/adr/0021-lent-inodes.md.
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/unique_fd.hpp"
#include "export_fixture.hpp"
#include "server/files/export.hpp"
#include "server/files/room.hpp"
#include "service_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

using Client = remofile::server::test::Session;

constexpr NodeId root = Client::root;
constexpr std::uint32_t read_write = wire::open_read | wire::open_write;
const std::string reserved_name = ".remofile-lent-0123456789abcdef";

bool is_reserved(const std::filesystem::path& path) {
    return EntryName::is_reserved(path.filename().string());
}

// Where the server of this export makes what it lends; empty if it has no such place.
std::string hidden_place(const std::string& directory) {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (is_reserved(entry.path()))
            return entry.path().string();
    }
    return {};
}

std::size_t entries_in(const std::string& directory) {
    const std::filesystem::directory_iterator entries(directory);
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

struct stat stat_of(const std::string& path) {
    struct stat attributes {};
    REQUIRE(::lstat(path.c_str(), &attributes) == 0);
    return attributes;
}

wire::LendInodesReply lend(Client& session, std::uint32_t files, std::uint32_t directories, NodeId node = root) {
    const auto answer = session.call(wire::LendInodes{.directory = node, .files = files, .directories = directories});
    REQUIRE(answer.status == Status::ok);
    return answer.body;
}

wire::MakeLent file_of(Client& session, std::uint64_t lent, const std::string& name, NodeId parent = root) {
    return {.parent = parent,
            .name = name,
            .node = {session.new_node(), false},
            .lent = lent,
            .handle = session.new_handle(),
            .flags = read_write,
            .mode = 0666,
            .umask = 022};
}

wire::MakeLent directory_of(Client& session, std::uint64_t lent, const std::string& name, NodeId parent = root) {
    return {
        .parent = parent, .name = name, .node = {session.new_node(), false}, .lent = lent, .mode = 0777, .umask = 022};
}

timespec timespec_of(const wire::Timestamp& time) {
    return {.tv_sec = time.seconds, .tv_nsec = time.nanoseconds};
}

bool is_before(const timespec& one, const timespec& other) {
    return one.tv_sec != other.tv_sec ? one.tv_sec < other.tv_sec : one.tv_nsec < other.tv_nsec;
}

struct NoRoom final : Room {
    bool is_ample(int /*directory*/, std::uint64_t /*kept_bytes*/) const override { return false; }
};

}  // namespace

TEST_CASE("what was lent is what has the name later") {
    Export exported;
    Client session(*exported.service);
    const auto lent = lend(session, 2, 2);
    REQUIRE(lent.files.size() == 2);
    REQUIRE(lent.directories.size() == 2);
    CHECK(lent.files[0].number != lent.files[1].number);
    CHECK((lent.files[0].attributes.mode & S_IFMT) == S_IFREG);
    CHECK((lent.directories[0].attributes.mode & S_IFMT) == S_IFDIR);

    const auto directory = session.call(directory_of(session, lent.directories[0].number, "d"));
    REQUIRE(directory.status == Status::ok);
    CHECK(directory.body.attributes.identity == lent.directories[0].attributes.identity);
    CHECK(directory.body.attributes.mode == (S_IFDIR | 0755));
    const auto request = file_of(session, lent.files[0].number, "f", directory.body.node);
    const auto file = session.call(request);
    REQUIRE(file.status == Status::ok);
    CHECK(file.body.node == request.node.id);
    CHECK(file.body.attributes.identity == lent.files[0].attributes.identity);
    CHECK(file.body.attributes.mode == (S_IFREG | 0644));
    CHECK(file.body.attributes.links == 1);
    CHECK(file.body.attributes.uid == ::geteuid());
    CHECK(file.body.attributes.gid == ::getegid());

    const auto found =
        session.call(wire::Lookup{.parent = directory.body.node, .name = "f", .node = {session.new_node(), true}});
    CHECK(found.body.node == request.node.id);
    CHECK(found.body.attributes.identity == lent.files[0].attributes.identity);
    CHECK(stat_of(exported.directory / "d/f").st_ino == lent.files[0].attributes.identity.inode);
    CHECK(session.write(request.handle, 0, "content"));
    CHECK(read_file(exported.directory / "d/f") == "content");
    const auto listed = session.list(root);
    CHECK(std::ranges::any_of(listed, [](const wire::DirectoryEntry& entry) { return entry.name == "d"; }));
    CHECK(session.call(wire::Rmdir{.parent = root, .name = "d"}).status == Status::not_empty);
    CHECK(session.call(wire::Unlink{.parent = directory.body.node, .name = "f"}));
    CHECK(session.call(wire::Rmdir{.parent = root, .name = "d"}));
}

TEST_CASE("mode, group and times are those of a file that is made in that place") {
    Export exported;
    std::filesystem::create_directory(exported.directory / "d");
    Client session(*exported.service);
    const NodeId d = session.lookup(root, "d");
    const auto lent = lend(session, 3, 2, d);
    REQUIRE(lent.files.size() == 3);

    SECTION("modes") {
        auto file = file_of(session, lent.files[0].number, "f", d);
        file.mode = 04751;
        file.umask = 077;
        CHECK(session.call(file).body.attributes.mode == (S_IFREG | 04700));
        auto directory = directory_of(session, lent.directories[0].number, "n", d);
        directory.mode = 07777;
        CHECK(session.call(directory).body.attributes.mode == (S_IFDIR | 01755));
    }
    SECTION("a file that nobody may open is open") {
        auto file = file_of(session, lent.files[0].number, "f", d);
        file.mode = 0;
        const auto made = session.call(file);
        CHECK(made.body.attributes.mode == S_IFREG);
        CHECK(made.body.attributes.identity == lent.files[0].attributes.identity);
        CHECK(session.write(file.handle, 0, "x"));
    }
    SECTION("a directory that gives its group") {
        if (::geteuid() != 0)
            return;
        REQUIRE(::chown((exported.directory / "d").c_str(), 0, 4711) == 0);
        REQUIRE(::chmod((exported.directory / "d").c_str(), 02777) == 0);
        const auto file = session.call(file_of(session, lent.files[0].number, "f", d));
        CHECK(file.body.attributes.gid == 4711);
        CHECK(file.body.attributes.mode == (S_IFREG | 0644));
        CHECK(file.body.attributes.identity == lent.files[0].attributes.identity);
        const auto directory = session.call(directory_of(session, lent.directories[0].number, "n", d));
        CHECK(directory.body.attributes.gid == 4711);
        CHECK(directory.body.attributes.mode == (S_IFDIR | S_ISGID | 0755));
        CHECK(directory.body.attributes.identity == lent.directories[0].attributes.identity);
    }
    SECTION("times") {
        CHECK_FALSE(is_before(timespec_of(lent.files[0].attributes.change), timespec_of(lent.now)));
        auto request = file_of(session, lent.files[0].number, "f", d);
        request.time = {.seconds = 1'000'000, .nanoseconds = 4711};
        const auto file = session.call(request).body.attributes;
        CHECK(file.modification == request.time);
        CHECK(file.access == request.time);
        request = directory_of(session, lent.directories[0].number, "n", d);
        request.time = lent.now;
        const auto directory = session.call(request).body.attributes;
        CHECK(directory.modification == lent.now);
        CHECK(directory.access == lent.now);
        CHECK_FALSE(is_before(timespec_of(directory.change), timespec_of(lent.directories[0].attributes.change)));
        request = file_of(session, lent.files[1].number, "g", d);
        request.time.nanoseconds = 1'000'000'000;
        CHECK(session.call(request).status == Status::invalid);
    }
}

TEST_CASE("a name that is taken is an answer, and what was lent is gone") {
    Export exported;
    Client session(*exported.service);
    write_file(exported.directory / "taken", "mine");
    const auto lent = lend(session, 1, 1);
    const std::string place = hidden_place(exported.directory.path());
    CHECK(entries_in(place) == 2);
    CHECK(session.call(file_of(session, lent.files[0].number, "taken")).status == Status::exists);
    CHECK(session.call(directory_of(session, lent.directories[0].number, "taken")).status == Status::exists);
    CHECK(read_file(exported.directory / "taken") == "mine");
    CHECK(entries_in(place) == 0);
}

TEST_CASE("what cannot be made of what was lent is made anew") {
    Export exported;
    std::filesystem::create_directory(exported.directory / "d");
    Client session(*exported.service);
    const NodeId d = session.lookup(root, "d");
    const auto lent = lend(session, 2, 2);
    const std::string place = hidden_place(exported.directory.path());
    const auto path_of = [&](const wire::LentInode& inode) { return place + '/' + std::to_string(inode.number); };
    wire::MakeLent file = file_of(session, lent.files[0].number, "made");
    wire::FileIdentity refused = lent.files[0].attributes.identity;

    SECTION("of a number that is not lent") {
        file.lent = 4711;
        refused = {};
    }
    SECTION("of one that has been used") {
        CHECK(session.call(file).status == Status::ok);
        file = file_of(session, lent.files[0].number, "again");
    }
    SECTION("of the other kind") {
        file.lent = lent.directories[0].number;
    }
    SECTION("of one with something in it") {
        write_file(path_of(lent.files[0]), "x");
    }
    SECTION("of one with another mode") {
        REQUIRE(::chmod(path_of(lent.files[0]).c_str(), 0644) == 0);
    }
    SECTION("of one that is gone") {
        std::filesystem::remove(path_of(lent.files[0]));
        refused = {};
    }
    SECTION("of one that has been replaced by a symlink") {
        std::filesystem::remove(path_of(lent.files[0]));
        std::filesystem::create_symlink("/etc/passwd", path_of(lent.files[0]));
    }
    SECTION("by somebody who is not the server") {
        if (::geteuid() != 0)
            return;
        session.caller = as_user(0, 0);
    }
    SECTION("in a directory that gives an ACL") {
        constexpr std::array<unsigned char, 28> acl{2, 0, 0,   0,   1,   0,   7,    0, 255, 255, 255, 255, 4,   0,
                                                    5, 0, 255, 255, 255, 255, 0x20, 0, 5,   0,   255, 255, 255, 255};
        if (::setxattr((exported.directory / "d").c_str(), "system.posix_acl_default", acl.data(), acl.size(), 0) != 0)
            return;
        file.parent = d;
    }
    const auto made = session.call(file);
    CHECK(made.status == Status::ok);
    CHECK(made.body.attributes.identity != refused);
    CHECK(made.body.attributes.mode == (S_IFREG | 0644));
    CHECK(session.write(file.handle, 0, "content"));
    // It was used all the same.
    if (file.lent == lent.files[0].number)
        CHECK_FALSE(std::filesystem::exists(std::filesystem::symlink_status(path_of(lent.files[0]))));
    const auto directory = session.call(directory_of(session, lent.files[1].number, "n"));
    CHECK(directory.body.attributes.mode == (S_IFDIR | 0755));
}

TEST_CASE("what is wrong with a request is said as by CREATE and MKDIR") {
    Export exported;
    Client session(*exported.service);
    const auto lent = lend(session, 10, 10);
    auto next = lent.files.begin();
    auto file = [&] { return file_of(session, (next++)->number, "f"); };
    auto request = file();
    request.name = "..";
    CHECK(session.call(request).status == Status::invalid);
    request = file();
    request.node.id = root;
    CHECK(session.call(request).status == Status::invalid);
    request = file();
    request.parent = NodeId{4711};
    CHECK(session.call(request).status == Status::stale);
    request = file();
    request.flags = 1U << 30;
    CHECK(session.call(request).status == Status::invalid);
    request = file();
    CHECK(session.call(request).status == Status::ok);
    auto same_handle = file_of(session, next->number, "g");
    same_handle.handle = request.handle;
    CHECK(session.call(same_handle).status == Status::invalid);
    CHECK(entries_in(exported.directory.path()) == 2);  // f, and the hidden place
}

TEST_CASE("no more is lent than the limits and the file system allow") {
    SECTION("of a session") {
        Export exported;
        Client session(*exported.service);
        Client other(*exported.service);
        const wire::LendInodes too_many{.directory = root, .files = wire::max_lent_inodes + 1};
        CHECK(session.call(too_many).status == Status::limit_exceeded);
        CHECK(hidden_place(exported.directory.path()).empty());
        CHECK(lend(session, wire::max_lent_inodes, 1).files.size() == wire::max_lent_inodes);
        auto lent = lend(session, 5, 5);
        CHECK(lent.files.empty());
        REQUIRE(lent.directories.size() == 5);
        // What is used makes room for more.
        CHECK(lend(other, 3, 0).files.size() == 3);
        CHECK(session.call(file_of(session, 1, "f")));
        CHECK(lend(session, 5, 0).files.size() == 1);
    }
    SECTION("of room") {
        ExportOptions options;
        options.room = std::make_shared<NoRoom>();
        Export exported(options);
        Client session(*exported.service);
        CHECK(lend(session, 1, 1).files.empty());
        CHECK(hidden_place(exported.directory.path()).empty());
    }
    SECTION("to who only reads") {
        Export exported;
        Client session(*exported.service, "/", true);
        CHECK(lend(session, 1, 1).files.empty());
        CHECK(session.call(directory_of(session, 1, "d")).status == Status::read_only);
        ExportOptions options;
        options.read_only = true;
        Export read_only(options);
        Client reader(*read_only.service);
        CHECK(lend(reader, 1, 1).directories.empty());
        CHECK(hidden_place(exported.directory.path()).empty());
    }
    SECTION("to a directory that gives flags of its own") {
        Export exported;
        std::filesystem::create_directory(exported.directory / "d");
        Client session(*exported.service);
        const NodeId d = session.lookup(root, "d");
        const auto before = lend(session, 1, 1, d);
        REQUIRE(before.files.size() == 1);
        const UniqueFd opened(::open((exported.directory / "d").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        int flags = 0;
        const bool has_flags = ::ioctl(opened.get(), FS_IOC_GETFLAGS, &flags) == 0;
        flags |= FS_NOATIME_FL;
        if (!has_flags || ::ioctl(opened.get(), FS_IOC_SETFLAGS, &flags) != 0)
            return;
        CHECK(lend(session, 1, 1, d).files.empty());
        CHECK(lend(session, 1, 1).files.size() == 1);
        const auto made = session.call(file_of(session, before.files[0].number, "f", d));
        CHECK(made.body.attributes.identity != before.files[0].attributes.identity);
    }
    SECTION("to what is no directory; to one that is not known yet, as to the root") {
        Export exported;
        write_file(exported.directory / "file", "x");
        Client session(*exported.service);
        const wire::LendInodes request{.directory = session.lookup(root, "file"), .files = 1};
        CHECK(session.call(request).status == Status::not_directory);
        CHECK(lend(session, 1, 1, NodeId{4711}).files.size() == 1);
    }
    SECTION("to an export whose root gives its group, all the same") {
        Export exported;
        if (::geteuid() == 0)
            REQUIRE(::chown(exported.directory.path().c_str(), 0, 4711) == 0);
        REQUIRE(::chmod(exported.directory.path().c_str(), 02755) == 0);
        Client session(*exported.service);
        const auto lent = lend(session, 1, 1);
        REQUIRE(lent.directories.size() == 1);
        CHECK(lent.directories[0].attributes.mode == (S_IFDIR | 0700));
        CHECK(lent.files[0].attributes.gid == ::getegid());
        CHECK((stat_of(hidden_place(exported.directory.path())).st_mode & 07777) == 0700);
    }
    SECTION("to another user") {
        if (::geteuid() != 0)
            return;
        Export exported;
        Client session(*exported.service, "/", false, as_user(0, 0));
        CHECK(lend(session, 1, 1).files.empty());
    }
    SECTION("to another device, or another mount of the same") {
        if (::geteuid() != 0)
            return;
        Export exported;
        std::filesystem::create_directory(exported.directory / "other");
        std::filesystem::create_directory(exported.directory / "bound");
        const int result = in_child_as({}, [&] {
            const auto path = [&](const char* name) { return exported.directory / name; };
            if (unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                ::mount("none", path("other").c_str(), "tmpfs", 0, nullptr) != 0 ||
                ::mount(path("bound").c_str(), path("bound").c_str(), nullptr, MS_BIND, nullptr) != 0)
                return 77;
            Counters counters;
            auto service = FileService::open({.directory = exported.directory.path()}, counters).value();
            Client session(*service);
            const NodeId other = session.lookup(root, "other");
            const NodeId bound = session.lookup(root, "bound");
            if (!lend(session, 1, 1, other).files.empty() || !lend(session, 1, 1, bound).files.empty())
                return 1;
            if (!hidden_place(exported.directory.path()).empty())
                return 2;
            const auto lent = lend(session, 2, 0);
            if (lent.files.size() != 2)
                return 3;
            const auto elsewhere = session.call(file_of(session, lent.files[0].number, "f", other));
            if (!elsewhere || elsewhere.body.attributes.identity == lent.files[0].attributes.identity)
                return 4;
            return 0;
        });
        CHECK((result == 0 || result == 77));
    }
}

TEST_CASE("what was lent goes with the session, and the place with the server") {
    Export exported;
    std::string place;
    {
        Client session(*exported.service);
        Client other(*exported.service);
        const auto lent = lend(session, 3, 3);
        place = hidden_place(exported.directory.path());
        REQUIRE_FALSE(place.empty());
        CHECK((stat_of(place).st_mode & 07777) == 0700);
        const auto others = lend(other, 1, 1);
        CHECK(entries_in(place) == 8);
        // A number is good for one session.
        const auto made = other.call(file_of(other, lent.files[0].number, "f"));
        CHECK(made.body.attributes.identity != lent.files[0].attributes.identity);
        session.close();
        CHECK(entries_in(place) == 2);
        CHECK(session.call(wire::LendInodes{.directory = root, .files = 1}).status == Status::no_session);
        CHECK(other.call(file_of(other, others.files[0].number, "g")).body.attributes.identity ==
              others.files[0].attributes.identity);
    }
    CHECK(entries_in(place) == 0);
    CHECK(hidden_place(exported.directory.path()) == place);
    SECTION("with no session") {
        exported.service.reset();
    }
    SECTION("with a session that outlives it") {
        auto opened = exported.service->open_session("/", root, {}, false).value();
        const auto body = wire::encode_body(wire::LendInodes{.directory = root, .files = 1, .directories = 1});
        exported.service->carry_out(opened.files, RequestId{1}, Opcode::lend_inodes, body, {}, {}, [](Outcome) {});
        exported.service.reset();
        CHECK(entries_in(place) == 2);
        opened.files.reset();
    }
    CHECK(hidden_place(exported.directory.path()).empty());
}

TEST_CASE("a place that somebody has removed is made anew") {
    Export exported;
    Client session(*exported.service);
    const auto lent = lend(session, 1, 0);
    std::filesystem::remove_all(hidden_place(exported.directory.path()));
    CHECK(session.call(file_of(session, lent.files[0].number, "f")).status == Status::ok);
    CHECK(lend(session, 1, 1).files.size() == 1);
    CHECK_FALSE(hidden_place(exported.directory.path()).empty());
}

TEST_CASE("a start removes what a killed server has left, and nothing else") {
    TemporaryDirectory directory;
    const std::string left = directory / reserved_name;
    const std::string full = directory / ".remofile-lent-0000000000000000";
    const std::string alive = directory / ".remofile-lent-ffffffffffffffff";
    const std::string link = directory / ".remofile-lent-1111111111111111";
    const std::string other = directory / ".remofile-lent-mine";
    for (const std::string& each : {left, full, alive, other})
        std::filesystem::create_directory(each);
    std::filesystem::create_directory_symlink(other, link);
    write_file(left + "/1", "");
    std::filesystem::create_directory(left + "/2");
    write_file(full + "/1", "");
    write_file(full + "/2", "content");
    write_file(full + "/03", "");
    write_file(full + "/name", "");
    write_file(full + "/4", "");
    std::filesystem::create_hard_link(full + "/4", directory / "hard");
    std::filesystem::create_symlink("name", full + "/5");
    std::filesystem::create_directories(full + "/6/below");
    write_file(alive + "/1", "");
    write_file(other + "/1", "");
    UniqueFd lock(::open(alive.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(::flock(lock.get(), LOCK_EX) == 0);

    Counters counters;
    log::configure("test", log::Level::error, log::Target::standard_error);
    SECTION("not on an export that is only read") {
        const auto service = FileService::open({.directory = directory.path(), .read_only = true}, counters);
        CHECK(std::filesystem::exists(left + "/1"));
    }
    SECTION("on one that may be written") {
        const auto service = FileService::open({.directory = directory.path()}, counters);
        CHECK_FALSE(std::filesystem::exists(left));
        CHECK_FALSE(std::filesystem::exists(full + "/1"));
        CHECK(entries_in(full) == 6);
        CHECK(entries_in(full + "/6") == 1);
        CHECK(entries_in(alive) == 1);
        CHECK(entries_in(other) == 1);
        CHECK(std::filesystem::is_symlink(std::filesystem::symlink_status(link)));
    }
    SECTION("and another server's own place stays") {
        const auto first = FileService::open({.directory = directory.path()}, counters).value();
        Client session(*first);
        const auto lent = lend(session, 1, 1);
        const auto second = FileService::open({.directory = directory.path()}, counters).value();
        CHECK(session.call(file_of(session, lent.files[0].number, "f")).body.attributes.identity ==
              lent.files[0].attributes.identity);
        Client others(*second);
        CHECK(lend(others, 1, 1).files.size() == 1);
    }
}

TEST_CASE("no request sees or touches the hidden place") {
    Export exported;
    std::filesystem::create_directory(exported.directory / "d");
    write_file(exported.directory / "file", "x");
    Client session(*exported.service);
    const NodeId file = session.lookup(root, "file");
    REQUIRE(lend(session, 1, 1).files.size() == 1);
    const std::string name = std::filesystem::path(hidden_place(exported.directory.path())).filename();
    const auto fresh = [&] { return wire::NewNode{session.new_node(), false}; };

    CHECK(session.call(wire::Lookup{root, name, fresh()}).status == Status::no_entry);
    CHECK(session.call(wire::Fetch{.parent = root, .name = name, .size = 10}).status == Status::no_entry);
    CHECK(session.call(wire::List{.node = root, .name = name, .new_node = fresh(), .size = 4096}).status ==
          Status::no_entry);
    CHECK(session.call(wire::Unlink{root, name}).status == Status::no_entry);
    CHECK(session.call(wire::Rmdir{root, name}).status == Status::no_entry);
    CHECK(session.call(wire::Rename{.parent = root, .name = name, .new_parent = root, .new_name = "n"}).status ==
          Status::no_entry);
    CHECK(session.call(wire::Rename{.parent = root, .name = "d", .new_parent = root, .new_name = name}).status ==
          Status::not_permitted);
    const wire::Rename exchange{
        .parent = root, .name = "d", .new_parent = root, .new_name = name, .flags = wire::rename_exchange};
    CHECK(session.call(exchange).status == Status::not_permitted);
    CHECK(session.call(wire::Link{.node = file, .new_parent = root, .new_name = name}).status == Status::not_permitted);
    for (const std::string& each : {name, reserved_name}) {
        CHECK(session.create(root, each, session.new_handle()).status == Status::not_permitted);
        CHECK(session.call(wire::Mkdir{.parent = root, .name = each, .node = fresh()}).status == Status::not_permitted);
        CHECK(session.call(wire::Mknod{.parent = root, .name = each, .node = fresh(), .mode = S_IFIFO}).status ==
              Status::not_permitted);
        CHECK(session.call(wire::Symlink{.parent = root, .name = each, .node = fresh(), .target = "t"}).status ==
              Status::not_permitted);
        CHECK(session.call(directory_of(session, 2, each)).status == Status::not_permitted);
    }
    for (const bool attributes : {false, true}) {
        for (const std::uint16_t portion : {1, 1000}) {
            const auto listed = session.list(root, attributes, 65536, portion);
            CHECK(listed.size() == 4);  // ".", "..", "d", "file"
            CHECK(std::ranges::none_of(listed, [](const auto& entry) { return is_reserved(entry.name); }));
        }
    }
    const auto listed = session.call(wire::List{.node = root, .size = 65536});
    CHECK(listed.body.count == 4);
    CHECK(Client(*exported.service, "/" + name).open_status() == Status::no_entry);
    // Its name has to be exactly of that form.
    CHECK(session.call(wire::Mkdir{.parent = root, .name = ".remofile-lent-x", .node = fresh()}));
}

// ---------------------------------------------------------------- with sessions and leases

namespace {

constexpr std::uint64_t all_features =
    wire::feature_leases | wire::feature_exclusive_leases | wire::feature_lent_inodes;

wire::Hello hello_for(std::uint64_t features) {
    wire::Hello hello = hello_with(0);
    hello.features = features;
    return hello;
}

struct Served {
    TemporaryDirectory directory;
    World world{{}, LeaseTable::Limits{}, [&](const std::shared_ptr<LeaseTable>& leases, Counters& counters) {
                    ExportOptions options;
                    options.directory = directory.path();
                    options.leases = leases;
                    return FileService::open(std::move(options), counters).value();
                }};
    Connection author{world, "author"};
    Connection other{world, "other"};
    std::uint64_t last_id = 100;

    ~Served() {
        world.service.reset();
        while (world.executor.run_one()) {
        }
    }
    template <class Request>
    Received call(Connection& by, const Request& request) {
        by.send(++last_id, request);
        return by.take_one();
    }
    std::vector<wire::LeaseChange> told(Connection& client) {
        std::vector<wire::LeaseChange> changes;
        for (const Received& push : client.take_pushes()) {
            const auto body = push.as<wire::PushInvalidate>();
            changes.insert(changes.end(), body.changes.begin(), body.changes.end());
            CHECK(call(client, wire::Invalidated{.sequence = body.sequence}).status == Status::ok);
        }
        return changes;
    }
};

using What = wire::LeaseChange::What;
using Changes = std::vector<wire::LeaseChange>;

}  // namespace

TEST_CASE("the feature is in force only together with exclusive leases") {
    Served f;
    CHECK(f.author.hello(hello_for(wire::feature_leases | wire::feature_lent_inodes)).features == wire::feature_leases);
    CHECK(f.call(f.author, wire::LendInodes{.directory = root, .files = 1}).status == Status::not_implemented);
    CHECK(f.call(f.author, wire::MakeLent{.parent = root, .name = "d", .node = {NodeId{2}, false}}).status ==
          Status::not_implemented);
    CHECK(f.other.hello(hello_for(all_features)).features == all_features);
    CHECK(f.call(f.other, wire::LendInodes{.directory = root, .files = 1}).status == Status::ok);
}

TEST_CASE("who has a lease of the directory is told of what is made of what was lent") {
    Served f;
    f.author.hello(hello_for(all_features));
    f.other.hello(hello_for(all_features));
    const wire::List list{.node = root, .size = 65536, .lease = true};
    REQUIRE(f.call(f.other, list).as<wire::ListReply>().leased);

    // The hidden place is in the root: its attributes have changed, once, and no name.
    f.author.send(90, wire::LendInodes{.directory = root, .files = 2});
    CHECK(f.told(f.other) == Changes{{root, What::directory, {}}});
    const auto lent = f.author.take_one().as<wire::LendInodesReply>();
    REQUIRE(lent.files.size() == 2);
    REQUIRE(f.call(f.other, list).as<wire::ListReply>().leased);
    CHECK(f.call(f.author, wire::LendInodes{.directory = root, .files = 2}).status == Status::ok);
    CHECK(f.told(f.other).empty());

    f.author.send(91, wire::MakeLent{.parent = root,
                                     .name = "f",
                                     .node = {NodeId{2}, false},
                                     .lent = lent.files[0].number,
                                     .handle = HandleId{1},
                                     .flags = wire::open_write,
                                     .mode = 0644});
    CHECK(f.author.take().empty());  // until that is confirmed
    CHECK(f.told(f.other) == Changes{{root, What::name, "f"}});
    const Received made = f.author.take_one();
    CHECK(made.status == Status::ok);
    CHECK(made.as<wire::EntryReply>().attributes.identity == lent.files[0].attributes.identity);
}

TEST_CASE("the hidden place does not keep the root from being empty, and making waits for who has it alone") {
    Served f;
    f.author.hello(hello_for(all_features));
    f.other.hello(hello_for(all_features));
    const auto lent = f.call(f.author, wire::LendInodes{.directory = root, .directories = 1});
    const auto taken = f.call(f.other, wire::TakeLeases{.directories = {root}}).as<wire::TakeLeasesReply>();
    REQUIRE(taken.leases.size() == 1);
    REQUIRE(taken.leases[0].taken);
    CHECK(taken.leases[0].empty);
    CHECK(f.call(f.author, wire::LendInodes{.directory = root, .directories = 1}).status == Status::ok);
    f.author.send(90, wire::MakeLent{.parent = root,
                                     .name = "d",
                                     .node = {NodeId{2}, false},
                                     .lent = lent.as<wire::LendInodesReply>().directories.at(0).number,
                                     .mode = 0755});
    CHECK(f.author.take().empty());
    CHECK(f.told(f.other) == Changes{{root, What::shared, {}}});
    CHECK(f.call(f.other, wire::ShareLeases{.directories = {root}}).status == Status::ok);
    f.told(f.other);
    CHECK(f.author.take_one().status == Status::ok);
}

TEST_CASE("what changes a directory does not wait for what is lent for it") {
    Served f;
    f.author.hello(hello_for(all_features));
    f.world.hold_workers = true;
    f.author.send(90, wire::LendInodes{.directory = root, .files = 1});
    f.author.send(91, wire::Mkdir{.parent = root, .name = "d", .node = {NodeId{2}, false}});
    CHECK(f.world.executor.waiting.size() == 2);
    f.world.hold_workers = false;
    f.world.settle();
    CHECK(f.author.take().size() == 2);
}

TEST_CASE("what was lent goes with BYE") {
    Served f;
    f.author.hello(hello_for(all_features));
    CHECK(f.call(f.author, wire::LendInodes{.directory = root, .files = 3}).status == Status::ok);
    const std::string place = hidden_place(f.directory.path());
    CHECK(entries_in(place) == 3);
    CHECK(f.call(f.author, wire::Bye{}).status == Status::ok);
    f.world.settle();
    CHECK(entries_in(place) == 0);
}
