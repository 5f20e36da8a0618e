// SPDX-License-Identifier: MIT
// Listings: of any size, in any portions, while entries come and go.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "catch.hpp"
#include "export_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

std::multiset<std::string> names_of(const std::vector<wire::DirectoryEntry>& entries) {
    std::multiset<std::string> names;
    for (const auto& entry : entries)
        names.insert(entry.name);
    return names;
}

std::multiset<std::string> names_in(const std::string& directory) {
    std::multiset<std::string> names{".", ".."};
    for (const auto& entry : std::filesystem::directory_iterator(directory))
        names.insert(entry.path().filename().string());
    return names;
}

}  // namespace

TEST_CASE("a listing has all entries, in portions of any size") {
    Export exported;
    for (int i = 0; i < 500; ++i)
        write_file(exported.directory / ("file" + std::to_string(i)), "x");
    std::filesystem::create_directory(exported.directory / "directory");
    std::filesystem::create_symlink("nowhere", exported.directory / "symlink");
    const auto expected = names_in(exported.directory.path());
    Session session(*exported.service);
    for (const auto& [size, count] : {std::pair<std::uint32_t, std::uint16_t>{65536, 1000},
                                      {1 << 20, 65535},
                                      {400, 65535},
                                      {65536, 1},
                                      {65536, 7},
                                      {1000, 3}}) {
        INFO(size << " bytes, " << count << " entries");
        CHECK(names_of(session.list(Session::root, false, size, count)) == expected);
        CHECK(names_of(session.list(Session::root, true, size, count)) == expected);
    }
}

TEST_CASE("a listing tells what each entry is, and with attributes gives it a node") {
    Export exported;
    write_file(exported.directory / "file", "content");
    std::filesystem::create_directory(exported.directory / "directory");
    std::filesystem::create_symlink("nowhere", exported.directory / "symlink");
    link((exported.directory / "file").c_str(), (exported.directory / "link").c_str());
    Session session(*exported.service);
    const NodeId file = session.lookup(Session::root, "file");
    const std::map<std::string, std::uint8_t> types{{".", DT_DIR},    {"..", DT_DIR},        {"file", DT_REG},
                                                    {"link", DT_REG}, {"directory", DT_DIR}, {"symlink", DT_LNK}};
    for (const auto& entry : session.list(Session::root)) {
        CHECK(entry.type == types.at(entry.name));
        CHECK(entry.entry.node == NodeId{});
    }
    std::size_t seen = 0;
    for (const auto& entry : session.list(Session::root, true)) {
        INFO(entry.name);
        ++seen;
        CHECK(entry.type == types.at(entry.name));
        if (entry.name == "." || entry.name == "..") {
            CHECK(entry.entry.node == NodeId{});
            continue;
        }
        const auto attributes = session.call(wire::Getattr{.node = entry.entry.node});
        REQUIRE(attributes.status == Status::ok);
        CHECK(attributes.body.attributes.identity == entry.entry.attributes.identity);
        CHECK(attributes.body.attributes.version == entry.entry.attributes.version);
        CHECK(entry.inode == entry.entry.attributes.identity.inode);
        if (entry.name == "file" || entry.name == "link")
            CHECK(entry.entry.node == file);
    }
    CHECK(seen == types.size());
    // Each entry counted once: one LOOKUP, and two entries of the listing.
    session.call(wire::Forget{.nodes = {{.node = file, .count = 2}}});
    CHECK(session.call(wire::Getattr{.node = file}));
    session.call(wire::Forget{.nodes = {{.node = file, .count = 1}}});
    CHECK(session.call(wire::Getattr{.node = file}).status == Status::stale);
}

TEST_CASE("a listing with attributes alone makes nobody know the entries") {
    Export exported;
    write_file(exported.directory / "known", "content");
    write_file(exported.directory / "unknown", "some more");
    std::filesystem::create_directory(exported.directory / "directory");
    Session session(*exported.service);
    const NodeId known = session.lookup(Session::root, "known");
    const auto listed = session.call(wire::List{.node = Session::root, .size = 65536});
    REQUIRE(listed);
    CHECK(listed.body.end);
    CHECK_FALSE(listed.body.leased);
    CHECK(listed.body.entry.node == Session::root);
    const auto entries = decode_entries(listed.body.count, listed.bulk);
    CHECK(names_of(entries) == names_in(exported.directory.path()));
    for (const auto& entry : entries) {
        INFO(entry.name);
        CHECK(entry.entry.node == NodeId{});
        const bool is_dot = entry.name == "." || entry.name == "..";
        CHECK((entry.entry.attributes.mode == 0) == is_dot);
        if (is_dot)
            continue;
        // The version is that of a file that is looked up, known or not.
        const auto found =
            session.call(wire::Lookup{.parent = Session::root, .name = entry.name, .node = {session.new_node(), true}});
        CHECK(found.body.attributes.version == entry.entry.attributes.version);
        CHECK(found.body.attributes.size == entry.entry.attributes.size);
        CHECK((found.body.node == known) == (entry.name == "known"));
    }
}

TEST_CASE("LIST looks up a name, goes on with READDIR, and leaves nothing behind when it fails") {
    Export exported;
    std::filesystem::create_directory(exported.directory / "d");
    for (int i = 0; i < 100; ++i)
        write_file(exported.directory / ("d/" + std::to_string(i)), "x");
    write_file(exported.directory / "file", "x");
    Session session(*exported.service);
    const auto ask = [&](const std::string& name, NodeId node, HandleId handle, std::uint32_t size) {
        return session.call(
            wire::List{.node = Session::root, .name = name, .new_node = {node, false}, .handle = handle, .size = size});
    };
    CHECK(ask("file", NodeId{5}, HandleId{1}, 65536).status == Status::not_directory);
    CHECK(ask("none", NodeId{5}, HandleId{1}, 65536).status == Status::no_entry);
    CHECK(ask("..", NodeId{5}, HandleId{1}, 65536).status == Status::invalid);
    CHECK(ask("d", NodeId{5}, HandleId{1}, 50).status == Status::invalid);
    CHECK(ask("d", NodeId{5}, HandleId{1}, wire::max_bulk_bytes + 1).status == Status::invalid);
    CHECK(ask("d", Session::root, HandleId{1}, 65536).status == Status::invalid);
    CHECK(session.call(wire::Getattr{.node = NodeId{5}}).status == Status::stale);

    const auto whole = ask("d", NodeId{5}, HandleId{1}, 65536);
    REQUIRE(whole);
    CHECK(whole.body.end);
    CHECK(whole.body.entry.node == NodeId{5});
    CHECK(session.call(wire::Releasedir{.handle = HandleId{1}}).status == Status::bad_handle);

    // By its own node, in parts.
    const auto part = session.call(wire::List{.node = NodeId{5}, .handle = HandleId{1}, .size = 1000});
    REQUIRE(part);
    CHECK_FALSE(part.body.end);
    auto entries = decode_entries(part.body.count, part.bulk);
    CHECK(session.call(wire::List{.node = NodeId{5}, .handle = HandleId{1}, .size = 1000}).status == Status::invalid);
    const auto rest = session.call(wire::Readdir{.handle = HandleId{1},
                                                 .cookie = entries.back().cookie,
                                                 .size = 65536,
                                                 .max_entries = 1000,
                                                 .attributes = wire::ListedAttributes::alone});
    REQUIRE(rest);
    for (auto& entry : decode_entries(rest.body, rest.bulk))
        entries.push_back(std::move(entry));
    CHECK(names_of(entries) == names_in(exported.directory / "d"));
    for (const auto& entry : entries)
        CHECK((entry.entry.attributes.size == 1 || entry.type == DT_DIR));
    CHECK(session.call(wire::Releasedir{.handle = HandleId{1}}));

    // Without a handle the rest is not to be had.
    const auto first = session.call(wire::List{.node = NodeId{5}, .size = 1000});
    CHECK((first && !first.body.end));
    // One count by the name, none by the node.
    session.call(wire::Forget{.nodes = {{.node = NodeId{5}, .count = 1}}});
    CHECK(session.call(wire::Getattr{.node = NodeId{5}}).status == Status::stale);
}

TEST_CASE("FETCH brings attributes and content that belong together") {
    Export exported;
    write_file(exported.directory / "file", "content");
    std::filesystem::create_directory(exported.directory / "directory");
    std::filesystem::create_symlink("file", exported.directory / "symlink");
    CHECK(mkfifo((exported.directory / "fifo").c_str(), 0644) == 0);
    Session session(*exported.service);
    const auto fetch = [&](const std::string& name, std::uint32_t size) {
        return session.call(wire::Fetch{.parent = Session::root, .name = name, .size = size});
    };
    const auto whole = fetch("file", 7);
    REQUIRE(whole);
    CHECK(whole.body.complete);
    CHECK(whole.bulk.text() == "content");
    const auto found =
        session.call(wire::Lookup{.parent = Session::root, .name = "file", .node = {session.new_node(), true}});
    CHECK(found.body.attributes.version == whole.body.attributes.version);
    for (const auto& [name, size] : {std::pair("file", 6), {"directory", 4096}, {"symlink", 4096}, {"fifo", 4096}}) {
        INFO(name);
        const auto part = fetch(name, static_cast<std::uint32_t>(size));
        REQUIRE(part);
        CHECK_FALSE(part.body.complete);
        CHECK(part.bulk.empty());
        CHECK(part.body.attributes.mode != 0);
    }
    CHECK(fetch("none", 100).status == Status::no_entry);
    CHECK(fetch("..", 100).status == Status::invalid);
    CHECK(fetch("file", wire::max_bulk_bytes + 1).status == Status::invalid);
    CHECK(session.call(wire::Fetch{.parent = found.body.node, .name = "x", .size = 1}).status == Status::not_directory);
    if (geteuid() == 0) {
        chmod((exported.directory / "file").c_str(), 0600);
        const auto unreadable =
            session.call_as(as_user(1000, 1000), wire::Fetch{.parent = Session::root, .name = "file", .size = 100});
        REQUIRE(unreadable);
        CHECK_FALSE(unreadable.body.complete);
        CHECK(unreadable.body.attributes.size == 7);
    }
}

TEST_CASE("a file that is written to while it is fetched comes in one piece or not at all") {
    Export exported;
    write_file(exported.directory / "file", std::string(100'000, 'a'));
    Session session(*exported.service);
    Session writer(*exported.service);
    const HandleId handle = writer.open(writer.lookup(Session::root, "file"), wire::open_read | wire::open_write);
    REQUIRE(handle);
    std::atomic<bool> stop = false;
    std::thread thread([&] {
        for (char letter = 'a'; !stop; letter = letter == 'z' ? 'a' : static_cast<char>(letter + 1))
            writer.write(handle, 0, std::string(100'000, letter));
    });
    int complete = 0;
    for (int i = 0; i < 200; ++i) {
        const auto fetched = session.call(wire::Fetch{.parent = Session::root, .name = "file", .size = 1 << 20});
        if (!fetched.body.complete)
            continue;
        ++complete;
        const std::string_view content = fetched.bulk.text();
        // Within a tick of the kernel's clock another write may leave no trace: then the version says so.
        if ((fetched.body.attributes.version & wire::version_is_fresh) == 0)
            CHECK(content == std::string(content.size(), content.front()));
        CHECK(content.size() == 100'000);
    }
    stop = true;
    thread.join();
    INFO(complete << " complete");
}

TEST_CASE("the number of what lies above the export is not told") {
    Export exported;
    struct stat above {};
    stat((exported.directory / "..").c_str(), &above);
    Session session(*exported.service);
    for (const auto& entry : session.list(Session::root))
        CHECK(entry.inode != above.st_ino);
}

TEST_CASE("a listing with too few or unusable ids is refused and leaves nothing behind") {
    Export exported;
    for (const auto* name : {"a", "b", "c"})
        write_file(exported.directory / name, "x");
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    REQUIRE(session.call(wire::Opendir{.node = Session::root, .handle = handle}));
    const auto read = [&](std::uint32_t size, std::uint16_t entries, NodeId first) {
        return session
            .call(wire::Readdir{.handle = handle,
                                .size = size,
                                .max_entries = entries,
                                .attributes = wire::ListedAttributes::with_nodes,
                                .first_node = first})
            .status;
    };
    CHECK(read(65536, 10, NodeId{0}) == Status::invalid);
    CHECK(read(65536, 10, NodeId{UINT64_MAX}) == Status::invalid);
    REQUIRE(session.call(wire::Lookup{.parent = Session::root, .name = "a", .node = {NodeId{102}, false}}));
    CHECK(read(65536, 10, NodeId{101}) == Status::invalid);
    CHECK(session.call(wire::Getattr{.node = NodeId{101}}).status == Status::stale);
    CHECK(session.call(wire::Getattr{.node = NodeId{103}}).status == Status::stale);
    CHECK(read(10, 10, NodeId{200}) == Status::invalid);
    CHECK(read(65536, 0, NodeId{200}) == Status::invalid);
    CHECK(read((1U << 20) + 1, 10, NodeId{200}) == Status::invalid);
    CHECK(read(65536, 10, NodeId{200}) == Status::ok);
}

TEST_CASE("a listing of ten thousand entries is stable while others come and go") {
    Export exported;
    std::set<std::string> lasting;
    for (int i = 0; i < 10'000; ++i) {
        const std::string name = "lasting" + std::to_string(i);
        std::fclose(std::fopen((exported.directory / name).c_str(), "w"));
        lasting.insert(name);
    }
    std::atomic<bool> done = false;
    std::thread other([&] {
        for (int i = 0; !done; ++i) {
            const std::string path = exported.directory / ("passing" + std::to_string(i % 200));
            std::fclose(std::fopen(path.c_str(), "w"));
            if (i >= 100)
                unlink((exported.directory / ("passing" + std::to_string((i - 100) % 200))).c_str());
        }
    });
    Session session(*exported.service);
    for (const bool attributes : {false, true}) {
        const auto names = names_of(session.list(Session::root, attributes, 20'000, 100));
        // Each of those that stayed, once.
        for (const auto& name : lasting)
            if (names.count(name) != 1)
                FAIL_CHECK(name << " is listed " << names.count(name) << " times");
    }
    // Removed by the session itself as it goes, as rm -r does.
    const HandleId handle = session.new_handle();
    REQUIRE(session.call(wire::Opendir{.node = Session::root, .handle = handle}));
    std::size_t removed = 0;
    for (std::uint64_t cookie = 0;;) {
        const auto part =
            session.call(wire::Readdir{.handle = handle, .cookie = cookie, .size = 20'000, .max_entries = 500});
        REQUIRE(part.status == Status::ok);
        for (const auto& entry : decode_entries(part.body, part.bulk)) {
            cookie = entry.cookie;
            if (entry.name.starts_with("lasting"))
                removed += session.call(wire::Unlink{.parent = Session::root, .name = entry.name}) ? 1 : 0;
        }
        if (part.body.end)
            break;
    }
    CHECK(removed == lasting.size());
    done = true;
    other.join();
}

TEST_CASE("a listing can go on from any cookie, and start anew") {
    Export exported;
    for (int i = 0; i < 100; ++i)
        write_file(exported.directory / ("file" + std::to_string(i)), "x");
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    REQUIRE(session.call(wire::Opendir{.node = Session::root, .handle = handle}));
    const auto read = [&](std::uint64_t cookie, std::uint16_t count) {
        const auto part =
            session.call(wire::Readdir{.handle = handle, .cookie = cookie, .size = 65536, .max_entries = count});
        return decode_entries(part.body, part.bulk);
    };
    const auto all = read(0, 1000);
    REQUIRE(all.size() == 102);
    for (const std::size_t at : {50U, 3U, 101U, 99U}) {
        const auto rest = read(all[at].cookie, 1000);
        REQUIRE(rest.size() == all.size() - at - 1);
        if (!rest.empty())
            CHECK(rest[0].name == all[at + 1].name);
    }
    // From the start, what has been made meanwhile is there.
    write_file(exported.directory / "new", "x");
    CHECK(names_of(read(0, 1000)).contains("new"));
    CHECK(session.call(wire::Fsyncdir{.handle = handle}));
    CHECK(session.call(wire::Releasedir{.handle = handle}));
    CHECK(session.call(wire::Fsyncdir{.handle = handle}).status == Status::bad_handle);
}

TEST_CASE("threads may read one directory handle at once") {
    Export exported;
    for (int i = 0; i < 300; ++i)
        write_file(exported.directory / ("file" + std::to_string(i)), "x");
    Session session(*exported.service);
    REQUIRE(session.call(wire::Opendir{.node = Session::root, .handle = HandleId{1}}));
    const auto expected = names_in(exported.directory.path());
    std::atomic<std::size_t> right = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            std::multiset<std::string> names;
            for (std::uint64_t cookie = 0;;) {
                auto outcome = exported.service->carry_out(
                    session.files(), RequestId{1}, wire::Opcode::readdir,
                    wire::encode_body(
                        wire::Readdir{.handle = HandleId{1}, .cookie = cookie, .size = 1000, .max_entries = 100}),
                    {}, {}, [](Outcome) {});
                const auto part = Session::take<wire::Readdir>(std::move(*outcome));
                for (const auto& entry : decode_entries(part.body, part.bulk)) {
                    cookie = entry.cookie;
                    names.insert(entry.name);
                }
                if (!part || part.body.end)
                    break;
            }
            right += names == expected ? 1 : 0;
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(right == 4);
}

TEST_CASE("a directory that was removed lists nothing") {
    Export exported;
    std::filesystem::create_directory(exported.directory / "directory");
    Session session(*exported.service);
    const NodeId directory = session.lookup(Session::root, "directory");
    REQUIRE(session.call(wire::Opendir{.node = directory, .handle = HandleId{1}}));
    CHECK(session.call(wire::Rmdir{.parent = Session::root, .name = "directory"}));
    const auto part = session.call(wire::Readdir{.handle = HandleId{1}, .size = 4096, .max_entries = 10});
    CHECK(part.status == Status::ok);
    CHECK(part.body.count == 0);
    CHECK(part.body.end);
    CHECK(session.call(wire::Mkdir{.parent = directory, .name = "x", .node = {session.new_node()}}).status ==
          Status::no_entry);
}
