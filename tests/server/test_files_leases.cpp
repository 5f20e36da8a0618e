// SPDX-License-Identifier: MIT
// Which names each request touches, what asking for something brings back, and that no change falls between a look at
// the files and the lease that covers it.
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <map>
#include <set>

#include "catch.hpp"
#include "export_fixture.hpp"
#include "server/files/inode_table.hpp"
#include "server/leases/lease_table.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;
using What = wire::LeaseChange::What;

namespace {

constexpr std::uint32_t read_write = wire::open_read | wire::open_write;

// What was told, as "directory:what:name".
using Told = std::set<std::string>;

// An export with directories d and e, and files d/file, d/other and d/link, which is e/link too. The holder has leases
// of the root and of d; the author knows d and e.
struct Leased {
    Counters lease_counters;
    std::shared_ptr<LeaseTable> table;  // shared with the export
    std::unique_ptr<Export> exported;
    std::unique_ptr<Session> holder;
    std::unique_ptr<Session> author;
    NodeId root = Session::root;
    NodeId d;  // the holder's
    NodeId author_d;
    NodeId author_e;

    explicit Leased(const LeaseTable::Limits& limits = {})
        : table(std::make_shared<LeaseTable>(Clock::system(), limits, lease_counters)) {
        ExportOptions options;
        options.leases = table;
        exported = std::make_unique<Export>(options);
        std::filesystem::create_directory(path("d"));
        std::filesystem::create_directory(path("e"));
        for (const auto* name : {"d/file", "d/other", "d/link"})
            write_file(path(name), "content");
        std::filesystem::create_hard_link(path("d/link"), path("e/link"));
        holder = std::make_unique<Session>(*exported->service);
        author = std::make_unique<Session>(*exported->service);
        table->enter(holder->files().get(), SessionId{1});
        table->enter(author->files().get(), SessionId{2});
        d = holder->lookup(root, "d");
        author_d = author->lookup(root, "d");
        author_e = author->lookup(root, "e");
        REQUIRE(list(root).body.leased);
        REQUIRE(list(d).body.leased);
    }
    ~Leased() {
        table->leave(holder->files().get());
        table->leave(author->files().get());
    }

    std::string path(const std::string& name) const { return exported->directory / name; }
    Answer<wire::List> list(NodeId node) {
        return holder->call(wire::List{.node = node, .size = wire::max_bulk_bytes, .lease = true});
    }
    // What the holder is told of what the author has just done. It confirms.
    Told report(const std::vector<Touched>& touched) {
        table->tell(author->files().get(), touched);
        Told told;
        while (const auto news = table->take_news(holder->files().get(), 1 << 16)) {
            for (const wire::LeaseChange& change : news->changes) {
                const std::string directory = change.directory == root ? "root" : change.directory == d ? "d" : "?";
                told.insert(directory + ":" + std::to_string(static_cast<int>(change.what)) + ":" + change.name);
            }
            table->confirm(holder->files().get(), news->last);
        }
        return told;
    }
    template <class Request>
    Told by_author(const Request& request, Buffer bulk = {}) {
        const auto answer = author->call(request, std::move(bulk));
        INFO("the answer's status is " << static_cast<int>(answer.status));
        CHECK(answer);
        CHECK(answer.unplaced.empty());
        return report(answer.touched);
    }
    // The holder knows everything again.
    void list_all() {
        REQUIRE(list(root).body.leased);
        REQUIRE(list(d).body.leased);
    }
    wire::NewNode new_node() { return {author->new_node(), false}; }
};

}  // namespace

TEST_CASE("each request that makes, removes or moves a name touches the name and its directory") {
    Leased f;
    const Told made{"d:1:new"};
    SECTION("CREATE") {
        CHECK(f.by_author(wire::Create{.parent = f.author_d,
                                       .name = "new",
                                       .node = f.new_node(),
                                       .handle = HandleId{9},
                                       .flags = read_write,
                                       .mode = 0644}) == made);
    }
    SECTION("MKNOD") {
        CHECK(f.by_author(wire::Mknod{
                  .parent = f.author_d, .name = "new", .node = f.new_node(), .mode = S_IFIFO | 0644}) == made);
    }
    SECTION("MKDIR and RMDIR") {
        CHECK(f.by_author(wire::Mkdir{.parent = f.author_d, .name = "new", .node = f.new_node(), .mode = 0755}) ==
              made);
        f.list_all();
        CHECK(f.by_author(wire::Rmdir{.parent = f.author_d, .name = "new"}) == made);
    }
    SECTION("SYMLINK") {
        CHECK(f.by_author(wire::Symlink{.parent = f.author_d, .name = "new", .node = f.new_node(), .target = "x"}) ==
              made);
    }
    SECTION("UNLINK, of a file that the author knows and of one that it does not") {
        f.author->lookup(f.author_d, "file");
        CHECK(f.by_author(wire::Unlink{.parent = f.author_d, .name = "file"}) == Told{"d:1:file"});
        f.list_all();
        CHECK(f.by_author(wire::Unlink{.parent = f.author_d, .name = "other"}) == Told{"d:1:other"});
    }
    SECTION("UNLINK of another name of a file") {
        f.author->lookup(f.author_e, "link");
        f.list_all();  // the file is known now, so this finds its name here
        CHECK(f.by_author(wire::Unlink{.parent = f.author_e, .name = "link"}) == Told{"d:0:link"});
    }
    SECTION("LINK") {
        const NodeId file = f.author->lookup(f.author_d, "file");
        CHECK(f.by_author(wire::Link{.node = file, .new_parent = f.author_e, .new_name = "more"}) == Told{"d:0:file"});
        CHECK(f.by_author(wire::Link{.node = file, .new_parent = f.author_d, .new_name = "new"}) == made);
    }
    SECTION("TMPFILE touches nothing, but the LINK that names it does") {
        const wire::NewNode node = f.new_node();
        const auto answer = f.author->call(wire::Tmpfile{
            .parent = f.author_d, .node = node, .handle = HandleId{9}, .flags = read_write, .mode = 0600});
        if (answer.status == Status::not_supported)
            return;
        CHECK(f.report(answer.touched).empty());
        CHECK(f.by_author(wire::Link{.node = node.id, .new_parent = f.author_d, .new_name = "new"}) == made);
    }
    SECTION("RENAME within the directory, out of it, into it, over another, and an exchange") {
        const auto rename = [&](NodeId from, const char* name, NodeId to, const char* new_name,
                                std::uint32_t flags = 0) {
            f.list_all();
            return f.by_author(
                wire::Rename{.parent = from, .name = name, .new_parent = to, .new_name = new_name, .flags = flags});
        };
        CHECK(rename(f.author_d, "file", f.author_d, "new") == Told{"d:1:file", "d:1:new"});
        CHECK(rename(f.author_d, "new", f.author_e, "new") == Told{"d:1:new"});
        CHECK(rename(f.author_e, "new", f.author_d, "file") == Told{"d:1:file"});
        CHECK(rename(f.author_d, "file", f.author_d, "other") == Told{"d:1:file", "d:1:other"});
        CHECK(rename(f.author_d, "other", f.author_d, "link", wire::rename_exchange) == Told{"d:1:other", "d:1:link"});
        CHECK(rename(Session::root, "e", f.author_d, "moved") == Told{"root:1:e", "d:1:moved"});
    }
}

TEST_CASE("a leased directory that is moved, itself or with one above it, is told of as before") {
    Leased f;
    const auto make = [&](const std::string& name) {
        return f.by_author(wire::Mkdir{.parent = f.author_d, .name = name, .node = f.new_node(), .mode = 0755});
    };
    // The time of the directory's own last change is new.
    CHECK(f.by_author(
              wire::Rename{.parent = Session::root, .name = "d", .new_parent = f.author_e, .new_name = "moved"}) ==
          Told{"root:1:d", "d:3:"});
    CHECK(make("one") == Told{"d:1:one"});
    f.list_all();
    CHECK(f.by_author(
              wire::Rename{.parent = Session::root, .name = "e", .new_parent = Session::root, .new_name = "above"}) ==
          Told{"root:1:e", "root:1:above"});
    CHECK(make("two") == Told{"d:1:two"});
    f.list_all();
    // A program on the server that moves it tells nobody of what is in it.
    std::filesystem::rename(f.path("above/moved"), f.path("elsewhere"));
    CHECK(make("three") == Told{"d:1:three"});
    const auto listed = f.list(f.d);
    CHECK(listed.body.leased);
    std::set<std::string> names;
    for (const wire::DirectoryEntry& entry : decode_entries(listed.body.count, listed.bulk))
        names.insert(entry.name);
    CHECK((names.contains("one") && names.contains("two") && names.contains("three")));
    CHECK(f.by_author(wire::Rmdir{.parent = f.author_d, .name = "one"}) == Told{"d:1:one"});
}

TEST_CASE("under a lease a listing says which files have no extended attributes, and where symlinks lead") {
    Leased f;
    std::ofstream(f.path("d/plain"));
    std::ofstream(f.path("d/marked"));
    std::ofstream(f.path("d/with acl"));
    std::filesystem::create_symlink("where/it/leads", f.path("d/symlink"));
    std::filesystem::create_directory(f.path("d/directory"));
    REQUIRE(::setxattr(f.path("d/marked").c_str(), "user.a", "1", 1, 0) == 0);
    // An access ACL with an entry for a user: version 2; owner, user 1, group, mask, others.
    constexpr std::array<std::uint8_t, 44> acl{2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
                                               0, 1, 0,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
                                               4, 0, 255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
    REQUIRE(::setxattr(f.path("d/with acl").c_str(), "system.posix_acl_access", acl.data(), acl.size(), 0) == 0);
    const auto entries = [&](const auto& listed) {
        std::map<std::string, wire::DirectoryEntry> found;
        for (wire::DirectoryEntry& entry : decode_entries(listed.body.count, listed.bulk))
            found[entry.name] = entry;
        return found;
    };
    const auto listed = f.list(f.d);
    auto found = entries(listed);
    CHECK(listed.body.no_xattrs);
    CHECK(found["plain"].no_xattrs);
    CHECK_FALSE(found["marked"].no_xattrs);
    CHECK_FALSE(found["with acl"].no_xattrs);
    CHECK(found["symlink"].target == "where/it/leads");
    CHECK(found["plain"].target.empty());
    CHECK_FALSE(found["directory"].no_xattrs);  // its own lease covers them
    // Also where READDIR goes on.
    const HandleId handle{99};
    const auto part = f.holder->call(wire::List{.node = f.d, .handle = handle, .size = 400, .lease = true});
    REQUIRE(part);
    CHECK_FALSE(part.body.end);
    const auto first = decode_entries(part.body.count, part.bulk);
    REQUIRE_FALSE(first.empty());
    const auto rest = f.holder->call(wire::Readdir{.handle = handle,
                                                   .cookie = first.back().cookie,
                                                   .size = 65536,
                                                   .max_entries = 100,
                                                   .attributes = wire::ListedAttributes::leased});
    REQUIRE(rest);
    CHECK(rest.body.end);
    CHECK(rest.body.count >= 3);  // of the five and the dots
    found = entries(part);
    found.merge(entries(rest));
    CHECK(found["plain"].no_xattrs);
    CHECK(found["plain"].entry.attributes.mode == (S_IFREG | 0644U));
    CHECK_FALSE(found["plain"].entry.node);
    CHECK_FALSE(found["marked"].no_xattrs);
    CHECK(found["symlink"].target == "where/it/leads");
    CHECK(f.holder
              ->call(wire::Readdir{.handle = handle,
                                   .size = 65536,
                                   .max_entries = 100,
                                   .attributes = static_cast<wire::ListedAttributes>(4)})
              .status == Status::invalid);
    REQUIRE(::setxattr(f.path("d").c_str(), "user.a", "1", 1, 0) == 0);
    CHECK_FALSE(f.list(f.d).body.no_xattrs);
}

TEST_CASE("each request that changes a file touches the names that it is known to have") {
    Leased f;
    const NodeId file = f.author->lookup(f.author_d, "file");
    const HandleId handle = f.author->open(file, read_write);
    REQUIRE(handle);
    const Told changed{"d:0:file"};
    SECTION("WRITE") {
        CHECK(f.by_author(wire::Write{.handle = handle}, Buffer::copy_of("x")) == changed);
    }
    SECTION("SETATTR") {
        CHECK(f.by_author(wire::Setattr{.node = file, .which = wire::set_mode, .mode = 0600}) == changed);
    }
    SECTION("FALLOCATE and COPY_RANGE") {
        CHECK(f.by_author(wire::Fallocate{.handle = handle, .length = 100'000}) == changed);
        f.list_all();
        CHECK(f.by_author(wire::CopyRange{.from = handle, .to = handle, .to_offset = 50'000, .size = 7}) == changed);
    }
    SECTION("OPEN and CREATE with truncation") {
        CHECK(f.by_author(wire::Open{
                  .node = file, .handle = HandleId{90}, .flags = wire::open_write | wire::open_truncate}) == changed);
        f.list_all();
        CHECK(f.by_author(wire::Create{.parent = f.author_d,
                                       .name = "file",
                                       .node = {file, false},
                                       .handle = HandleId{91},
                                       .flags = wire::open_write | wire::open_truncate}) == changed);
    }
    SECTION("SETXATTR and REMOVEXATTR") {
        const auto set = f.author->call(wire::Setxattr{.node = file, .name = "user.x"}, Buffer::copy_of("v"));
        if (set.status == Status::not_supported)
            return;
        CHECK(f.report(set.touched) == changed);
        f.list_all();
        CHECK(f.by_author(wire::Removexattr{.node = file, .name = "user.x"}) == changed);
    }
    SECTION("a directory has attributes of its own, and as an entry") {
        CHECK(f.by_author(wire::Setattr{.node = f.author_d, .which = wire::set_mode, .mode = 0700}) == Told{"d:3:"});
    }
    SECTION("a file with several names, by any of them") {
        const NodeId link = f.author->lookup(f.author_e, "link");
        f.list_all();
        CHECK(f.by_author(wire::Setattr{.node = link, .which = wire::set_mode, .mode = 0600}) == Told{"d:0:link"});
    }
    SECTION("what changes nothing touches nothing") {
        CHECK(f.by_author(wire::Read{.handle = handle, .size = 5}).empty());
        CHECK(f.by_author(wire::Getattr{.node = file}).empty());
        CHECK(f.by_author(wire::Lookup{.parent = f.author_d, .name = "other", .node = f.new_node()}).empty());
        CHECK(f.by_author(wire::Fsync{.handle = handle}).empty());
        CHECK(f.by_author(wire::Release{.handle = handle}).empty());
        CHECK(f.by_author(wire::List{.node = f.author_d, .size = 65536, .lease = true}).empty());
    }
}

TEST_CASE("nobody is told of own changes, and nothing is looked up where nobody else has a lease") {
    Leased f;
    f.author->call(wire::List{.node = f.author_e, .size = 65536, .lease = true});
    const auto answer = f.holder->create(f.d, "new", HandleId{1});
    CHECK_FALSE(answer.touched.empty());  // the author has a lease elsewhere
    f.table->tell(f.holder->files().get(), answer.touched);
    CHECK_FALSE(f.table->has_news(f.holder->files().get()));
    f.author->call(wire::ReturnLeases{.directories = {f.author_e}});
    CHECK(f.holder->create(f.d, "another", HandleId{2}).touched.empty());
}

TEST_CASE("whoever asks is told again, and whoever does not is not") {
    Leased f;
    const NodeId file = f.holder->lookup(f.d, "file");
    const NodeId author_file = f.author->lookup(f.author_d, "file");
    const HandleId handle = f.holder->open(file, read_write);
    REQUIRE(handle);
    const HandleId listing = f.holder->new_handle();
    REQUIRE(f.holder->call(wire::Opendir{.node = f.d, .handle = listing}));
    const auto change = [&] {
        return f.by_author(wire::Setattr{.node = author_file, .which = wire::set_mode, .mode = 0644});
    };
    const auto is_told_again_after = [&](const auto& request) {
        f.list_all();
        CHECK(change() == Told{"d:0:file"});
        CHECK(change().empty());
        f.holder->call(request);
        return !change().empty();
    };
    const wire::NewNode node{f.holder->new_node(), true};
    CHECK(is_told_again_after(wire::Lookup{.parent = f.d, .name = "file", .node = node}));
    CHECK(is_told_again_after(wire::Getattr{.node = file}));
    CHECK(is_told_again_after(wire::Getattr{.node = file, .handle = handle}));
    CHECK(is_told_again_after(wire::Setattr{.node = file}));
    CHECK(is_told_again_after(wire::Open{.node = file, .handle = HandleId{50}, .flags = wire::open_read}));
    CHECK(is_told_again_after(
        wire::Create{.parent = f.d, .name = "file", .node = node, .handle = HandleId{51}, .flags = wire::open_read}));
    CHECK(is_told_again_after(wire::Write{.handle = handle}));
    CHECK(is_told_again_after(wire::Fallocate{.handle = handle, .length = 10}));
    CHECK(is_told_again_after(wire::Fetch{.parent = f.d, .name = "file", .size = 100}));
    CHECK(is_told_again_after(wire::List{.node = f.d, .size = 65536, .lease = true}));
    CHECK(is_told_again_after(wire::List{.node = f.d, .size = 65536}));
    CHECK(is_told_again_after(wire::Readdir{
        .handle = listing, .size = 65536, .max_entries = 100, .attributes = wire::ListedAttributes::alone}));
    CHECK(is_told_again_after(wire::Readdir{.handle = listing,
                                            .size = 65536,
                                            .max_entries = 100,
                                            .attributes = wire::ListedAttributes::with_nodes,
                                            .first_node = f.holder->reserve_nodes(100)}));
    // None of these says anything of the file's attributes.
    CHECK_FALSE(is_told_again_after(wire::Readdir{.handle = listing, .size = 65536, .max_entries = 100}));
    CHECK_FALSE(is_told_again_after(wire::Read{.handle = handle, .size = 5}));
    CHECK_FALSE(is_told_again_after(wire::Access{.node = file, .mask = 4}));
    CHECK_FALSE(is_told_again_after(wire::Lookup{.parent = f.d, .name = "other", .node = node}));
}

TEST_CASE("whoever makes, removes or moves a name hears of what others do with it then") {
    Leased f;
    const auto by_holder_then_author = [&](const auto& own, const auto& others) {
        f.list_all();
        const auto answer = f.holder->call(own);
        CHECK(answer);
        return f.by_author(others);
    };
    const auto unlink_new = wire::Unlink{.parent = f.author_d, .name = "new"};
    // The name was told before; the own request asks for it.
    CHECK(f.author->create(f.author_d, "new", HandleId{1}).status == Status::ok);
    CHECK(f.by_author(unlink_new).contains("d:1:new"));
    f.report({{}});
    const auto own_create = f.holder->create(f.d, "new", HandleId{2});
    CHECK(own_create);
    CHECK(f.by_author(unlink_new).contains("d:1:new"));

    CHECK(by_holder_then_author(wire::Rename{.parent = f.d, .name = "file", .new_parent = f.d, .new_name = "new"},
                                unlink_new)
              .contains("d:1:new"));
    const NodeId other = f.holder->lookup(f.d, "other");
    CHECK(by_holder_then_author(wire::Link{.node = other, .new_parent = f.d, .new_name = "new"}, unlink_new)
              .contains("d:1:new"));
    // A name that the holder removed it knows to be absent.
    CHECK(by_holder_then_author(wire::Unlink{.parent = f.d, .name = "other"},
                                wire::Mkdir{.parent = f.author_d, .name = "other", .node = f.new_node(), .mode = 0755})
              .contains("d:1:other"));
}

TEST_CASE("a lease ends with its node, or when it is returned") {
    Leased f;
    CHECK(f.table->figures(f.holder->files().get()).leases == 2);
    f.holder->call(wire::ReturnLeases{.directories = {f.root, NodeId{4711}}});
    CHECK(f.table->figures(f.holder->files().get()).leases == 1);
    CHECK(f.author->create(f.author_d, "new", HandleId{1}).touched.size() > 1);
    f.holder->call(wire::Forget{.nodes = {{.node = f.d, .count = 1}}});
    CHECK(f.table->figures(f.holder->files().get()).leases == 0);
    CHECK(f.author->create(f.author_d, "another", HandleId{2}).touched.empty());
}

TEST_CASE("a directory's lease stays when one of the nodes is forgotten by which its holder knows it") {
    Leased f;
    const auto other =
        f.holder->call(wire::Lookup{.parent = f.root, .name = "d", .node = {f.holder->new_node(), false}});
    REQUIRE(other);
    const NodeId second = other.body.node;
    REQUIRE(second != f.d);
    // By whichever of the two: it is the same directory.
    REQUIRE(f.list(second).body.leased);
    const auto by_name = f.holder->call(wire::List{.node = f.root,
                                                   .name = "d",
                                                   .new_node = {f.holder->new_node(), true},
                                                   .size = wire::max_bulk_bytes,
                                                   .lease = true});
    REQUIRE(by_name.body.leased);
    const Told removed{"d:1:file"};
    SECTION("the second") {
        f.holder->call(wire::Forget{.nodes = {{.node = second, .count = 100}}});
        CHECK(f.by_author(wire::Unlink{f.author_d, "file"}) == removed);
    }
    SECTION("the first") {
        f.holder->call(wire::Forget{.nodes = {{.node = f.d, .count = 100}}});
        f.d = second;
        CHECK(f.by_author(wire::Unlink{f.author_d, "file"}) == removed);
    }
    SECTION("both") {
        f.holder->call(wire::Forget{.nodes = {{.node = f.d, .count = 100}, {.node = second, .count = 100}}});
        CHECK(f.by_author(wire::Unlink{f.author_d, "file"}).empty());
        CHECK(f.table->figures(f.holder->files().get()).leases == 1);
    }
    SECTION("none, but it is returned by the second") {
        f.holder->call(wire::ReturnLeases{.directories = {second}});
        CHECK(f.by_author(wire::Unlink{f.author_d, "file"}).empty());
    }
    SECTION("the second, on the way of a LIST by it") {
        f.table->on_asked = [&, done = false]() mutable {
            if (!std::exchange(done, true))
                f.holder->call(wire::Forget{.nodes = {{.node = second, .count = 100}}});
        };
        CHECK_FALSE(f.list(second).body.leased);
        f.table->on_asked = nullptr;
        CHECK(f.by_author(wire::Unlink{f.author_d, "file"}) == removed);
    }
}

TEST_CASE("a LIST that fails grants nothing that outlives it") {
    Leased f;
    f.holder->call(wire::Forget{.nodes = {{.node = f.d, .count = 1}}});
    const auto refused = f.holder->call(
        wire::List{.node = f.root, .name = "d", .new_node = {f.holder->new_node(), false}, .size = 20, .lease = true});
    CHECK(refused.status == Status::invalid);
    CHECK(f.table->figures(f.holder->files().get()).leases == 1);
}

TEST_CASE("a file that somebody knows elsewhere is found by a listing, and its changes are told from then on") {
    // The author knew it by another name, before a program on the server moved it here.
    Leased f;
    write_file(f.path("e/stray"), "x");
    const NodeId stray = f.author->lookup(f.author_e, "stray");
    const HandleId handle = f.author->open(stray, read_write);
    REQUIRE(handle);
    std::filesystem::rename(f.path("e/stray"), f.path("d/stray"));
    const auto write = [&] { return f.by_author(wire::Write{.handle = handle}, Buffer::copy_of("y")); };
    CHECK(write().empty());
    SECTION("by LIST") {
        f.list_all();
    }
    SECTION("by LOOKUP") {
        f.holder->lookup(f.d, "stray");
    }
    SECTION("by FETCH") {
        CHECK(f.holder->call(wire::Fetch{.parent = f.d, .name = "stray", .size = 100}).body.complete);
    }
    SECTION("by READDIR") {
        f.holder->list(f.d, true);
    }
    CHECK(write() == Told{"d:0:stray"});
}

TEST_CASE("what is found in a new place is looked at again, for a change may have missed that place") {
    // The change comes after the place was remembered, and is seen; without a second look the answer would be of
    // before.
    Leased f;
    write_file(f.path("e/stray"), "x");
    const NodeId stray = f.author->lookup(f.author_e, "stray");
    const HandleId handle = f.author->open(stray, read_write);
    REQUIRE(handle);
    std::filesystem::rename(f.path("e/stray"), f.path("d/stray"));
    int asked = 0;
    f.table->on_asked = [&] {
        // First for the name, then for the file: between them it was looked at.
        if (++asked == 2)
            f.author->write(handle, 0, "much longer");
    };
    const auto found =
        f.holder->call(wire::Lookup{.parent = f.d, .name = "stray", .node = {f.holder->new_node(), true}});
    f.table->on_asked = nullptr;
    CHECK(found.body.attributes.size == 11);
}

TEST_CASE("a change that comes after the question is either seen or told") {
    Leased f;
    const NodeId file = f.holder->lookup(f.d, "file");
    const NodeId author_file = f.author->lookup(f.author_d, "file");
    const HandleId handle = f.author->open(author_file, read_write);
    const HandleId listing = f.holder->new_handle();
    REQUIRE(f.holder->call(wire::Opendir{.node = f.d, .handle = listing}));
    std::uint64_t size = 7;
    // For each step at which the holder's request may be interrupted by the change.
    const auto check = [&](const auto& request, const auto& size_in) {
        for (int step = 1; step <= 20; ++step) {
            f.list_all();
            // It has been told, so that only asking makes it be told again.
            f.report(f.author->write(handle, size++, "x").touched);
            int asked = 0;
            Told told;
            f.table->on_asked = [&] {
                if (++asked == step)
                    told = f.report(f.author->write(handle, size++, "x").touched);
            };
            const auto answer = f.holder->call(request);
            f.table->on_asked = nullptr;
            REQUIRE(answer);
            if (asked < step)
                break;
            INFO("step " << step);
            CHECK((size_in(answer) == size || told.contains("d:0:file")));
            // What was told since the question is not to be kept; otherwise the next change is told.
            const Told next = f.report(f.author->write(handle, size++, "x").touched);
            CHECK((told.contains("d:0:file") || next.contains("d:0:file")));
        }
    };
    const auto in_listing = [](const auto& answer) {
        for (const auto& entry : decode_entries(answer.body.count, answer.bulk)) {
            if (entry.name == "file")
                return entry.entry.attributes.size;
        }
        return std::uint64_t{0};
    };
    const auto in_entry = [](const auto& answer) { return answer.body.attributes.size; };
    check(wire::Lookup{.parent = f.d, .name = "file", .node = {file, true}}, in_entry);
    check(wire::Getattr{.node = file}, in_entry);
    check(wire::Fetch{.parent = f.d, .name = "file", .size = 1}, in_entry);
    check(wire::List{.node = f.d, .size = 65536, .lease = true}, in_listing);
    check(
        wire::Readdir{
            .handle = listing, .size = 65536, .max_entries = 100, .attributes = wire::ListedAttributes::alone},
        in_listing);
}

TEST_CASE("a name that comes after the lease was granted is either listed or told") {
    Leased f;
    for (const bool before_listing : {true, false}) {
        f.holder->call(wire::ReturnLeases{.directories = {f.d}});
        const std::string name = before_listing ? "early" : "late";
        int asked = 0;
        Told told;
        f.table->on_asked = [&] {
            // The first question is for the directory's own lease, before it is listed; the later ones come after.
            if (++asked == (before_listing ? 1 : 3)) {
                const auto made = f.author->create(f.author_d, name, f.author->new_handle());
                told = f.report(made.touched);
            }
        };
        const auto listed = f.list(f.d);
        f.table->on_asked = nullptr;
        REQUIRE(listed.body.leased);
        bool seen = false;
        for (const auto& entry : decode_entries(listed.body.count, listed.bulk))
            seen = seen || entry.name == name;
        CHECK(told.contains("d:1:" + name));
        CHECK(seen == before_listing);
    }
}

TEST_CASE("a FORGET that overtakes the grant of its node's lease leaves none behind") {
    Leased f;
    f.holder->call(wire::ReturnLeases{.directories = {f.d}});
    f.table->on_asked = [&, done = false]() mutable {
        if (!std::exchange(done, true))
            f.holder->call(wire::Forget{.nodes = {{.node = f.d, .count = 100}}});
    };
    const auto listed = f.list(f.d);
    f.table->on_asked = nullptr;
    REQUIRE(listed);
    CHECK_FALSE(listed.body.leased);
    CHECK(f.table->figures(f.holder->files().get()).leases == 1);
}

TEST_CASE("the changes of a file with more names than are remembered are told by its nodes") {
    Leased f;
    const NodeId file = f.author->lookup(f.author_d, "file");
    for (int i = 0; i < 12; ++i) {
        const std::string name = "name" + std::to_string(i);
        std::filesystem::create_hard_link(f.path("d/file"), f.path("e/" + name));
        f.author->call(wire::Lookup{.parent = f.author_e, .name = name, .node = {f.author->new_node(), true}});
    }
    const auto changed = f.author->call(wire::Setattr{.node = file, .which = wire::set_mode, .mode = 0600});
    REQUIRE(changed.unplaced.size() == 1);
    const NodeId known = f.holder->lookup(f.d, "file");
    CHECK(f.exported->service->known_as(*f.holder->files(), changed.unplaced) == std::vector<NodeId>{known});
}

TEST_CASE("a LINK tells of every name that its file had, though one of them is forgotten for the new one") {
    Leased f;
    const NodeId file = f.author->lookup(f.author_d, "file");
    // The name here becomes the oldest of as many as are remembered.
    for (int i = 0; i < 7; ++i)
        f.author->call(wire::Link{.node = file, .new_parent = f.author_e, .new_name = "name" + std::to_string(i)});
    const auto linked = f.author->call(wire::Link{.node = file, .new_parent = f.author_e, .new_name = "last"});
    CHECK(f.report(linked.touched).contains("d:0:file"));
}

TEST_CASE("the place of a file that has been put back is not forgotten") {
    const TemporaryDirectory directory;
    write_file(directory / "file", "x");
    Counters counters;
    auto root = open_export_root(directory.path());
    REQUIRE(root);
    auto table = InodeTable::open(std::move(*root), 100, std::make_shared<DescriptorBudget>(100), counters);
    REQUIRE(table);
    const InodePtr top = (*table)->root();
    const auto name = EntryName::check("file");
    auto attributes = stat_entry((*table)->descriptor(top).value()->get(), *name);
    REQUIRE(attributes);
    const InodePtr file = (*table)->intern(*attributes, top, *name);
    // As after a rename away from here that another one has undone.
    (*table)->removed(file, top, *name);
    CHECK((*table)->places(*file).places.size() == 1);
    std::filesystem::rename(directory / "file", directory / "elsewhere");
    (*table)->removed(file, top, *name);
    CHECK((*table)->places(*file).places.empty());
}

TEST_CASE("a rename over a file forgets that file's place and keeps the other's") {
    Leased f;
    const NodeId file = f.author->lookup(f.author_d, "file");
    const NodeId other = f.author->lookup(f.author_d, "other");
    REQUIRE(other);
    f.by_author(wire::Rename{.parent = f.author_d, .name = "file", .new_parent = f.author_d, .new_name = "other"});
    f.list_all();
    CHECK(f.by_author(wire::Setattr{.node = file, .which = wire::set_mode, .mode = 0600}) == Told{"d:0:other"});
}

TEST_CASE("a name that a program makes touches the other names of its file, or it is said that some are not known") {
    Leased f;
    const auto made =
        f.author->call(wire::Mkdir{.parent = f.author_e, .name = "new", .node = f.new_node(), .mode = 0755});
    REQUIRE(!made.touched.empty());
    const InodePtr e = made.touched.front().directory;
    const auto by_program = [&](const std::string& from, const std::string& name) {
        std::filesystem::create_hard_link(f.path(from), f.path("e/" + name));
        return std::vector<Touched>{{e, name, true}};
    };
    // The holder has listed its other name, which makes no node.
    std::vector<Touched> touched = by_program("d/file", "unknown");
    CHECK_FALSE(f.exported->service->add_other_names(touched));

    f.holder->lookup(f.d, "other");
    touched = by_program("d/other", "known");
    CHECK(f.exported->service->add_other_names(touched));
    CHECK(f.report(touched) == Told{"d:0:other"});

    write_file(f.path("e/alone"), "x");
    touched = {{e, "alone", true}, {e, "gone", true}, {e, "", false}};
    CHECK(f.exported->service->add_other_names(touched));
    CHECK(touched.size() == 3);
}
