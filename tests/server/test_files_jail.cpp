// SPDX-License-Identifier: MIT
// Attempts to reach what lies outside the export. None may succeed, and nothing outside may change.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "catch.hpp"
#include "export_fixture.hpp"
#include "server/files/export.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;
using namespace std::string_literals;

namespace {

// An export "inside" with a secret beside it, and symlinks that lead out.
struct Jail {
    Jail() {
        mkdir((around / "outside").c_str(), 0755);
        write_file(around / "outside/secret", "secret");
        mkdir((around / "inside").c_str(), 0755);
        mkdir((around / "inside/sub").c_str(), 0755);
        write_file(around / "inside/sub/file", "file");
        write_file(around / "inside/file", "file");
        link("up", "..");
        link("root", "/");
        link("out", "../outside");
        link("absolute", around / "outside");
        link("secret", "../outside/secret");
        link("sub/secret", "../../outside/secret");
        link("proc", "/proc/self/root");
        link("missing", "../outside/made");
        mkfifo((around / "inside/fifo").c_str(), 0644);
        mknod((around / "inside/null").c_str(), S_IFCHR | 0666, makedev(1, 3));
        ExportOptions options;
        options.directory = around / "inside";
        service = std::move(FileService::open(std::move(options), counters).value());
        session = std::make_unique<Session>(*service);
        before = state_outside();
    }
    void link(const std::string& name, const std::string& target) {
        REQUIRE(::symlink(target.c_str(), (around / "inside/" + name).c_str()) == 0);
    }
    std::string state_outside() const {
        std::string state;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(around / "outside")) {
            struct stat stat {};
            lstat(entry.path().c_str(), &stat);
            state += entry.path().string() + " " + std::to_string(stat.st_mode) + " " + std::to_string(stat.st_nlink) +
                     " " + std::to_string(stat.st_mtim.tv_nsec) + " " + std::to_string(stat.st_ctim.tv_nsec) + " " +
                     read_file(entry.path()) + "\n";
        }
        return state;
    }

    TemporaryDirectory around;
    Counters counters;
    std::unique_ptr<FileService> service;
    std::unique_ptr<Session> session;
    std::string before;
};

struct Attempt {
    std::string what;
    std::function<Status(Session&)> make;
    Status expected;
};

Status lookup(Session& session, const std::string& name) {
    return session.call(wire::Lookup{.parent = Session::root, .name = name, .node = {session.new_node(), false}})
        .status;
}

// A look-up in what `name` names.
Status lookup_in(Session& session, const std::string& name, const std::string& child) {
    return session
        .call(wire::Lookup{
            .parent = session.lookup(Session::root, name), .name = child, .node = {session.new_node(), false}})
        .status;
}

Status open_flags(Session& session, const std::string& name, std::uint32_t flags) {
    return session
        .call(wire::Open{.node = session.lookup(Session::root, name), .handle = session.new_handle(), .flags = flags})
        .status;
}

Status create(Session& session, const std::string& name, std::uint32_t flags) {
    return session.create(Session::root, name, session.new_handle(), flags).status;
}

const std::vector<Attempt>& attempts() {
    using namespace wire;
    static const std::vector<Attempt> table{
        // Names.
        {"lookup ..", [](Session& s) { return lookup(s, ".."); }, Status::invalid},
        {"lookup .", [](Session& s) { return lookup(s, "."); }, Status::invalid},
        {"lookup of nothing", [](Session& s) { return lookup(s, ""); }, Status::invalid},
        {"lookup of an absolute path", [](Session& s) { return lookup(s, "/etc/passwd"); }, Status::invalid},
        {"lookup of the root", [](Session& s) { return lookup(s, "/"); }, Status::invalid},
        {"lookup of a path up", [](Session& s) { return lookup(s, "../outside/secret"); }, Status::invalid},
        {"lookup of a path down and up", [](Session& s) { return lookup(s, "sub/../../outside"); }, Status::invalid},
        {"lookup of a path that stays inside", [](Session& s) { return lookup(s, "sub/file"); }, Status::invalid},
        {"lookup with a slash behind", [](Session& s) { return lookup(s, "sub/"); }, Status::invalid},
        {"lookup with a zero byte", [](Session& s) { return lookup(s, "..\0x"s); }, Status::invalid},
        {"lookup with a zero byte behind", [](Session& s) { return lookup(s, "file\0"s); }, Status::invalid},
        {"lookup of a long name", [](Session& s) { return lookup(s, std::string(256, 'a')); }, Status::name_too_long},
        {"lookup through a symlink's name", [](Session& s) { return lookup(s, "out/secret"); }, Status::invalid},
        // Symlinks as directories.
        {"lookup in a symlink up", [](Session& s) { return lookup_in(s, "up", "outside"); }, Status::not_directory},
        {"lookup in a symlink to /", [](Session& s) { return lookup_in(s, "root", "etc"); }, Status::not_directory},
        {"lookup in a relative symlink", [](Session& s) { return lookup_in(s, "out", "secret"); },
         Status::not_directory},
        {"lookup in an absolute symlink", [](Session& s) { return lookup_in(s, "absolute", "secret"); },
         Status::not_directory},
        {"lookup in a symlink to /proc/self/root", [](Session& s) { return lookup_in(s, "proc", "etc"); },
         Status::not_directory},
        {"opendir of a symlink",
         [](Session& s) {
             return s.call(Opendir{.node = s.lookup(Session::root, "out"), .handle = s.new_handle()}).status;
         },
         Status::not_directory},
        {"create in a symlink",
         [](Session& s) { return s.create(s.lookup(Session::root, "out"), "made", s.new_handle()).status; },
         Status::not_directory},
        {"mkdir in a symlink",
         [](Session& s) {
             return s.call(Mkdir{.parent = s.lookup(Session::root, "out"), .name = "d", .node = {s.new_node()}}).status;
         },
         Status::not_directory},
        {"unlink in a symlink",
         [](Session& s) { return s.call(Unlink{.parent = s.lookup(Session::root, "out"), .name = "secret"}).status; },
         Status::not_directory},
        {"rename out through a symlink",
         [](Session& s) {
             return s
                 .call(Rename{.parent = Session::root,
                              .name = "file",
                              .new_parent = s.lookup(Session::root, "out"),
                              .new_name = "file"})
                 .status;
         },
         Status::not_directory},
        {"rename in through a symlink",
         [](Session& s) {
             return s
                 .call(Rename{.parent = s.lookup(Session::root, "out"),
                              .name = "secret",
                              .new_parent = Session::root,
                              .new_name = "got"})
                 .status;
         },
         Status::not_directory},
        {"link out through a symlink",
         [](Session& s) {
             return s
                 .call(Link{.node = s.lookup(Session::root, "file"),
                            .new_parent = s.lookup(Session::root, "out"),
                            .new_name = "file"})
                 .status;
         },
         Status::not_directory},
        {"tmpfile in a symlink",
         [](Session& s) {
             return s
                 .call(Tmpfile{.parent = s.lookup(Session::root, "out"),
                               .node = {s.new_node()},
                               .handle = s.new_handle(),
                               .flags = open_write})
                 .status;
         },
         Status::not_directory},
        // Symlinks as files.
        {"open a symlink", [](Session& s) { return open_flags(s, "secret", open_read); }, Status::symlink_loop},
        {"open a symlink to truncate", [](Session& s) { return open_flags(s, "secret", open_write | open_truncate); },
         Status::symlink_loop},
        {"create on a symlink", [](Session& s) { return create(s, "secret", open_read | open_write | open_truncate); },
         Status::symlink_loop},
        {"create on a dangling symlink", [](Session& s) { return create(s, "missing", open_write); },
         Status::symlink_loop},
        {"create anew on a dangling symlink",
         [](Session& s) { return create(s, "missing", open_write | open_exclusive); }, Status::exists},
        {"truncate a symlink",
         [](Session& s) {
             return s.call(Setattr{.node = s.lookup(Session::root, "secret"), .which = set_size, .size = 0}).status;
         },
         Status::invalid},
        {"chmod a symlink",
         [](Session& s) {
             return s.call(Setattr{.node = s.lookup(Session::root, "secret"), .which = set_mode, .mode = 0777}).status;
         },
         Status::not_supported},
        {"setxattr of a symlink",
         [](Session& s) {
             return s
                 .call(Setxattr{.node = s.lookup(Session::root, "secret"), .name = "user.x"}, Buffer::copy_of("value"))
                 .status;
         },
         Status::not_permitted},
        {"mkdir on a symlink",
         [](Session& s) {
             return s.call(Mkdir{.parent = Session::root, .name = "missing", .node = {s.new_node()}}).status;
         },
         Status::exists},
        // Names in every other request.
        {"create ..", [](Session& s) { return create(s, "..", open_write); }, Status::invalid},
        {"create a path", [](Session& s) { return create(s, "../outside/made", open_write); }, Status::invalid},
        {"mkdir a path",
         [](Session& s) {
             return s.call(Mkdir{.parent = Session::root, .name = "../outside/d", .node = {s.new_node()}}).status;
         },
         Status::invalid},
        {"mknod a path",
         [](Session& s) {
             return s.call(Mknod{.parent = Session::root, .name = "../outside/n", .node = {s.new_node()}}).status;
         },
         Status::invalid},
        {"symlink a path",
         [](Session& s) {
             return s
                 .call(Symlink{
                     .parent = Session::root, .name = "../outside/l", .node = {s.new_node()}, .target = "secret"})
                 .status;
         },
         Status::invalid},
        {"unlink a path",
         [](Session& s) { return s.call(Unlink{.parent = Session::root, .name = "../outside/secret"}).status; },
         Status::invalid},
        {"rmdir ..", [](Session& s) { return s.call(Rmdir{.parent = Session::root, .name = ".."}).status; },
         Status::invalid},
        {"rename a path in",
         [](Session& s) {
             return s
                 .call(Rename{.parent = Session::root,
                              .name = "../outside/secret",
                              .new_parent = Session::root,
                              .new_name = "got"})
                 .status;
         },
         Status::invalid},
        {"rename to a path out",
         [](Session& s) {
             return s
                 .call(Rename{.parent = Session::root,
                              .name = "file",
                              .new_parent = Session::root,
                              .new_name = "../outside/file"})
                 .status;
         },
         Status::invalid},
        {"link to a path out",
         [](Session& s) {
             return s
                 .call(Link{.node = s.lookup(Session::root, "file"),
                            .new_parent = Session::root,
                            .new_name = "../outside/file"})
                 .status;
         },
         Status::invalid},
        // Ids that were never given.
        {"link an unknown node",
         [](Session& s) {
             return s.call(Link{.node = NodeId{4711}, .new_parent = Session::root, .new_name = "got"}).status;
         },
         Status::stale},
        {"rename to an unknown node",
         [](Session& s) {
             return s.call(Rename{.parent = Session::root, .name = "file", .new_parent = NodeId{4711}, .new_name = "x"})
                 .status;
         },
         Status::stale},
        {"open an unknown node",
         [](Session& s) {
             return s.call(Open{.node = NodeId{4711}, .handle = s.new_handle(), .flags = open_read}).status;
         },
         Status::stale},
        {"read an unknown handle", [](Session& s) { return s.call(Read{.handle = HandleId{4711}, .size = 1}).status; },
         Status::bad_handle},
        // Files that are more than their bytes.
        {"open a fifo", [](Session& s) { return open_flags(s, "fifo", open_read); }, Status::no_device},
        {"open a device", [](Session& s) { return open_flags(s, "null", open_write); }, Status::no_device},
        {"create on a device", [](Session& s) { return create(s, "null", open_write); }, Status::no_device},
    };
    return table;
}

}  // namespace

TEST_CASE("no attempt to leave the export succeeds") {
    Jail jail;
    for (const Attempt& attempt : attempts()) {
        INFO(attempt.what);
        CHECK(describe(attempt.make(*jail.session)) == describe(attempt.expected));
        CHECK(jail.state_outside() == jail.before);
    }
    CHECK(attempts().size() >= 25);
}

TEST_CASE("a session begins only at a directory below the export") {
    Jail jail;
    for (const auto& path : {"/.."s, "/../outside"s, "/sub/../.."s, "/out"s, "/out/secret"s, "/root"s, "/up"s,
                             "/proc/self"s, "sub"s, ""s, "/file"s, "/sub/file"s, "/missing"s, "/sub\0"s}) {
        INFO(path);
        const Session session(*jail.service, path);
        CHECK(session.open_status() != Status::ok);
    }
    for (const auto& path : {"/"s, "/sub"s, "/sub/"s, "//sub"s, "/./sub/."s}) {
        INFO(path);
        const Session session(*jail.service, path);
        CHECK(session.open_status() == Status::ok);
    }
}

TEST_CASE("a session that begins below the root cannot climb above its beginning") {
    Jail jail;
    Session session(*jail.service, "/sub");
    REQUIRE(session.open_status() == Status::ok);
    CHECK(session.lookup(Session::root, "..") == NodeId{});
    CHECK(session.lookup(Session::root, "file"));
    CHECK(session.list(Session::root).size() == 4);
}

TEST_CASE("what is done to a symlink is done to the symlink") {
    Jail jail;
    Session& session = *jail.session;
    const NodeId link = session.lookup(Session::root, "secret");
    CHECK(session.call(wire::Readlink{.node = link}).body.target == "../outside/secret");
    CHECK(S_ISLNK(session.call(wire::Getattr{.node = link}).body.attributes.mode));
    // A hard link to it is a link to the symlink.
    CHECK(session.call(wire::Link{.node = link, .new_parent = Session::root, .new_name = "second"}));
    CHECK(S_ISLNK(session.call(wire::Getattr{.node = link}).body.attributes.mode));
    CHECK(session.call(wire::Getattr{.node = link}).body.attributes.links == 2);
    CHECK(
        session.call(wire::Setattr{.node = link, .which = wire::set_modification, .modification = {.seconds = 1000}}));
    CHECK(session.call(wire::Getattr{.node = link}).body.attributes.modification.seconds == 1000);
    CHECK(session.call(wire::Setattr{.node = link, .which = wire::set_uid | wire::set_gid, .uid = 12, .gid = 13}));
    CHECK(session.call(wire::Getattr{.node = link}).body.attributes.uid == 12);
    const auto set = session.call(wire::Setxattr{.node = link, .name = "trusted.x"}, Buffer::copy_of("value"));
    CHECK(set.status == Status::ok);
    char value[16];
    CHECK(lgetxattr((jail.around / "inside/secret").c_str(), "trusted.x", value, sizeof value) == 5);
    // A rename onto it replaces it.
    CHECK(session.call(
        wire::Rename{.parent = Session::root, .name = "file", .new_parent = Session::root, .new_name = "secret"}));
    CHECK(session.call(wire::Unlink{.parent = Session::root, .name = "out"}));
    CHECK(jail.state_outside() == jail.before);
}

TEST_CASE("the magic links of an exported /proc lead nowhere") {
    Counters counters;
    ExportOptions options;
    options.directory = "/proc";
    const auto service = FileService::open(std::move(options), counters);
    REQUIRE(service);
    Session session(**service);
    const NodeId process = session.lookup(Session::root, std::to_string(getpid()));
    REQUIRE(process);
    for (const auto* name : {"root", "cwd", "exe"}) {
        INFO(name);
        const NodeId magic = session.lookup(process, name);
        REQUIRE(magic);
        CHECK(session.lookup(magic, "etc") == NodeId{});
        CHECK(session.open(magic, wire::open_read) == HandleId{});
        CHECK(session.call(wire::Opendir{.node = magic, .handle = session.new_handle()}).status ==
              Status::not_directory);
    }
    const NodeId descriptors = session.lookup(process, "fd");
    for (const auto& entry : session.list(descriptors)) {
        if (entry.name == "." || entry.name == "..")
            continue;
        CHECK(session.lookup(session.lookup(descriptors, entry.name), "etc") == NodeId{});
        CHECK(session.open(session.lookup(descriptors, entry.name), wire::open_read) == HandleId{});
    }
}

TEST_CASE("a directory that turns into a symlink and back never lets a look-up out") {
    Jail jail;
    const std::string inside = jail.around / "inside/";
    mkdir((inside + "swap").c_str(), 0755);
    write_file(inside + "swap/secret", "harmless");
    link((inside + "out").c_str(), (inside + "link").c_str());
    std::atomic<bool> done = false;
    std::thread renamer([&] {
        // "swap" is by turns a directory and a symlink out of the export.
        while (!done)
            renameat2(AT_FDCWD, (inside + "swap").c_str(), AT_FDCWD, (inside + "link").c_str(), RENAME_EXCHANGE);
    });
    Session& session = *jail.session;
    std::size_t harmless = 0;
    std::size_t refused = 0;
    std::size_t leaked = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (int round = 0; (round < 3000 || harmless == 0 || refused == 0) && std::chrono::steady_clock::now() < deadline;
         ++round) {
        // Also with a session that begins at it.
        if (round % 16 == 0) {
            Session below(*jail.service, "/swap");
            if (below.open_status() == Status::ok) {
                const NodeId file = below.lookup(Session::root, "secret");
                const HandleId handle = below.open(file, wire::open_read);
                leaked += handle && below.read(handle, 0, 100) == "secret" ? 1 : 0;
            }
        }
        const NodeId directory = session.lookup(Session::root, "swap");
        const NodeId file = session.lookup(directory, "secret");
        const HandleId handle = session.open(file, wire::open_read);
        if (!handle) {
            ++refused;
        } else {
            const std::string content = session.read(handle, 0, 100);
            harmless += content == "harmless" ? 1 : 0;
            leaked += content == "secret" ? 1 : 0;
            session.call(wire::Release{.handle = handle});
        }
        const HandleId made = session.new_handle();
        if (session.create(directory, "made", made))
            session.call(wire::Release{.handle = made});
        session.call(wire::Unlink{.parent = directory, .name = "made"});
        std::vector<wire::ForgetNode> forgets{{.node = file}, {.node = directory}};
        session.call(wire::Forget{.nodes = forgets});
    }
    done = true;
    renamer.join();
    CHECK(leaked == 0);
    CHECK(harmless > 0);
    CHECK(refused > 0);
    CHECK(jail.state_outside() == jail.before);
}

TEST_CASE("names are checked as POSIX has them") {
    CHECK(EntryName::check("a"));
    CHECK(EntryName::check("..."));
    CHECK(EntryName::check(" "));
    CHECK(EntryName::check("\xff\xfe not UTF-8"));
    CHECK(EntryName::check(std::string(255, 'x')));
    CHECK(EntryName::check(std::string(256, 'x')).status() == Status::name_too_long);
    CHECK(EntryName::check("a/b").status() == Status::invalid);
    CHECK(EntryName::check("").status() == Status::invalid);

    Export exported;
    Session session(*exported.service);
    const std::string odd = "\xff\x01\n name";
    const HandleId handle = session.new_handle();
    CHECK(session.create(Session::root, odd, handle));
    CHECK(std::filesystem::exists(exported.directory / odd));
    CHECK(session.lookup(Session::root, odd));
}
