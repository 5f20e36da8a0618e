// SPDX-License-Identifier: MIT
// Clients that break every rule, against the real server over the real transport: its memory stays bounded, and others
// go on being served.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "base/log.hpp"
#include "harness/patience.hpp"
#include "harness/server_process.hpp"
#include "transport/context.hpp"
#include "transport/lane.hpp"
#include "transport/reactor.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"

using namespace remofile;
using namespace remofile::test;
using namespace std::chrono_literals;
using wire::Opcode;

namespace {

constexpr std::size_t file_bytes = 4U << 20;

// Runs the reactor until the condition holds, or the deadline has passed.
bool run_until(transport::Reactor& reactor, const std::function<bool()>& condition, Duration deadline = 20s) {
    const TimePoint limit = reactor.clock().now() + deadline * slowness();
    std::function<void()> look = [&] {
        if (condition() || reactor.clock().now() >= limit)
            reactor.stop();
        else
            reactor.after(1ms, [&] { look(); });
    };
    look();
    reactor.run();
    return condition();
}

struct HostileWorld {
    ServerProcess server;
    transport::Context context;
    transport::Reactor reactor;
    std::mt19937_64 random;

    explicit HostileWorld(std::uint64_t seed, const std::string& lease_term_s = "10")
        : server({.directory = {},
                  .config_dir = {},
                  .arguments = {"--insecure", "--max-clients-per-key", "32", "--lease-term", lease_term_s}}),
          random(seed) {
        log::configure("test", log::Level::error, log::Target::standard_error);
        std::ofstream(server.directory() + "/file") << std::string(file_bytes, 'f');
    }
    std::size_t resident_bytes() const {
        std::ifstream stream("/proc/" + std::to_string(server.pid()) + "/statm");
        std::size_t pages = 0;
        std::size_t resident = 0;
        stream >> pages >> resident;
        return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    }
};

struct Peer {
    HostileWorld& world;
    std::size_t messages = 0;
    std::size_t records = 0;
    std::uint64_t received_bytes = 0;
    std::optional<wire::HelloReply> hello;
    std::map<std::uint64_t, Status> statuses;
    std::map<std::string, std::uint64_t> counters;  // the server's, when it was asked last
    std::size_t granted_leases = 0;
    bool lost = false;
    std::string failure;  // why it was lost
    std::uint64_t next_id = 1;
    transport::Lane lane;

    explicit Peer(HostileWorld& given_world)
        : world(given_world),
          lane(world.context, world.reactor,
               {.endpoint = "tcp://127.0.0.1:" + std::to_string(world.server.port()),
                .identity = {},
                .server_key = {},
                .connect_timeout = 5s * slowness()},
               {.on_connected = [] {},
                .on_message = [this](wire::Message message) { on_message(std::move(message)); },
                .on_disconnected =
                    [this](const Error& error) {
                        lost = true;
                        failure = error.to_string();
                    }}) {}

    void on_message(wire::Message message) {
        ++messages;
        received_bytes += message.byte_count();
        if (static_cast<std::uint8_t>(message.head.bytes()[3]) != 2)
            return;
        const auto parsed = wire::parse_message(std::move(message), wire::MessageKind::reply);
        REQUIRE(parsed.has_value());
        for (const wire::Record& record : parsed->records) {
            ++records;
            statuses[record.header.id.value] = static_cast<Status>(record.header.detail);
            if (record.header.opcode == Opcode::hello && record.header.detail == 0)
                hello = *wire::decode_body<wire::HelloReply>(record.body);
            if (record.header.opcode == Opcode::list && record.header.detail == 0)
                granted_leases += wire::decode_body<wire::ListReply>(record.body)->leased ? 1 : 0;
            if (record.header.opcode == Opcode::server_status && record.header.detail == 0) {
                const auto status = wire::decode_body<wire::ServerStatusReply>(record.body);
                for (const auto& [name, value] : status->counters)
                    counters[name] = value;
            }
        }
    }
    bool connect() {
        lost = false;
        lane.connect();
        return run_until(world.reactor, [&] { return lane.connected() || lost; }) && lane.connected();
    }
    template <class Request>
    std::uint64_t send(const Request& request, bool acknowledge = true) {
        wire::MessageWriter writer(wire::MessageKind::request);
        writer.add({.opcode = Request::opcode, .id = RequestId{next_id}}, request);
        if (lane.connected())
            lane.send(std::move(writer).finish({}, acknowledge ? received_bytes : 0));
        return next_id++;
    }
    bool start_session(std::uint64_t features = 0) {
        if (!connect())
            return false;
        send(wire::Hello{.features = features, .root = NodeId{1}, .path = "/", .client_name = "peer"});
        return run_until(world.reactor, [&] { return records > 0; }) && hello.has_value();
    }
    template <class Request>
    std::optional<Status> ask(const Request& request) {
        const std::uint64_t id = send(request);
        if (!run_until(world.reactor, [&] { return statuses.contains(id) || lost; }) || !statuses.contains(id))
            return std::nullopt;
        return statuses[id];
    }
};

// A client that sends, and leaves what it is sent to TCP. ZMTP 3.0 by hand: libzmq would read.
class RawLiar {
public:
    explicit RawLiar(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        const std::string greeting("\xff\0\0\0\0\0\0\0\0\x7f\3\0NULL", 16);
        const std::string ready(
            "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06"
            "DEALER",
            30);
        write(greeting + std::string(48, '\0') + ready);
    }
    // Claims to have received everything there ever was.
    template <class Request>
    void send(const Request& request) {
        wire::MessageWriter writer(wire::MessageKind::request);
        writer.add({.opcode = Request::opcode, .id = RequestId{++last_id_}}, request);
        const wire::Message message = std::move(writer).finish({}, 1ULL << 40);
        std::string frame(9, '\0');
        frame[0] = '\x02';  // a long frame, the last
        for (int i = 0; i < 8; ++i)
            frame[static_cast<std::size_t>(8 - i)] = static_cast<char>(message.head.size() >> (8 * i));
        write(frame + std::string(message.head.text()));
    }
    std::size_t waiting_bytes() const {
        int bytes = 0;
        REQUIRE(::ioctl(fd_.get(), FIONREAD, &bytes) == 0);
        return static_cast<std::size_t>(bytes);
    }

private:
    void write(const std::string& bytes) {
        REQUIRE(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    }
    UniqueFd fd_;
    std::uint64_t last_id_ = 0;
};

// Another client of the same server is served as if nothing happened.
void check_others_are_served(HostileWorld& world) {
    {
        INFO(world.server.errors());
        REQUIRE(world.server.running());
    }
    Peer other(world);
    const bool started = other.start_session();
    INFO("records " << other.records << ", lost: " << other.failure << "\n" << world.server.errors());
    REQUIRE(started);
    CHECK(other.ask(wire::Getattr{.node = NodeId{1}, .handle = {}}) == Status::ok);
    CHECK(other.ask(wire::Bye{}) == Status::ok);
}

wire::Message valid_message(std::mt19937_64& random, std::uint64_t& id) {
    wire::MessageWriter writer(wire::MessageKind::request);
    for (auto records = 1 + random() % 4; records > 0; --records) {
        const wire::RecordHeader header{.flags = static_cast<std::uint8_t>(random() % 8 & ~2U), .id = RequestId{id++}};
        const auto with = [&](Opcode opcode) {
            auto copy = header;
            copy.opcode = opcode;
            return copy;
        };
        const NodeId node{random() % 8};
        const HandleId handle{random() % 8};
        switch (random() % 10) {
            case 0:
                writer.add(with(Opcode::lookup),
                           wire::Lookup{.parent = node, .name = "file", .node = {NodeId{random() % 8}, false}});
                break;
            case 1:
                writer.add(with(Opcode::open), wire::Open{.node = node, .handle = handle, .flags = 3});
                break;
            case 2:
                writer.add(with(Opcode::read), wire::Read{.handle = handle, .offset = 0, .size = 4096});
                break;
            case 3:
                writer.add(with(Opcode::write), wire::Write{.handle = handle, .offset = random() % 4096},
                           Buffer::copy_of("data"));
                break;
            case 4:
                writer.add(with(Opcode::cancel), wire::Cancel{.request = RequestId{random() % (id + 4)}});
                break;
            case 5:
                writer.add(with(Opcode::flock),
                           wire::Flock{.handle = handle, .type = wire::LockType::write, .wait = random() % 2 == 0});
                break;
            case 6:
                writer.add(with(Opcode::release), wire::Release{.handle = handle});
                break;
            case 7:
                writer.add(with(Opcode::create), wire::Create{.parent = node,
                                                              .name = "new",
                                                              .node = {NodeId{random() % 16}, true},
                                                              .handle = handle,
                                                              .flags = 3});
                break;
            case 8:
                writer.add(with(Opcode::forget), wire::Forget{.nodes = {{node, random() % 3}}});
                break;
            default:
                writer.add(with(static_cast<Opcode>(random() % 80)), wire::Getattr{.node = node, .handle = {}});
        }
    }
    return std::move(writer).finish(RequestId{random() % 4 == 0 ? random() % id : 0},
                                    random() % 4 == 0 ? random() % 10'000 : 0);
}

// Bytes changed, cut off or added.
wire::Message mutated(wire::Message message, std::mt19937_64& random) {
    std::string head(message.head.text());
    for (auto changes = 1 + random() % 4; changes > 0 && !head.empty(); --changes) {
        switch (random() % 4) {
            case 0:
                head.resize(random() % head.size());
                break;
            case 1:
                head += std::string(random() % 64, static_cast<char>(random()));
                break;
            default:
                head[random() % head.size()] = static_cast<char>(random());
        }
    }
    message.head = Buffer::copy_of(head);
    if (random() % 8 == 0)
        message.bulk.push_back(Buffer::allocate(random() % 10'000));
    for (Buffer& frame : message.bulk)
        std::memset(frame.data(), 0, frame.size());
    return message;
}

}  // namespace

TEST_CASE("random and mutated messages") {
    const std::uint64_t seed = std::random_device{}();
    CAPTURE(seed);
    HostileWorld world(seed);
    for (int round = 0; round < 8; ++round) {
        Peer peer(world);
        if (round % 4 == 0)
            REQUIRE(peer.connect());
        else
            REQUIRE(peer.start_session());
        std::uint64_t id = 2;
        for (int i = 0; i < 1000 && peer.lane.connected(); ++i) {
            auto message = valid_message(world.random, id);
            peer.lane.send(round % 2 == 0 ? std::move(message) : mutated(std::move(message), world.random));
            if (i % 50 == 0)
                run_until(world.reactor, [] { return true; });
        }
        // Everything has been taken in once PING is answered, whatever the answer. A stranger may have used up his.
        peer.next_id = 1U << 30;
        if (peer.hello)
            peer.ask(wire::Ping{});
        check_others_are_served(world);
    }
    CHECK(world.resident_bytes() < (256U << 20) * static_cast<unsigned>(slowness()));
}

TEST_CASE("a client that reads and reads and acknowledges nothing") {
    HostileWorld world(1);
    Peer peer(world);
    REQUIRE(peer.start_session());
    REQUIRE(peer.ask(wire::Lookup{.parent = NodeId{1}, .name = "file", .node = {NodeId{2}, false}}) == Status::ok);
    REQUIRE(peer.ask(wire::Open{.node = NodeId{2}, .handle = HandleId{1}, .flags = wire::open_read}) == Status::ok);
    const std::size_t before = world.resident_bytes();
    std::uint64_t last = 0;
    for (int i = 0; i < 900; ++i)
        last = peer.send(wire::Read{.handle = HandleId{1}, .offset = 0, .size = 1U << 20}, false);
    // The window's worth comes, and no more.
    const std::uint64_t window = peer.hello->reply_window_bytes;
    CHECK(run_until(world.reactor, [&] { return peer.received_bytes >= window; }));
    check_others_are_served(world);
    CHECK_FALSE(peer.statuses.contains(last));
    CHECK(peer.received_bytes < window + (3U << 20));
    CHECK(world.resident_bytes() < before + (64U << 20) * static_cast<unsigned>(slowness()));
}

TEST_CASE("a client that acknowledges what it never reads") {
    HostileWorld world(1);
    Peer watcher(world);
    REQUIRE(watcher.start_session());
    const std::size_t before = world.resident_bytes();
    RawLiar liar(world.server.port());
    constexpr std::size_t handshake_bytes = 64 + 43;  // greeting and READY, before which it must say no more
    REQUIRE(run_until(world.reactor, [&] { return liar.waiting_bytes() >= handshake_bytes; }));
    liar.send(wire::Hello{.root = NodeId{1}, .path = "/", .client_name = "liar"});
    REQUIRE(run_until(world.reactor, [&] { return liar.waiting_bytes() > handshake_bytes; }));
    liar.send(wire::Lookup{.parent = NodeId{1}, .name = "file", .node = {NodeId{2}, false}});
    liar.send(wire::Open{.node = NodeId{2}, .handle = HandleId{1}, .flags = wire::open_read});
    for (int i = 0; i < 900; ++i)
        liar.send(wire::Read{.handle = HandleId{1}, .offset = 0, .size = 1U << 20});
    // All taken in, and carried out as far as there is room for the replies.
    const TimePoint limit = world.reactor.clock().now() + 20s * slowness();
    while (watcher.counters["server.messages"] < 903 || watcher.counters["listener.clogged"] == 0) {
        liar.send(wire::Ping{});  // acknowledges what has been sent since
        REQUIRE(world.reactor.clock().now() < limit);
        REQUIRE(watcher.ask(wire::ServerStatus{}) == Status::ok);
    }
    check_others_are_served(world);
    CHECK(world.resident_bytes() < before + (160U << 20) * static_cast<unsigned>(slowness()));
}

// Neither says that it has let go: the one says nothing, the other what nobody asked it.
TEST_CASE("clients that take leases and never let go keep others waiting for a term, and no longer") {
    HostileWorld world(1, "2");
    Peer silent(world), liar(world), author(world);
    const wire::List with_lease{.node = NodeId{1}, .size = 65'536, .lease = true};
    for (Peer* peer : {&silent, &liar}) {
        REQUIRE(peer->start_session(wire::feature_leases));
        REQUIRE(peer->ask(with_lease) == Status::ok);
        REQUIRE(peer->granted_leases == 1);
    }
    REQUIRE(author.start_session(wire::feature_leases));
    const auto make = [&](std::uint64_t number) {
        const std::uint64_t made = author.send(
            wire::Mkdir{.parent = NodeId{1}, .name = std::to_string(number), .node = {NodeId{10 + number}, false}});
        return run_until(world.reactor, [&] {
            liar.send(wire::Invalidated{.sequence = UINT64_MAX});
            liar.send(wire::Invalidated{.sequence = 1'000});
            (void)silent.send(wire::Ping{});
            return author.statuses.contains(made);
        });
    };
    CHECK(make(0));
    REQUIRE(author.ask(wire::ServerStatus{}) == Status::ok);
    CHECK(author.counters["leases.expired"] == 2);
    const std::uint64_t waits = author.counters["leases.waits"];
    // Nobody waits for those who have lost their leases, and they get no new ones before they have confirmed that.
    for (Peer* peer : {&silent, &liar})
        CHECK(peer->ask(with_lease) == Status::ok);
    for (std::uint64_t number = 1; number < 50; ++number)
        CHECK(make(number));
    REQUIRE(author.ask(wire::ServerStatus{}) == Status::ok);
    CHECK(author.counters["leases.waits"] == waits);
    CHECK(silent.granted_leases + liar.granted_leases == 2);
    for (const auto& [id, status] : liar.statuses)
        CHECK((id <= 2 || status != Status::malformed));
    check_others_are_served(world);
}

TEST_CASE("a client that asks for leases without end takes no more than its share, and nobody waits for it twice") {
    HostileWorld world(1, "2");
    constexpr std::uint64_t directories = 500;
    for (std::uint64_t i = 0; i < directories; ++i)
        std::filesystem::create_directory(world.server.directory() + "/" + std::to_string(i));
    Peer greedy(world);
    REQUIRE(greedy.start_session(wire::feature_leases));
    std::uint64_t last = 0;
    // Under another node each time, none of which it gives back.
    const auto take_all = [&](std::uint64_t round) {
        for (std::uint64_t i = 0; i < directories; ++i) {
            last = greedy.send(wire::List{.node = NodeId{1},
                                          .name = std::to_string(i),
                                          .new_node = {NodeId{10 + round * directories + i}, false},
                                          .size = 4'096,
                                          .lease = true});
            if (i % 50 == 49)
                REQUIRE(run_until(world.reactor, [&] { return greedy.statuses.contains(last); }));
        }
    };
    take_all(0);
    const std::size_t before = world.resident_bytes();
    for (std::uint64_t round = 1; round < 20; ++round)
        take_all(round);
    REQUIRE(greedy.ask(wire::ServerStatus{}) == Status::ok);
    CHECK(greedy.counters["leases.held"] == directories);
    // Nodes are counted elsewhere; 700 bytes each at most.
    CHECK(world.resident_bytes() < before + (32U << 20) * static_cast<unsigned>(slowness()));
    Peer author(world);
    REQUIRE(author.start_session());
    for (std::uint64_t i = 0; i < directories; ++i) {
        const std::uint64_t node = 100'000 + i;
        REQUIRE(author.ask(wire::Lookup{
                    .parent = NodeId{1}, .name = std::to_string(i), .node = {NodeId{node}, false}}) == Status::ok);
        CHECK(author.ask(wire::Mkdir{
                  .parent = NodeId{node}, .name = "new", .node = {NodeId{node + directories}, false}}) == Status::ok);
    }
    REQUIRE(author.ask(wire::ServerStatus{}) == Status::ok);
    CHECK(author.counters["leases.expired"] == directories);  // all of them with the first
    CHECK(author.counters["leases.waits"] == 1);
    check_others_are_served(world);
}

TEST_CASE("a client that writes more than it may, all at once") {
    HostileWorld world(1);
    Peer peer(world);
    REQUIRE(peer.start_session());
    for (int i = 0; i < 200; ++i) {
        wire::MessageWriter writer(wire::MessageKind::request);
        writer.add({.opcode = Opcode::write, .id = RequestId{peer.next_id++}}, wire::Write{.handle = HandleId{9}},
                   Buffer::allocate(1U << 20));
        peer.lane.send(std::move(writer).finish());
    }
    CHECK(run_until(world.reactor, [&] { return peer.records >= 200 || peer.lost; }));
    check_others_are_served(world);
}

TEST_CASE("thousands of HELLOs") {
    HostileWorld world(1);
    std::vector<std::unique_ptr<Peer>> peers;
    for (int i = 0; i < 60; ++i) {
        auto& peer = *peers.emplace_back(std::make_unique<Peer>(world));
        REQUIRE(peer.connect());
        for (int n = 0; n < 50; ++n)
            peer.send(wire::Hello{.flags = n % 3 == 0 ? wire::hello_exclusive : 0,
                                  .wait_ms = n % 5 == 0 ? 60'000U : 0U,
                                  .root = NodeId{1},
                                  .path = "/",
                                  .client_name = std::string(300, 'n')});
    }
    std::size_t sessions = 0;
    CHECK(run_until(world.reactor,
                    [&] { return std::ranges::all_of(peers, [](const auto& peer) { return peer->records >= 40; }); }));
    for (const auto& peer : peers)
        sessions += peer->hello ? 1 : 0;
    CHECK(sessions <= 32);
    // Once they say goodbye there is room again.
    for (const auto& peer : peers) {
        if (peer->hello)
            peer->ask(wire::Bye{});
    }
    peers.clear();
    CHECK(world.server.running());
}

TEST_CASE("frames too large, half messages and other protocols on the port") {
    HostileWorld world(1);
    {
        Peer peer(world);
        REQUIRE(peer.start_session());
        wire::Message message;
        message.head = Buffer::allocate(4U << 20);
        std::memset(message.head.data(), 0, message.head.size());
        peer.lane.send(std::move(message));
        CHECK(run_until(world.reactor, [&] { return peer.lost; }));
    }
    std::vector<UniqueFd> sockets;
    for (const std::string& text :
         {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\xff\0\0\0\0\0\0\0\1\x7f\3\1NULL", 16),
          std::string("\x80\4\x95"), std::string(100'000, '\xff'), std::string()}) {
        UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(world.server.port()));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        [[maybe_unused]] const ssize_t sent = ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        sockets.push_back(std::move(fd));
    }
    check_others_are_served(world);
}

TEST_CASE("a session that disappears gives up what it held") {
    HostileWorld world(1);
    auto holder = std::make_unique<Peer>(world);
    REQUIRE(holder->start_session());
    holder.reset();
    check_others_are_served(world);
    CHECK(world.server.stop().exit_status == 0);
}
