// SPDX-License-Identifier: MIT
// Files that are removed while they are open, and found again by the next server:
// docs/adr/0027-files-that-are-removed-while-open.md.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "export_fixture.hpp"
#include "server/files/export.hpp"
#include "server/files/kept_files.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

using Client = remofile::server::test::Session;

constexpr NodeId root = Client::root;
constexpr std::uint32_t read_write = wire::open_read | wire::open_write;
constexpr HolderTag first_tag{1, 2, 3};
constexpr HolderTag second_tag{4, 5, 6};
constexpr HolderTag third_tag{7, 8, 9};
constexpr uid_t alice = 61001;
constexpr uid_t bob = 61002;

std::vector<std::string> hidden_places(const std::string& directory) {
    std::vector<std::string> places;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (EntryName::is_reserved(entry.path().filename().string()))
            places.push_back(entry.path().string());
    }
    return places;
}

std::size_t entries_in(const std::string& directory) {
    const std::filesystem::directory_iterator entries(directory);
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

// Links by which files are kept.
std::size_t kept_in(const std::string& directory) {
    std::size_t count = 0;
    for (const std::string& place : hidden_places(directory))
        count += entries_in(place);
    return count;
}

// A server, as it starts and ends again and again on one directory.
struct Restarted {
    TemporaryDirectory directory;
    Counters counters;
    std::unique_ptr<FileService> service;

    explicit Restarted(bool read_only = false) {
        log::configure("test", log::Level::error, log::Target::standard_error);
        start(read_only);
    }
    void start(bool read_only = false) {
        service = FileService::open({.directory = directory.path(), .read_only = read_only}, counters).value();
    }
    std::unique_ptr<Client> client(const HolderTag& holder, const std::optional<HolderTag>& in_place_of = {}) const {
        auto session = std::make_unique<Client>(*service);
        service->keep_for(session->files(), holder, in_place_of);
        return session;
    }
    // As a server that ends, with sessions that are not at their end.
    void end(std::initializer_list<std::unique_ptr<Client>*> sessions) {
        for (std::unique_ptr<Client>* session : sessions) {
            service->expect_back((*session)->files());
            session->reset();
        }
        service.reset();
    }
    std::size_t kept() const { return kept_in(directory.path()); }
};

struct Opened {
    NodeId node;
    HandleId handle;
    wire::FileIdentity identity;
};

Opened make(Client& session, const std::string& name, const std::string& content = "content") {
    const HandleId handle = session.new_handle();
    const auto made = session.create(root, name, handle, read_write);
    REQUIRE(made);
    CHECK(session.write(handle, 0, content));
    return {made.body.entry.node, handle, made.body.entry.attributes.identity};
}

Status unlink_of(Client& session, const std::string& name) {
    return session.call(wire::Unlink{.parent = root, .name = name}).status;
}

Answer<wire::FindKept> find(Client& session, const wire::FileIdentity& identity) {
    return session.call(wire::FindKept{.identity = identity, .node = {session.new_node(), false}});
}

std::string kept_name(const struct stat& file, const struct statx& more, const std::string& holder) {
    char text[128];
    std::snprintf(text, sizeof text, "%016lx-%016llx-%08x-", static_cast<unsigned long>(file.st_ino),
                  static_cast<unsigned long long>(more.stx_btime.tv_sec), more.stx_btime.tv_nsec);
    return text + holder;
}

// The name by which a server would keep the file for the holder of tag 01020300...
std::string kept_name_of(const std::string& path) {
    struct stat file {};
    struct statx more {};
    REQUIRE(::stat(path.c_str(), &file) == 0);
    REQUIRE(::statx(AT_FDCWD, path.c_str(), 0, STATX_BTIME, &more) == 0);
    if ((more.stx_mask & STATX_BTIME) == 0)
        more.stx_btime = {};
    return kept_name(file, more, "01020300000000000000000000000000");
}

}  // namespace

TEST_CASE("a file that is removed while it is open is kept where no client sees it, until it is closed") {
    Restarted server;
    auto session = server.client(first_tag);
    const Opened file = make(*session, "f");
    CHECK(hidden_places(server.directory.path()).empty());
    CHECK(unlink_of(*session, "f") == Status::ok);
    REQUIRE(server.kept() == 1);
    struct stat place {};
    REQUIRE(::stat(hidden_places(server.directory.path()).front().c_str(), &place) == 0);
    CHECK((place.st_mode & 07777) == 0700);

    CHECK(session->call(wire::Getattr{.node = file.node, .handle = file.handle}).body.attributes.links == 0);
    CHECK(session->call(wire::Getattr{.node = file.node}).body.attributes.links == 0);
    CHECK(
        session->call(wire::Setattr{.node = file.node, .which = wire::set_mode, .mode = 0600}).body.attributes.links ==
        0);
    CHECK(session->write(file.handle, 7, "more").body.attributes.links == 0);
    CHECK(session->read(file.handle, 0, 100) == "contentmore");
    CHECK(session->call(wire::Link{.node = file.node, .new_parent = root, .new_name = "again"}).status ==
          Status::no_entry);
    for (const auto& entry : session->list(root))
        CHECK((entry.name == "." || entry.name == ".."));
    const std::string hidden = std::filesystem::path(hidden_places(server.directory.path()).front()).filename();
    CHECK_FALSE(session->lookup(root, hidden));
    CHECK(session->call(wire::Mkdir{.parent = root, .name = hidden, .node = {session->new_node(), false}}).status ==
          Status::not_permitted);

    CHECK(session->call(wire::Release{.handle = file.handle}));
    CHECK(server.kept() == 0);
    CHECK(session->call(wire::Getattr{.node = file.node}).status == Status::stale);
    session.reset();
    server.service.reset();
    CHECK(entries_in(server.directory.path()) == 0);
}

TEST_CASE("what is not open, has another name or is nobody's is removed and not kept") {
    Restarted server;
    auto session = server.client(first_tag);
    SECTION("closed") {
        const Opened file = make(*session, "f");
        CHECK(session->call(wire::Release{.handle = file.handle}));
        CHECK(unlink_of(*session, "f") == Status::ok);
    }
    SECTION("linked, until that is gone, too") {
        const Opened file = make(*session, "f");
        CHECK(session->call(wire::Link{.node = file.node, .new_parent = root, .new_name = "g"}));
        CHECK(unlink_of(*session, "f") == Status::ok);
        CHECK(hidden_places(server.directory.path()).empty());
        CHECK(session->call(wire::Getattr{.node = file.node}).body.attributes.links == 1);
        CHECK(unlink_of(*session, "g") == Status::ok);
        CHECK(server.kept() == 1);
        CHECK(session->call(wire::Release{.handle = file.handle}));
    }
    SECTION("open in a session that does not want it") {
        Client other(*server.service);
        make(other, "f");
        CHECK(unlink_of(*session, "f") == Status::ok);
    }
    SECTION("a session that ends for good") {
        make(*session, "f");
        CHECK(unlink_of(*session, "f") == Status::ok);
        CHECK(server.kept() == 1);
        session.reset();
    }
    SECTION("a directory") {
        const NodeId node = session->new_node();
        CHECK(session->call(wire::Mkdir{.parent = root, .name = "d", .node = {node, false}, .mode = 0755}));
        CHECK(session->call(wire::Opendir{.node = node, .handle = session->new_handle()}));
        CHECK(session->call(wire::Rmdir{.parent = root, .name = "d"}));
    }
    CHECK(server.kept() == 0);
}

TEST_CASE("a file that a rename replaces is kept") {
    Restarted server;
    auto session = server.client(first_tag);
    const Opened file = make(*session, "f");
    const Opened other = make(*session, "g", "other");
    const auto rename = [&](const std::string& from, const std::string& to, std::uint32_t flags) {
        return session
            ->call(wire::Rename{.parent = root, .name = from, .new_parent = root, .new_name = to, .flags = flags})
            .status;
    };
    CHECK(rename("g", "f", wire::rename_noreplace) == Status::exists);
    CHECK(rename("g", "f", wire::rename_exchange) == Status::ok);
    CHECK(rename("g", "g", 0) == Status::ok);
    CHECK(hidden_places(server.directory.path()).empty());
    CHECK(session->call(wire::Getattr{.node = file.node}).body.attributes.links == 1);
    // "g" is `file` now.
    CHECK(rename("f", "g", 0) == Status::ok);
    CHECK(server.kept() == 1);
    CHECK(session->call(wire::Getattr{.node = file.node}).body.attributes.links == 0);
    CHECK(session->call(wire::Getattr{.node = other.node}).body.attributes.links == 1);
    CHECK(session->read(file.handle, 0, 100) == "content");
}

TEST_CASE("a removal that fails leaves nothing behind") {
    Restarted server;
    auto session = server.client(first_tag);
    const Opened file = make(*session, "f");
    std::filesystem::create_directory(server.directory / "d");
    CHECK(session->call(wire::Rename{.parent = root, .name = "d", .new_parent = root, .new_name = "f"}).status ==
          Status::not_directory);
    CHECK(session->call(wire::Rmdir{.parent = root, .name = "f"}).status == Status::not_directory);
    CHECK(server.kept() == 0);
    CHECK(session->call(wire::Getattr{.node = file.node}).body.attributes.links == 1);
    CHECK(session->call(wire::Link{.node = file.node, .new_parent = root, .new_name = "again"}));
}

TEST_CASE("the server keeps a file, and its caller removes it") {
    if (::geteuid() != 0)
        return;
    Restarted server;
    auto session = server.client(first_tag);
    std::filesystem::create_directory(server.directory / "sticky");
    REQUIRE(::chmod((server.directory / "sticky").c_str(), 01777) == 0);
    const NodeId sticky = session->lookup(root, "sticky");
    const HandleId handle = session->new_handle();
    session->caller = as_user(alice, alice);
    const auto made = session->create(sticky, "f", handle, read_write, 0600);
    REQUIRE(made);
    const wire::FileIdentity identity = made.body.entry.attributes.identity;
    CHECK(session->call_as(as_user(bob, bob), wire::Unlink{.parent = sticky, .name = "f"}).status ==
          Status::not_permitted);
    CHECK(server.kept() == 0);
    CHECK(session->call(wire::Getattr{.node = made.body.entry.node}).body.attributes.links == 1);
    // She may not write the export's root.
    CHECK(session->call(wire::Unlink{.parent = sticky, .name = "f"}));
    CHECK(server.kept() == 1);
    server.end({&session});
    CHECK(server.kept() == 1);

    server.start();
    auto after = server.client(second_tag, first_tag);
    const auto found = find(*after, identity);
    REQUIRE(found);
    const auto open_as = [&](uid_t user) {
        return after
            ->call_as(as_user(user, user),
                      wire::Open{.node = found.body.node, .handle = after->new_handle(), .flags = wire::open_read})
            .status;
    };
    CHECK(open_as(bob) == Status::access_denied);
    CHECK(open_as(alice) == Status::ok);
}

TEST_CASE("whoever takes a session up again finds what it had open, and nobody else does") {
    Restarted server;
    auto session = server.client(first_tag);
    const Opened file = make(*session, "f");
    const Opened named = make(*session, "named");
    CHECK(unlink_of(*session, "f") == Status::ok);
    server.end({&session});
    REQUIRE(server.kept() == 1);
    server.start();

    {
        const auto stranger = server.client(third_tag, second_tag);
        CHECK(find(*stranger, file.identity).status == Status::no_entry);
        Client without(*server.service);
        CHECK(find(without, file.identity).status == Status::no_entry);
    }

    auto after = server.client(second_tag, first_tag);
    CHECK(find(*after, named.identity).status == Status::no_entry);
    wire::FileIdentity other = file.identity;
    other.birth.nanoseconds ^= 1;
    CHECK(find(*after, other).status == Status::no_entry);
    const auto found = find(*after, file.identity);
    REQUIRE(found);
    CHECK(found.body.attributes.links == 0);
    CHECK(found.body.attributes.identity == file.identity);
    CHECK(find(*after, file.identity));
    CHECK(server.kept() == 1);
    const HandleId handle = after->open(found.body.node, read_write);
    REQUIRE(handle);
    CHECK(after->read(handle, 0, 100) == "content");
    CHECK(after->write(handle, 0, "CON"));
    CHECK(after->call(wire::Getattr{.node = found.body.node, .handle = handle}).body.attributes.links == 0);
    CHECK(after->call(wire::Link{.node = found.body.node, .new_parent = root, .new_name = "x"}).status ==
          Status::no_entry);

    SECTION("and closes it") {
        CHECK(after->call(wire::Release{.handle = handle}));
        CHECK(server.kept() == 0);
    }
    SECTION("and another time") {
        server.end({&after});
        server.start();
        auto later = server.client(third_tag, second_tag);
        const auto again = find(*later, file.identity);
        REQUIRE(again);
        const HandleId last = later->open(again.body.node, read_write);
        CHECK(later->read(last, 0, 100) == "CONtent");
        CHECK(later->call(wire::Release{.handle = last}));
        CHECK(server.kept() == 0);
    }
    SECTION("and is gone for good") {
        after.reset();
        CHECK(server.kept() == 0);
    }
}

TEST_CASE("a session that was begun in another's place, and went before it asked, may be named or not") {
    Restarted server;
    auto session = server.client(first_tag);
    const Opened file = make(*session, "f");
    CHECK(unlink_of(*session, "f") == Status::ok);
    server.end({&session});
    server.start();
    auto half = server.client(second_tag, first_tag);
    SECTION("it has not heard of it") {
        server.end({&half});
        server.start();
        auto after = server.client(third_tag, first_tag);
        CHECK(find(*after, file.identity));
    }
    SECTION("it has") {
        server.end({&half});
        server.start();
        auto after = server.client(third_tag, second_tag);
        CHECK(find(*after, file.identity));
    }
    SECTION("it has found it, and not opened it") {
        CHECK(find(*half, file.identity));
        server.end({&half});
        server.start();
        auto after = server.client(third_tag, second_tag);
        const auto found = find(*after, file.identity);
        REQUIRE(found);
        CHECK(after->call(wire::Release{.handle = after->open(found.body.node, read_write)}));
    }
    // What is left for those that may come yet goes in its time.
    server.service->remove_unclaimed_files();
    server.service->remove_unclaimed_files();
    CHECK(server.kept() <= 1);
}

TEST_CASE("each of those that have a file open finds it again") {
    Restarted server;
    auto one = server.client(first_tag);
    auto two = server.client(second_tag);
    const Opened file = make(*one, "f");
    const NodeId node = two->lookup(root, "f");
    const HandleId handle = two->open(node, read_write);
    REQUIRE(handle);
    CHECK(unlink_of(*one, "f") == Status::ok);
    CHECK(server.kept() == 2);
    CHECK(two->call(wire::Getattr{.node = node, .handle = handle}).body.attributes.links == 0);
    SECTION("in another server") {
        server.end({&one, &two});
        server.start();
        auto after = server.client(third_tag, second_tag);
        CHECK(find(*after, file.identity));
        server.service->remove_unclaimed_files();
        CHECK(server.kept() == 2);
        CHECK(server.service->has_unclaimed_files());
        server.service->remove_unclaimed_files();
        CHECK(server.kept() == 1);
        CHECK_FALSE(server.service->has_unclaimed_files());
    }
    SECTION("one session ends, and its client comes back") {
        server.service->expect_back(one->files());
        one->close();
        CHECK(two->call(wire::Release{.handle = handle}));
        auto after = server.client(third_tag, first_tag);
        const auto found = find(*after, file.identity);
        REQUIRE(found);
        const HandleId again = after->open(found.body.node, read_write);
        CHECK(after->read(again, 0, 100) == "content");
        CHECK(after->call(wire::Release{.handle = again}));
        CHECK(server.kept() == 0);
    }
}

TEST_CASE("nothing is kept on an export that is only read, nor in a session's own way across file systems") {
    SECTION("only read") {
        Restarted server(true);
        CHECK_FALSE(server.service->keeps_files());
        auto session = server.client(first_tag);
        CHECK(find(*session, {}).status == Status::no_entry);
    }
    SECTION("another file system") {
        const TemporaryDirectory directory;
        const TemporaryDirectory elsewhere("/dev/shm");
        write_file(elsewhere / "f", "");
        KeptFiles kept_files(open_export_root(directory.path()).value());
        const UniqueFd file(::open((elsewhere / "f").c_str(), O_PATH | O_CLOEXEC));
        const auto attributes = stat_descriptor(file.get()).value();
        struct stat here {};
        REQUIRE(::stat(directory.path().c_str(), &here) == 0);
        if (here.st_dev == attributes.identity.device)
            return;
        bool root_changed = false;
        CHECK(kept_files.keep(file.get(), attributes.identity, first_tag, root_changed).status() ==
              Status::cross_device);
        CHECK_FALSE(root_changed);
        CHECK(entries_in(directory.path()) == 0);
    }
}

TEST_CASE("a start takes over what a killed server has kept, and touches nothing else") {
    Restarted server;
    server.service.reset();
    const std::string left = server.directory / ".remofile-kept-0123456789abcdef";
    const std::string alive = server.directory / ".remofile-kept-ffffffffffffffff";
    const std::string other = server.directory / ".remofile-kept-mine";
    const std::string link = server.directory / ".remofile-kept-1111111111111111";
    for (const std::string& each : {left, alive, other})
        std::filesystem::create_directory(each);
    std::filesystem::create_directory_symlink(other, link);
    // A good one, and one whose name had not been removed yet.
    for (const std::string name : {"good", "named", "locked"})
        write_file(server.directory / name, name);
    const std::string good = kept_name_of(server.directory / "good");
    const std::string named = kept_name_of(server.directory / "named");
    const std::string locked = kept_name_of(server.directory / "locked");
    std::filesystem::rename(server.directory / "good", left + "/" + good);
    std::filesystem::create_hard_link(server.directory / "named", left + "/" + named);
    std::filesystem::rename(server.directory / "locked", alive + "/" + locked);
    // Others of all kinds.
    write_file(left + "/short", "");
    write_file(left + "/" + std::string(good.size(), '0'), "");
    std::string wrong = good;
    wrong[0] = wrong[0] == 'f' ? 'e' : 'f';
    write_file(left + "/" + wrong, "");
    std::string upper = good;
    upper.back() = 'A';
    write_file(left + "/" + upper, "");
    std::string minus = good;
    minus[0] = '-';
    write_file(left + "/" + minus, "");
    std::string directory_name = good;
    directory_name.back() = '7';
    std::filesystem::create_directory(left + "/" + directory_name);
    std::string symlink_name = good;
    symlink_name.back() = '8';
    std::filesystem::create_symlink(good, left + "/" + symlink_name);
    write_file(other + "/" + good, "");
    UniqueFd lock(::open(alive.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(::flock(lock.get(), LOCK_EX) == 0);

    const auto find_good = [&](Client& session) {
        struct statx file {};
        REQUIRE(::statx(AT_FDCWD, (left + "/" + good).c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &file) == 0);
        struct stat more {};
        REQUIRE(::stat((left + "/" + good).c_str(), &more) == 0);
        wire::FileIdentity identity{.device = more.st_dev, .inode = file.stx_ino, .birth = {}};
        if ((file.stx_mask & STATX_BTIME) != 0)
            identity.birth = {.seconds = file.stx_btime.tv_sec, .nanoseconds = file.stx_btime.tv_nsec};
        return find(session, identity);
    };
    SECTION("nobody asks") {
        server.start();
        CHECK(std::filesystem::exists(left + "/" + good));
        CHECK_FALSE(std::filesystem::exists(left + "/" + named));
        CHECK(read_file(server.directory / "named") == "named");
        CHECK(server.service->has_unclaimed_files());
        server.service->remove_unclaimed_files();
        CHECK(std::filesystem::exists(left + "/" + good));
        server.service->remove_unclaimed_files();
        CHECK_FALSE(std::filesystem::exists(left + "/" + good));
        CHECK_FALSE(server.service->has_unclaimed_files());
        CHECK(entries_in(left) == 7);
        CHECK(std::filesystem::exists(alive + "/" + locked));
        CHECK(std::filesystem::exists(other + "/" + good));
        CHECK(std::filesystem::is_symlink(std::filesystem::symlink_status(link)));
    }
    SECTION("its holder comes") {
        server.start();
        const auto second = FileService::open({.directory = server.directory.path()}, server.counters).value();
        CHECK_FALSE(second->has_unclaimed_files());
        auto session = server.client(second_tag, first_tag);
        const auto found = find_good(*session);
        REQUIRE(found);
        CHECK(session->read(session->open(found.body.node, wire::open_read), 0, 100) == "good");
    }
    SECTION("a server that was still alive ends before its client comes") {
        server.start();
        lock.reset();
        auto session = server.client(second_tag, first_tag);
        server.service->remove_unclaimed_files();
        server.service->remove_unclaimed_files();
        CHECK_FALSE(std::filesystem::exists(alive + "/" + locked));
    }
    SECTION("nothing is to be kept") {
        server.service =
            FileService::open({.directory = server.directory.path(), .keeps_files = false}, server.counters).value();
        CHECK_FALSE(server.service->keeps_files());
        CHECK_FALSE(std::filesystem::exists(left + "/" + good));
        CHECK(std::filesystem::exists(alive + "/" + locked));
    }
    SECTION("nothing on an export that is only read") {
        server.start(true);
        CHECK(std::filesystem::exists(left + "/" + named));
    }
}
