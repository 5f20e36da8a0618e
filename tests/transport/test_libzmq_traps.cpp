// SPDX-License-Identifier: MIT
// libzmq's defaults and surprises that this layer has to get right, one test each.
#include <zmq.h>

#include <cstring>
#include <thread>

#include "raw_peer.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

// A listener and what connects to it, plain unless a test says otherwise.
struct Plain {
    Context context;
    Reactor reactor;
    TestServer server{context, reactor, nullptr};

    LaneOptions lane_options() const { return {.endpoint = server.endpoint(), .linger = 100ms}; }
};

struct Encrypted {
    Context context;
    Reactor reactor;
    KeyPair client_key = KeyPair::generate();
    KeySet keys{{client_key.public_key()}};
    TestServer server{context, reactor, &keys};

    LaneOptions lane_options() const {
        return {.endpoint = server.endpoint(), .identity = client_key, .server_key = server.key.public_key()};
    }
    // That everything sent before was received or dropped: a message of an honest client has come through.
    void settle() {
        TestLane honest(context, reactor, lane_options());
        REQUIRE(honest.connect());
        honest.lane.send(message_of("settled"));
        REQUIRE(
            run_until(reactor, [&] { return !server.arrivals.empty() && server.arrivals.back().head == "settled"; }));
        server.arrivals.pop_back();
    }
};

// A DEALER with libzmq's defaults, as a client of another make might use it.
class BareDealer {
public:
    explicit BareDealer(Context& context) : socket_(zmq_socket(context.handle(), ZMQ_DEALER)) { set(ZMQ_LINGER, 0); }
    ~BareDealer() { zmq_close(socket_); }
    void set(int option, int value) { REQUIRE(zmq_setsockopt(socket_, option, &value, sizeof(value)) == 0); }
    void set(int option, const std::string& text) {
        REQUIRE(zmq_setsockopt(socket_, option, text.data(), text.size()) == 0);
    }
    void connect(const std::string& endpoint) { REQUIRE(zmq_connect(socket_, endpoint.c_str()) == 0); }
    void send(const std::string& text, bool more = false) {
        REQUIRE(zmq_send(socket_, text.data(), text.size(), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) >= 0);
    }
    // To one that may have refused already: libzmq has then ended the connection, and the socket has nobody to send to.
    void send_unless_refused(const std::string& text) {
        REQUIRE((zmq_send(socket_, text.data(), text.size(), ZMQ_DONTWAIT) >= 0 || zmq_errno() == EAGAIN));
    }
    std::optional<std::string> receive() {
        std::string text(1024, '\0');
        const int size = zmq_recv(socket_, text.data(), text.size(), ZMQ_DONTWAIT);
        if (size < 0)
            return std::nullopt;
        text.resize(static_cast<std::size_t>(size));
        return text;
    }

private:
    void* socket_;
};

}  // namespace

TEST_CASE("trap: ROUTER drops silently what has no peer; the listener says so") {
    Plain plain;
    plain.server.start();
    REQUIRE_FALSE(plain.server.listener->send(RouteId{"nobody"}, message_of("hello", {std::string(5000, 'x')})));
    REQUIRE_FALSE(plain.server.listener->send(RouteId{""}, message_of("hello")));
    TestLane lane(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(lane.connect());
    lane.lane.send(message_of("here"));
    REQUIRE(run_until(plain.reactor, [&] { return !plain.server.arrivals.empty(); }));
    const RouteId route = plain.server.arrivals.front().route;
    REQUIRE(plain.server.listener->send(route, message_of("there")));
    REQUIRE(run_until(plain.reactor, [&] { return !lane.messages.empty(); }));
    lane.lane.disconnect();
    REQUIRE(
        run_until(plain.reactor, [&] { return !plain.server.listener->send(route, message_of("gone", {"bulk"})); }));
}

TEST_CASE("trap: old requests replayed after a reconnect; nothing of the old connection arrives over the new one") {
    Plain plain;
    plain.server.start();
    TestLane lane(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(lane.connect());
    lane.lane.send(message_of("before"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    plain.server.stop();
    // The lane does not know yet; libzmq queues these.
    for (int i = 0; i < 100; ++i)
        lane.lane.send(message_of("old"));
    plain.server.start();
    REQUIRE(run_until(plain.reactor, [&] { return !lane.failures.empty(); }));
    REQUIRE(lane.failure().status == Status::unreachable);
    REQUIRE_FALSE(lane.lane.connected());
    REQUIRE(lane.connect());
    lane.lane.send(message_of("new"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 2; }));
    REQUIRE(plain.server.arrivals.back().head == "new");
}

TEST_CASE("trap: a lane never reconnects by itself") {
    Plain plain;
    plain.server.start();
    TestLane lane(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(lane.connect());
    plain.server.stop();
    REQUIRE(run_until(plain.reactor, [&] { return lane.failures.size() == 1; }));
    plain.server.start();
    // Longer than libzmq's reconnect interval of 100 ms.
    REQUIRE_FALSE(run_until(
        plain.reactor, [&] { return lane.connections > 1 || lane.lane.connected(); }, 300ms));
    REQUIRE(lane.failures.size() == 1);
}

TEST_CASE("trap: a routing id is no session; each connection has a new one and the old one is dead") {
    Plain plain;
    plain.server.start();
    TestLane lane(plain.context, plain.reactor, plain.lane_options());
    for (std::size_t i = 0; i < 3; ++i) {
        REQUIRE(lane.connect());
        lane.lane.send(message_of("hello"));
        REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == i + 1; }));
        lane.lane.disconnect();
    }
    const auto& arrivals = plain.server.arrivals;
    REQUIRE(arrivals[0].route != arrivals[1].route);
    REQUIRE(arrivals[1].route != arrivals[2].route);
    REQUIRE(
        run_until(plain.reactor, [&] { return !plain.server.listener->send(arrivals[0].route, message_of("late")); }));
    REQUIRE(lane.connect());
    REQUIRE_FALSE(plain.server.listener->send(arrivals[0].route, message_of("late")));
}

TEST_CASE("trap: CURVE accepts anyone without ZAP; here a key that is not authorised gets nothing through") {
    Encrypted encrypted;
    encrypted.server.start();
    const KeyPair stranger = KeyPair::generate();
    BareDealer dealer(encrypted.context);
    dealer.set(ZMQ_CURVE_SECRETKEY, stranger.secret_text());
    dealer.set(ZMQ_CURVE_PUBLICKEY, stranger.public_key().to_text());
    dealer.set(ZMQ_CURVE_SERVERKEY, encrypted.server.key.public_key().to_text());
    dealer.connect(encrypted.server.endpoint());
    dealer.send_unless_refused("let me in");
    REQUIRE(run_until(encrypted.reactor, [&] { return encrypted.keys.asked > 0; }));
    encrypted.settle();
    REQUIRE(encrypted.server.arrivals.empty());
    REQUIRE_FALSE(dealer.receive());
}

TEST_CASE("trap: a client without encryption sees nothing of an encrypted listener") {
    Encrypted encrypted;
    encrypted.server.start();
    BareDealer dealer(encrypted.context);
    dealer.connect(encrypted.server.endpoint());
    dealer.send_unless_refused("let me in");
    // The older protocols have no mechanisms at all.
    for (const std::string& greeting : {zmtp_greeting("NULL", 0), zmtp_greeting("NULL", 1), zmtp_greeting("NULL", 2),
                                        zmtp_greeting("NULL", 3) + zmtp_ready("DEALER"), zmtp_greeting("PLAIN", 3)}) {
        RawClient raw(encrypted.server.endpoint());
        raw.send(greeting + zmtp_frame("") + zmtp_frame("let me in"));
        REQUIRE(run_until(encrypted.reactor, [&] { return raw.is_cut(); }));
    }
    RawClient oldest(encrypted.server.endpoint());
    oldest.send(std::string("\x01\x00", 2) + std::string("\x0a\x00let me in", 11));  // ZMTP 1.0: an id, a frame
    REQUIRE(run_until(encrypted.reactor, [&] { return oldest.is_cut(); }));
    encrypted.settle();
    REQUIRE(encrypted.server.arrivals.empty());
    REQUIRE(encrypted.keys.asked == 1);  // for the honest client of settle()
    REQUIRE_FALSE(dealer.receive());
}

TEST_CASE("trap: libzmq lets everybody in while there is no ZAP handler, unless the domain is enforced") {
    Context context;
    Reactor reactor;
    const KeyPair server_key = KeyPair::generate();
    const KeyPair client_key = KeyPair::generate();
    void* router = zmq_socket(context.handle(), ZMQ_ROUTER);
    const int yes = 1;
    const int no_linger = 0;
    REQUIRE(zmq_setsockopt(router, ZMQ_LINGER, &no_linger, sizeof(no_linger)) == 0);
    REQUIRE(zmq_setsockopt(router, ZMQ_CURVE_SERVER, &yes, sizeof(yes)) == 0);
    REQUIRE(zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, server_key.secret_text().c_str(), 40) == 0);
    REQUIRE(zmq_setsockopt(router, ZMQ_ZAP_DOMAIN, "remofile", 8) == 0);
    REQUIRE(zmq_setsockopt(router, 93 /* ZMQ_ZAP_ENFORCE_DOMAIN */, &yes, sizeof(yes)) == 0);
    REQUIRE(zmq_bind(router, "tcp://127.0.0.1:*") == 0);
    char endpoint[256];
    std::size_t size = sizeof(endpoint);
    REQUIRE(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size) == 0);
    {
        TestLane lane(context, reactor,
                      {.endpoint = endpoint, .identity = client_key, .server_key = server_key.public_key()});
        REQUIRE_FALSE(lane.connect());
    }
    zmq_close(router);
}

TEST_CASE(
    "trap: messages of any size are accepted; here the longest frame passes and a longer one cuts the connection") {
    Encrypted encrypted;
    encrypted.server.start();
    const std::string longest(wire::max_frame_bytes, 'x');
    TestLane lane(encrypted.context, encrypted.reactor, encrypted.lane_options());
    REQUIRE(lane.connect());
    lane.lane.send(message_of("longest", {longest}));
    REQUIRE(run_until(encrypted.reactor, [&] { return encrypted.server.arrivals.size() == 1; }));
    REQUIRE(encrypted.server.arrivals.front().bulk.front().size() == longest.size());
    lane.lane.send(message_of("too long", {longest + std::string(200, 'x')}));
    REQUIRE(run_until(encrypted.reactor, [&] { return lane.failures.size() == 1; }));
    REQUIRE(encrypted.server.arrivals.size() == 1);
}

TEST_CASE("trap: the client does not accept messages of any size either") {
    Plain plain;
    plain.server.start();
    TestLane lane(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(lane.connect());
    lane.lane.send(message_of("hello"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    const std::string too_long(wire::max_frame_bytes + 200, 'x');
    plain.server.listener->send(plain.server.arrivals.front().route, message_of("too long", {too_long}));
    REQUIRE(run_until(plain.reactor, [&] { return lane.failures.size() == 1; }));
    REQUIRE(lane.messages.empty());
}

TEST_CASE("trap: a handshake may take half a minute; here it is cut after the time given") {
    for (const bool encrypt : {false, true}) {
        Encrypted encrypted;
        if (!encrypt) {
            encrypted.server.options.server_key.reset();
            encrypted.server.options.authorizer = nullptr;
        }
        encrypted.server.options.handshake_timeout = 200ms;
        encrypted.server.start();
        RawClient silent(encrypted.server.endpoint());
        RawClient half(encrypted.server.endpoint());
        half.send(zmtp_greeting(encrypt ? "CURVE" : "NULL"));
        RawClient slow(encrypted.server.endpoint());
        slow.send("\xff");
        const TimePoint start = encrypted.reactor.clock().now();
        REQUIRE(run_until(encrypted.reactor, [&] { return silent.is_cut() && half.is_cut() && slow.is_cut(); }));
        REQUIRE(encrypted.reactor.clock().now() - start < 10s);
    }
}

TEST_CASE("trap: a connection without heartbeats lasts for ever; the listener cuts a silent client") {
    Plain plain;
    plain.server.options.heartbeat_interval = 100ms;
    plain.server.options.heartbeat_timeout = 200ms;
    plain.server.start();
    RawClient silent(plain.server.endpoint());
    silent.shake_hands(plain.reactor, zmtp_ready("DEALER"));
    silent.send(zmtp_frame("hello"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    REQUIRE(run_until(plain.reactor, [&] { return silent.is_cut(); }));
    REQUIRE(run_until(plain.reactor, [&] {
        return !plain.server.listener->send(plain.server.arrivals.front().route, message_of("gone"));
    }));
    // One that answers is left alone.
    LaneOptions options = plain.lane_options();
    options.heartbeat_interval = 100ms;
    options.heartbeat_timeout = 200ms;
    TestLane lane(plain.context, plain.reactor, options);
    REQUIRE(lane.connect());
    REQUIRE_FALSE(run_until(
        plain.reactor, [&] { return !lane.failures.empty(); }, 1s));
}

TEST_CASE("trap: a connection without heartbeats lasts for ever; the lane gives up a silent server") {
    Context context;
    Reactor reactor;
    const RawServer silent(zmtp_greeting() + zmtp_ready("ROUTER"), RawServer::Then::stay_silent);
    TestLane lane(context, reactor,
                  {.endpoint = silent.endpoint(), .heartbeat_interval = 100ms, .heartbeat_timeout = 200ms});
    REQUIRE(lane.connect());
    REQUIRE(run_until(reactor, [&] { return lane.failures.size() == 1; }));
    REQUIRE(lane.failure().status == Status::unreachable);
    REQUIRE_THAT(lane.failure().message, ContainsSubstring("lost"));
}

TEST_CASE("trap: a message slower than the heartbeats cuts the connection, so they must let the longest one through") {
    Plain plain;
    plain.server.options.heartbeat_interval = 100ms;
    plain.server.options.heartbeat_timeout = 200ms;
    plain.server.start();
    RawClient slow(plain.server.endpoint());
    slow.shake_hands(plain.reactor, zmtp_ready("DEALER"));
    slow.send(std::string("\x02\0\0\0\0\0\x0f\0\0", 9));  // a frame of 983,040 bytes, of which some come all the time
    REQUIRE(run_until(plain.reactor, [&] {
        slow.send("x");
        return slow.is_cut();
    }));
    REQUIRE(plain.server.arrivals.empty());

    constexpr std::size_t slowest_bytes_per_s = 56'000;
    const LaneOptions lane;
    const ListenerOptions listener;
    const auto longest = std::chrono::seconds(wire::max_frame_bytes / slowest_bytes_per_s);
    REQUIRE(lane.heartbeat_interval + lane.heartbeat_timeout > longest);
    REQUIRE(listener.heartbeat_interval + listener.heartbeat_timeout > longest);
    // What is announced to the peer goes wrong from a minute on.
    REQUIRE(lane.heartbeat_interval + lane.heartbeat_timeout < 60s);
    REQUIRE(listener.heartbeat_interval + listener.heartbeat_timeout < 60s);
}

TEST_CASE("trap: LINGER is infinite; here a program ends in time although its peer takes nothing") {
    const RawServer silent(zmtp_greeting() + zmtp_ready("ROUTER"), RawServer::Then::stay_silent);
    const TimePoint start = Clock::system().now();
    {
        Context context;
        Reactor reactor;
        TestLane lane(context, reactor, {.endpoint = silent.endpoint(), .linger = 200ms});
        REQUIRE(lane.connect());
        for (int i = 0; i < 64; ++i)
            lane.lane.send(message_of("bulk", {std::string(1U << 20, 'x')}));
    }
    REQUIRE(Clock::system().now() - start < 10s);
    {
        Context context;
        Reactor reactor;
        TestLane lane(context, reactor, {.endpoint = "tcp://192.0.2.1:9"});  // RFC 5737: nobody's
        lane.lane.connect();
    }
    REQUIRE(Clock::system().now() - start < 20s);
}

TEST_CASE("LINGER lets the last words out") {
    Plain plain;
    plain.server.start();
    {
        LaneOptions options = plain.lane_options();
        options.linger = 10s;
        TestLane lane(plain.context, plain.reactor, options);
        REQUIRE(lane.connect());
        for (int i = 0; i < 20; ++i)
            lane.lane.send(message_of("bulk", {std::string(1U << 20, 'x')}));
        lane.lane.send(message_of("bye"));
    }
    REQUIRE(run_until(plain.reactor,
                      [&] { return !plain.server.arrivals.empty() && plain.server.arrivals.back().head == "bye"; }));
}

TEST_CASE("trap: a second server on a port that is in use must not share it") {
    Plain plain;
    plain.server.start();
    ListenerOptions options;
    options.endpoints = {"tcp://127.0.0.1:*", plain.server.endpoint()};
    const auto second = Listener::bind(plain.context, plain.reactor, options, nullptr);
    REQUIRE(second.status() == Status::busy);
    REQUIRE_THAT(second.error().message, ContainsSubstring(plain.server.endpoint()));
    options.endpoints = {"tcp://*:" + std::to_string(port_of(plain.server.endpoint()))};
    REQUIRE(Listener::bind(plain.context, plain.reactor, options, nullptr).status() == Status::busy);
    options.endpoints = {"tcp://192.0.2.1:*"};
    REQUIRE(Listener::bind(plain.context, plain.reactor, options, nullptr).status() == Status::invalid);
}

TEST_CASE("trap: a zero-copy frame is released on any thread, once, whether it was sent or not") {
    struct Probe {
        std::atomic<int> releases{0};
        std::atomic<std::thread::id> releaser;
        std::vector<std::byte> memory = std::vector<std::byte>(100'000);
        Buffer buffer() {
            return Buffer(
                memory.data(), memory.size(),
                [](void* hint) noexcept {
                    auto& probe = *static_cast<Probe*>(hint);
                    probe.releaser = std::this_thread::get_id();
                    ++probe.releases;
                },
                this);
        }
    };
    Probe sent;
    Probe refused;
    Plain plain;
    plain.server.start();
    TestLane lane(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(lane.connect());
    wire::Message message = message_of("bulk");
    message.bulk.push_back(sent.buffer());
    lane.lane.send(std::move(message));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1 && sent.releases == 1; }));
    REQUIRE(sent.releaser.load() != std::this_thread::get_id());  // so it was not copied here

    message = message_of("bulk");
    message.bulk.push_back(refused.buffer());
    REQUIRE_FALSE(plain.server.listener->send(RouteId{"nobody"}, std::move(message)));
    REQUIRE(refused.releases == 1);
}

TEST_CASE("a received frame outlives its connection and its context, and may be released on any thread") {
    std::vector<Buffer> kept;
    {
        Plain plain;
        std::unique_ptr<Listener> listener =
            value_of(Listener::bind(plain.context, plain.reactor, {.endpoints = {"tcp://127.0.0.1:*"}},
                                    [&](const RouteId&, const std::function<Peer()>&, wire::Message message) {
                                        for (Buffer& frame : message.bulk)
                                            kept.push_back(std::move(frame));
                                    }));
        TestLane lane(plain.context, plain.reactor, {.endpoint = listener->endpoints().front()});
        REQUIRE(lane.connect());
        lane.lane.send(message_of("bulk", {std::string(500'000, 'a'), "b", "", std::string(3000, 'c')}));
        REQUIRE(run_until(plain.reactor, [&] { return kept.size() == 4; }));
    }
    REQUIRE(kept[0].text() == std::string(500'000, 'a'));
    REQUIRE(kept[1].text() == "b");
    REQUIRE(kept[2].text().empty());
    REQUIRE(kept[3].text() == std::string(3000, 'c'));
    std::thread([&] { kept.clear(); }).join();
}

TEST_CASE("trap: a client may choose its routing id; 255 bytes work, and nobody takes over another's") {
    Plain plain;
    plain.server.start();
    const std::string chosen(255, 'i');
    BareDealer first(plain.context);
    first.set(ZMQ_ROUTING_ID, chosen);
    first.connect(plain.server.endpoint());
    first.send("first");
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    REQUIRE(plain.server.arrivals.front().route.bytes == "m" + chosen);

    BareDealer second(plain.context);
    second.set(ZMQ_ROUTING_ID, chosen);
    second.connect(plain.server.endpoint());
    second.send("second");
    TestLane ordinary(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(ordinary.connect());
    ordinary.lane.send(message_of("ordinary"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 2; }));
    REQUIRE(plain.server.arrivals.back().head == "ordinary");

    REQUIRE(plain.server.listener->send(plain.server.arrivals.front().route, message_of("answer")));
    std::optional<std::string> answer;
    REQUIRE(run_until(plain.reactor, [&] { return (answer = first.receive()).has_value(); }));
    REQUIRE(*answer == "answer");
    REQUIRE_FALSE(second.receive());
}

TEST_CASE("trap: a message may have any number of frames; one with too many is dropped and the rest goes on") {
    Plain plain;
    plain.server.start();
    BareDealer dealer(plain.context);
    dealer.connect(plain.server.endpoint());
    for (int i = 0; i < 5000; ++i)
        dealer.send("frame", true);
    dealer.send("last");
    for (std::size_t i = 0; i < wire::max_records; ++i)
        dealer.send("frame", true);
    dealer.send("as many as allowed");
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    REQUIRE(plain.server.arrivals.front().bulk.size() == wire::max_records);
    REQUIRE(plain.server.counters.at("listener.dropped_messages").value() == 1);
}

TEST_CASE("trap: a queue without limit takes what a client never reads; here it clogs, and loses nothing") {
    constexpr std::size_t enough = 200;  // MiB, more than the queue and TCP's buffers take
    Plain plain;
    plain.server.start();
    BareDealer dealer(plain.context);
    dealer.set(ZMQ_RCVHWM, 1);
    dealer.connect(plain.server.endpoint());
    dealer.send("hello");
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    const RouteId route = plain.server.arrivals.front().route;
    Listener& listener = *plain.server.listener;
    std::size_t sent = 0;
    // What clogs for a moment only is waited for.
    const auto clogged_for_good = [&] {
        return listener.clogged(route) && !run_until(
                                              plain.reactor, [&] { return !listener.clogged(route); }, 300ms);
    };
    while (sent < enough && !clogged_for_good())
        REQUIRE(listener.send(route, message_of(std::to_string(sent++), {std::string(1U << 20, 'x')})));
    REQUIRE(sent < enough);
    REQUIRE(plain.server.counters.at("listener.clogged").value() > 0);

    // Small messages are kept for it, so many and no more; others are served.
    while (listener.send(route, message_of(std::to_string(sent), {"small"})))
        REQUIRE(++sent < enough + 1000);
    TestLane other(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(other.connect());
    other.lane.send(message_of("hello"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 2; }));
    REQUIRE(listener.send(plain.server.arrivals.back().route, message_of("hello")));
    REQUIRE(run_until(plain.reactor, [&] { return !other.messages.empty(); }));
    REQUIRE(listener.clogged(route));

    // Once it reads, it gets everything in order.
    plain.server.unclogged.clear();
    std::size_t received = 0;
    REQUIRE(run_until(plain.reactor, [&] {
        while (const auto head = dealer.receive()) {
            REQUIRE(*head == std::to_string(received));
            REQUIRE(dealer.receive());
            ++received;
        }
        return received == sent;
    }));
    REQUIRE_FALSE(listener.clogged(route));
    REQUIRE(plain.server.unclogged == std::vector{route});
}

TEST_CASE("a clogged connection that ends is clogged no longer") {
    Plain plain;
    plain.server.start();
    std::optional<BareDealer> dealer(std::in_place, plain.context);
    dealer->set(ZMQ_RCVHWM, 1);
    dealer->connect(plain.server.endpoint());
    dealer->send("hello");
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    const RouteId route = plain.server.arrivals.front().route;
    Listener& listener = *plain.server.listener;
    for (int i = 0; i < 1000 && !listener.clogged(route); ++i)
        REQUIRE(listener.send(route, message_of("bulk", {std::string(1U << 20, 'x')})));
    REQUIRE(listener.clogged(route));
    dealer.reset();
    REQUIRE(run_until(plain.reactor, [&] { return !listener.clogged(route); }));
    REQUIRE_FALSE(listener.send(route, message_of("gone")));
}

TEST_CASE("a lane that gets a message of too many frames gives up its server") {
    Plain plain;
    plain.server.start();
    TestLane lane(plain.context, plain.reactor, plain.lane_options());
    REQUIRE(lane.connect());
    lane.lane.send(message_of("hello"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    const RouteId route = plain.server.arrivals.front().route;
    plain.server.listener->send(route, message_of("many", std::vector<std::string>(wire::max_records + 1, "x")));
    REQUIRE(run_until(plain.reactor, [&] { return lane.failures.size() == 1; }));
    REQUIRE(lane.failure().status == Status::malformed);
    REQUIRE(lane.messages.empty());
}

TEST_CASE("trap: a plain client may call itself what it likes; the listener believes none of it") {
    Plain plain;
    plain.server.start();
    RawClient raw(plain.server.endpoint());
    const std::string key = KeyPair::generate().public_key().to_text();
    const std::string body = std::string("\x05READY\x0bSocket-Type\0\0\0\x06", 22) + "DEALER" +
                             std::string("\x07User-Id\0\0\0\x28", 12) + key;
    raw.shake_hands(plain.reactor, std::string("\x04") + static_cast<char>(body.size()) + body);
    raw.send(zmtp_frame("it is me"));
    REQUIRE(run_until(plain.reactor, [&] { return plain.server.arrivals.size() == 1; }));
    REQUIRE_FALSE(plain.server.arrivals.front().peer.key.has_value());
}

TEST_CASE("trap: a plain listener is not asked about by another's ZAP handler, nor opened by it") {
    Encrypted encrypted;
    encrypted.server.start();
    TestServer plain(encrypted.context, encrypted.reactor, nullptr);
    plain.start();
    TestLane lane(encrypted.context, encrypted.reactor, {.endpoint = plain.endpoint()});
    REQUIRE(lane.connect());
    REQUIRE(encrypted.keys.asked == 0);
    // And there is one handler a context.
    TestServer second(encrypted.context, encrypted.reactor, &encrypted.keys);
    REQUIRE_FALSE(second.try_start());
}
