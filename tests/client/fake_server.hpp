// SPDX-License-Identifier: MIT
// A server that keeps what it is asked and answers as a test wants: rightly, wrongly, late, twice or never. It speaks
// over the real transport, on the reactor of the test.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "client/session.hpp"
#include "transport/fixture.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

using transport::run_until;
using wire::Opcode;
using namespace std::chrono_literals;

struct FakeRequest {
    transport::RouteId route;
    std::size_t message = 0;  // number of the message it came in
    wire::RecordHeader header;
    RequestId answered_below;
    std::uint64_t received_bytes = 0;
    std::vector<std::byte> body;
    std::string bulk;

    template <class Request>
    Request as() const {
        auto decoded = wire::decode_body<Request>(body);
        REQUIRE(decoded.has_value());
        return std::move(*decoded);
    }
    bool resent() const { return (header.flags & wire::flag_resent) != 0; }
};

struct FakeReply {
    Status status = Status::ok;
    std::vector<std::byte> body;
    std::optional<std::string> bulk;

    template <class Body>
    static FakeReply of(const Body& body) {
        return {.body = wire::encode_body(body)};
    }
};

inline wire::Attributes some_attributes() {
    wire::Attributes attributes;
    attributes.identity = {1, 2, {}};
    attributes.mode = 0040755;
    attributes.links = 1;
    return attributes;
}

// Whether this thread is at work as a FakeServer.
inline thread_local bool serving_as_fake = false;

struct FakeServer {
    // What is said in HELLO.
    wire::HelloReply greeting;
    bool knows_session = true;  // a resuming HELLO and ATTACH succeed
    bool answers_hello = true;
    bool falls_silent = false;  // after the first
    Status hello_status = Status::ok;
    Status attach_status = Status::ok;
    bool ignores_attach = false;
    std::size_t broken_attaches = 0;  // as many ATTACHes are answered so that the client gives the connection up
    std::vector<wire::Client> holders;
    // No answer: none is given, and the test may call reply() later.
    std::function<std::optional<FakeReply>(const FakeRequest&)> on_request;

    std::vector<FakeRequest> requests;
    std::size_t accesses = 0;  // all but HELLO, ATTACH, PING and ACCESS
    std::vector<FakeRequest> greetings;
    std::vector<FakeRequest> pings;
    std::size_t messages = 0;
    std::map<transport::RouteId, std::uint64_t> received_bytes;

    transport::Reactor& reactor;
    transport::Context& context;
    transport::ListenerOptions options;
    std::unique_ptr<transport::Listener> listener;

    FakeServer(transport::Context& given_context, transport::Reactor& given_reactor)
        : reactor(given_reactor), context(given_context) {
        options.endpoints = {"tcp://127.0.0.1:*"};
        options.linger = 100ms;
        greeting.session = SessionId{77};
        greeting.root = NodeId{1};
        greeting.root_attributes = some_attributes();
        greeting.max_requests = 1000;
        greeting.request_bytes = 8U << 20;
        greeting.reply_window_bytes = 8U << 20;
        greeting.session_timeout_ms = 60000;
        greeting.ping_interval_ms = 20000;
        greeting.features = wire::feature_lz4 | wire::feature_zeros;
        on_request = [](const FakeRequest& request) -> std::optional<FakeReply> { return answer(request); };
        start();
    }
    void start() {
        auto bound = transport::Listener::bind(
            context, reactor, options,
            [this](const transport::RouteId& route, const std::function<transport::Peer()>&, wire::Message message) {
                receive(route, std::move(message));
            },
            {},
            [this](const transport::RouteId& route) {
                wire::RecordHeader lost;
                lost.detail = static_cast<std::uint32_t>(Status::out_of_memory);
                send(route, lost, {});
            });
        if (!bound)
            FAIL(bound.error().message);
        listener = std::move(*bound);
        options.endpoints = listener->endpoints();  // again at the same place
    }
    void stop() { listener.reset(); }
    std::string endpoint() const { return options.endpoints.front(); }

    // What an honest server with one empty directory might say.
    static FakeReply answer(const FakeRequest& request) {
        switch (request.header.opcode) {
            case Opcode::getattr:
                return FakeReply::of(wire::AttributesReply{some_attributes()});
            case Opcode::lookup:
                return FakeReply::of(wire::EntryReply{request.as<wire::Lookup>().node.id, some_attributes()});
            case Opcode::open:
            case Opcode::opendir:
                return FakeReply::of(wire::AttributesReply{some_attributes()});
            case Opcode::create:
                return FakeReply::of(wire::CreateReply{{request.as<wire::Create>().node.id, some_attributes()}, true});
            case Opcode::mkdir:
                return FakeReply::of(wire::EntryReply{request.as<wire::Mkdir>().node.id, some_attributes()});
            case Opcode::read:
                return {.bulk = std::string(request.as<wire::Read>().size, 'r')};
            case Opcode::write:
                return FakeReply::of(
                    wire::WriteReply{0, static_cast<std::uint32_t>(request.bulk.size()), some_attributes()});
            default:
                return {};
        }
    }

    void receive(const transport::RouteId& route, wire::Message message) {
        serving_as_fake = true;
        serve(route, std::move(message));
        serving_as_fake = false;
    }
    void serve(const transport::RouteId& route, wire::Message message) {
        const std::size_t number = ++messages;
        auto parsed = wire::parse_message(std::move(message), wire::MessageKind::request);
        if (!parsed)
            FAIL("the client sent a wrong message: " << parsed.error().message);
        received_bytes[route] = parsed->header.received_bytes;
        for (wire::Record& record : parsed->records) {
            FakeRequest request{.route = route,
                                .message = number,
                                .header = record.header,
                                .answered_below = parsed->header.answered_below,
                                .received_bytes = parsed->header.received_bytes,
                                .body = {record.body.begin(), record.body.end()},
                                .bulk = std::string(record.bulk.text())};
            take(request);
        }
    }
    void take(const FakeRequest& request) {
        switch (request.header.opcode) {
            case Opcode::hello:
                greetings.push_back(request);
                return greet(request);
            case Opcode::attach:
                greetings.push_back(request);
                if (ignores_attach)
                    return;
                if (broken_attaches > 0) {
                    --broken_attaches;
                    return send_garbage(request.route);
                }
                return reply(request, {.status = knows_session ? attach_status : Status::no_session});
            case Opcode::ping:
                pings.push_back(request);
                return reply(request, {});
            case Opcode::access:  // for settle()
                ++accesses;
                return reply(request, {});
            default:
                break;
        }
        requests.push_back(request);
        if (const auto answer = on_request(request))
            reply(request, *answer);
    }
    void greet(const FakeRequest& request) {
        if (!answers_hello || (falls_silent && greetings.size() > 1))
            return;
        if (hello_status == Status::in_use)
            return reply(request, {.status = hello_status, .body = wire::encode_body(wire::InUse{holders})});
        if (hello_status != Status::ok)
            return reply(request, {.status = hello_status});
        const auto hello = request.as<wire::Hello>();
        greeting.resumed = hello.resume == greeting.session && knows_session;
        if (!greeting.resumed && hello.resume) {
            ++greeting.session.value;
            knows_session = true;
        }
        reply(request, FakeReply::of(greeting));
    }

    void reply(const FakeRequest& request, const FakeReply& reply) {
        wire::RecordHeader header{.opcode = request.header.opcode};
        header.id = request.header.id;
        header.detail = static_cast<std::uint32_t>(reply.status);
        send(request.route, header, reply.body, reply.bulk);
    }
    void send(const transport::RouteId& route, wire::RecordHeader header, const std::vector<std::byte>& body,
              const std::optional<std::string>& bulk = {}, wire::MessageKind kind = wire::MessageKind::reply) {
        wire::MessageWriter writer(kind);
        if (bulk)
            writer.add_encoded(header, body, Buffer::copy_of(std::string_view(*bulk)));
        else
            writer.add_encoded(header, body);
        if (listener)
            listener->send(route, std::move(writer).finish());
    }
    // After which the client takes its connection for lost.
    void send_garbage(const transport::RouteId& route) {
        wire::Message message;
        message.head = Buffer::copy_of(std::string_view("no message"));
        listener->send(route, std::move(message));
    }
    std::size_t attaches() const {
        return static_cast<std::size_t>(std::ranges::count_if(
            greetings, [](const FakeRequest& each) { return each.header.opcode == Opcode::attach; }));
    }
    template <class Push>
    void push(const Push& push) {
        wire::RecordHeader header{.opcode = Push::opcode};
        send(greetings.front().route, header, wire::encode_body(push), {}, wire::MessageKind::push);
    }

    std::vector<FakeRequest> of(Opcode opcode) const {
        std::vector<FakeRequest> found;
        for (const FakeRequest& request : requests)
            if (request.header.opcode == opcode)
                found.push_back(request);
        return found;
    }
};

// The system's time, from which a test may jump ahead.
class JumpingClock final : public Clock {
public:
    TimePoint now() const override { return Clock::system().now() + ahead_; }
    void jump(Duration by) { ahead_ += by; }

private:
    Duration ahead_{};
};

// One reactor with a server and, once connect() has been called, a session with it.
struct SessionFixture {
    transport::Context context;
    JumpingClock clock;
    transport::Reactor reactor{clock};
    FakeServer server{context, reactor};
    Counters counters;
    SessionOptions options;
    std::vector<wire::Client> holders;
    std::optional<Error> failure;
    std::unique_ptr<Session> session;

    SessionFixture() {
        options.lane.endpoint = server.endpoint();
        options.lane.linger = 100ms;
        options.client_name = "test@here";
    }

    bool open() {
        bool ended = false;
        spawn(open_session(ended));
        REQUIRE(run_until(reactor, [&] { return ended; }));
        return session != nullptr;
    }
    // With both lanes.
    void connect() {
        REQUIRE(open());
        REQUIRE(run_until(reactor, [&] { return server.greetings.size() >= 2; }));
        settle();
    }
    Task<void> open_session(bool& ended) {
        SessionOptions given = options;
        auto opened = co_await Session::open(context, reactor, std::move(given), counters, &holders);
        if (opened)
            session = std::move(*opened);
        else
            failure = opened.error();
        ended = true;
    }

    // Starts a call and keeps its outcome.
    template <class Request>
    struct Outcome {
        std::optional<Result<Reply<Request>>> result;
        bool done() const { return result.has_value(); }
        Status status() const { return result->status(); }
    };
    template <class Request>
    Task<void> keep_outcome(Request request, CallOptions call_options, Cancellation* cancellation,
                            std::shared_ptr<Outcome<Request>> outcome) {
        outcome->result.emplace(co_await session->call(std::move(request), call_options, cancellation));
    }
    template <class Request>
    std::shared_ptr<Outcome<Request>> start(Request request, CallOptions call_options = {},
                                            Cancellation* cancellation = nullptr) {
        auto outcome = std::make_shared<Outcome<Request>>();
        spawn(keep_outcome(std::move(request), call_options, cancellation, outcome));
        return outcome;
    }
    template <class Request>
    Result<Reply<Request>> ask(Request request, CallOptions call_options = {}) {
        const auto outcome = start(std::move(request), call_options);
        REQUIRE(run_until(reactor, [&] { return outcome->done(); }));
        return std::move(*outcome->result);
    }
    // A round trip on each lane: whatever was under way before has arrived.
    void settle() {
        for (const LaneKind lane : {LaneKind::metadata, LaneKind::data}) {
            const auto ended = std::make_shared<bool>(false);
            spawn([](Session& asked, LaneKind by, std::shared_ptr<bool> end) -> Task<void> {
                CallOptions by_lane{.lane = by};
                (void)co_await asked.call(wire::Access{}, by_lane);
                *end = true;
            }(*session, lane, ended));
            REQUIRE(run_until(reactor, [&] { return *ended; }));
        }
    }
    // One turn of the reactor: what can be sent now is on its way.
    void turn() {
        bool turned = false;
        reactor.at_end_of_turn([&] { turned = true; });
        REQUIRE(wait_for([&] { return turned; }));
    }
    bool wait_for(const std::function<bool()>& condition) { return run_until(reactor, condition); }
    std::uint64_t counted(std::string_view name) { return counters.at(name).value(); }
};

}  // namespace remofile::client
