// SPDX-License-Identifier: MIT
// Sessions with a real server, over a network that a test can cut.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>

#include "client/connect_options.hpp"
#include "client/directory.hpp"
#include "client/session.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "harness/server_process.hpp"
#include "harness/tcp_proxy.hpp"
#include "transport/fixture.hpp"

namespace remofile::client {
namespace {

using namespace std::chrono_literals;
using test::ServerProcess;

// Sessions with one server, in this process.
struct Clients {
    transport::Context context;
    transport::Reactor reactor;
    Counters counters;
    std::string config_dir;
    std::optional<Error> failure;
    std::vector<wire::Client> holders;

    explicit Clients(const ServerProcess& server) : config_dir(server.config_dir()) {
        setenv("REMOFILE_CONFIG_DIR", config_dir.c_str(), 1);
    }
    ~Clients() { unsetenv("REMOFILE_CONFIG_DIR"); }

    SessionOptions options_for(const std::string& address) const {
        ConnectOptions connect{.source = address + ":/"};
        auto options = make_session_options(connect);
        if (!options)
            FAIL(options.error().message);
        options->lane.linger = 200ms;
        return *options;
    }
    std::unique_ptr<Session> open(SessionOptions options) {
        std::unique_ptr<Session> session;
        bool ended = false;
        spawn(open_into(std::move(options), session, ended));
        REQUIRE(wait_for([&] { return ended; }));
        return session;
    }
    std::unique_ptr<Session> open(const std::string& address) { return open(options_for(address)); }
    Task<void> open_into(SessionOptions options, std::unique_ptr<Session>& session, bool& ended) {
        auto opened = co_await Session::open(context, reactor, std::move(options), counters, &holders);
        if (opened)
            session = std::move(*opened);
        else
            failure = opened.error();
        ended = true;
    }
    bool wait_for(const std::function<bool()>& condition) {
        return transport::run_until(reactor, condition, 30s * test::slowness());
    }
    // Runs a coroutine of the test to its end.
    void run(Task<void> task) {
        bool ended = false;
        spawn([](Task<void> owned, bool& end) -> Task<void> {
            co_await std::move(owned);
            end = true;
        }(std::move(task), ended));
        REQUIRE(wait_for([&] { return ended; }));
    }
};

std::string content_of(const std::string& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

const NodeId root{1};

// Checks what it does against the export itself. (Results are named: g++ 12 gets a co_await inside of CHECK() wrong.)
Task<void> write_and_list(Session& session, std::string directory) {
    const NodeId node = session.new_node_id();
    const HandleId handle = session.new_handle_id();
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(
        wire::Create{root, "file", {node, false}, handle, wire::open_read | wire::open_write, 0644, 022}, true));
    EncodedRequest write = encoded(wire::Write{handle, 0, false}, true);
    write.bulk = Buffer::copy_of("content");
    write.has_bulk = true;
    requests.push_back(std::move(write));
    requests.push_back(encoded(wire::Read{handle, 3, 100}));
    const auto replies = co_await session.call_batch(std::move(requests));
    CHECK(replies.at(0).status == Status::ok);
    CHECK(replies.at(1).status == Status::ok);
    CHECK(replies.at(2).bulk.text() == "tent");
    CHECK(content_of(directory + "/file") == "content");
    session.tell(wire::Release{handle});

    const HandleId listing = session.new_handle_id();
    wire::Opendir opendir{root, listing};
    const auto opened = co_await session.call(opendir);
    CHECK(opened.has_value());
    wire::Readdir readdir{listing, 0, 65536, 100, wire::ListedAttributes::with_nodes, session.new_node_ids(100)};
    const auto page = co_await session.call(readdir);
    CHECK(page.has_value());
    const auto entries = decode_directory(page->bulk, page->body.count);
    CHECK(entries.has_value());
    const auto file = std::ranges::find(*entries, "file", &wire::DirectoryEntry::name);
    CHECK(file != entries->end());
    CHECK(file->entry.attributes.size == 7);
    session.tell(wire::Releasedir{listing});
}

Task<void> ask_by_data_lane(Session& session) {
    CallOptions by_data{.lane = LaneKind::data};
    const auto reply = co_await session.call(wire::Statfs{root}, by_data);
    CHECK(reply.has_value());
}

// Connections are taken by the kernel, and nobody says a word.
UniqueFd listen_silently(const std::string& host, int port) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    REQUIRE(inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1);
    REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(fd.get(), 8) == 0);
    return fd;
}

// One directory a round, which cannot be made twice, and one line appended, which must not be.
Task<void> change_once(Session& session, HandleId handle, int round, int& finished) {
    wire::Mkdir mkdir{root, "d" + std::to_string(round), {session.new_node_id(), false}, 0755, 022};
    wire::Write write{handle, 0, true};
    const std::string line = std::to_string(round) + "\n";
    CallOptions by_data{.lane = LaneKind::data};
    Buffer bulk = Buffer::copy_of(line);
    const Status made = (co_await session.call(mkdir)).status();
    const Status written = (co_await session.call_with_bulk(write, std::move(bulk), by_data)).status();
    CHECK(made == Status::ok);
    CHECK(written == Status::ok);
    ++finished;
}

}  // namespace

TEST_CASE("a session works on a real export") {
    const ServerProcess server;
    Clients clients(server);
    const auto session = clients.open(server.address());
    REQUIRE(session != nullptr);
    clients.run(write_and_list(*session, server.directory()));
}

TEST_CASE("data goes by a sealed lane, and by the first port where the second cannot be reached") {
    if (!transport::has_fast_cipher())
        return;
    const ServerProcess server;
    REQUIRE(server.ports().size() == 2);
    std::string address = server.address();
    std::optional<test::TcpProxy> network;
    UniqueFd silent;
    std::uint64_t sealed_lanes = 0;
    SECTION("reachable") {
        sealed_lanes = 1;
    }
    SECTION("refused") {
        network.emplace(std::vector<int>{server.port()});
        address = network->address();
    }
    SECTION("accepted and never answered") {
        network.emplace(std::vector<int>{server.port()});
        address = network->address();
        silent = listen_silently(address.substr(0, address.find(':')), server.ports().at(1));
    }
    Clients clients(server);
    const auto session = clients.open(address);
    REQUIRE(session != nullptr);
    clients.run([](Session& waits) -> Task<void> {
        const Status ready = co_await waits.data_lane_ready(nullptr);
        CHECK(ready == Status::ok);
    }(*session));
    CHECK(clients.counters.at("client.sealed_lanes").value() == sealed_lanes);
    clients.run(ask_by_data_lane(*session));
    CHECK(clients.counters.at("client.sealed_lanes").value() == sealed_lanes);

    if (network) {
        network->cut();
        REQUIRE(clients.wait_for([&] { return !session->connected(); }));
        network->pass();
        REQUIRE(clients.wait_for([&] { return session->connected(); }));
        clients.run(ask_by_data_lane(*session));
    }
}

TEST_CASE("every change is carried out once, however often the connection is cut") {
    const ServerProcess server;
    test::TcpProxy network(server.ports());
    Clients clients(server);
    SessionOptions options = clients.options_for(network.address());
    const auto session = clients.open(std::move(options));
    REQUIRE(session != nullptr);

    const HandleId handle = session->new_handle_id();
    const NodeId node = session->new_node_id();
    clients.run([](Session& s, HandleId h, NodeId n) -> Task<void> {
        wire::Create create{root, "log", {n, false}, h, wire::open_write, 0644, 022};
        const auto created = co_await s.call(create);
        CHECK(created.has_value());
    }(*session, handle, node));

    const unsigned seed = std::random_device()();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    constexpr int rounds = 300;
    constexpr int cuts = 15;
    int finished = 0;
    int started = 0;
    for (int cut = 0; cut < cuts; ++cut) {
        for (int i = 0; i < rounds / cuts; ++i)
            spawn(change_once(*session, handle, started++, finished));
        const int until = finished + static_cast<int>(random() % (rounds / cuts));
        REQUIRE(clients.wait_for([&] { return finished >= until; }));
        if (random() % 3 == 0)
            network.stall();
        else
            network.cut();
        if (random() % 2 == 0)
            for (int i = 0; i < 3; ++i)
                clients.run([](Clients& c) -> Task<void> {
                    Completion<bool> moment;
                    (void)c.reactor.after(5ms, [&moment] { moment.deliver(true); });
                    (void)co_await moment;
                }(clients));
        network.cut();
        network.pass();
    }
    REQUIRE(clients.wait_for([&] { return finished == started; }));
    CHECK(session->epoch() == 1);
    for (int i = 0; i < started; ++i)
        CHECK(std::filesystem::is_directory(server.directory() + "/d" + std::to_string(i)));
    std::istringstream lines(content_of(server.directory() + "/log"));
    std::multiset<int> seen;
    for (int number = 0; lines >> number;)
        seen.insert(number);
    CHECK(seen.size() == static_cast<std::size_t>(started));
    CHECK(std::set<int>(seen.begin(), seen.end()).size() == seen.size());
}

TEST_CASE("a server that was killed and started again has a new session for us") {
    ServerProcess server;
    Clients clients(server);
    const auto session = clients.open(server.address());
    REQUIRE(session != nullptr);
    const std::uint64_t boot = session->hello().boot;
    server.kill();
    REQUIRE(clients.wait_for([&] { return !session->connected(); }));
    std::optional<Status> waiting;
    spawn([](Session& s, std::optional<Status>& out) -> Task<void> {
        wire::Getattr getattr{root};
        out = (co_await s.call(getattr)).status();
    }(*session, waiting));
    server.start_again();
    REQUIRE(clients.wait_for([&] { return session->epoch() == 2 && waiting.has_value(); }));
    CHECK(*waiting == Status::no_session);
    CHECK(session->hello().boot != boot);
    clients.run(write_and_list(*session, server.directory()));
}

TEST_CASE("a session hears of what another changes") {
    const ServerProcess server;
    Clients clients(server);
    const auto one = clients.open(server.address());
    const auto other = clients.open(server.address());
    REQUIRE((one && other));
    CHECK(clients.holders.size() == 1);  // who else is here
    std::vector<NodeId> invalid;
    one->on_invalidate = [&](const Invalidation& invalidation, const std::function<void()>& acknowledge) {
        invalid.insert(invalid.end(), invalidation.nodes.begin(), invalidation.nodes.end());
        acknowledge();
    };
    clients.run([](Session& s) -> Task<void> {
        wire::Mkdir mkdir{root, "new", {s.new_node_id(), false}, 0755, 022};
        const auto made = co_await s.call(mkdir);
        CHECK(made.has_value());
    }(*other));
    CHECK(clients.wait_for([&] { return std::ranges::find(invalid, root) != invalid.end(); }));
}

TEST_CASE("exclusive use is refused with the holder's name, or waited for") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--exclusive"}});
    Clients clients(server);
    auto first = clients.open(server.address());
    REQUIRE(first != nullptr);
    const TimePoint start = Clock::system().now();
    CHECK(clients.open(server.address()) == nullptr);
    CHECK(Clock::system().now() - start < 1s * test::slowness());
    CHECK(clients.failure->status == Status::in_use);
    REQUIRE(clients.holders.size() == 1);
    CHECK_THAT(clients.failure->message, ContainsSubstring("@"));

    SessionOptions patient = clients.options_for(server.address());
    patient.wait = Duration::max();
    std::unique_ptr<Session> second;
    bool ended = false;
    spawn(clients.open_into(std::move(patient), second, ended));
    (void)clients.reactor.after(100ms, [&] { first.reset(); });
    REQUIRE(clients.wait_for([&] { return ended; }));
    CHECK(second != nullptr);
}

namespace {

constexpr std::size_t handle_count = 5000;

Task<void> open_many(Session& session, std::vector<HandleId>& handles) {
    const NodeId node = session.new_node_id();
    const HandleId first = session.new_handle_id();
    wire::Create create{root, "file", {node, false}, first, wire::open_read | wire::open_write, 0644, 022};
    const Status created = (co_await session.call(create)).status();
    CHECK(created == Status::ok);
    handles.push_back(first);
    while (handles.size() < handle_count) {
        std::vector<EncodedRequest> requests;
        for (std::size_t i = 0; i < wire::max_records && handles.size() < handle_count; ++i) {
            handles.push_back(session.new_handle_id());
            requests.push_back(encoded(wire::Open{node, handles.back(), wire::open_read}));
        }
        const auto replies = co_await session.call_batch(std::move(requests));
        for (const EncodedReply& reply : replies)
            CHECK(reply.status == Status::ok);
    }
}

Task<void> look(Session& session, Status& status) {
    wire::Getattr getattr{root, {}};
    status = (co_await session.call(getattr)).status();
}

// What the server has counted.
Task<void> count(Session& session, std::string name, std::uint64_t& value) {
    const auto reply = co_await session.call(wire::ServerStatus{});
    CHECK(reply.has_value());
    for (const wire::CounterValue& counter : reply->body.counters) {
        if (counter.name == name)
            value = counter.value;
    }
}

// Goes on when it goes.
class Stopped {
public:
    explicit Stopped(pid_t pid) : pid_(pid) { ::kill(pid_, SIGSTOP); }
    ~Stopped() { resume(); }
    void resume() { ::kill(pid_, SIGCONT); }

private:
    pid_t pid_;
};

}  // namespace

TEST_CASE("thousands of handles closed while the server hears nothing cost nobody the session") {
    const ServerProcess server;
    Clients clients(server);
    test::TcpProxy proxy(server.ports());
    const auto session = clients.open(proxy.address());
    REQUIRE(session != nullptr);
    std::vector<HandleId> handles;
    clients.run(open_many(*session, handles));
    const auto released = [&] { return clients.counters.at("client.requests.release").value(); };
    const auto close_all = [&] {
        for (const HandleId handle : handles)
            session->tell(wire::Release{handle});
        REQUIRE(clients.wait_for([&] { return released() > 0; }));
    };
    SECTION("because it is stopped") {
        Stopped stopped(server.pid());
        close_all();
        CHECK(released() < handle_count / 2);
    }
    SECTION("because the link is slow") {
        proxy.stall();
        close_all();
        CHECK(released() < handle_count / 2);
        proxy.pass();
    }
    REQUIRE(clients.wait_for([&] { return released() == handle_count; }));
    Status status = Status::io_error;
    clients.run(look(*session, status));
    CHECK(status == Status::ok);
    CHECK(session->epoch() == 1);
    std::uint64_t violations = 0;
    clients.run(count(*session, "server.violations", violations));
    CHECK(violations == 0);
    session->close();
}

namespace {

Task<void> take_lock(Session& session, HandleId handle, wire::LockType type, std::size_t& taken) {
    wire::Flock flock{handle, type, true};
    const Status status = (co_await session.call(flock)).status();
    CHECK(status == Status::ok);
    ++taken;
}

Task<void> lock_range(Session& session, HandleId handle, std::uint64_t owner, std::size_t& taken) {
    wire::Setlk setlk{
        .handle = handle, .owner = LockOwner{owner}, .range = {wire::LockType::read, 0, 99, 1}, .wait = true};
    const Status status = (co_await session.call(setlk)).status();
    CHECK(status == Status::ok);
    ++taken;
}

Task<void> unlock(Session& session, HandleId handle) {
    wire::Flock flock{handle, wire::LockType::unlock, false};
    wire::Setlk setlk{.handle = handle, .owner = LockOwner{1}, .range = {wire::LockType::unlock, 0, 99, 1}};
    const Status whole = (co_await session.call(flock)).status();
    const Status range = (co_await session.call(setlk)).status();
    CHECK(whole == Status::ok);
    CHECK(range == Status::ok);
}

}  // namespace

TEST_CASE("two thousand wait for locks, others go on, and the holder can give them up") {
    const ServerProcess server;
    Clients clients(server);
    const auto session = clients.open(server.address());
    REQUIRE(session != nullptr);
    std::vector<HandleId> handles;
    clients.run(open_many(*session, handles));
    std::size_t held = 0;
    const HandleId holder = handles.front();
    spawn(take_lock(*session, holder, wire::LockType::write, held));
    spawn([](Session& of, HandleId handle, std::size_t& taken) -> Task<void> {
        wire::Setlk setlk{.handle = handle, .owner = LockOwner{1}, .range = {wire::LockType::write, 0, 99, 1}};
        const Status status = (co_await of.call(setlk)).status();
        CHECK(status == Status::ok);
        ++taken;
    }(*session, holder, held));
    REQUIRE(clients.wait_for([&] { return held == 2; }));

    constexpr std::size_t waiters = 1000;  // of each kind
    std::size_t taken = 0;
    for (std::size_t i = 1; i <= waiters; ++i) {
        spawn(take_lock(*session, handles.at(i), wire::LockType::read, taken));
        spawn(lock_range(*session, handles.at(i), 100 + i, taken));
    }
    std::uint64_t waiting = 0;
    REQUIRE(clients.wait_for([&] {
        spawn(count(*session, "files.lock_waits", waiting));
        return waiting >= 2 * waiters;
    }));
    CHECK(taken == 0);
    Status status = Status::io_error;
    clients.run(look(*session, status));
    CHECK(status == Status::ok);
    clients.run(unlock(*session, holder));
    REQUIRE(clients.wait_for([&] { return taken == 2 * waiters; }));
    CHECK(session->epoch() == 1);
    session->close();
}

}  // namespace remofile::client
