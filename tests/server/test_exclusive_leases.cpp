// SPDX-License-Identifier: MIT
// Exclusive leases from end to end, over real files: who is given one, who waits, and what ends the wait. The clock is
// the test's, and so are the workers.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <array>
#include <filesystem>

#include "base/unique_fd.hpp"
#include "export_fixture.hpp"
#include "server/files/reserve.hpp"
#include "server/files/room.hpp"
#include "service_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;
using What = wire::LeaseChange::What;

namespace {

constexpr Duration term = 10s;
constexpr NodeId root{1};

struct TestRoom final : Room {
    bool is_ample(int /*directory*/, std::uint64_t /*kept_bytes*/) const override { return ample; }
    std::atomic<bool> ample = true;
};

wire::Hello hello_for(std::uint64_t features) {
    wire::Hello hello = hello_with(0);
    hello.features = features;
    return hello;
}

// A client that has looked up directories by the names that follow, as nodes 2, 3, ….
struct Client : Connection {
    Client(World& given_world, const std::string& name,
           std::uint64_t features = wire::feature_leases | wire::feature_exclusive_leases)
        : Connection(given_world, name) {
        REQUIRE(hello(hello_for(features)).features == features);
    }
    template <class Request>
    std::uint64_t begin_request(const Request& request, std::uint8_t flags = 0) {
        send(++last_id, request, flags);
        return last_id;
    }
    // The answer, if it has come.
    const Received* answer(std::uint64_t id) {
        for (Received& reply : take())
            answers.insert_or_assign(reply.id, std::move(reply));
        const auto found = answers.find(id);
        return found == answers.end() ? nullptr : &found->second;
    }
    template <class Request>
    Received call(const Request& request, std::uint8_t flags = 0) {
        const std::uint64_t id = begin_request(request, flags);
        const Received* reply = answer(id);
        REQUIRE(reply != nullptr);
        return *reply;
    }
    NodeId lookup(NodeId parent, const std::string& name) {
        const NodeId node{++last_node};
        const Received reply = call(wire::Lookup{.parent = parent, .name = name, .node = {node, false}});
        REQUIRE(reply.status == Status::ok);
        return node;
    }
    HandleId open(NodeId node, std::uint32_t flags) {
        const HandleId handle{++last_handle};
        REQUIRE(call(wire::Open{.node = node, .handle = handle, .flags = flags}).status == Status::ok);
        return handle;
    }
    wire::TakenLease take_lease(NodeId node) {
        const auto reply = call(wire::TakeLeases{.directories = {node}}).template as<wire::TakeLeasesReply>();
        REQUIRE(reply.leases.size() == 1);
        CHECK((reply.trust_ms != 0) == reply.leases[0].taken);
        return reply.leases[0];
    }
    bool take_it(NodeId node) { return take_lease(node).taken; }
    void share(NodeId node) { CHECK(call(wire::ShareLeases{.directories = {node}}).status == Status::ok); }
    bool list_with_lease(NodeId node) {
        const auto reply = call(wire::List{.node = node, .size = 65536, .lease = true});
        REQUIRE(reply.status == Status::ok);
        return reply.template as<wire::ListReply>().leased;
    }
    // What it is told, confirmed.
    std::vector<wire::LeaseChange> told(bool confirm = true) {
        std::vector<wire::LeaseChange> changes;
        for (const Received& push : take_all_pushes()) {
            const auto body = push.as<wire::PushInvalidate>();
            changes.insert(changes.end(), body.changes.begin(), body.changes.end());
            if (confirm)
                CHECK(call(wire::Invalidated{.sequence = body.sequence}).status == Status::ok);
        }
        return changes;
    }
    std::vector<Received> take_all_pushes() {
        answer(0);
        return take_pushes();
    }
    Status make(NodeId parent, const std::string& name, std::uint8_t flags = 0) {
        return call(wire::Mkdir{.parent = parent, .name = name, .node = {NodeId{++last_node}, false}, .mode = 0755},
                    flags)
            .status;
    }

    std::map<std::uint64_t, Received> answers;
    std::uint64_t last_id = 100;
    std::uint64_t last_node = 1;
    std::uint64_t last_handle = 0;
};

using Changes = std::vector<wire::LeaseChange>;

// An export with empty directories d and e, a file d/file, and d/linked, which is e/linked too.
struct Taken {
    TemporaryDirectory directory;
    std::shared_ptr<TestRoom> room = std::make_shared<TestRoom>();  // shared with the export
    World world;
    Client holder{world, "holder"};
    Client other{world, "other"};
    NodeId d;        // the holder's
    NodeId other_d;  // the other's

    explicit Taken(bool read_only = false)
        : world({}, LeaseTable::Limits{}, [&](const std::shared_ptr<LeaseTable>& leases, Counters& counters) {
              std::filesystem::create_directory(directory / "d");
              std::filesystem::create_directory(directory / "e");
              ExportOptions options;
              options.directory = directory.path();
              options.read_only = read_only;
              options.leases = leases;
              options.room = room;
              return FileService::open(std::move(options), counters).value();
          }) {
        d = holder.lookup(root, "d");
        other_d = other.lookup(root, "d");
    }
    ~Taken() {
        // Sessions first: what they have open belongs to the files.
        world.service.reset();
        while (world.executor.run_one()) {
        }
    }
    std::string path(const std::string& name) const { return directory / name; }
    std::uint64_t count(std::string_view name) { return world.count(name); }
    Changes shared_d() const { return {{d, What::shared, {}}}; }
};

}  // namespace

TEST_CASE("an exclusive lease is given of a directory that nobody else has one of") {
    Taken f;
    wire::TakenLease lease = f.holder.take_lease(f.d);
    CHECK(lease.taken);
    CHECK(lease.empty);
    CHECK(f.count("leases.exclusive") == 1);
    CHECK(f.count("leases.held") == 1);
    CHECK(f.holder.take_it(f.d));  // it has it
    CHECK(f.count("leases.exclusive") == 1);

    write_file(f.path("e/file"), "content");
    const NodeId e = f.holder.lookup(root, "e");
    lease = f.holder.take_lease(e);
    CHECK(lease.taken);
    CHECK_FALSE(lease.empty);
    CHECK(f.count("leases.exclusive") == 2);
    f.holder.share(e);
    CHECK(f.count("leases.exclusive") == 1);
    CHECK(f.count("leases.held") == 2);
}

TEST_CASE("a directory is made and its exclusive lease taken in one message") {
    Taken f;
    auto writer = f.holder.begin();
    writer.add({.opcode = Opcode::mkdir, .id = RequestId{50}},
               wire::Mkdir{.parent = f.d, .name = "new", .node = {NodeId{70}, false}, .mode = 0755});
    writer.add({.opcode = Opcode::take_leases, .id = RequestId{51}},
               wire::TakeLeases{.directories = {f.d, NodeId{70}}});
    f.holder.send(std::move(writer));
    REQUIRE(f.holder.answer(51));
    const auto reply = f.holder.answer(51)->as<wire::TakeLeasesReply>();
    REQUIRE(reply.leases.size() == 2);
    CHECK(reply.leases[0].taken);
    CHECK_FALSE(reply.leases[0].empty);
    CHECK(reply.leases[1].taken);
    CHECK(reply.leases[1].empty);
}

TEST_CASE("an exclusive lease is refused where it could not be kept") {
    SECTION("of what is unknown, or no directory") {
        Taken f;
        write_file(f.path("file"), "content");
        CHECK_FALSE(f.holder.take_it(NodeId{99}));
        CHECK_FALSE(f.holder.take_it(f.holder.lookup(root, "file")));
        const auto reply = f.holder.call(wire::TakeLeases{.directories = {NodeId{99}, f.d}});
        const auto leases = reply.as<wire::TakeLeasesReply>().leases;
        REQUIRE(leases.size() == 2);
        CHECK_FALSE(leases[0].taken);
        CHECK(leases[1].taken);
    }
    SECTION("too many at once") {
        Taken f;
        const wire::TakeLeases many{.directories = std::vector<NodeId>(wire::max_taken_leases + 1, f.d)};
        CHECK(f.holder.call(many).status == Status::limit_exceeded);
        const wire::ShareLeases shared{.directories = std::vector<NodeId>(wire::max_returned_leases + 1, f.d)};
        CHECK(f.holder.call(shared).status == Status::limit_exceeded);
    }
    SECTION("to a session without the feature") {
        Taken f;
        Client plain(f.world, "plain", wire::feature_leases);
        CHECK_FALSE(plain.take_it(plain.lookup(root, "e")));
    }
    SECTION("on a read-only export") {
        Taken f(true);
        CHECK_FALSE(f.holder.take_it(f.d));
    }
    SECTION("to a session that only reads") {
        Taken f;
        Connection reader(f.world, "reader");
        wire::Hello hello = hello_for(wire::feature_leases | wire::feature_exclusive_leases);
        hello.flags = wire::hello_read_only;
        reader.hello(hello);
        reader.send(2, wire::TakeLeases{.directories = {root}});
        CHECK_FALSE(reader.take_one().as<wire::TakeLeasesReply>().leases[0].taken);
    }
    SECTION("where names are their owners'") {
        Taken f;
        REQUIRE(::chmod(f.path("d").c_str(), 01777) == 0);
        CHECK(f.holder.take_it(f.d) == true);  // the server's user owns it
        f.holder.share(f.d);
        if (::geteuid() == 0) {
            REQUIRE(::chown(f.path("d").c_str(), 65534, 65534) == 0);
            CHECK_FALSE(f.holder.take_it(f.d));
            REQUIRE(::chmod(f.path("d").c_str(), 0777) == 0);
            CHECK(f.holder.take_it(f.d));
        }
    }
    SECTION("where what is made inherits an ACL") {
        Taken f;
        // Version 2; what the owner, the group and others may.
        constexpr std::array<unsigned char, 28> acl{2, 0, 0,   0,   1,   0,   7,    0, 255, 255, 255, 255, 4,   0,
                                                    5, 0, 255, 255, 255, 255, 0x20, 0, 5,   0,   255, 255, 255, 255};
        if (::setxattr(f.path("d").c_str(), "system.posix_acl_default", acl.data(), acl.size(), 0) != 0) {
            WARN("this file system has no ACLs");
            return;
        }
        CHECK_FALSE(f.holder.take_it(f.d));
        REQUIRE(::removexattr(f.path("d").c_str(), "system.posix_acl_default") == 0);
        CHECK(f.holder.take_it(f.d));
    }
    SECTION("of a directory that has been removed") {
        Taken f;
        std::filesystem::remove(f.path("d"));
        CHECK_FALSE(f.holder.take_it(f.d));
    }
    SECTION("where there is no room") {
        Taken f;
        f.room->ample = false;
        CHECK_FALSE(f.holder.take_it(f.d));
        f.room->ample = true;
        CHECK(f.holder.take_it(f.d));
    }
}

TEST_CASE("the feature is in force only together with leases") {
    World with({}, LeaseTable::Limits{});
    Connection client(with, "a");
    CHECK(client.hello(hello_for(wire::feature_exclusive_leases)).features == 0);
    World without;
    Connection other(without, "a");
    CHECK(other.hello(hello_for(wire::feature_leases | wire::feature_exclusive_leases)).features == 0);
}

TEST_CASE("another's lease ends, and once that is confirmed the next to ask is given an exclusive one") {
    Taken f;
    REQUIRE(f.other.list_with_lease(f.other_d));
    CHECK_FALSE(f.holder.take_it(f.d));
    CHECK_FALSE(f.holder.take_it(f.d));  // it has not been confirmed
    CHECK(f.other.told() == Changes{{f.other_d, What::ended, {}}});
    CHECK(f.holder.take_it(f.d));
    CHECK(f.other.told().empty());
}

TEST_CASE("whatever looks at an exclusively leased directory waits, and then sees what its holder answered") {
    Taken f;
    write_file(f.path("d/file"), "content");
    std::filesystem::create_directory(f.path("d/below"));
    std::filesystem::create_hard_link(f.path("d/file"), f.path("e/linked"));
    const NodeId file = f.other.lookup(f.other_d, "file");
    const NodeId e = f.other.lookup(root, "e");
    const HandleId handle = f.other.open(file, wire::open_read | wire::open_write);
    const HandleId directory{40};
    REQUIRE(f.other.call(wire::Opendir{.node = f.other_d, .handle = directory}).status == Status::ok);
    REQUIRE(f.holder.take_it(f.d));
    const wire::NewNode fresh{NodeId{900}, false};

    std::uint64_t id = 0;
    SECTION("LOOKUP in it") {
        id = f.other.begin_request(wire::Lookup{f.other_d, "made", fresh});
    }
    SECTION("LOOKUP of it") {
        id = f.other.begin_request(wire::Lookup{root, "d", fresh});
    }
    SECTION("LOOKUP of a file's other name") {
        id = f.other.begin_request(wire::Lookup{e, "linked", fresh});
    }
    SECTION("LIST") {
        id = f.other.begin_request(wire::List{.node = f.other_d, .size = 65536});
    }
    SECTION("LIST by name") {
        id = f.other.begin_request(wire::List{.node = root, .name = "d", .new_node = fresh, .size = 65536});
    }
    SECTION("READDIR") {
        id = f.other.begin_request(wire::Readdir{.handle = directory, .size = 65536, .max_entries = 100});
    }
    SECTION("OPENDIR") {
        id = f.other.begin_request(wire::Opendir{.node = f.other_d, .handle = HandleId{41}});
    }
    SECTION("FETCH") {
        id = f.other.begin_request(wire::Fetch{.parent = f.other_d, .name = "file", .size = 100});
    }
    SECTION("GETATTR of it") {
        id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    }
    SECTION("GETATTR of a file in it") {
        id = f.other.begin_request(wire::Getattr{.node = file, .handle = {}});
    }
    SECTION("OPEN of a file in it") {
        id = f.other.begin_request(wire::Open{.node = file, .handle = HandleId{42}, .flags = wire::open_read});
    }
    SECTION("READ") {
        id = f.other.begin_request(wire::Read{.handle = handle, .offset = 0, .size = 10});
    }
    SECTION("FLUSH") {
        id = f.other.begin_request(wire::Flush{.handle = handle, .owner = {}});
    }
    SECTION("SETATTR") {
        id = f.other.begin_request(wire::Setattr{.node = file, .handle = {}, .which = wire::set_mode, .mode = 0600});
    }
    SECTION("MKDIR") {
        id = f.other.begin_request(wire::Mkdir{.parent = f.other_d, .name = "n", .node = fresh});
    }
    SECTION("RENAME into it") {
        id = f.other.begin_request(
            wire::Rename{.parent = e, .name = "linked", .new_parent = f.other_d, .new_name = "n"});
    }
    SECTION("RMDIR of it") {
        id = f.other.begin_request(wire::Rmdir{.parent = root, .name = "d"});
    }
    SECTION("LINK of a file in it") {
        id = f.other.begin_request(wire::Link{.node = file, .new_parent = e, .new_name = "n"});
    }
    CHECK(f.other.answer(id) == nullptr);
    CHECK(f.count("leases.recalled") == 1);
    CHECK(f.count("leases.exclusive_waits") == 1);
    CHECK(f.holder.told() == f.shared_d());
    CHECK(f.other.answer(id) == nullptr);  // it is the sharing that counts
    CHECK(f.holder.make(f.d, "made") == Status::ok);
    CHECK(f.other.answer(id) == nullptr);

    f.holder.share(f.d);
    f.holder.told();  // it has a lease still, of what the other has changed
    REQUIRE(f.other.answer(id) != nullptr);
    if (f.other.answer(id)->opcode == Opcode::rmdir)
        CHECK(f.other.answer(id)->status == Status::not_empty);
    else
        CHECK(f.other.answer(id)->status == Status::ok);
    CHECK(f.count("leases.exclusive") == 0);
    CHECK(f.count("leases.exclusive_waits") == 1);
    CHECK(f.count("leases.recalled") == 1);
}

TEST_CASE("what has nothing to do with an exclusively leased directory does not wait, nor does what gives back") {
    Taken f;
    write_file(f.path("d/file"), "content");
    const NodeId file = f.other.lookup(f.other_d, "file");
    const NodeId e = f.other.lookup(root, "e");
    const HandleId handle = f.other.open(file, wire::open_read);
    REQUIRE(f.other.call(wire::Opendir{.node = f.other_d, .handle = HandleId{40}}).status == Status::ok);
    REQUIRE(f.holder.take_it(f.d));
    CHECK(f.other.make(e, "made") == Status::ok);
    CHECK(f.other.make(root, "made") == Status::ok);
    CHECK(f.other.call(wire::Release{.handle = handle}).status == Status::ok);
    CHECK(f.other.call(wire::Releasedir{.handle = HandleId{40}}).status == Status::ok);
    CHECK(f.other.call(wire::Ping{}).status == Status::ok);
    CHECK(f.other.call(wire::ReturnLeases{.directories = {f.other_d}}).status == Status::ok);
    CHECK(f.other.call(wire::ShareLeases{.directories = {f.other_d}}).status == Status::ok);
    CHECK(f.other.call(wire::Forget{.nodes = {{file, 1}, {f.other_d, 1}}}).status == Status::ok);
    CHECK(f.holder.told().empty());
    CHECK(f.count("leases.recalled") == 0);
    // The holder's own do not wait either.
    CHECK(f.holder.make(f.d, "made") == Status::ok);
    CHECK(f.holder.lookup(f.d, "made"));
    CHECK(f.count("leases.exclusive_waits") == 0);
}

TEST_CASE("a directory that is another's alone is listed without attributes, to be asked for by its name") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    const auto attributes_of = [&](const std::string& name) {
        const std::uint64_t id = ++f.other.last_id;
        auto writer = f.other.begin();
        writer.add({.opcode = Opcode::list, .id = RequestId{id}}, wire::List{.node = root, .size = 65536});
        f.world.service->on_message(
            f.other.route, [&] { return f.other.peer; }, std::move(writer).finish({}, f.other.received_bytes));
        f.world.settle();
        auto& mail = f.world.thread.mail[f.other.route.bytes];
        REQUIRE(mail.size() == 1);
        f.other.received_bytes += mail.front().byte_count();
        auto parsed = wire::parse_message(std::move(mail.front()), wire::MessageKind::reply);
        mail.clear();
        REQUIRE(parsed);
        const auto reply = wire::decode_body<wire::ListReply>(parsed->records[0].body);
        REQUIRE(reply);
        for (const wire::DirectoryEntry& entry : decode_entries(reply->count, parsed->records[0].bulk)) {
            if (entry.name == name)
                return entry.entry.attributes;
        }
        FAIL("it is not listed");
        return wire::Attributes{};
    };
    CHECK(attributes_of("d").mode == 0);
    CHECK(attributes_of("e").mode != 0);
    CHECK(f.count("leases.recalled") == 0);
    f.holder.share(f.d);
    CHECK(attributes_of("d").mode != 0);
}

TEST_CASE("a lease that is returned, or ends with its node or its session, is waited for no more") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    const std::uint64_t id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    REQUIRE(f.other.answer(id) == nullptr);
    SECTION("RETURN_LEASES") {
        f.holder.call(wire::ReturnLeases{.directories = {f.d}});
    }
    SECTION("FORGET") {
        f.holder.call(wire::Forget{.nodes = {{f.d, 1}}});
    }
    SECTION("BYE") {
        f.holder.begin_request(wire::Bye{});
    }
    CHECK(f.other.answer(id) != nullptr);
    CHECK(f.count("leases.exclusive") == 0);
}

TEST_CASE("a holder that does not share is waited for one term, whatever it says otherwise") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    f.world.pass(term / 2);
    CHECK(f.holder.call(wire::Ping{}).status == Status::ok);
    const std::uint64_t id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    std::string how;
    SECTION("it confirms, and goes on speaking") {
        CHECK(f.holder.told() == f.shared_d());
        f.world.pass(term / 2);
        CHECK(f.holder.call(wire::Ping{}).status == Status::ok);
        CHECK(f.other.answer(id) == nullptr);
        f.world.pass(term / 2);
    }
    SECTION("it does not confirm, and goes on speaking") {
        f.world.pass(term / 2);
        CHECK(f.holder.call(wire::Ping{}).status == Status::ok);
        CHECK(f.other.answer(id) == nullptr);
        f.world.pass(term / 2);
    }
    SECTION("it is silent") {
        f.world.pass(term - 1ms);
        CHECK(f.other.answer(id) == nullptr);
        f.world.pass(1ms);
    }
    CHECK(f.other.answer(id) != nullptr);
    CHECK(f.count("leases.expired") == 1);
    CHECK(f.count("leases.exclusive") == 0);
    // It hears so, and gets none before it has confirmed.
    CHECK_FALSE(f.holder.take_it(f.d));
}

TEST_CASE("nobody waits for a holder that has been silent for a term") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    f.world.pass(term);
    const std::uint64_t id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    f.world.pass(0s);
    CHECK(f.other.answer(id) != nullptr);
}

TEST_CASE("two holders that look at each other's directories at the same time both get their answers") {
    Taken f;
    const NodeId e = f.holder.lookup(root, "e");
    const NodeId other_e = f.other.lookup(root, "e");
    REQUIRE(f.holder.take_it(f.d));
    REQUIRE(f.other.take_it(other_e));
    const std::uint64_t mine = f.holder.begin_request(wire::Lookup{e, "made", {NodeId{900}, false}});
    const std::uint64_t theirs = f.other.begin_request(wire::Lookup{f.other_d, "made", {NodeId{900}, false}});
    CHECK(f.holder.told() == f.shared_d());
    CHECK(f.other.told() == Changes{{other_e, What::shared, {}}});
    // What they have answered is carried out, in order, while their looks wait.
    CHECK(f.holder.make(f.d, "made", wire::flag_in_order) == Status::ok);
    CHECK(f.other.make(other_e, "made", wire::flag_in_order) == Status::ok);
    CHECK(f.holder.answer(mine) == nullptr);
    CHECK(f.other.answer(theirs) == nullptr);
    f.holder.share(f.d);
    f.other.share(other_e);
    REQUIRE(f.holder.answer(mine) != nullptr);
    REQUIRE(f.other.answer(theirs) != nullptr);
    CHECK(f.holder.answer(mine)->status == Status::ok);
    CHECK(f.other.answer(theirs)->status == Status::ok);
}

TEST_CASE("a look that waits does not hold up the changes that others wait for") {
    Taken f;
    // The other has d, the holder has the root; each looks at what is the other's by a directory of its own.
    REQUIRE(f.holder.take_it(root));
    const NodeId other_root{1};
    const std::uint64_t theirs = f.other.begin_request(wire::Lookup{other_root, "made", {NodeId{900}, false}});
    REQUIRE(f.other.answer(theirs) == nullptr);
    REQUIRE(f.other.take_it(f.other_d));
    const std::uint64_t mine = f.holder.begin_request(wire::Lookup{root, "d", {NodeId{901}, false}});
    REQUIRE(f.holder.answer(mine) == nullptr);
    // It changes what the waiting LOOKUP uses.
    CHECK(f.holder.make(root, "made", wire::flag_in_order) == Status::ok);
    f.holder.share(root);
    REQUIRE(f.other.answer(theirs) != nullptr);
    CHECK(f.other.answer(theirs)->status == Status::ok);
    f.other.share(f.other_d);
    REQUIRE(f.holder.answer(mine) != nullptr);
    CHECK(f.holder.answer(mine)->status == Status::ok);
}

TEST_CASE("what a client says is heard though it comes in, or behind, a message that waits") {
    Taken f;
    const NodeId e = f.holder.lookup(root, "e");
    const NodeId other_e = f.other.lookup(root, "e");
    REQUIRE(f.holder.take_it(f.d));
    REQUIRE(f.other.take_it(other_e));
    const std::uint64_t theirs = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    const auto pushes = f.holder.take_all_pushes();
    REQUIRE(pushes.size() == 1);

    auto writer = f.holder.begin();
    writer.add({.opcode = Opcode::lookup, .id = RequestId{50}},
               wire::Lookup{.parent = e, .name = "made", .node = {NodeId{60}, false}});
    SECTION("in it") {
        writer.add({.opcode = Opcode::invalidated, .id = RequestId{51}},
                   wire::Invalidated{.sequence = pushes[0].as<wire::PushInvalidate>().sequence});
        writer.add({.opcode = Opcode::share_leases, .flags = wire::flag_link, .id = RequestId{52}},
                   wire::ShareLeases{.directories = {f.d}});
        writer.add({.opcode = Opcode::ping, .id = RequestId{53}}, wire::Ping{});
        f.holder.send(std::move(writer));
        CHECK(f.holder.answer(51) != nullptr);
        CHECK(f.holder.answer(53) == nullptr);  // it is bound to what comes before it
    }
    SECTION("behind it") {
        f.holder.send(std::move(writer));
        auto behind = f.holder.begin();
        behind.add({.opcode = Opcode::getattr, .id = RequestId{51}}, wire::Getattr{.node = NodeId{60}, .handle = {}});
        behind.add({.opcode = Opcode::share_leases, .id = RequestId{52}}, wire::ShareLeases{.directories = {f.d}});
        behind.add({.opcode = Opcode::ping, .flags = wire::flag_in_order, .id = RequestId{53}}, wire::Ping{});
        f.holder.send(std::move(behind));
        CHECK(f.holder.answer(51) == nullptr);
        CHECK(f.holder.answer(53) == nullptr);  // it has its place
    }
    CHECK(f.holder.answer(50) == nullptr);
    CHECK(f.holder.answer(52) != nullptr);
    CHECK(f.other.answer(theirs) != nullptr);
    f.other.share(other_e);
    CHECK(f.holder.answer(50)->status == Status::no_entry);
    REQUIRE(f.holder.answer(53) != nullptr);
    CHECK(f.holder.answer(53)->status == Status::ok);
    CHECK(f.world.service->open_requests() == 0);
}

TEST_CASE("a directory is shared though a request waits that changes it") {
    Taken f;
    const NodeId other_e = f.other.lookup(root, "e");
    const NodeId e = f.holder.lookup(root, "e");
    REQUIRE(f.holder.take_it(f.d));
    REQUIRE(f.other.take_it(other_e));
    CHECK(f.holder.make(f.d, "made") == Status::ok);
    const std::uint64_t mine =
        f.holder.begin_request(wire::Rename{.parent = f.d, .name = "made", .new_parent = e, .new_name = "made"});
    const std::uint64_t theirs = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    CHECK(f.other.answer(theirs) == nullptr);
    f.holder.share(f.d);
    CHECK(f.other.answer(theirs) != nullptr);
    f.other.share(other_e);
    f.other.told();
    REQUIRE(f.holder.answer(mine) != nullptr);
    CHECK(f.holder.answer(mine)->status == Status::ok);
}

TEST_CASE("a message that cancels its own request while that waits goes on") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    auto writer = f.other.begin();
    writer.add({.opcode = Opcode::getattr, .id = RequestId{50}}, wire::Getattr{.node = f.other_d, .handle = {}});
    writer.add({.opcode = Opcode::cancel, .id = RequestId{51}}, wire::Cancel{.request = RequestId{50}});
    writer.add({.opcode = Opcode::getattr, .id = RequestId{52}}, wire::Getattr{.node = root, .handle = {}});
    writer.add({.opcode = Opcode::ping, .id = RequestId{53}}, wire::Ping{});
    f.other.send(std::move(writer));
    CHECK(f.other.answer(50)->status == Status::interrupted);
    CHECK(f.other.answer(51)->status == Status::ok);
    CHECK(f.other.answer(52)->status == Status::ok);
    CHECK(f.other.answer(53)->status == Status::ok);
    CHECK(f.world.service->open_requests() == 0);
}

TEST_CASE("a file with more names than are remembered waits for every exclusive lease") {
    Taken f;
    write_file(f.path("file"), "content");
    const NodeId file = f.other.lookup(root, "file");
    const HandleId handle = f.other.open(file, wire::open_read | wire::open_write);
    const auto read = [&] { return f.other.begin_request(wire::Read{.handle = handle, .offset = 0, .size = 10}); };
    REQUIRE(f.holder.take_it(f.d));
    CHECK(f.other.answer(read()) != nullptr);
    f.holder.share(f.d);
    for (int i = 0; i < 10; ++i) {
        std::filesystem::create_hard_link(f.path("file"), f.path("name" + std::to_string(i)));
        f.other.lookup(root, "name" + std::to_string(i));
    }
    REQUIRE(f.holder.take_it(f.d));
    const std::uint64_t id = read();
    CHECK(f.other.answer(id) == nullptr);
    f.holder.share(f.d);
    CHECK(f.other.answer(id) != nullptr);
}

TEST_CASE("what waits and is sent again by another connection is answered there, once") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    const std::uint64_t id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}}, wire::flag_link);
    REQUIRE(f.other.answer(id) == nullptr);
    f.other.send(id, wire::Getattr{.node = f.other_d, .handle = {}}, wire::flag_resent);
    CHECK(f.other.answer(id) == nullptr);
    f.holder.share(f.d);
    REQUIRE(f.other.answer(id) != nullptr);
    CHECK(f.other.answer(id)->status == Status::ok);
    CHECK(f.world.service->open_requests() == 0);
}

TEST_CASE("what a read that has waited was expected to bring is counted once, and others are begun after it") {
    Taken t;
    t.holder.call(wire::Mknod{.parent = t.d, .name = "file", .node = {NodeId{90}, false}, .mode = S_IFREG | 0644});
    const NodeId file = t.other.lookup(t.other_d, "file");
    const HandleId handle = t.other.open(file, wire::open_read);
    REQUIRE(t.holder.take_it(t.d));
    const wire::Read read{.handle = handle, .offset = 0, .size = 1024};
    const std::uint64_t waiting = t.other.begin_request(read);
    CHECK(t.other.answer(waiting) == nullptr);
    CHECK(t.holder.told() == Changes{{t.d, What::shared, {}}});
    t.holder.share(t.d);
    REQUIRE(t.other.answer(waiting) != nullptr);
    for (int i = 0; i < 3; ++i)
        CHECK(t.other.call(read).status == Status::ok);
}

TEST_CASE("a request that waits for another's lease can be cancelled, and its message goes on") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    auto writer = f.other.begin();
    writer.add({.opcode = Opcode::getattr, .id = RequestId{50}}, wire::Getattr{.node = f.other_d, .handle = {}});
    writer.add({.opcode = Opcode::getattr, .id = RequestId{51}}, wire::Getattr{.node = root, .handle = {}});
    f.other.send(std::move(writer));
    CHECK(f.other.answer(51) == nullptr);
    CHECK(f.other.call(wire::Cancel{.request = RequestId{50}}).status == Status::ok);
    REQUIRE(f.other.answer(50) != nullptr);
    CHECK(f.other.answer(50)->status == Status::interrupted);
    REQUIRE(f.other.answer(51) != nullptr);
    CHECK(f.other.answer(51)->status == Status::ok);
    f.holder.share(f.d);
    CHECK(f.world.service->open_requests() == 0);
}

TEST_CASE("a session that ends while its requests wait leaves nothing behind") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    f.other.begin_request(wire::Bye{});
    CHECK(f.world.service->sessions() == 1);
    f.holder.share(f.d);
    CHECK(f.world.service->open_requests() == 0);
}

TEST_CASE("what waits when the server stops is refused") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    const std::uint64_t id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    bool stopped = false;
    f.world.service->stop(5s, [&](bool in_time) { stopped = in_time; });
    f.world.settle();
    REQUIRE(f.other.answer(id) != nullptr);
    CHECK(f.other.answer(id)->status == Status::shutting_down);
    CHECK(stopped);
}

TEST_CASE("a directory that others had to wait for is nobody's alone for a second") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    const std::uint64_t id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    CHECK(f.holder.told() == f.shared_d());
    f.world.pass(5s);
    f.holder.share(f.d);
    REQUIRE(f.other.answer(id) != nullptr);
    CHECK_FALSE(f.holder.take_it(f.d));
    CHECK_FALSE(f.other.take_it(f.other_d));
    f.world.pass(1s);
    CHECK(f.holder.take_it(f.d));
    // Shared because nobody waited, it can be taken at once.
    f.holder.share(f.d);
    CHECK(f.holder.take_it(f.d));
}

TEST_CASE("a lease that is to be shared is not taken again before it has been") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    CHECK_FALSE(f.holder.take_it(f.d));
    CHECK(f.count("leases.exclusive") == 1);
}

TEST_CASE("whoever asks for what another has alone makes it be shared, and is not given it at once") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    CHECK_FALSE(f.other.take_it(f.other_d));
    CHECK(f.holder.told() == Changes{{f.d, What::shared, {}}, {f.d, What::ended, {}}});
    CHECK_FALSE(f.other.take_it(f.other_d));  // confirmed, but not shared
    CHECK(f.count("leases.exclusive") == 1);
    f.holder.share(f.d);
    CHECK(f.count("leases.held") == 0);
    CHECK(f.other.take_it(f.other_d));
}

TEST_CASE("an exclusive lease that the server ends is waited for until all has been carried out") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    f.world.leases->end_all();
    const std::uint64_t id = f.other.begin_request(wire::Getattr{.node = f.other_d, .handle = {}});
    CHECK(f.holder.told() == f.shared_d());
    CHECK(f.other.answer(id) == nullptr);
    f.holder.share(f.d);
    CHECK(f.other.answer(id) != nullptr);
    CHECK(f.world.leases->nobody());
}

TEST_CASE("all exclusive leases are to be shared when room runs low") {
    Taken f;
    REQUIRE(f.holder.take_it(f.d));
    f.world.pass(250ms);
    CHECK(f.holder.told().empty());
    f.room->ample = false;
    f.world.pass(249ms);
    CHECK(f.holder.told().empty());
    f.world.pass(1ms);
    CHECK(f.holder.told() == f.shared_d());
    f.world.pass(250ms);
    CHECK(f.holder.told().empty());  // once
    f.holder.share(f.d);
    CHECK(f.count("leases.exclusive") == 0);
    CHECK(f.count("leases.held") == 1);
    // What was answered in directories that have no lease yet may still come.
    for (int look = 0; look < 39; ++look)
        f.world.pass(250ms);
    CHECK(f.world.real_files->keeps_reserve());
    for (int look = 0; look < 3; ++look)
        f.world.pass(250ms);
    CHECK_FALSE(f.world.real_files->keeps_reserve());
    for (const auto& [id, timer] : f.world.thread.timers)
        CHECK(timer.first > f.world.thread.turned.now() + 250ms);  // nobody looks at the room any more
}

TEST_CASE("nobody is given an exclusive lease while another's change of the directory is under way") {
    Taken f;
    auto third = f.world.real_files->open_session("/", root, Caller{}, false);
    REQUIRE(third);
    const auto begin = [&](const auto& request) {
        return f.world.real_files->pass(third->files, request.opcode, wire::encode_body(request));
    };
    {
        const Passage change = begin(wire::Mkdir{.parent = root, .name = "made", .node = {NodeId{9}, false}});
        CHECK(change.awaited.empty());
        CHECK_FALSE(f.holder.take_it(root));
        CHECK_FALSE(f.holder.take_it(f.d));  // of which it could be the name
    }
    CHECK(f.holder.take_it(f.d));
    {
        const Passage look = begin(wire::Getattr{.node = root, .handle = {}});
        CHECK(f.holder.take_it(root));
    }
    f.world.real_files->close_session(third->files);
}

TEST_CASE("requests in order are carried out one after the other, whatever they name") {
    Taken f;
    const NodeId e = f.holder.lookup(root, "e");
    f.world.hold_workers = true;
    const std::uint64_t first = f.holder.begin_request(
        wire::Mkdir{.parent = f.d, .name = "made", .node = {NodeId{80}, false}}, wire::flag_in_order);
    const std::uint64_t second = f.holder.begin_request(
        wire::Mkdir{.parent = e, .name = "made", .node = {NodeId{81}, false}}, wire::flag_in_order);
    const std::uint64_t loose =
        f.holder.begin_request(wire::Mkdir{.parent = root, .name = "made", .node = {NodeId{82}, false}});
    CHECK(f.world.executor.waiting.size() == 2);  // the first, and the one that is in no order
    // The latest first.
    auto work = std::move(f.world.executor.waiting);
    f.world.executor.waiting.clear();
    work.back()();
    f.world.settle();
    CHECK(f.holder.answer(loose) != nullptr);
    CHECK(f.world.executor.waiting.empty());
    work.front()();
    f.world.settle();
    CHECK(f.holder.answer(first) != nullptr);
    CHECK(f.holder.answer(second) == nullptr);
    REQUIRE(f.world.executor.run_one());
    f.world.settle();
    CHECK(f.holder.answer(second) != nullptr);
}

TEST_CASE("a client without the feature must not ask for order") {
    Taken f;
    Client plain(f.world, "plain", wire::feature_leases);
    CHECK(plain.call(wire::Ping{}, wire::flag_in_order).status == Status::malformed);
    CHECK(plain.call(wire::Getattr{.node = root, .handle = {}}, wire::flag_in_order).status == Status::malformed);
    CHECK(f.holder.call(wire::Ping{}, wire::flag_in_order).status == Status::ok);
}

TEST_CASE("there is room where the file system says so") {
    const FileSystemRoom room;
    const auto look = [&](const std::string& path) {
        const UniqueFd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(directory);
        return room.is_ample(directory.get(), 0);
    };
    CHECK_FALSE(look("/proc"));
    CHECK_FALSE(room.is_ample(-1, 1U << 30));
    const UniqueFd without_room(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
    CHECK_FALSE(room.is_ample(without_room.get(), (256U << 20) - 1));
    CHECK(room.is_ample(without_room.get(), 256U << 20));
    const TemporaryDirectory directory;
    struct statvfs about {};
    REQUIRE(::statvfs(directory.path().c_str(), &about) == 0);
    // Tests share the file system with others: near the limit nothing can be said.
    const std::uint64_t bytes = std::uint64_t{about.f_bavail} * about.f_frsize;
    if (bytes > (1U << 30) && (about.f_files == 0 || about.f_favail > 100'000))
        CHECK(look(directory.path()));
    else if (bytes < (128U << 20))
        CHECK_FALSE(look(directory.path()));
}

TEST_CASE("a reserve is given up a part at a time, and kept again when it is asked for") {
    constexpr std::uint64_t whole = 64U << 20, part = 1U << 20;
    const TemporaryDirectory directory;
    const UniqueFd descriptor(::open(directory.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    Reserve reserve;
    CHECK(reserve.kept_bytes() == 0);
    CHECK_FALSE(reserve.give_up_part());
    reserve.keep(descriptor.get());
    REQUIRE(reserve.kept_bytes() == whole);
    CHECK(reserve.give_up_part());
    reserve.keep(descriptor.get());
    CHECK(reserve.kept_bytes() == whole - part);
    reserve.give_up_if([] { return false; });
    CHECK(reserve.kept_bytes() == whole - part);
    for (std::uint64_t left = whole - part; left > 0; left -= part)
        CHECK(reserve.give_up_part());
    CHECK(reserve.kept_bytes() == 0);
    CHECK_FALSE(reserve.give_up_part());
    reserve.keep(descriptor.get());
    CHECK(reserve.kept_bytes() == whole);
    reserve.give_up_if([] { return true; });
    CHECK(reserve.kept_bytes() == 0);
}

TEST_CASE("a file system that can keep no reserve is asked once") {
    const UniqueFd cannot(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
    const TemporaryDirectory directory;
    const UniqueFd can(::open(directory.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    Reserve reserve;
    reserve.keep(cannot.get());
    reserve.keep(can.get());
    CHECK(reserve.kept_bytes() == 0);
}
