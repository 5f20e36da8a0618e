// SPDX-License-Identifier: MIT
// Who is told of changes by sessions that hold leases, and when their authors are answered: every order of changes,
// grants, pushes, confirmations, lost connections and ends.
#include "service_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;
using What = wire::LeaseChange::What;

namespace {

constexpr Duration term = 10s;
constexpr NodeId directory_node{5};

wire::Hello hello_with_leases() {
    wire::Hello hello = hello_with(0);
    hello.features = wire::feature_leases;
    return hello;
}

// A holder of a lease of one directory, and an author whose next FALLOCATE touches a name of it.
struct Leased {
    World world;
    Connection holder{world, "holder"};
    Connection author{world, "author"};
    InodePtr directory = FakeFiles::some_inode();
    std::vector<Touched> touched;  // by the next requests
    wire::HelloReply holder_hello;
    std::uint64_t last_id = 10;

    explicit Leased(const LeaseTable::Limits& limits = {}, ServiceOptions options = {}) : world(options, limits) {
        touched = {{directory, "name", true}};
        world.files.handler = [this](RequestId, Opcode opcode, const auto&) {
            Outcome outcome;
            if (opcode == Opcode::fallocate)
                outcome.touched = touched;
            return outcome;
        };
        holder_hello = holder.hello(hello_with_leases());
        author.hello(hello_with_leases());
        REQUIRE(world.leases->grant(world.files.sessions[0].get(), directory, directory_node));
        holder_speaks();
    }
    std::uint64_t change() {
        author.send(++last_id, wire::Fallocate{.handle = HandleId{1}});
        return last_id;
    }
    std::uint64_t change(const std::string& name) {
        touched = {{directory, name, true}};
        return change();
    }
    bool answered(std::uint64_t id) {
        for (const Received& reply : author.take())
            answers.insert(reply.id);
        return answers.contains(id);
    }
    wire::PushInvalidate push(Connection& to) {
        auto pushes = to.take_pushes();
        REQUIRE(pushes.size() == 1);
        return pushes[0].as<wire::PushInvalidate>();
    }
    void confirm(std::uint64_t sequence) {
        CHECK(holder.ask(++holder_id, wire::Invalidated{.sequence = sequence}) == Status::ok);
    }
    void holder_speaks() { CHECK(holder.ask(++holder_id, wire::Ping{}) == Status::ok); }

    std::set<std::uint64_t> answers;
    std::uint64_t holder_id = 1000;
};

}  // namespace

TEST_CASE("HELLO says how long leases last, where both ends have them") {
    World without;
    Connection client(without, "a");
    auto hello = client.hello(hello_with_leases());
    CHECK(hello.features == 0);
    CHECK(hello.lease_term_ms == 0);

    World with({}, LeaseTable::Limits{});
    Connection asks(with, "a");
    hello = asks.hello(hello_with_leases());
    CHECK(hello.features == wire::feature_leases);
    CHECK(hello.lease_term_ms == 10'000);
    CHECK(with.leases->grant(with.files.sessions[0].get(), FakeFiles::some_inode(), directory_node));
    Connection does_not(with, "b");
    hello = does_not.hello();
    CHECK(hello.lease_term_ms == 0);
    CHECK_FALSE(with.leases->grant(with.files.sessions[1].get(), FakeFiles::some_inode(), directory_node));
}

TEST_CASE("the author of a change is answered once the holder of the lease has let go") {
    Leased f;
    const std::uint64_t id = f.change();
    CHECK_FALSE(f.answered(id));
    const auto push = f.push(f.holder);
    CHECK(push.flags == 0);
    CHECK(push.nodes.empty());
    CHECK(push.changes == std::vector<wire::LeaseChange>{{directory_node, What::name, "name"}});
    CHECK(f.author.take_pushes().empty());
    f.confirm(push.sequence);
    CHECK(f.answered(id));
    CHECK(f.world.count("leases.waits") == 1);
    CHECK(f.world.count("leases.revoked") == 1);

    // Told once: nobody is pushed to, and nobody waits.
    CHECK(f.answered(f.change()));
    CHECK(f.holder.take_pushes().empty());
}

TEST_CASE("a change that no lease of another covers is answered at once") {
    Leased f;
    f.touched = {{FakeFiles::some_inode(), "name", true}};
    CHECK(f.answered(f.change()));
    f.touched = {};
    CHECK(f.answered(f.change()));
    CHECK(f.holder.take_pushes().empty());
    CHECK(f.world.count("leases.waits") == 0);
}

TEST_CASE("the later records of a message are carried out while the answer to the first is held") {
    Leased f;
    auto writer = f.author.begin();
    writer.add({.opcode = Opcode::fallocate, .flags = wire::flag_link, .id = RequestId{20}},
               wire::Fallocate{.handle = HandleId{1}});
    writer.add({.opcode = Opcode::getattr, .id = RequestId{21}}, wire::Getattr{.node = NodeId{1}, .handle = {}});
    f.author.send(std::move(writer));
    CHECK(f.answered(21));
    CHECK_FALSE(f.answered(20));
    CHECK(f.world.service->open_requests() == 1);
    f.confirm(f.push(f.holder).sequence);
    CHECK(f.answered(20));
    CHECK(f.world.service->open_requests() == 0);
}

TEST_CASE("a request that is cancelled while its answer is held has been carried out, and says so") {
    Leased f;
    const std::uint64_t id = f.change();
    CHECK(f.author.ask(500, wire::Cancel{.request = RequestId{id}}) == Status::ok);
    CHECK_FALSE(f.answered(id));
    f.confirm(f.push(f.holder).sequence);
    const auto replies = f.author.take();
    REQUIRE(replies.size() == 1);
    CHECK(replies[0].id == id);
    CHECK(replies[0].status == Status::ok);
}

TEST_CASE("a holder that says goodbye, or ends, is not waited for") {
    Leased f;
    const std::uint64_t id = f.change();
    SECTION("it says goodbye") {
        f.holder.send(3, wire::Bye{});
        CHECK(f.answered(id));
        CHECK(f.world.leases->nobody());
    }
    SECTION("it is thrown out") {
        for (int i = 0; i < 2000; ++i)
            f.holder.send_raw({.head = Buffer::copy_of("nonsense"), .bulk = {}});
        CHECK(f.world.service->sessions() == 1);
        CHECK(f.answered(id));
    }
    CHECK(f.world.count("leases.held") == 0);
}

TEST_CASE("a holder that is silent is waited for until its term has run out, and loses its leases") {
    Leased f;
    f.world.pass(4s);
    const std::uint64_t id = f.change();
    f.world.pass(term - 4s - 1ms);
    CHECK_FALSE(f.answered(id));
    f.world.pass(1ms);
    CHECK(f.answered(id));
    CHECK(f.world.count("leases.expired") == 1);
    CHECK(f.world.leases->nobody());
    // It is told, after what it had not confirmed.
    const auto pushes = f.holder.take_pushes();
    REQUIRE(pushes.size() == 2);
    CHECK(pushes[1].as<wire::PushInvalidate>().flags == wire::invalidate_all_leases);
    CHECK(f.answered(f.change()));
}

TEST_CASE("a holder that speaks but confirms nothing is waited for one term from the change on") {
    Leased f;
    const std::uint64_t id = f.change();
    for (int second = 0; second < 9; ++second) {
        f.world.pass(1s);
        f.holder_speaks();
        CHECK_FALSE(f.answered(id));
    }
    const std::uint64_t later = f.change("another");
    f.world.pass(1s);
    CHECK(f.answered(id));
    // All its leases have ended with that: no second term for what came later.
    CHECK(f.answered(later));
    CHECK(f.world.count("leases.expired") == 1);
    CHECK(f.answered(f.change("third")));
}

TEST_CASE("a holder that confirms what it was never told is waited for as if it had said nothing") {
    Leased f;
    const std::uint64_t id = f.change();
    const auto sequence = f.push(f.holder).sequence;
    for (const std::uint64_t wrong : {sequence + 1, UINT64_MAX})
        CHECK(f.holder.ask(++f.holder_id, wire::Invalidated{.sequence = wrong}) == Status::invalid);
    CHECK(f.holder.ask(++f.holder_id, wire::Invalidated{.sequence = 0}) == Status::ok);
    CHECK_FALSE(f.answered(id));
    f.confirm(sequence);
    CHECK(f.answered(id));
}

TEST_CASE("nobody waits for a holder that had been silent for a term when the change came") {
    Leased f;
    f.world.pass(term);
    CHECK(f.answered(f.change()));
    const auto push = f.push(f.holder);
    CHECK(push.flags == wire::invalidate_all_leases);
    CHECK(push.changes.empty());
    CHECK(f.world.count("leases.waits") == 0);
    // A lease that it asks for before it has heard that would be taken for one of the old.
    CHECK_FALSE(f.world.leases->grant(f.world.files.sessions[0].get(), f.directory, directory_node));
    f.confirm(push.sequence);
    CHECK(f.world.leases->grant(f.world.files.sessions[0].get(), f.directory, directory_node));
}

TEST_CASE("leases outlive silence as long as nobody changes anything") {
    Leased f;
    f.world.pass(25s);
    f.holder_speaks();
    CHECK_FALSE(f.world.leases->nobody());
    const std::uint64_t id = f.change();
    CHECK_FALSE(f.answered(id));
    f.confirm(f.push(f.holder).sequence);
    CHECK(f.answered(id));
}

TEST_CASE("a client that keeps others waiting again and again gets no leases for a while") {
    Leased f;
    const auto take_and_lose = [&] {
        f.change();
        for (int second = 0; second < 10; ++second) {
            f.world.pass(1s);
            f.holder_speaks();
        }
        for (const Received& push : f.holder.take_pushes())
            f.confirm(push.as<wire::PushInvalidate>().sequence);
        return f.world.leases->grant(f.world.files.sessions[0].get(), f.directory, directory_node);
    };
    CHECK(take_and_lose());
    CHECK_FALSE(take_and_lose());
    CHECK(f.answered(f.change()));
    for (int i = 0; i < 6; ++i) {
        f.world.pass(10s);
        f.holder_speaks();
    }
    CHECK(f.world.leases->grant(f.world.files.sessions[0].get(), f.directory, directory_node));
}

TEST_CASE("a push is repeated on a new connection, ahead of everything else, and can be confirmed there") {
    Leased f;
    f.world.thread.gone.insert("holder");
    const std::uint64_t id = f.change();
    CHECK_FALSE(f.answered(id));
    Connection again(f.world, "again");
    again.send(1, hello_again(f.holder_hello));
    auto& mail = f.world.thread.mail["again"];
    REQUIRE(mail.size() == 2);
    CHECK(static_cast<std::uint8_t>(mail.front().head.bytes()[3]) == 3);  // a push
    const auto reply = again.take_one();
    CHECK(reply.as<wire::HelloReply>().resumed);
    CHECK(reply.as<wire::HelloReply>().lease_term_ms == 10'000);
    CHECK(reply.message_flags == 0);
    CHECK_FALSE(f.answered(id));
    CHECK(again.ask(2, wire::Invalidated{.sequence = f.push(again).sequence}) == Status::ok);
    CHECK(f.answered(id));
}

TEST_CASE("a confirmation that was lost with its connection is given again") {
    Leased f;
    const std::uint64_t id = f.change();
    const auto push = f.push(f.holder);
    Connection again(f.world, "again");
    again.hello(hello_again(f.holder_hello));
    CHECK(f.push(again).sequence == push.sequence);
    CHECK_FALSE(f.answered(id));
    // Sent again under its old number, it counts as ever.
    CHECK(again.ask(2, wire::Invalidated{.sequence = push.sequence}, wire::flag_resent) == Status::ok);
    CHECK(f.answered(id));
}

TEST_CASE("a session that is resumed after it lost its leases hears so first") {
    Leased f;
    const std::uint64_t id = f.change();
    f.push(f.holder);
    f.world.thread.gone.insert("holder");
    f.world.pass(term);
    CHECK(f.answered(id));
    Connection again(f.world, "again");
    CHECK(again.hello(hello_again(f.holder_hello)).resumed);
    const auto pushes = again.take_pushes();
    REQUIRE(pushes.size() == 2);
    CHECK(pushes[0].as<wire::PushInvalidate>().flags == 0);
    CHECK(pushes[1].as<wire::PushInvalidate>().flags == wire::invalidate_all_leases);
}

TEST_CASE("an author that loses its connection gets the held answer on the next one") {
    Leased f;
    Connection author(f.world, "second author");
    const auto session = author.hello(hello_with_leases());
    author.send(2, wire::Fallocate{.handle = HandleId{1}});
    CHECK(author.take().empty());
    f.world.thread.gone.insert("second author");
    Connection again(f.world, "again");
    again.hello(hello_again(session));
    again.send(2, wire::Fallocate{.handle = HandleId{1}}, wire::flag_resent);
    CHECK(again.take().empty());
    CHECK(std::ranges::count(f.world.files.calls, Opcode::fallocate, &FakeFiles::Call::opcode) == 1);
    f.confirm(f.push(f.holder).sequence);
    CHECK(again.take_one().id == 2);
}

TEST_CASE("an author that ends leaves no answer behind") {
    Leased f;
    f.change();
    f.author.send(500, wire::Bye{});
    CHECK(f.world.service->sessions() == 1);
    f.confirm(f.push(f.holder).sequence);
    CHECK(f.world.service->open_requests() == 0);
}

TEST_CASE("what was changed for an author that had ended by then is told all the same") {
    Leased f;
    f.world.files.known = {NodeId{77}};
    f.world.files.handler = [&](RequestId, Opcode, const auto&) {
        Outcome outcome;
        outcome.touched = f.touched;
        outcome.changed = {f.directory};
        return outcome;
    };
    f.world.hold_workers = true;
    f.change();
    f.author.send(++f.last_id, wire::Bye{});
    REQUIRE(f.world.count("server.sessions_closed") == 1);
    f.world.hold_workers = false;
    f.world.settle();
    const auto push = f.push(f.holder);
    CHECK(push.changes == std::vector<wire::LeaseChange>{{directory_node, What::name, "name"}});
    CHECK(push.nodes == std::vector<NodeId>{NodeId{77}});
}

TEST_CASE("what leaves while the client is behind with its confirmations renews no lease") {
    Leased f;
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 8; ++i)
        ids.push_back(f.change("name" + std::to_string(i)));
    f.holder.send(50, wire::Ping{});
    CHECK(f.holder.take_one().message_flags == 0);  // all has been told
    ids.push_back(f.change("one too many"));
    CHECK(f.holder.take_pushes().size() == 8);
    f.holder.send(51, wire::Ping{});
    CHECK(f.holder.take_one().message_flags == wire::message_overtakes);
    // On other lanes nothing is renewed anyway.
    Connection lane(f.world, "lane");
    CHECK(lane.ask(1, wire::Attach{.session = f.holder_hello.session,
                                   .session_secret = f.holder_hello.session_secret,
                                   .lane = 1}) == Status::ok);
    lane.send(52, wire::Ping{});
    CHECK(lane.take_one().message_flags == 0);

    // Since the client's trust is not renewed, the ninth need not wait for longer than a term, though it is not sent.
    f.world.pass(term - 1ms);
    f.holder.send(53, wire::Ping{});
    CHECK_FALSE(f.answered(ids.back()));
    f.world.pass(1ms);
    for (const std::uint64_t id : ids)
        CHECK(f.answered(id));
    f.holder.take();
    f.holder.send(54, wire::Invalidated{.sequence = 8});
    CHECK(f.push(f.holder).flags == wire::invalidate_all_leases);
    f.holder.take();
    f.holder.send(55, wire::Ping{});
    CHECK(f.holder.take_one().message_flags == 0);
}

TEST_CASE("confirming frees room for what was held up, and only what it names is waited for no more") {
    Leased f;
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 10; ++i)
        ids.push_back(f.change("name" + std::to_string(i)));
    CHECK(f.holder.take_pushes().size() == 8);
    f.holder.send(50, wire::Invalidated{.sequence = 2});
    CHECK(f.answered(ids[0]));
    CHECK(f.answered(ids[1]));
    CHECK_FALSE(f.answered(ids[2]));
    const auto joined = f.push(f.holder);
    CHECK(joined.sequence == 9);
    CHECK(joined.changes.size() == 2);
    f.holder.take();
    f.confirm(9);
    for (const std::uint64_t id : ids)
        CHECK(f.answered(id));
}

TEST_CASE("a change that comes while an older push is on its way waits for that, and is not told twice") {
    Leased f;
    const std::uint64_t first = f.change();
    const std::uint64_t second = f.change();
    const auto push = f.push(f.holder);
    CHECK(push.changes.size() == 1);
    CHECK_FALSE(f.answered(second));
    f.confirm(push.sequence);
    CHECK(f.answered(first));
    CHECK(f.answered(second));
}

TEST_CASE("a grant between a change and its report makes the change be told") {
    // Carried out, not reported: the outcome lies at the worker.
    Leased f;
    f.world.leases->give_back(f.world.files.sessions[0].get(), *f.directory);
    f.world.hold_workers = true;
    const std::uint64_t id = f.change();
    REQUIRE(f.world.executor.run_one());
    REQUIRE(f.world.leases->grant(f.world.files.sessions[0].get(), f.directory, directory_node));
    f.world.settle();
    CHECK_FALSE(f.answered(id));
    f.confirm(f.push(f.holder).sequence);
    CHECK(f.answered(id));
}

TEST_CASE("a push leaves ahead of the answer that was decided after it") {
    // The holder asks for a name; another changes it before the answer has left.
    Leased f;
    f.world.hold_workers = true;
    f.change();
    f.holder.send(60, wire::Getattr{.node = NodeId{1}, .handle = {}});
    REQUIRE(f.world.executor.run_one());  // the change
    REQUIRE(f.world.executor.run_one());  // the look
    f.world.settle();
    auto& mail = f.world.thread.mail["holder"];
    REQUIRE(mail.size() == 2);
    CHECK(static_cast<std::uint8_t>(mail.front().head.bytes()[3]) == 3);
}

TEST_CASE("files whose names are not all remembered are told of by their nodes, and waited for") {
    Leased f;
    f.world.files.known = {NodeId{42}};
    f.world.files.handler = [&](RequestId, Opcode opcode, const auto&) {
        Outcome outcome;
        if (opcode == Opcode::fallocate)
            outcome.touched_unplaced = {f.directory};
        return outcome;
    };
    const std::uint64_t id = f.change();
    CHECK_FALSE(f.answered(id));
    const auto push = f.push(f.holder);
    CHECK(push.changes == std::vector<wire::LeaseChange>{{NodeId{42}, What::directory, ""}});
    f.confirm(push.sequence);
    CHECK(f.answered(id));
}

TEST_CASE("what a program on the server changes is told, and nobody waits") {
    Leased f;
    f.world.service->changed_outside(std::vector<Touched>{{f.directory, "file"}, {f.directory, "name", true}}, false);
    f.world.settle();
    const auto push = f.push(f.holder);
    CHECK(push.changes == std::vector<wire::LeaseChange>{{directory_node, What::content, "file"},
                                                         {directory_node, What::name, "name"}});
    // What a client does with the name waits until the holder knows that it knows nothing of it.
    const std::uint64_t id = f.change("name");
    CHECK_FALSE(f.answered(id));
    CHECK(f.holder.take_pushes().empty());
    f.confirm(push.sequence);
    CHECK(f.answered(id));
}

TEST_CASE("a program's change that is not confirmed within a term ends the leases") {
    Leased f;
    f.world.service->changed_outside(std::vector<Touched>{{f.directory, "file"}}, false);
    for (int second = 0; second < 10; ++second) {
        f.world.pass(1s);
        f.holder_speaks();
    }
    CHECK(f.world.leases->nobody());
    CHECK(f.holder.take_pushes().size() == 2);
}

TEST_CASE("when programs change more than can be followed all leases end, and authors wait until that is known") {
    Leased f;
    f.world.service->changed_outside({}, true);
    f.world.settle();
    const auto push = f.push(f.holder);
    CHECK(push.flags == wire::invalidate_all_leases);
    const std::uint64_t id = f.change();
    CHECK_FALSE(f.answered(id));
    f.confirm(push.sequence);
    CHECK(f.answered(id));
    CHECK(f.world.count("leases.watch_overflows") == 1);
}

TEST_CASE("when a program links a file of whose names some are unknown all leases end") {
    Leased f;
    f.world.service->unknown_names_changed();
    f.world.settle();
    CHECK(f.push(f.holder).flags == wire::invalidate_all_leases);
    CHECK(f.world.count("leases.unknown_names") == 1);
    CHECK(f.world.count("leases.watch_overflows") == 0);
}

TEST_CASE("when something is mounted in the export all leases end") {
    Leased f;
    f.world.service->mounts_changed();
    f.world.settle();
    CHECK(f.push(f.holder).flags == wire::invalidate_all_leases);
}

TEST_CASE("when the server stops nothing is held, and clients hear that their leases have ended") {
    Leased f;
    const std::uint64_t id = f.change();
    f.holder.take_pushes();
    std::optional<bool> stopped;
    f.world.service->stop(5s, [&](bool in_time) { stopped = in_time; });
    f.world.settle();
    CHECK(f.answered(id));
    CHECK(stopped == true);
    const auto pushes = f.holder.take_pushes();
    REQUIRE(pushes.size() == 2);
    CHECK(pushes[0].as<wire::PushInvalidate>().flags == wire::invalidate_all_leases);
    CHECK(pushes[1].opcode == Opcode::push_shutdown);
    CHECK_FALSE(f.world.leases->grant(f.world.files.sessions[0].get(), f.directory, directory_node));
}

TEST_CASE("work that is under way when the server stops is answered without waiting") {
    Leased f;
    f.world.hold_workers = true;
    const std::uint64_t id = f.change();
    std::optional<bool> stopped;
    f.world.service->stop(5s, [&](bool in_time) { stopped = in_time; });
    f.world.hold_workers = false;
    f.world.settle();
    CHECK(f.answered(id));
    CHECK(stopped == true);
}

TEST_CASE("the status tells what each client holds and has lost") {
    Leased f;
    f.change();
    f.world.pass(term);
    f.holder.take();
    f.holder.send(70, wire::ServerStatus{});
    const auto status = f.holder.take_one().as<wire::ServerStatusReply>();
    const auto holder = std::ranges::find_if(status.clients, [](const auto& client) { return client.expired != 0; });
    REQUIRE(holder != status.clients.end());
    CHECK(holder->leases == 0);
    CHECK(holder->revoked == 1);
    CHECK(holder->expired == 1);
    const auto held = std::ranges::find(status.counters, "leases.held", &wire::CounterValue::name);
    REQUIRE(held != status.counters.end());
    CHECK(held->value == 0);
}

TEST_CASE("a client without leases confirms and is pushed to as ever") {
    World world({}, LeaseTable::Limits{});
    Connection reader(world, "reader");
    Connection writer(world, "writer");
    reader.hello();
    writer.hello();
    world.files.known = {NodeId{7}};
    world.files.handler = [](RequestId, Opcode, const auto&) {
        Outcome outcome;
        outcome.changed = {FakeFiles::some_inode()};
        outcome.touched = {{outcome.changed[0], "x", true}};
        return outcome;
    };
    CHECK(writer.ask(2, wire::Fallocate{.handle = HandleId{1}}) == Status::ok);
    const auto pushes = reader.take_pushes();
    REQUIRE(pushes.size() == 1);
    CHECK(pushes[0].as<wire::PushInvalidate>().nodes == world.files.known);
    CHECK(reader.ask(2, wire::Invalidated{.sequence = 1}) == Status::ok);
}

TEST_CASE("confirmations are taken even from a client that has used up its requests") {
    ServiceOptions options;
    options.grants.max_requests = 4;
    Leased f({}, options);
    const std::uint64_t id = f.change();
    f.world.hold_workers = true;
    for (std::uint64_t request = 80; request < 84; ++request)
        f.holder.send(request, wire::Getattr{.node = NodeId{1}, .handle = {}});
    f.holder.send(84, wire::Invalidated{.sequence = 1});
    CHECK(f.answered(id));
}
