// SPDX-License-Identifier: MIT
// Several exports behind one address: who gets to which, and what those learn who may not.
#include <algorithm>

#include "server/sessions/export_router.hpp"
#include "service_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

transport::PublicKey key_of(std::uint8_t number) {
    transport::PublicKey key;
    key.bytes[0] = number;
    return key;
}

// Exports with files of their own, on one thread.
struct Exports {
    FakeThread thread;
    ManualExecutor executor;
    Counters counters;  // of the lobby
    std::optional<ExportRouter> router;

    struct Export {
        FakeFiles files;
        Counters counters;
        std::map<transport::PublicKey, Admittance> allowed;
        std::optional<Service> service;
    };
    std::map<std::string, Export> exports;

    explicit Exports(ServiceOptions lobby = {}) {
        log::configure("test", log::Level::error, log::Target::standard_error);
        router.emplace(executor, thread, counters, std::move(lobby));
    }
    ~Exports() {
        for (auto& [label, each] : exports) {
            router->remove(*each.service);
            each.service.reset();
        }
    }

    // `label` tells it from others of its name.
    Service& add(const std::string& name, std::map<transport::PublicKey, Admittance> allowed,
                 ServiceOptions options = {}, const std::string& label = {}) {
        Export& added = exports[label.empty() ? name : label];
        added.allowed = std::move(allowed);
        options.export_name = name;
        options.admits = [&added](const std::optional<transport::PublicKey>& key) -> std::optional<Admittance> {
            const auto found = key ? added.allowed.find(*key) : added.allowed.end();
            return found == added.allowed.end() ? std::nullopt : std::optional(found->second);
        };
        options.exports = [this](const std::optional<transport::PublicKey>& key) { return router->exports_for(key); };
        options.granted_by_all = [this] { return router->granted_bytes(); };
        added.service.emplace(added.files, executor, thread, added.counters, std::move(options));
        router->add(*added.service);
        return *added.service;
    }

    void settle() {
        while (thread.turn() || executor.run_one()) {
        }
    }
};

struct Client {
    Exports& world;
    transport::RouteId route;
    transport::Peer peer;

    Client(Exports& given_world, std::string name, std::uint8_t key)
        : world(given_world),
          route{std::move(name)},
          peer{.address = "192.0.2.1", .key = key_of(key), .comment = "k"} {}

    void send_raw(wire::Message message) {
        world.router->on_message(
            route, [this] { return peer; }, std::move(message));
        world.settle();
    }
    template <class Request>
    Received ask(std::uint64_t id, const Request& request) {
        wire::MessageWriter writer(wire::MessageKind::request);
        writer.add({.opcode = Request::opcode, .id = RequestId{id}}, request);
        send_raw(std::move(writer).finish());
        return take();
    }
    Received take() {
        auto& mail = world.thread.mail[route.bytes];
        REQUIRE(mail.size() == 1);
        const auto parsed = wire::parse_message(std::move(mail.front()), wire::MessageKind::reply);
        mail.pop_front();
        REQUIRE(parsed);
        const wire::Record& record = parsed->records.front();
        return {.id = record.header.id.value,
                .opcode = record.header.opcode,
                .status = static_cast<Status>(record.header.detail),
                .body = {record.body.begin(), record.body.end()}};
    }
    Received hello(const std::string& path, std::uint64_t features = wire::feature_exports) {
        return ask(1, wire::Hello{.features = features, .root = NodeId{1}, .path = path, .client_name = "someone"});
    }
};

constexpr std::uint8_t alice = 1;
constexpr std::uint8_t bob = 2;

const std::map<transport::PublicKey, Admittance> both{{key_of(alice), {}}, {key_of(bob), {.read_only = true}}};
const std::map<transport::PublicKey, Admittance> alice_alone{{key_of(alice), {}}};

}  // namespace

TEST_CASE("HELLO's path leads to an export, and the rest of it below") {
    Exports world;
    world.add("media", both);
    world.add("home", alice_alone);
    Client first(world, "a", alice);
    const Received reply = first.hello("/media/films");
    REQUIRE(reply.status == Status::ok);
    CHECK((reply.as<wire::HelloReply>().features & wire::feature_exports) != 0);
    CHECK_FALSE(reply.as<wire::HelloReply>().read_only);
    Client second(world, "b", alice);
    REQUIRE(second.hello("//home").status == Status::ok);
    CHECK(second.ask(2, wire::Getattr{}).status == Status::ok);
    CHECK(world.exports["home"].files.carried_out() == std::vector<std::uint64_t>{2});
    CHECK(world.exports["media"].files.carried_out().empty());
    // Below an export a missing directory is missing, whatever other exports there are.
    CHECK(Client(world, "c", alice).hello("/media/missing").status == Status::no_entry);
    CHECK(Client(world, "d", bob).hello("/media").as<wire::HelloReply>().read_only);
}

TEST_CASE("whoever may not use an export learns as little as of one that is not there") {
    const std::string token = GENERATE("", "secret");
    ServiceOptions options;
    options.token = token;
    Exports world(options);
    world.add("media", both, options);
    world.add("home", alice_alone, options);
    // Each of them by a connection of its own: what was answered before shall not matter.
    int connections = 0;
    const auto answer_to = [&](wire::Hello hello) {
        Client client(world, std::to_string(++connections), bob);
        Received received = client.ask(1, hello);
        CHECK(client.ask(2, wire::Ping{}).status == Status::no_session);
        return std::pair(received.status, received.body);
    };
    const wire::Hello usual{.features = wire::feature_exports, .root = NodeId{1}, .path = {}, .client_name = "someone"};
    const auto changed = [&](auto change) {
        wire::Hello hello = usual;
        hello.token = token;
        change(hello);
        return hello;
    };
    CHECK(answer_to(changed([](wire::Hello& hello) { hello.path = "/home"; })).first == Status::no_entry);
    const std::vector<wire::Hello> hellos{
        changed([](wire::Hello&) {}),
        changed([](wire::Hello& hello) { hello.token = "wrong"; }),
        changed([](wire::Hello& hello) { hello.features = 0; }),
        changed([](wire::Hello& hello) { hello.flags = wire::hello_exclusive; }),
        changed([](wire::Hello& hello) { hello.flags = 0x80; }),
        changed([](wire::Hello& hello) { hello.root = NodeId{}; }),
        changed([](wire::Hello& hello) { hello.min_version = 3, hello.max_version = 3; }),
        changed([](wire::Hello& hello) { hello.resume = SessionId{7}; }),
        changed([](wire::Hello& hello) { hello.wait_ms = 1000; }),
    };
    for (wire::Hello hello : hellos) {
        for (const std::string below : {"", "/", "/missing", "/..", "/a/b"}) {
            hello.path = "/home" + below;
            const auto refused = answer_to(hello);
            hello.path = "/nowhere" + below;
            CHECK(refused == answer_to(hello));
            CHECK(refused.first != Status::ok);
        }
    }
}

TEST_CASE("a path without an export is answered by the names that the client may use") {
    Exports world;
    world.add("media", both);
    world.add("home", alice_alone);
    const Received to_alice = Client(world, "a", alice).hello("/");
    REQUIRE(to_alice.status == Status::export_needed);
    CHECK(to_alice.as<wire::ExportNeeded>().names == std::vector<std::string>{"home", "media"});
    CHECK(Client(world, "b", bob).hello("").as<wire::ExportNeeded>().names == std::vector<std::string>{"media"});
    // An old client does not know that status, and to a stranger there is nothing.
    CHECK(Client(world, "c", alice).hello("/", 0).status == Status::no_entry);
    CHECK(Client(world, "d", 3).hello("/").status == Status::no_entry);

    // Another HELLO follows on the same connection.
    Client again(world, "e", alice);
    REQUIRE(again.hello("/").status == Status::export_needed);
    CHECK(again.hello("/home").status == Status::ok);
}

TEST_CASE("sessions of different exports are apart") {
    Exports world;
    ServiceOptions exclusive;
    exclusive.limits.always_exclusive = true;
    world.add("home", alice_alone, exclusive);
    world.add("media", both);
    Client at_home(world, "a", alice);
    const auto home = at_home.hello("/home").as<wire::HelloReply>();
    CHECK(home.others.empty());
    // Exclusive use of one is none of the other's business.
    Client at_media(world, "b", alice);
    const auto media = at_media.hello("/media").as<wire::HelloReply>();
    CHECK(media.others.empty());
    CHECK(Client(world, "c", alice).hello("/home").status == Status::in_use);
    CHECK(at_media.ask(2, wire::ServerStatus{}).as<wire::ServerStatusReply>().clients.size() == 1);

    const auto seen_by = [](Client& client, std::uint64_t id) {
        std::vector<std::pair<std::string, std::size_t>> seen;
        for (const wire::ExportEntry& entry : client.ask(id, wire::Exports{}).as<wire::ExportsReply>().exports)
            seen.emplace_back(entry.name, entry.clients.size());
        return seen;
    };
    CHECK(seen_by(at_media, 3) == std::vector<std::pair<std::string, std::size_t>>{{"home", 1}, {"media", 1}});
    Client other(world, "d", bob);
    REQUIRE(other.hello("/media").status == Status::ok);
    CHECK(seen_by(other, 2) == std::vector<std::pair<std::string, std::size_t>>{{"media", 2}});

    // A session is not taken up by way of another export, nor joined without its secret.
    Client thief(world, "e", alice);
    const auto taken = thief.ask(1, wire::Hello{.resume = home.session,
                                                .session_secret = home.session_secret,
                                                .root = NodeId{1},
                                                .path = "/media",
                                                .client_name = "x"});
    REQUIRE(taken.status == Status::ok);
    CHECK_FALSE(taken.as<wire::HelloReply>().resumed);
    Client lane(world, "f", alice);
    CHECK(lane.ask(1, wire::Attach{.session = home.session, .session_secret = {}, .lane = 1}).status ==
          Status::no_session);
    CHECK(lane.ask(1, wire::Attach{.session = home.session, .session_secret = home.session_secret, .lane = 1}).status ==
          Status::ok);
}

TEST_CASE("a session of an old client is not told of exports") {
    Exports world;
    world.add("media", both);
    Client client(world, "a", alice);
    REQUIRE(client.hello("/media", 0).status == Status::ok);
    CHECK(client.ask(2, wire::Exports{}).status == Status::not_implemented);
}

TEST_CASE("a key that acts as a user does so whatever its client says") {
    Exports world;
    ServiceOptions options;
    options.callers.client_identity = GENERATE(false, true);
    const transport::Account account{.uid = 1000, .gid = 100, .groups = {100, 27}};
    world.add("media", {{key_of(alice), {.read_only = false, .identity = account}}, {key_of(bob), {}}}, options);
    Client client(world, "a", alice);
    const auto hello = client.hello("/media").as<wire::HelloReply>();
    CHECK_FALSE(hello.client_identity);
    CHECK(hello.server_uid == 1000);
    CHECK(hello.server_gid == 100);
    CHECK(client.ask(2, wire::Credential{.number = 1, .uid = 0, .gid = 0, .groups = {0}}).status == Status::ok);
    CHECK(client.ask(3, wire::Getattr{}).status == Status::ok);
    const Caller& caller = world.exports["media"].files.calls.back().caller;
    CHECK(caller.switch_identity);
    CHECK(caller.uid == 1000);
    CHECK(caller.gid == 100);
    CHECK(caller.groups == std::vector<gid_t>{100, 27});
    // Others are as the export says.
    Client other(world, "b", bob);
    CHECK(other.hello("/media").as<wire::HelloReply>().client_identity == options.callers.client_identity);
    CHECK(other.ask(2, wire::Getattr{}).status == Status::ok);
    CHECK(world.exports["media"].files.calls.back().caller.switch_identity == options.callers.client_identity);
}

TEST_CASE("an export without a name takes whole paths") {
    Exports world;
    world.add("", both);
    CHECK(Client(world, "a", alice).hello("/").status == Status::ok);
    CHECK(Client(world, "b", alice).hello("/media/x").status == Status::ok);
    CHECK(Client(world, "c", alice).hello("/missing").status == Status::no_entry);
    CHECK(Client(world, "d", 3).hello("/").status == Status::no_entry);
    Client status(world, "e", bob);
    REQUIRE(status.hello("/").status == Status::ok);
    const auto exports = status.ask(2, wire::Exports{}).as<wire::ExportsReply>().exports;
    REQUIRE(exports.size() == 1);
    CHECK(exports.front().name.empty());
    CHECK(exports.front().read_only);
    CHECK(exports.front().clients.size() == 3);
}

TEST_CASE("an export that is served no longer keeps its sessions, and takes none") {
    Exports world;
    Service& old = world.add("media", both, {}, "old");
    Client client(world, "a", alice);
    const auto session = client.hello("/media").as<wire::HelloReply>();
    old.take_new_sessions(false);
    CHECK(client.ask(2, wire::Getattr{}).status == Status::ok);
    CHECK(Client(world, "b", alice).hello("/media").status == Status::no_entry);
    CHECK(Client(world, "c", alice).hello("/").status == Status::no_entry);
    CHECK_FALSE(old.is_idle());

    // Another one of that name; whoever comes back gets what it had.
    world.add("media", both, {}, "new");
    CHECK(Client(world, "d", alice).hello("/media").status == Status::ok);
    CHECK(world.exports["new"].files.opened == 1);
    wire::Hello resume{.resume = session.session,
                       .session_secret = session.session_secret,
                       .root = NodeId{1},
                       .path = "/media",
                       .client_name = "someone"};
    Client back(world, "e", alice);
    CHECK(back.ask(1, resume).as<wire::HelloReply>().resumed);
    // Not if it may not use it any more.
    world.exports["old"].allowed.clear();
    const Received refused = Client(world, "f", alice).ask(1, resume);
    CHECK(refused.status == Status::ok);  // by the new one
    CHECK_FALSE(refused.as<wire::HelloReply>().resumed);

    CHECK(back.ask(3, wire::Bye{}).status == Status::ok);
    world.settle();
    CHECK(old.is_idle());
}

TEST_CASE("what may change of an export counts for new sessions") {
    Exports world;
    Service& media = world.add("media", both);
    Client before(world, "a", alice);
    REQUIRE_FALSE(before.hello("/media").as<wire::HelloReply>().read_only);
    SessionTurns::Limits limits;
    limits.max_sessions = 2;
    media.change(limits, {.client_identity = true, .allow_root = false}, true, "token");
    CHECK(Client(world, "b", alice).hello("/media").status == Status::bad_token);
    wire::Hello with_token{.root = NodeId{1}, .path = "/media", .client_name = "x", .token = "token"};
    const auto after = Client(world, "c", alice).ask(1, with_token).as<wire::HelloReply>();
    CHECK(after.read_only);
    CHECK(after.client_identity);
    CHECK(Client(world, "d", alice).ask(1, with_token).status == Status::limit_exceeded);
    CHECK(before.ask(2, wire::Getattr{}).status == Status::ok);
    // It acts as the server's user, as it was told.
    CHECK_FALSE(world.exports["media"].files.calls.back().caller.switch_identity);
}

TEST_CASE("nonsense and those without a session are answered by nobody's export") {
    Exports world;
    world.add("media", both);
    Client client(world, "a", alice);
    CHECK(client.ask(1, wire::Getattr{}).status == Status::no_session);
    client.send_raw({.head = Buffer::copy_of("nonsense"), .bulk = {}});
    CHECK(client.take().status == Status::malformed);
    client.send_raw({.head = Buffer::copy_of(std::string(100'000, '\0')), .bulk = {}});
    CHECK(client.take().status == Status::malformed);
    CHECK(world.exports["media"].counters.at("server.messages").value() == 0);
    CHECK(world.counters.at("server.malformed").value() == 2);
    // A HELLO with others in its message is none.
    wire::MessageWriter writer(wire::MessageKind::request);
    writer.add({.opcode = Opcode::hello, .id = RequestId{1}}, wire::Hello{.root = NodeId{1}, .path = "/media"});
    writer.add({.opcode = Opcode::ping, .id = RequestId{2}}, wire::Ping{});
    client.send_raw(std::move(writer).finish());
    CHECK(world.exports["media"].files.opened == 0);
}

TEST_CASE("all exports stop, and the last one tells") {
    Exports world;
    world.add("media", both);
    world.add("home", both);
    Client client(world, "a", alice);
    REQUIRE(client.hello("/home").status == Status::ok);
    std::optional<bool> stopped;
    world.router->stop(5s, [&](bool finished) {
        REQUIRE_FALSE(stopped);
        stopped = finished;
    });
    world.settle();
    CHECK(stopped == true);
    CHECK(Client(world, "b", alice).hello("/media").status == Status::shutting_down);
    CHECK(Client(world, "c", alice).hello("/nowhere").status == Status::shutting_down);
}
