// SPDX-License-Identifier: MIT
// The service without network, threads, files or time of its own: a test turns the clock, runs the workers' work when
// it likes, and plays clients by hand.
#pragma once

#include <catch.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "server/sessions/service.hpp"
#include "wire/frame.hpp"

namespace remofile::server::test {

using namespace std::chrono_literals;
using wire::Opcode;

class TurnedClock final : public Clock {
public:
    TimePoint now() const override { return now_; }
    void advance(Duration by) { now_ += by; }

private:
    TimePoint now_{std::chrono::hours(1)};
};

// Sends into mailboxes; `gone` connections refuse.
class FakeThread final : public ServiceThread {
public:
    const Clock& clock() const override { return turned; }
    std::uint64_t unix_time() const override { return 1'000'000; }
    bool send(const transport::RouteId& route, wire::Message message) override {
        if (gone.contains(route.bytes))
            return false;
        mail[route.bytes].push_back(std::move(message));
        return true;
    }
    bool clogged(const transport::RouteId& route) const override { return clogged_routes.contains(route.bytes); }
    void keep(const transport::RouteId& route) override { kept.insert(route.bytes); }
    void retire(const transport::RouteId& route) override { kept.erase(route.bytes); }
    transport::TimerId after(Duration delay, Work work) override {
        timers.emplace(++last_timer_, std::pair(turned.now() + delay, std::move(work)));
        return transport::TimerId{last_timer_};
    }
    void cancel(transport::TimerId timer) override { timers.erase(timer.value); }
    void at_end_of_turn(Work work) override { end_of_turn.push_back(std::move(work)); }
    void post(Work work) override { posted.push_back(std::move(work)); }

    // One turn of what is due; false if nothing was.
    bool turn() {
        std::vector<Work> work = std::exchange(posted, {});
        for (auto timer = timers.begin(); timer != timers.end();) {
            if (timer->second.first > turned.now()) {
                ++timer;
                continue;
            }
            work.push_back(std::move(timer->second.second));
            timer = timers.erase(timer);
        }
        for (Work& each : work)
            each();
        std::vector<Work> last = std::exchange(end_of_turn, {});
        for (Work& each : last)
            each();
        return !work.empty() || !last.empty();
    }

    TurnedClock turned;
    std::map<std::string, std::deque<wire::Message>> mail;
    std::set<std::string> gone;
    std::set<std::string> clogged_routes;
    std::set<std::string> kept;
    std::map<std::uint64_t, std::pair<TimePoint, Work>> timers;
    std::vector<Work> end_of_turn;
    std::vector<Work> posted;

private:
    std::uint64_t last_timer_ = 0;
};

class ManualExecutor final : public Executor {
public:
    void submit(std::uint64_t, Work work) override { waiting.push_back(std::move(work)); }
    bool run_one() {
        if (waiting.empty())
            return false;
        Work work = std::move(waiting.front());
        waiting.pop_front();
        work();
        return true;
    }
    std::deque<Work> waiting;
};

// Files that do what a test says, and remember what they were asked.
class FakeFiles final : public FileService {
public:
    struct Call {
        std::uint64_t request;
        Opcode opcode;
        Caller caller;
        std::string bulk;
    };
    using Handler = std::function<std::optional<Outcome>(RequestId, Opcode, const std::function<void(Outcome)>& later)>;

    Result<OpenedSession> open_session(std::string_view path, NodeId, const Caller&, bool) override {
        if (path == "/missing")
            return Status::no_entry;
        if (path == "/too large")
            throw std::bad_alloc();
        // Opaque to the service: any object will do.
        auto owner = std::make_shared<int>(++opened);
        std::shared_ptr<SessionFiles> files(owner, reinterpret_cast<SessionFiles*>(owner.get()));
        sessions.push_back(files);
        return OpenedSession{std::move(files), {}};
    }
    Passage pass(const std::shared_ptr<SessionFiles>&, Opcode, std::span<const std::byte>) override {
        if (pass_fails)
            throw std::bad_alloc();
        return {};
    }
    std::optional<Outcome> carry_out(const std::shared_ptr<SessionFiles>&, Asked asked, Opcode opcode,
                                     std::span<const std::byte>, Buffer bulk, const Caller& caller,
                                     std::function<void(Outcome)> later) override {
        const RequestId request = asked.id;
        calls.push_back({request.value, opcode, caller, std::string(bulk.text())});
        return handler ? handler(request, opcode, later) : Outcome{};
    }
    std::optional<Outcome> carry_out_at_once(const std::shared_ptr<SessionFiles>&, Opcode opcode,
                                             std::span<const std::byte>, const Caller&) override {
        if (at_once_fails)
            throw std::bad_alloc();
        return opcode == at_once ? std::optional(Outcome{}) : std::nullopt;
    }
    void cancel(const std::shared_ptr<SessionFiles>&, RequestId request) override {
        cancelled.push_back(request.value);
    }
    std::vector<NodeId> known_as(const SessionFiles&, std::span<const InodePtr> changed) override {
        ++known_as_calls;
        if (known_as_fails)
            throw std::bad_alloc();
        return std::vector<NodeId>(known.begin(), changed.empty() ? known.begin() : known.end());
    }
    void close_session(const std::shared_ptr<SessionFiles>&) override { ++closed; }
    std::uint64_t locks_lost_at(const std::shared_ptr<SessionFiles>&) const override { return moment; }
    void take_place_of(const std::shared_ptr<SessionFiles>&, std::uint64_t lost_at, std::function<void()>) override {
        place_lost_at = lost_at;
    }
    bool keeps_files() const override { return true; }
    void keep_for(const std::shared_ptr<SessionFiles>&, const HolderTag& holder,
                  const std::optional<HolderTag>& in_place_of) override {
        kept_for.push_back(holder);
        kept_in_place_of = in_place_of;
    }
    void expect_back(const std::shared_ptr<SessionFiles>&) override { ++expected_back; }
    bool has_unclaimed_files() const override { return unclaimed > 0; }
    void remove_unclaimed_files() override { --unclaimed; }

    static InodePtr some_inode() {
        auto owner = std::make_shared<int>(0);
        return InodePtr(owner, reinterpret_cast<Inode*>(owner.get()));
    }
    std::vector<std::uint64_t> carried_out() const {
        std::vector<std::uint64_t> requests;
        for (const Call& call : calls)
            requests.push_back(call.request);
        return requests;
    }

    Handler handler;
    Opcode at_once{};  // what need not wait
    std::vector<Call> calls;
    std::vector<std::uint64_t> cancelled;
    std::vector<NodeId> known;
    std::vector<std::shared_ptr<SessionFiles>> sessions;  // in the order in which they were opened
    std::uint64_t moment = 0;                             // of locks
    std::optional<std::uint64_t> place_lost_at;           // of the session in whose place another was opened
    std::vector<HolderTag> kept_for;
    std::optional<HolderTag> kept_in_place_of;
    int expected_back = 0;
    int unclaimed = 0;  // times that it has to be looked for
    int known_as_calls = 0;
    bool known_as_fails = false;
    bool at_once_fails = false;
    bool pass_fails = false;
    int opened = 0;
    int closed = 0;
};

inline Outcome with_bulk(std::size_t size) {
    Outcome outcome;
    Buffer bulk = Buffer::allocate(size);
    std::memset(bulk.data(), 'x', size);
    outcome.bulk = wire::EncodedBulk::of_raw(std::move(bulk));
    outcome.has_bulk = true;
    return outcome;
}

struct World {
    FakeThread thread;
    ManualExecutor executor;
    FakeFiles files;
    Counters counters;
    std::shared_ptr<LeaseTable> leases;  // shared with the service
    std::unique_ptr<FileService> real_files;
    std::optional<Service> service;
    bool hold_workers = false;

    // With real files in place of `files`, if a test brings a way to open them.
    using OpenFiles =
        std::function<std::unique_ptr<FileService>(const std::shared_ptr<LeaseTable>& leases, Counters& counters)>;
    explicit World(ServiceOptions options = {}, const std::optional<LeaseTable::Limits>& lease_limits = {},
                   const OpenFiles& open_files = {}) {
        log::configure("test", log::Level::error, log::Target::standard_error);
        if (lease_limits)
            leases = std::make_shared<LeaseTable>(thread.turned, *lease_limits, counters);
        options.leases = leases;
        if (open_files)
            real_files = open_files(leases, counters);
        service.emplace(real_files ? *real_files : files, executor, thread, counters, std::move(options));
    }

    // Until nothing is left to do (but what workers have, if they are held).
    void settle() {
        bool busy = true;
        while (busy) {
            busy = thread.turn();
            if (!hold_workers)
                busy = executor.run_one() || busy;
        }
    }
    void pass(Duration time) {
        thread.turned.advance(time);
        settle();
    }
    std::uint64_t count(std::string_view name) { return counters.at(name).value(); }
};

struct Received {
    std::uint64_t id = 0;
    Opcode opcode{};
    Status status{};
    std::vector<std::byte> body;
    std::size_t bulk_bytes = 0;
    std::size_t bulk_size = 0;  // once decoded
    wire::BulkEncoding bulk_encoding = wire::BulkEncoding::raw;
    std::uint16_t message_flags = 0;

    template <class Body>
    Body as() const {
        auto decoded = wire::decode_body<Body>(body);
        REQUIRE(decoded.has_value());
        return std::move(*decoded);
    }
};

// One connection of a client.
struct Connection {
    World& world;
    transport::RouteId route;
    transport::Peer peer{.address = "192.0.2.1", .key = {}, .comment = "a key"};
    std::uint64_t received_bytes = 0;
    RequestId answered_below{};
    bool acknowledges = true;

    Connection(World& given_world, std::string name) : world(given_world), route{std::move(name)} {}

    wire::MessageWriter begin() const { return wire::MessageWriter(wire::MessageKind::request); }
    void send(wire::MessageWriter writer) {
        send_raw(std::move(writer).finish(answered_below, acknowledges ? received_bytes : 0));
    }
    void send_raw(wire::Message message) {
        world.service->on_message(
            route, [this] { return peer; }, std::move(message));
        world.settle();
    }
    template <class Request>
    void send(std::uint64_t id, const Request& request, std::uint8_t flags = 0, std::uint32_t credential = 0) {
        auto writer = begin();
        writer.add({.opcode = Request::opcode, .flags = flags, .id = RequestId{id}, .detail = credential}, request);
        send(std::move(writer));
    }

    // Everything that has come.
    std::vector<Received> take(wire::MessageKind kind = wire::MessageKind::reply) {
        std::vector<Received> all;
        auto& mail = world.thread.mail[route.bytes];
        for (; !mail.empty(); mail.pop_front()) {
            received_bytes += mail.front().byte_count();
            const bool is_push = static_cast<std::uint8_t>(mail.front().head.bytes()[3]) == 3;
            auto parsed = wire::parse_message(std::move(mail.front()),
                                              is_push ? wire::MessageKind::push : wire::MessageKind::reply);
            REQUIRE(parsed.has_value());
            for (const wire::Record& record : parsed->records) {
                Received received{record.header.id.value,
                                  record.header.opcode,
                                  static_cast<Status>(record.header.detail),
                                  {record.body.begin(), record.body.end()},
                                  record.bulk.size(),
                                  record.header.bulk_size,
                                  record.header.bulk_encoding,
                                  parsed->header.flags};
                (is_push ? pushes : all).push_back(std::move(received));
            }
        }
        return kind == wire::MessageKind::push ? std::exchange(pushes, {}) : all;
    }
    std::vector<Received> take_pushes() { return take(wire::MessageKind::push); }
    Received take_one() {
        auto all = take();
        REQUIRE(all.size() == 1);
        return std::move(all.front());
    }
    // Says hello and expects a session.
    wire::HelloReply hello(wire::Hello request = {.root = NodeId{1}, .path = "/", .client_name = "someone"}) {
        send(1, request);
        const Received reply = take_one();
        REQUIRE(reply.status == Status::ok);
        return reply.as<wire::HelloReply>();
    }
    template <class Request>
    Status ask(std::uint64_t id, const Request& request, std::uint8_t flags = 0, std::uint32_t credential = 0) {
        send(id, request, flags, credential);
        return take_one().status;
    }

    std::vector<Received> pushes;
};

inline wire::Hello hello_with(std::uint32_t flags, std::uint32_t wait_ms = 0) {
    return {.flags = flags, .wait_ms = wait_ms, .root = NodeId{1}, .path = "/", .client_name = "someone"};
}
inline wire::Hello hello_again(const wire::HelloReply& session) {
    return {.resume = session.session,
            .session_secret = session.session_secret,
            .root = NodeId{1},
            .path = "/",
            .client_name = "someone"};
}

}  // namespace remofile::server::test
