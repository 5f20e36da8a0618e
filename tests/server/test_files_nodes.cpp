// SPDX-License-Identifier: MIT
// What ids stand for, and how files are found again whose descriptors were given up.
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "catch.hpp"
#include "export_fixture.hpp"
#include "server/operations/operation_table.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

wire::Lookup lookup_of(const std::string& name, NodeId id, bool reuse) {
    return {.parent = Session::root, .name = name, .node = {id, reuse}};
}

Status getattr(Session& session, NodeId node) {
    return session.call(wire::Getattr{.node = node}).status;
}

void forget(Session& session, NodeId node, std::uint64_t count) {
    CHECK(session.call(wire::Forget{.nodes = {{.node = node, .count = count}}}));
}

ExportOptions few_descriptors(std::size_t count) {
    ExportOptions options;
    options.max_idle_descriptors = count;
    return options;
}

std::uint64_t counter(Export& exported, const std::string& name) {
    return exported.counters.at(name).value();
}

}  // namespace

TEST_CASE("a node lives until all replies that named it are given back") {
    Export exported;
    write_file(exported.directory / "file", "x");
    Session session(*exported.service);
    const NodeId id{100};
    for (int i = 0; i < 3; ++i)
        CHECK(session.call(lookup_of("file", id, false)).body.node == id);
    forget(session, id, 2);
    CHECK(getattr(session, id) == Status::ok);
    forget(session, id, 1);
    CHECK(getattr(session, id) == Status::stale);
    // The number is free again, for another file too.
    write_file(exported.directory / "other", "x");
    CHECK(session.call(lookup_of("other", id, false)).body.node == id);
    // Too many given back, and an unknown node, do no harm.
    forget(session, id, 1000);
    forget(session, NodeId{4711}, 1);
    forget(session, NodeId{0}, 1);
    CHECK(getattr(session, id) == Status::stale);
    CHECK(getattr(session, Session::root) == Status::ok);
}

TEST_CASE("with reuse a known file keeps its id, without it an alias is made") {
    Export exported;
    write_file(exported.directory / "file", "x");
    link((exported.directory / "file").c_str(), (exported.directory / "link").c_str());
    Session session(*exported.service);
    CHECK(session.call(lookup_of("file", NodeId{10}, true)).body.node == NodeId{10});
    CHECK(session.call(lookup_of("link", NodeId{11}, true)).body.node == NodeId{10});
    CHECK(getattr(session, NodeId{11}) == Status::stale);
    CHECK(session.call(lookup_of("link", NodeId{12}, false)).body.node == NodeId{12});
    const auto both = exported.service->known_as(
        *session.files(), session.call(wire::Setattr{.node = NodeId{10}, .which = wire::set_mode}).changed);
    CHECK(std::set<NodeId>(both.begin(), both.end()) == std::set<NodeId>{NodeId{10}, NodeId{12}});
    forget(session, NodeId{10}, 2);
    CHECK(getattr(session, NodeId{10}) == Status::stale);
    CHECK(getattr(session, NodeId{12}) == Status::ok);
}

TEST_CASE("an id that is 0 or stands for another file is refused, and nothing is done") {
    Export exported;
    write_file(exported.directory / "file", "x");
    write_file(exported.directory / "other", "x");
    Session session(*exported.service);
    const NodeId taken{10};
    REQUIRE(session.call(lookup_of("file", taken, false)));
    CHECK(session.call(lookup_of("other", taken, false)).status == Status::invalid);
    CHECK(session.call(lookup_of("other", NodeId{0}, false)).status == Status::invalid);
    for (const NodeId id : {taken, NodeId{0}}) {
        CHECK(session.call(wire::Mkdir{.parent = Session::root, .name = "made", .node = {id}}).status ==
              Status::invalid);
        CHECK(
            session.call(wire::Symlink{.parent = Session::root, .name = "made", .node = {id}, .target = "x"}).status ==
            Status::invalid);
        CHECK(session.call(wire::Mknod{.parent = Session::root, .name = "made", .node = {id}, .mode = S_IFIFO | 0644})
                  .status == Status::invalid);
        CHECK(session
                  .call(wire::Create{.parent = Session::root,
                                     .name = "made",
                                     .node = {id},
                                     .handle = session.new_handle(),
                                     .flags = wire::open_write})
                  .status == Status::invalid);
        CHECK(session
                  .call(wire::Tmpfile{
                      .parent = Session::root, .node = {id}, .handle = session.new_handle(), .flags = wire::open_write})
                  .status == Status::invalid);
    }
    CHECK_FALSE(std::filesystem::exists(exported.directory / "made"));
    // CREATE of a file that is there opens it under its own id.
    CHECK(session
              .call(wire::Create{.parent = Session::root,
                                 .name = "file",
                                 .node = {taken},
                                 .handle = session.new_handle(),
                                 .flags = wire::open_write})
              .status == Status::ok);
}

TEST_CASE("handles are the client's numbers too") {
    Export exported;
    write_file(exported.directory / "file", "x");
    Session session(*exported.service);
    const NodeId file = session.lookup(Session::root, "file");
    const HandleId handle{5};
    REQUIRE(session.call(wire::Open{.node = file, .handle = handle, .flags = wire::open_read}));
    CHECK(session.call(wire::Open{.node = file, .handle = handle, .flags = wire::open_read}).status == Status::invalid);
    CHECK(session.call(wire::Open{.node = file, .handle = HandleId{0}, .flags = wire::open_read}).status ==
          Status::invalid);
    CHECK(session.call(wire::Opendir{.node = Session::root, .handle = handle}).status == Status::invalid);
    CHECK(session.call(wire::Releasedir{.handle = handle}).status == Status::bad_handle);
    CHECK(session.call(wire::Readdir{.handle = handle, .size = 4096, .max_entries = 10}).status == Status::bad_handle);
    CHECK(session.call(wire::Write{.handle = handle}, Buffer::copy_of("y")).status == Status::bad_handle);
    CHECK(session.call(wire::Getattr{.node = Session::root, .handle = handle}).status == Status::invalid);
    // One that failed to open is free again.
    CHECK(session.call(wire::Open{.node = Session::root, .handle = HandleId{6}, .flags = wire::open_read}).status ==
          Status::is_directory);
    CHECK(session.call(wire::Open{.node = file, .handle = HandleId{6}, .flags = wire::open_write}));
    CHECK(session.call(wire::Read{.handle = HandleId{6}, .size = 1}).status == Status::bad_handle);
    CHECK(session.call(wire::Release{.handle = handle}));
    CHECK(session.call(wire::Release{.handle = handle}).status == Status::bad_handle);
}

TEST_CASE("a session has limits") {
    ExportOptions options;
    options.max_nodes = 3;
    options.max_handles = 2;
    Export exported(std::move(options));
    for (const auto* name : {"a", "b", "c"})
        write_file(exported.directory / name, "x");
    Session session(*exported.service);
    const NodeId a = session.lookup(Session::root, "a");
    CHECK(session.lookup(Session::root, "b"));
    CHECK(session.call(lookup_of("c", NodeId{99}, false)).status == Status::limit_exceeded);
    CHECK(session.call(wire::Mkdir{.parent = Session::root, .name = "d", .node = {NodeId{99}}}).status ==
          Status::limit_exceeded);
    CHECK(session.create(Session::root, "d", session.new_handle()).status == Status::limit_exceeded);
    CHECK_FALSE(std::filesystem::exists(exported.directory / "d"));
    CHECK(session.open(a, wire::open_read));
    CHECK(session.open(a, wire::open_read));
    CHECK(session.call(wire::Open{.node = a, .handle = session.new_handle(), .flags = wire::open_read}).status ==
          Status::too_many_files);
    CHECK(session.call(wire::Forget{.nodes = std::vector<wire::ForgetNode>(wire::max_forgets + 1)}).status ==
          Status::limit_exceeded);
}

TEST_CASE("a tree of a thousand files is served with eight descriptors") {
    Export exported(few_descriptors(8));
    Session session(*exported.service);
    std::vector<std::pair<NodeId, std::string>> files;
    for (int i = 0; i < 20; ++i) {
        const std::string directory = "d" + std::to_string(i);
        mkdir((exported.directory / directory).c_str(), 0755);
        for (int j = 0; j < 5; ++j) {
            const std::string below = directory + "/e" + std::to_string(j);
            mkdir((exported.directory / below).c_str(), 0755);
            for (int k = 0; k < 10; ++k) {
                const std::string path = below + "/f" + std::to_string(k);
                write_file(exported.directory / path, path);
                files.emplace_back(session.walk(path), path);
            }
        }
    }
    REQUIRE(files.size() == 1000);
    for (int round = 0; round < 2; ++round)
        for (std::size_t i = 0; i < files.size(); ++i) {
            const auto& [node, path] = files[(i * 337) % files.size()];
            const HandleId handle = session.open(node, wire::open_read);
            REQUIRE(session.read(handle, 0, 100) == path);
            REQUIRE(session.call(wire::Release{.handle = handle}));
        }
    CHECK(counter(exported, "files.descriptor_evictions") > 1000);
    CHECK(counter(exported, "files.descriptor_reopens") > 1000);
    // What the process has open altogether is hardly more.
    std::size_t open = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
        ++open;
    CHECK(open < 40);
}

TEST_CASE("files renamed while their descriptors were given up are found again") {
    Export exported(few_descriptors(1));
    std::filesystem::create_directories(exported.directory / "a/b/c");
    write_file(exported.directory / "a/b/c/file", "content");
    write_file(exported.directory / "elsewhere", "x");
    Session session(*exported.service);
    const NodeId file = session.walk("a/b/c/file");
    const NodeId directory = session.walk("a/b/c");
    const auto read_node = [&](NodeId node) {
        const HandleId handle = session.open(node, wire::open_read);
        std::string content = session.read(handle, 0, 100);
        session.call(wire::Release{.handle = handle});
        return content;
    };
    const auto touch_others = [&] { read_node(session.walk("elsewhere")); };
    const auto read = [&] { return read_node(file); };
    const auto rename = [&](NodeId parent, const std::string& name, NodeId new_parent, const std::string& new_name) {
        CHECK(
            session.call(wire::Rename{.parent = parent, .name = name, .new_parent = new_parent, .new_name = new_name}));
    };
    touch_others();
    CHECK(read() == "content");

    SECTION("the file itself, by the server") {
        rename(directory, "file", Session::root, "moved");
        touch_others();
        CHECK(read() == "content");
    }
    SECTION("a directory above it, by the server") {
        rename(session.walk("a"), "b", Session::root, "moved");
        touch_others();
        CHECK(read() == "content");
    }
    SECTION("exchanged with another") {
        CHECK(session.call(wire::Rename{.parent = directory,
                                        .name = "file",
                                        .new_parent = Session::root,
                                        .new_name = "elsewhere",
                                        .flags = wire::rename_exchange}));
        CHECK(read() == "content");
        CHECK(read_file(exported.directory / "elsewhere") == "content");
    }
    SECTION("its directory, by another process, and looked up again") {
        std::filesystem::rename(exported.directory / "a/b", exported.directory / "moved");
        CHECK(session.walk("moved/c") == directory);
        touch_others();
        CHECK(read() == "content");
    }
    SECTION("directories turned inside out by another process") {
        std::filesystem::rename(exported.directory / "a/b", exported.directory / "b");
        std::filesystem::rename(exported.directory / "a", exported.directory / "b/a");
        const NodeId inner = session.walk("b/a");
        CHECK(inner == session.lookup(session.lookup(Session::root, "b"), "a"));
        CHECK(session.walk("b/c") == directory);
        touch_others();
        CHECK(read() == "content");
        CHECK(getattr(session, inner) == Status::ok);
    }
    SECTION("replaced by another process: the old one is stale, not the new one") {
        session.call(wire::Forget{.nodes = {{.node = directory}}});
        write_file(exported.directory / "new", "other content");
        std::filesystem::rename(exported.directory / "new", exported.directory / "a/b/c/file");
        touch_others();
        CHECK(session.call(wire::Open{.node = file, .handle = session.new_handle(), .flags = wire::open_read}).status ==
              Status::stale);
        CHECK(getattr(session, file) == Status::stale);
        const NodeId found = session.walk("a/b/c/file");
        CHECK(found != file);
        CHECK(read_node(found) == "other content");
    }
    SECTION("the newest of its names removed by the server") {
        CHECK(session.call(wire::Link{.node = file, .new_parent = Session::root, .new_name = "second"}));
        CHECK(session.call(wire::Unlink{.parent = Session::root, .name = "second"}));
        touch_others();
        CHECK(read() == "content");
    }
    SECTION("the oldest of its names removed by the server") {
        CHECK(session.call(wire::Link{.node = file, .new_parent = Session::root, .new_name = "second"}));
        CHECK(session.call(wire::Unlink{.parent = directory, .name = "file"}));
        touch_others();
        CHECK(read() == "content");
    }
}

TEST_CASE("a rename leaves a whiteout behind where it is asked to") {
    Export exported(few_descriptors(1));
    write_file(exported.directory / "file", "content");
    write_file(exported.directory / "taken", "other");
    Session session(*exported.service);
    const NodeId file = session.lookup(Session::root, "file");
    const auto rename = [&](const std::string& name, const std::string& new_name, std::uint32_t flags) {
        return session
            .call(wire::Rename{.parent = Session::root,
                               .name = name,
                               .new_parent = Session::root,
                               .new_name = new_name,
                               .flags = flags})
            .status;
    };
    // The file system has the last word, as it has locally.
    write_file(exported.directory / "probe", "");
    if (renameat2(AT_FDCWD, (exported.directory / "probe").c_str(), AT_FDCWD, (exported.directory / "gone").c_str(),
                  RENAME_WHITEOUT) != 0)
        return;
    CHECK(rename("file", "taken", wire::rename_whiteout | wire::rename_exchange) == Status::invalid);
    CHECK(rename("file", "taken", wire::rename_whiteout | wire::rename_noreplace) == Status::exists);
    CHECK(rename("file", "taken", wire::rename_whiteout) == Status::ok);
    struct stat left {};
    REQUIRE(lstat((exported.directory / "file").c_str(), &left) == 0);
    CHECK(S_ISCHR(left.st_mode));
    CHECK(left.st_rdev == 0);
    CHECK(read_file(exported.directory / "taken") == "content");
    // The node is what was moved, the name another file.
    CHECK(session.read(session.open(file, wire::open_read), 0, 10) == "content");
    const auto whiteout = session.call(lookup_of("file", session.new_node(), true));
    CHECK(whiteout.body.node != file);
    CHECK(S_ISCHR(whiteout.body.attributes.mode));
    CHECK(rename("taken", "file", 0) == Status::ok);
    CHECK(session.lookup(Session::root, "file") == file);
}

TEST_CASE("root's server finds a file again that another process has moved where nobody looked") {
    if (geteuid() != 0)
        return;
    Export exported(few_descriptors(1));
    mkdir((exported.directory / "a").c_str(), 0755);
    write_file(exported.directory / "a/file", "content");
    write_file(exported.directory / "other", "x");
    Session session(*exported.service);
    const NodeId file = session.walk("a/file");
    CHECK(session.open(file, wire::open_read));
    session.call(wire::Release{.handle = HandleId{1}});
    session.open(session.walk("other"), wire::open_read);  // takes the only descriptor
    std::filesystem::rename(exported.directory / "a/file", exported.directory / "hidden");
    CHECK(session.read(session.open(file, wire::open_read), 0, 100) == "content");
    std::filesystem::remove(exported.directory / "hidden");
    session.call(wire::Release{.handle = HandleId{3}});
    session.open(session.walk("other"), wire::open_read);
    CHECK(getattr(session, file) == Status::stale);
}

TEST_CASE("a file that was removed while open goes on until it is closed") {
    Export exported(few_descriptors(GENERATE(1U, 4096U)));
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    const NodeId node = session.create(Session::root, "file", handle).body.entry.node;
    session.write(handle, 0, "content");
    const bool by_server = GENERATE(true, false);
    if (by_server)
        CHECK(session.call(wire::Unlink{.parent = Session::root, .name = "file"}));
    else
        std::filesystem::remove(exported.directory / "file");
    write_file(exported.directory / "other", "x");
    session.open(session.walk("other"), wire::open_read);

    CHECK(session.call(wire::Getattr{.node = node, .handle = handle}).body.attributes.links == 0);
    CHECK(session.call(wire::Getattr{.node = node}).body.attributes.size == 7);
    CHECK(session.call(wire::Setattr{.node = node, .handle = handle, .which = wire::set_size, .size = 3}));
    CHECK(session.call(wire::Setattr{.node = node, .which = wire::set_mode, .mode = 0600}).status == Status::ok);
    CHECK(session.read(handle, 0, 100) == "con");
    const auto again = session.call(wire::Open{.node = node, .handle = session.new_handle(), .flags = wire::open_read});
    CHECK(again.status == Status::ok);
    CHECK(std::filesystem::directory_iterator(exported.directory.path())->path().filename() == "other");
    CHECK(session.call(wire::Release{.handle = handle}));
    CHECK(getattr(session, node) == Status::ok);
    CHECK(session.call(wire::Release{.handle = HandleId{handle.value + 2}}));
    CHECK(getattr(session, node) == Status::stale);
}

TEST_CASE("what is held goes on when its name is gone, whatever it is and whoever may read it") {
    Export exported(few_descriptors(GENERATE(1U, 4096U)));
    Session session(*exported.service);
    write_file(exported.directory / "file", "content");
    std::filesystem::permissions(exported.directory / "file", std::filesystem::perms::none);
    std::filesystem::create_symlink("target", exported.directory / "link");
    std::filesystem::create_directory(exported.directory / "directory");
    for (const std::string name : {"file", "link", "directory"}) {
        INFO(name);
        const NodeId node = session.lookup(Session::root, name);
        const HandleId held = session.open(node, wire::open_hold);
        REQUIRE(held);
        write_file(exported.directory / "other", "x");
        session.open(session.walk("other"), wire::open_read);
        std::filesystem::remove(exported.directory / name);
        CHECK(getattr(session, node) == Status::ok);
        CHECK(session.call(wire::Read{.handle = held, .size = 10}).status != Status::ok);
        CHECK(session.call(wire::Write{.handle = held}, Buffer::copy_of("x")).status != Status::ok);
        if (name == "link")
            CHECK(session.call(wire::Readlink{.node = node}).body.target == "target");
        else
            CHECK(session.call(wire::Setattr{.node = node, .which = wire::set_mode, .mode = 0700}).status ==
                  Status::ok);
        CHECK(session.call(wire::Release{.handle = held}));
        // What takes no room may go on until it is forgotten.
        if (name == "file")
            CHECK(getattr(session, node) == Status::stale);
    }
    write_file(exported.directory / "file", "x");
    CHECK_FALSE(session.open(session.lookup(Session::root, "file"), wire::open_hold | wire::open_read));
}

TEST_CASE("the blocks of a removed file are freed although another session knows it") {
    Export exported;
    write_file(exported.directory / "file", "x");
    Session first(*exported.service);
    Session second(*exported.service);
    const NodeId known = second.lookup(Session::root, "file");
    const HandleId opened = second.open(known, wire::open_read);
    CHECK(second.call(wire::Release{.handle = opened}));
    CHECK(first.call(wire::Unlink{.parent = Session::root, .name = "file"}));
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code error;
        const auto target = std::filesystem::read_symlink(entry.path(), error).string();
        CHECK(target.find(exported.directory / "file") == std::string::npos);
    }
    CHECK(getattr(second, known) == Status::stale);
}

TEST_CASE("what was walked and forgotten takes no memory") {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    constexpr int directories = 20;
    constexpr int files = 200;
    Export exported;
    for (int d = 0; d < directories; ++d) {
        const std::string directory = "d" + std::to_string(d);
        std::filesystem::create_directory(exported.directory / directory);
        for (int f = 0; f < files; ++f)
            write_file(exported.directory / (directory + "/file" + std::to_string(f)), "");
    }
    Session session(*exported.service);
    // Files are looked up, listed with their attributes, and opened.
    const auto walk = [&] {
        std::vector<wire::ForgetNode> seen;
        for (int d = 0; d < directories; ++d) {
            const NodeId directory = session.lookup(Session::root, "d" + std::to_string(d));
            seen.push_back({.node = directory, .count = 1});
            for (const auto& entry : session.list(directory, true)) {
                if (!entry.entry.node)
                    continue;
                seen.push_back({.node = entry.entry.node, .count = 2});
                CHECK(session.lookup(directory, entry.name) == entry.entry.node);
                if (d == 0) {
                    const HandleId handle = session.open(entry.entry.node, wire::open_read);
                    CHECK(session.call(wire::Release{.handle = handle}));
                }
            }
        }
        return seen;
    };
    const auto forget_all = [&](const std::vector<wire::ForgetNode>& seen) {
        for (std::size_t at = 0; at < seen.size(); at += wire::max_forgets) {
            const auto end = std::min(seen.size(), at + wire::max_forgets);
            session.call(wire::Forget{.nodes = {seen.begin() + static_cast<std::ptrdiff_t>(at),
                                                seen.begin() + static_cast<std::ptrdiff_t>(end)}});
        }
    };
    // Tables keep the room that they once needed.
    forget_all(walk());
    const auto in_use = [] { return mallinfo2().uordblks; };
    const std::size_t before = in_use();
    const auto seen = walk();
    const std::size_t walked = in_use();
    forget_all(seen);
    const std::size_t after = in_use();
    const std::size_t count = seen.size();
    CHECK(count == directories * (files + 1));
    WARN((walked - before) / count << " bytes a node, " << static_cast<std::ptrdiff_t>(after - before)
                                   << " afterwards");
    CHECK((walked - before) / count < 1024);
    CHECK(after < before + count * 32);
#endif
}

TEST_CASE("a file without a name can be given one") {
    Export exported(few_descriptors(1));
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    const auto made = session.call(wire::Tmpfile{.parent = Session::root,
                                                 .node = {session.new_node()},
                                                 .handle = handle,
                                                 .flags = wire::open_write | wire::open_read,
                                                 .mode = 0666,
                                                 .umask = 027});
    REQUIRE(made.status == Status::ok);
    CHECK(made.body.attributes.links == 0);
    CHECK((made.body.attributes.mode & 0777) == 0640);
    session.write(handle, 0, "content");
    const auto linked =
        session.call(wire::Link{.node = made.body.node, .new_parent = Session::root, .new_name = "named"});
    CHECK(linked.status == Status::ok);
    CHECK(linked.body.node == made.body.node);
    CHECK(linked.body.attributes.links == 1);
    CHECK(read_file(exported.directory / "named") == "content");
    CHECK(session.call(wire::Release{.handle = handle}));
    CHECK(getattr(session, made.body.node) == Status::ok);
    CHECK(session.lookup(Session::root, "named") == made.body.node);

    const auto exclusive = session.call(wire::Tmpfile{.parent = Session::root,
                                                      .node = {session.new_node()},
                                                      .handle = session.new_handle(),
                                                      .flags = wire::open_write | wire::open_exclusive});
    CHECK(session.call(wire::Link{.node = exclusive.body.node, .new_parent = Session::root, .new_name = "no"}).status ==
          Status::no_entry);
}

TEST_CASE("handles find descriptors where inodes had taken them all") {
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    {
        Export exported;
        Session session(*exported.service);
        std::vector<NodeId> nodes;
        for (int i = 0; i < 100; ++i) {
            const std::string name = "f" + std::to_string(i);
            write_file(exported.directory / name, name);
            nodes.push_back(session.lookup(Session::root, name));
        }
        // Each leaves an idle descriptor behind.
        for (const NodeId node : nodes)
            CHECK(session.call(wire::Access{.node = node, .mask = 4}));
        std::size_t open = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
            ++open;
        rlimit tight = before;
        tight.rlim_cur = open - 1;
        setrlimit(RLIMIT_NOFILE, &tight);
        std::size_t opened = 0;
        Status last = Status::ok;
        for (const NodeId node : nodes) {
            const HandleId handle = session.new_handle();
            last = session.call(wire::Open{.node = node, .handle = handle, .flags = wire::open_read}).status;
            opened += last == Status::ok ? 1 : 0;
            // So that none is closed for the next.
            session.call(wire::Flock{.handle = handle, .type = wire::LockType::read});
        }
        // About all that the inodes had; and an error, not the end, when there is really nothing left.
        CHECK(opened > 80);
        tight.rlim_cur = 10;
        setrlimit(RLIMIT_NOFILE, &tight);
        CHECK(session.call(wire::Open{.node = nodes[0], .handle = session.new_handle(), .flags = wire::open_read})
                  .status == Status::too_many_files);
        CHECK(session.create(Session::root, "new", session.new_handle()).status == Status::too_many_files);
        CHECK(session.call(wire::Opendir{.node = Session::root, .handle = session.new_handle()}).status ==
              Status::too_many_files);
        setrlimit(RLIMIT_NOFILE, &before);
        CHECK(session.open(nodes[0], wire::open_read));
    }
    setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("deeply nested directories are let go on a small stack") {
    Export exported(few_descriptors(16));
    Session session(*exported.service);
    NodeId at = Session::root;
    // More than fit into the stack below, were each let go by the one inside it.
    constexpr int depth = 2'000;
    constexpr std::size_t stack_bytes = 128U << 10;
    std::size_t made = 0;
    for (int i = 0; i < depth; ++i) {
        const auto next = session.call(
            wire::Mkdir{.parent = at, .name = "d", .node = {session.new_node()}, .mode = 0755, .umask = 0});
        if (!next)
            break;
        // Only the innermost is known to the session; the others live on through it.
        if (at != Session::root)
            session.call(wire::Forget{.nodes = {{.node = at}}});
        at = next.body.node;
        ++made;
    }
    CHECK(made == depth);
    CHECK(getattr(session, at) == Status::ok);
    std::function<void()> forget_last = [&] { session.call(wire::Forget{.nodes = {{.node = at}}}); };
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    pthread_t thread{};
    const auto run = [](void* work) -> void* {
        (*static_cast<std::function<void()>*>(work))();
        return nullptr;
    };
    REQUIRE(pthread_create(&thread, &attributes, run, &forget_last) == 0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
    // std::filesystem cannot remove what is nested that deep: take the levels apart from the top.
    const std::string root = exported.directory.path();
    while (std::filesystem::exists(root + "/d/d")) {
        std::filesystem::rename(root + "/d/d", root + "/e");
        std::filesystem::remove(root + "/d");
        std::filesystem::rename(root + "/e", root + "/d");
    }
}

TEST_CASE("the version of a file differs after each change, and only then") {
    Export exported;
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    auto created = session.create(Session::root, "file", handle);
    std::set<std::uint64_t> versions{created.body.entry.attributes.version};
    const NodeId node = created.body.entry.node;
    // Far more often than the kernel's clock ticks.
    for (int i = 0; i < 1000; ++i) {
        const auto written = session.write(handle, 0, "same size");
        CHECK(versions.insert(written.body.attributes.version).second);
        if (i % 100 == 0) {
            CHECK(session.call(wire::Getattr{.node = node}).body.attributes.version == written.body.attributes.version);
            CHECK(
                session.call(wire::Lookup{.parent = Session::root, .name = "file", .node = {session.new_node(), true}})
                    .body.attributes.version == written.body.attributes.version);
        }
    }
    const auto before = session.call(wire::Getattr{.node = node}).body.attributes.version;
    session.read(handle, 0, 100);
    CHECK(session.call(wire::Getattr{.node = node}).body.attributes.version == before);
    session.call(wire::Setxattr{.node = node, .name = "user.x"}, Buffer::copy_of("y"));
    CHECK(session.call(wire::Getattr{.node = node}).body.attributes.version != before);
}

TEST_CASE("what a request changed is told") {
    Export exported;
    Session session(*exported.service);
    const auto known = [&](const std::vector<InodePtr>& changed) {
        const auto ids = exported.service->known_as(*session.files(), changed);
        return std::set<NodeId>(ids.begin(), ids.end());
    };
    using Nodes = std::set<NodeId>;
    const NodeId root = Session::root;
    const NodeId from =
        session.call(wire::Mkdir{.parent = root, .name = "from", .node = {session.new_node()}}).body.node;
    const NodeId to = session.call(wire::Mkdir{.parent = root, .name = "to", .node = {session.new_node()}}).body.node;
    const HandleId handle = session.new_handle();
    const auto created = session.create(from, "file", handle);
    const NodeId file = created.body.entry.node;
    CHECK(known(created.changed) == Nodes{from});
    CHECK(known(session.write(handle, 0, "x").changed) == Nodes{file});
    CHECK(known(session.call(wire::Fallocate{.handle = handle, .length = 10}).changed) == Nodes{file});
    CHECK(known(session.call(wire::Link{.node = file, .new_parent = to, .new_name = "link"}).changed) ==
          Nodes{file, to});
    const NodeId other = session.create(to, "other", session.new_handle()).body.entry.node;
    CHECK(known(session.call(wire::Rename{.parent = from, .name = "file", .new_parent = to, .new_name = "other"})
                    .changed) == Nodes{from, to, file, other});
    CHECK(known(session.call(wire::Unlink{.parent = to, .name = "link"}).changed) == Nodes{to, file});
    CHECK(known(session.call(wire::Rmdir{.parent = root, .name = "from"}).changed) == Nodes{root, from});
    CHECK(known(session.call(wire::Setxattr{.node = file, .name = "user.x"}, Buffer::copy_of("x")).changed) ==
          Nodes{file});
    CHECK(known(session.call(wire::Removexattr{.node = file, .name = "user.x"}).changed) == Nodes{file});
    CHECK(session.call(wire::Getattr{.node = file}).changed.empty());
    // Another session that knows none of these files is told nothing.
    Session stranger(*exported.service, "/to");
    CHECK(exported.service->known_as(*stranger.files(), session.write(handle, 0, "y").changed).empty());
    // A SETATTR that fails half-way has changed the file.
    const auto half =
        session.call(wire::Setattr{.node = to, .which = wire::set_mode | wire::set_size, .mode = 0700, .size = 5});
    CHECK(half.status == Status::is_directory);
    CHECK(known(half.changed) == Nodes{to});
}

TEST_CASE("after its end a session is refused everything") {
    Export exported;
    write_file(exported.directory / "file", "x");
    Session session(*exported.service);
    const NodeId file = session.lookup(Session::root, "file");
    const HandleId handle = session.open(file, wire::open_read);
    session.close();
    CHECK(session.call(wire::Read{.handle = handle, .size = 1}).status == Status::no_session);
    CHECK(session.call(wire::Getattr{.node = file}).status == Status::no_session);
    session.close();
}

TEST_CASE("a session may outlive its export") {
    auto exported = std::make_unique<Export>();
    auto opened = exported->service->open_session("/", Session::root, {}, false);
    exported->service.reset();
    opened->files.reset();
}

TEST_CASE("requests that make no sense are answered") {
    Export exported;
    Session session(*exported.service);
    const auto answer = [&](wire::Opcode opcode, std::vector<std::byte> body) {
        return exported.service->carry_out(session.files(), RequestId{1}, opcode, body, {}, {}, [](Outcome) {})->status;
    };
    CHECK(answer(static_cast<wire::Opcode>(999), {}) == Status::not_implemented);
    CHECK(answer(wire::Opcode::hello, {}) == Status::not_implemented);
    for (const OperationRow& row : operation_rows()) {
        INFO(static_cast<int>(row.opcode));
        CHECK(answer(row.opcode, {std::byte{1}}) == Status::malformed);
        CHECK(dependencies_of(row.opcode, std::vector<std::byte>{std::byte{1}}).status() == Status::malformed);
    }
    for (const wire::OpcodeFacts& facts : wire::opcode_table()) {
        INFO(facts.name);
        CHECK((find_row(facts.opcode) == nullptr) == facts.of_session);
        CHECK(find_operation(facts.opcode) == (facts.of_session ? nullptr : &facts));
    }
    CHECK(find_operation(wire::Opcode::hello) == nullptr);
    const NodeId root = Session::root;
    CHECK(session.call(wire::Setattr{.node = root, .which = 1U << 30}).status == Status::invalid);
    CHECK(session.call(wire::Rename{.parent = root, .name = "a", .new_parent = root, .new_name = "b", .flags = 8})
              .status == Status::invalid);
    CHECK(session.create(root, "a", session.new_handle(), 1U << 20).status == Status::invalid);
    CHECK(session.create(root, "a", session.new_handle(), 0).status == Status::invalid);
    const HandleId handle = session.new_handle();
    REQUIRE(session.create(root, "a", handle));
    CHECK(session.call(wire::Read{.handle = handle, .size = wire::max_bulk_bytes + 1}).status == Status::invalid);
    CHECK(session.call(wire::Read{.handle = handle, .offset = UINT64_MAX, .size = 1}).status == Status::invalid);
    CHECK(session.call(wire::Write{.handle = handle, .offset = UINT64_MAX}, Buffer::copy_of("x")).status ==
          Status::invalid);
    CHECK(session.call(wire::Write{.handle = handle, .offset = INT64_MAX}, Buffer::copy_of("xy")).status ==
          Status::invalid);
    CHECK(session.call(wire::Fallocate{.handle = handle, .length = UINT64_MAX}).status == Status::invalid);
    CHECK(session.call(wire::Seek{.handle = handle, .what = static_cast<wire::SeekWhat>(9)}).status == Status::invalid);
    CHECK(session.call(wire::Setattr{.node = root, .which = wire::set_access, .access = {0, 2'000'000'000}}).status ==
          Status::invalid);
    CHECK(session.call(wire::Setattr{.node = root, .which = wire::set_uid, .uid = UINT32_MAX}).status ==
          Status::invalid);
    CHECK(session.call(wire::Access{.node = root, .mask = 8}).status == Status::invalid);
    CHECK(session.call(wire::Setxattr{.node = root, .name = "user.x", .flags = 7}).status == Status::invalid);
}
