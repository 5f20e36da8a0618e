// SPDX-License-Identifier: MIT
// Handles whose descriptors were closed for want of others go on as if nothing had been.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "catch.hpp"
#include "export_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

constexpr std::size_t few = 8;
constexpr uid_t alice = 61001;

ExportOptions with_few_descriptors() {
    ExportOptions options;
    options.max_idle_descriptors = 4;
    options.max_open_descriptors = few;
    return options;
}

// Of the files of this process below the directory: the path, or the path and " (deleted)".
std::vector<std::string> open_below(const std::string& directory) {
    std::vector<std::string> open;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code error;
        const auto target = std::filesystem::read_symlink(entry.path(), error).string();
        if (target.starts_with(directory + "/"))
            open.push_back(target);
    }
    return open;
}

// Flags of the descriptors of a file that are open for input and output.
std::vector<int> open_flags(const std::string& path) {
    std::vector<int> all;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code error;
        if (std::filesystem::read_symlink(entry.path(), error) != path)
            continue;
        const int flags = fcntl(std::stoi(entry.path().filename()), F_GETFL);
        if ((flags & O_PATH) == 0)
            all.push_back(flags);
    }
    return all;
}

// A session with a file that is open, and others that take what descriptors there are.
struct Crowd {
    explicit Crowd(Export& its_export) : exported(its_export), session(*exported.service) {
        write_file(exported.directory / "file", "content");
        for (std::size_t i = 0; i < 4 * few; ++i)
            write_file(exported.directory / ("other" + std::to_string(i)), "other");
        file = session.lookup(Session::root, "file");
        for (std::size_t i = 0; i < 4 * few; ++i)
            others.push_back(session.open(session.lookup(Session::root, "other" + std::to_string(i)), wire::open_read));
    }
    HandleId open(std::uint32_t flags = wire::open_read | wire::open_write) { return session.open(file, flags); }
    // Uses all the others, so that what was open before them no longer is.
    void push_out() {
        for (int round = 0; round < 2; ++round)
            for (const HandleId other : others)
                CHECK(session.read(other, 0, 10) == "other");
    }
    bool is_open() const { return !open_flags(exported.directory / "file").empty(); }
    Status unlink(const std::string& name) {
        return session.call(wire::Unlink{.parent = Session::root, .name = name}).status;
    }

    Export& exported;
    Session session;
    NodeId file;
    std::vector<HandleId> others;
};

}  // namespace

TEST_CASE("many more files are open than there are descriptors") {
    Export exported(with_few_descriptors());
    Session session(*exported.service);
    std::vector<HandleId> handles;
    for (int i = 0; i < 200; ++i) {
        handles.push_back(session.new_handle());
        REQUIRE(session.create(Session::root, "f" + std::to_string(i), handles.back()));
        CHECK(session.write(handles.back(), 0, "first " + std::to_string(i)));
    }
    CHECK(open_below(exported.directory.path()).size() <= few + 4);
    for (int i = 0; i < 200; ++i)
        CHECK(session.read(handles[static_cast<std::size_t>(i)], 0, 100) == "first " + std::to_string(i));
    for (int i = 0; i < 200; ++i) {
        CHECK(session.write(handles[static_cast<std::size_t>(i)], 6, "!"));
        CHECK(session.call(wire::Getattr{.handle = handles[static_cast<std::size_t>(i)]}).status == Status::ok);
        CHECK(session.call(wire::Fsync{.handle = handles[static_cast<std::size_t>(i)]}));
        CHECK(session.call(wire::Flush{.handle = handles[static_cast<std::size_t>(i)]}));
    }
    CHECK(open_below(exported.directory.path()).size() <= few + 4);
    CHECK(exported.counters.at("files.descriptor_reopens").value() >= 300);
    for (int i = 0; i < 200; ++i) {
        CHECK(session.call(wire::Release{.handle = handles[static_cast<std::size_t>(i)]}));
        CHECK(read_file(exported.directory / ("f" + std::to_string(i))).substr(0, 7) == "first !");
    }
}

TEST_CASE("a descriptor that is opened again has the flags that it had, and truncates nothing") {
    Export exported(with_few_descriptors());
    Crowd crowd(exported);
    const HandleId handle =
        crowd.open(wire::open_read | wire::open_write | wire::open_append | wire::open_truncate | wire::open_sync);
    const auto flags = open_flags(exported.directory / "file");
    REQUIRE(flags.size() == 1);
    CHECK(crowd.session.write(handle, 0, "one"));
    crowd.push_out();
    REQUIRE_FALSE(crowd.is_open());
    write_file(exported.directory / "file", "by another process ");
    CHECK(crowd.session.write(handle, 0, "two"));
    CHECK(open_flags(exported.directory / "file") == flags);
    CHECK(read_file(exported.directory / "file") == "by another process two");
    crowd.push_out();
    CHECK(crowd.session.read(handle, 3, 7) == "another");
}

TEST_CASE("a file whose handles have no descriptor may be renamed, replaced and removed") {
    Export exported(with_few_descriptors());
    Crowd crowd(exported);
    Session& session = crowd.session;
    const HandleId first = crowd.open();
    const HandleId second = crowd.open(wire::open_read);
    crowd.push_out();
    REQUIRE_FALSE(crowd.is_open());
    const auto still_there = [&] {
        crowd.push_out();
        CHECK(session.write(first, 0, "CON"));
        crowd.push_out();
        CHECK(session.read(second, 0, 100) == "CONtent");
        CHECK(session.call(wire::Getattr{.node = crowd.file}).status == Status::ok);
        CHECK(session.call(wire::Getattr{.node = crowd.file, .handle = second}).body.attributes.size == 7);
    };
    SECTION("renamed") {
        CHECK(session.call(
            wire::Rename{.parent = Session::root, .name = "file", .new_parent = Session::root, .new_name = "renamed"}));
        still_there();
        CHECK(read_file(exported.directory / "renamed") == "CONtent");
    }
    SECTION("removed") {
        CHECK(crowd.unlink("file") == Status::ok);
        still_there();
    }
    SECTION("replaced") {
        CHECK(session.call(
            wire::Rename{.parent = Session::root, .name = "other0", .new_parent = Session::root, .new_name = "file"}));
        still_there();
        CHECK(read_file(exported.directory / "file") == "other");
    }
    SECTION("removed under one of its two names") {
        CHECK(session.call(wire::Link{.node = crowd.file, .new_parent = Session::root, .new_name = "second"}));
        CHECK(crowd.unlink("second") == Status::ok);
        CHECK(crowd.unlink("file") == Status::ok);
        still_there();
    }
    // And it is gone when the last handle is.
    CHECK(session.call(wire::Release{.handle = first}));
    CHECK(session.read(second, 0, 3) == "CON");
    CHECK(session.call(wire::Release{.handle = second}));
    for (const std::string& path : open_below(exported.directory.path()))
        CHECK_THAT(path, !ContainsSubstring("(deleted)"));
}

TEST_CASE("a file without a name keeps its descriptor") {
    Export exported(with_few_descriptors());
    Crowd crowd(exported);
    const HandleId handle = crowd.open();
    CHECK(crowd.unlink("file") == Status::ok);
    crowd.push_out();
    CHECK(crowd.session.read(handle, 0, 10) == "content");
}

TEST_CASE("what a process on the server does to a file whose handle has no descriptor") {
    Export exported(with_few_descriptors());
    Crowd crowd(exported);
    const HandleId handle = crowd.open();
    crowd.push_out();
    REQUIRE_FALSE(crowd.is_open());
    SECTION("root's server finds it where it was moved") {
        if (geteuid() != 0)
            return;
        std::filesystem::rename(exported.directory / "file", exported.directory / "moved");
        crowd.push_out();
        CHECK(crowd.session.read(handle, 0, 10) == "content");
    }
    SECTION("another file in its place is not taken for it") {
        write_file(exported.directory / "new", "another");
        std::filesystem::rename(exported.directory / "new", exported.directory / "file");
        crowd.push_out();
        CHECK(crowd.session.call(wire::Read{.handle = handle, .size = 10}).status == Status::stale);
        CHECK(crowd.session.call(wire::Write{.handle = handle}, Buffer::copy_of(std::string_view("x"))).status ==
              Status::stale);
        CHECK(crowd.session.call(wire::Release{.handle = handle}));
        CHECK(read_file(exported.directory / "file") == "another");
    }
}

TEST_CASE("a locked handle keeps its descriptor, and an unlocked one gives it up") {
    Export exported(with_few_descriptors());
    Crowd crowd(exported);
    Session other(*exported.service);
    const HandleId handle = crowd.open();
    const HandleId theirs = other.open(other.lookup(Session::root, "file"), wire::open_read | wire::open_write);
    REQUIRE(crowd.session.call(wire::Flock{.handle = handle, .type = wire::LockType::write}));
    crowd.push_out();
    CHECK(open_flags(exported.directory / "file").size() == 2);
    CHECK(other.call(wire::Flock{.handle = theirs, .type = wire::LockType::read}).status == Status::try_again);
    REQUIRE(crowd.session.call(wire::Flock{.handle = handle, .type = wire::LockType::unlock}));
    crowd.push_out();
    CHECK(open_flags(exported.directory / "file").size() == 1);
    CHECK(other.call(wire::Flock{.handle = theirs, .type = wire::LockType::write}).status == Status::ok);
    CHECK(crowd.session.call(wire::Flock{.handle = handle, .type = wire::LockType::write}).status == Status::try_again);
    // What it tried in vain keeps nothing open, and byte ranges have a descriptor of their own.
    CHECK(other.call(wire::Release{.handle = theirs}));
    const wire::LockRange range{.type = wire::LockType::write, .start = 0, .end = 9};
    CHECK(crowd.session.call(wire::Setlk{.handle = handle, .owner = LockOwner{1}, .range = range}));
    crowd.push_out();
    CHECK(open_flags(exported.directory / "file").size() == 1);
    const HandleId again = other.open(other.lookup(Session::root, "file"), wire::open_read | wire::open_write);
    CHECK(other.call(wire::Setlk{.handle = again, .owner = LockOwner{1}, .range = range}).status == Status::try_again);
    CHECK(crowd.session.call(wire::Flush{.handle = handle, .owner = LockOwner{1}}));
    CHECK(other.call(wire::Setlk{.handle = again, .owner = LockOwner{1}, .range = range}).status == Status::ok);
}

TEST_CASE("a listing goes on where its directory was closed") {
    Export exported(with_few_descriptors());
    std::filesystem::create_directory(exported.directory / "d");
    for (int i = 0; i < 2000; ++i)
        write_file(exported.directory / ("d/entry" + std::to_string(i)), "");
    Crowd crowd(exported);
    Session& session = crowd.session;
    const HandleId handle = session.new_handle();
    REQUIRE(session.call(wire::Opendir{.node = session.lookup(Session::root, "d"), .handle = handle}));
    std::multiset<std::string> names;
    std::uint64_t cookie = 0;
    for (bool end = false; !end;) {
        const auto listed =
            session.call(wire::Readdir{.handle = handle, .cookie = cookie, .size = 4096, .max_entries = 1000});
        REQUIRE(listed);
        for (const auto& entry : decode_entries(listed.body, listed.bulk)) {
            names.insert(entry.name);
            cookie = entry.cookie;
        }
        end = listed.body.end;
        crowd.push_out();
    }
    CHECK(names.size() == 2002);
    CHECK(std::set<std::string>(names.begin(), names.end()).size() == 2002);
    // Removed while it is closed, it is empty, as an open directory is.
    for (int i = 0; i < 2000; ++i)
        std::filesystem::remove(exported.directory / ("d/entry" + std::to_string(i)));
    crowd.push_out();
    CHECK(session.call(wire::Rmdir{.parent = Session::root, .name = "d"}));
    crowd.push_out();
    const auto listed = session.call(wire::Readdir{.handle = handle, .size = 4096, .max_entries = 1000});
    CHECK(listed.status == Status::ok);
    CHECK(decode_entries(listed.body, listed.bulk).empty());
    CHECK(session.call(wire::Releasedir{.handle = handle}));
}

TEST_CASE("a session that cannot do without its descriptors leaves some to others and to names") {
    Export exported(with_few_descriptors());
    for (int i = 0; i < 20; ++i)
        write_file(exported.directory / ("f" + std::to_string(i)), "x");
    Session greedy(*exported.service);
    Status last = Status::ok;
    std::size_t locked = 0;
    for (int i = 0; i < 20 && last == Status::ok; ++i) {
        const NodeId node = greedy.lookup(Session::root, "f" + std::to_string(i));
        const HandleId handle = greedy.new_handle();
        last = greedy.call(wire::Open{.node = node, .handle = handle, .flags = wire::open_read}).status;
        if (last == Status::ok)
            last = greedy.call(wire::Flock{.handle = handle, .type = wire::LockType::read}).status;
        locked += last == Status::ok ? 1 : 0;
    }
    CHECK((last == Status::too_many_files || last == Status::no_locks));
    CHECK(locked >= few / 2);
    CHECK(locked < few);
    // Its own names and directories go on, and its open files.
    CHECK(greedy.list(Session::root, true).size() == 22);
    CHECK(greedy.call(wire::Mkdir{.parent = Session::root, .name = "d", .node = {greedy.new_node()}, .mode = 0755}));
    CHECK(greedy.call(wire::Unlink{.parent = Session::root, .name = "f0"}));
    Session other(*exported.service);
    for (int i = 1; i < 20; ++i)
        CHECK(other.open(other.lookup(Session::root, "f" + std::to_string(i)), wire::open_read));
    CHECK(other.list(Session::root, true).size() == 22);
}

TEST_CASE("a server that is not root keeps open what it could not open again") {
    if (geteuid() != 0)
        return;
    const int wrong = in_child_as(as_user(alice, alice), [] {
        Export exported(with_few_descriptors());
        Crowd crowd(exported);
        Session& session = crowd.session;
        // Made without permission, as tar and rsync do.
        const HandleId made = session.new_handle();
        if (!session.create(Session::root, "made", made, wire::open_write, 0400, 0))
            return 1;
        const HandleId handle = crowd.open();
        crowd.push_out();
        if (crowd.is_open())
            return 2;
        if (!session.write(made, 0, "made"))
            return 3;
        // And one that loses it while its handle is closed.
        if (!session.call(wire::Setattr{.node = crowd.file, .which = wire::set_mode, .mode = 0}))
            return 4;
        crowd.push_out();
        if (!crowd.is_open() || !session.write(handle, 0, "CON") || session.read(handle, 0, 10) != "CONtent")
            return 5;
        return 0;
    });
    CHECK(wrong == 0);
}
