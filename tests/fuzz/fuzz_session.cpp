// SPDX-License-Identifier: MIT
// A client's session with a server that says what the fuzzer likes: to HELLO, in answers and in pushes, while its
// connections come and go. There is no network: the program is linked with the transport::Lane of this file, in place
// of the transport's own.
//
// The input is a byte of options, then steps: a byte for what, then what it needs. Whatever comes, each message that
// the session sends can be parsed, what a call yields is within what it asked for, and every call has ended once the
// session is closed.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "../wire/all_structures.hpp"
#include "base/assert.hpp"
#include "base/log.hpp"
#include "client/directory.hpp"
#include "client/session.hpp"
#include "fuzz_input.hpp"
#include "fuzz_target.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::transport {

// The other side of a lane that reaches nobody: whether it is connected and what arrives is the fuzzer's to say.
struct FarEnd {
    enum class Stage : std::uint8_t { down, connecting, connected };

    explicit FarEnd(Lane::Handlers given_handlers) : handlers(std::move(given_handlers)) { all().push_back(this); }
    ~FarEnd() { std::erase(all(), this); }
    FarEnd(const FarEnd&) = delete;
    FarEnd& operator=(const FarEnd&) = delete;

    // In the order in which they were made: that of the metadata lane is the first.
    static std::vector<FarEnd*>& all() {
        static std::vector<FarEnd*> ends;
        return ends;
    }

    const Lane::Handlers handlers;
    Stage stage = Stage::down;
    std::vector<wire::Message> received;
    const std::optional<CongestionControl::Outcome> congestion;
};

struct Lane::State {
    explicit State(Handlers handlers) : end(std::move(handlers)) {}
    FarEnd end;
};

Lane::Lane(Context&, Reactor&, LaneOptions, Handlers handlers) : state_(std::make_unique<State>(std::move(handlers))) {}

Lane::~Lane() = default;

void Lane::connect() {
    REMOFILE_ASSERT(state_->end.stage == FarEnd::Stage::down);
    state_->end.stage = FarEnd::Stage::connecting;
}

void Lane::disconnect() {
    state_->end.stage = FarEnd::Stage::down;
}

bool Lane::connected() const {
    return state_->end.stage == FarEnd::Stage::connected;
}

const std::optional<CongestionControl::Outcome>& Lane::congestion() const {
    return state_->end.congestion;
}

void Lane::send(wire::Message message) {
    REMOFILE_ASSERT(connected());
    state_->end.received.push_back(std::move(message));
}

}  // namespace remofile::transport

namespace {

using namespace remofile;
using namespace remofile::client;
using namespace remofile::wire;
using transport::FarEnd;

constexpr std::size_t max_steps = 64;
constexpr std::size_t max_waiting = 256;  // requests that the server may still answer

enum Step : std::uint8_t { ask, answer, answer_honestly, say, push, connect_one, lose, pass_time, cancel, acknowledge };
constexpr std::uint8_t step_count = acknowledge + 1;

// Bits of the first byte.
constexpr std::uint8_t with_leases = 1;
constexpr std::uint8_t with_keys = 2;  // and so with a sealed lane
constexpr std::uint8_t with_time_out = 4;
constexpr std::uint8_t restores = 8;  // what was lost with a session
constexpr std::uint8_t exclusive = 16;
constexpr std::uint8_t unwelcome = 128;  // the server is not even honest to the first HELLO

class TurnedClock final : public Clock {
public:
    TimePoint now() const override { return now_; }
    void advance(Duration by) { now_ += by; }

private:
    TimePoint now_{std::chrono::hours(1)};
};

Attributes some_attributes(std::uint32_t mode) {
    Attributes attributes;
    attributes.identity = {.device = 1, .inode = 2, .birth = {}};
    attributes.mode = mode;
    attributes.links = 1;
    return attributes;
}

constexpr NodeId new_node{7};

// A request that asks for something.
template <class Request>
Request some_request() {
    Request request;
    if constexpr (requires { request.node.reuse; })
        request.node.id = new_node;
    if constexpr (requires { request.new_node.reuse; })
        request.new_node.id = new_node;
    if constexpr (requires { request.name; })
        request.name = "name";
    if constexpr (requires { request.size; })
        request.size = 4096;
    if constexpr (requires { request.max_entries; })
        request.max_entries = 10;
    if constexpr (requires { request.block_size; })
        request.block_size = 512;
    if constexpr (requires { request.count; })
        request.count = 8;
    if constexpr (requires { request.first_node; }) {
        request.attributes = ListedAttributes::with_nodes;
        request.first_node = NodeId{10};
    }
    if constexpr (requires { request.lease; })
        request.lease = true;
    if constexpr (std::is_same_v<Request, LendInodes>)
        request.files = request.directories = 2;
    else if constexpr (requires { request.directories.size(); })
        request.directories = {NodeId{1}, NodeId{2}};
    if constexpr (requires { request.locks; })
        request.locks.resize(2);
    if constexpr (requires { request.wait; })
        request.wait = true;
    return request;
}

// An answer to it that makes sense.
template <class Request>
typename Request::Reply some_reply(const Request& request) {
    typename Request::Reply reply;
    const auto fill = [&](auto& entry, std::uint32_t mode) {
        if constexpr (requires { request.node.reuse; })
            entry.node = request.node.id;
        else
            entry.node = new_node;
        entry.attributes = some_attributes(mode);
    };
    if constexpr (requires { reply.node; })
        fill(reply, S_IFREG | 0644);
    else if constexpr (requires { reply.entry.node; })
        fill(reply.entry, Request::opcode == Opcode::list ? S_IFDIR | 0755 : S_IFREG | 0644);
    else if constexpr (requires { reply.attributes; })
        reply.attributes = some_attributes(S_IFREG | 0644);
    if constexpr (requires { reply.target; })
        reply.target = "target";
    if constexpr (requires { reply.end; })
        reply.end = true;
    if constexpr (requires { reply.leases; })
        reply.leases.resize(request.directories.size());
    if constexpr (requires { reply.root; }) {
        reply.session = SessionId{77};
        reply.root = NodeId{1};
        reply.root_attributes = some_attributes(S_IFDIR | 0755);
        reply.features = UINT64_MAX;
        reply.max_requests = 100;
        reply.request_bytes = reply.reply_window_bytes = 1U << 20;
        reply.session_timeout_ms = 60'000;
        reply.ping_interval_ms = 20'000;
        reply.lease_term_ms = 10'000;
        reply.client_identity = true;
    }
    if constexpr (requires { reply.port; })
        reply.port = 6769;
    return reply;
}

// What a call may ask for; the rest is the session's own.
using Askable = std::tuple<ServerStatus, ReturnLeases, TakeLeases, ShareLeases, LendInodes, Exports, Lookup, Forget,
                           Getattr, Setattr, Readlink, Mknod, Mkdir, Unlink, Rmdir, Symlink, Rename, Link, Access,
                           Statfs, MakeLent, FindKept, Open, Create, Tmpfile, Read, Write, Release, Flush, Fsync,
                           Fallocate, Seek, CopyRange, Hash, Fetch, Opendir, Readdir, Releasedir, Fsyncdir, List,
                           Getxattr, Setxattr, Listxattr, Removexattr, Getlk, Setlk, Flock, ReclaimLocks>;

// Calls visit with a null pointer to the structure at that place.
template <class Tuple, class Visit>
void visit_at(std::size_t place, Visit visit) {
    [&]<class... T>(std::tuple<T...>*) {
        std::size_t i = 0;
        ((i++ == place % sizeof...(T) ? visit(static_cast<T*>(nullptr)) : void()), ...);
    }(static_cast<Tuple*>(nullptr));
}

template <class Tuple, class Visit>
void visit_opcode(Opcode opcode, Visit visit) {
    [&]<class... T>(std::tuple<T...>*) {
        ((T::opcode == opcode ? visit(static_cast<T*>(nullptr)) : void()), ...);
    }(static_cast<Tuple*>(nullptr));
}

transport::LaneOptions lane_options(bool keys) {
    transport::LaneOptions options;
    options.endpoint = "tcp://192.0.2.1:6768";
    if (keys) {
        static const transport::KeyPair pair = transport::KeyPair::generate();
        options.identity = pair;
        options.server_key = pair.public_key();
    }
    return options;
}

transport::Context& context() {
    static transport::Context instance;
    return instance;
}

class Conversation {
public:
    explicit Conversation(std::uint8_t options) : options_(options) {
        spawn(open());
        if ((options & unwelcome) != 0)
            return;
        for (std::size_t lane = 0; lane < 2; ++lane) {
            connect_lane(lane);
            answer_all();
        }
    }
    ~Conversation() {
        if (!opened_)  // it may wait for its turn for as long as the server is there
            lose_lane(0, Status::unreachable);
        REMOFILE_ASSERT(opened_);
        if (session_)
            session_->close();
        run();
        REMOFILE_ASSERT(unfinished_ == 0);
        acknowledgements_.clear();
        session_.reset();
        run();
    }
    Conversation(const Conversation&) = delete;
    Conversation& operator=(const Conversation&) = delete;

    void take(Step step, FuzzInput& input) {
        switch (step) {
            case ask:
                return start_call(input);
            case answer:
                return answer_one(input);
            case answer_honestly:
                return answer_all();
            case say: {
                const auto what = input.number<std::uint8_t>();
                return deliver(what & 1U, input.message(what >> 1 & 3U));
            }
            case push:
                return push_one(input);
            case connect_one:
                return connect_lane(input.number<std::uint8_t>());
            case lose: {
                const auto place = input.number<std::uint8_t>();
                const auto why = input.number<std::uint8_t>();
                return lose_lane(place, why != 0 && is_known(why) ? static_cast<Status>(why) : Status::unreachable);
            }
            case pass_time:
                clock_.advance(std::chrono::milliseconds(input.number<std::uint16_t>()));
                return run();
            case cancel:
                if (!cancellations_.empty())
                    cancellations_[input.number<std::uint8_t>() % cancellations_.size()].cancel();
                return run();
            case acknowledge:
                if (!acknowledgements_.empty()) {
                    const auto said = std::move(acknowledgements_.front());
                    acknowledgements_.pop_front();
                    said();
                }
                return run();
        }
    }

private:
    // A request as it reached the server.
    struct Waiting {
        FarEnd* end;
        RecordHeader header;
        std::vector<std::byte> body;
    };

    Task<void> open() {
        SessionOptions options;
        options.lane = lane_options((options_ & with_keys) != 0);
        options.leases = (options_ & with_leases) != 0;
        options.exclusive = (options_ & exclusive) != 0;
        if (options.exclusive)
            options.wait = std::chrono::seconds(1);
        if ((options_ & with_time_out) != 0)
            options.request_timeout = std::chrono::seconds(1);
        options.lease_clock = &clock_;
        auto opened = co_await Session::open(context(), reactor_, std::move(options), counters_, &holders_);
        opened_ = true;
        if (!opened)
            co_return;
        session_ = std::move(*opened);
        session_->on_invalidate = [this](Invalidation invalidation, std::function<void()> done) {
            for (const LeaseChange& change : invalidation.changes) {
                const bool named = change.what == LeaseChange::What::content || change.what == LeaseChange::What::name;
                REMOFILE_ASSERT(named ? is_valid_name(change.name) : change.name.empty());
            }
            acknowledgements_.push_back(std::move(done));
        };
        if ((options_ & restores) == 0)
            co_return;
        session_->on_session_lost = [this] { return restore(); };
        session_->on_change_in_doubt = [](std::uint64_t change, const std::vector<EncodedRequest>& requests) {
            Fate fate{.is_known = change % 2 == 0, .replies = {}};
            if (change % 4 == 0)
                fate.replies.emplace(requests.size());
            return fate;
        };
    }

    Task<bool> restore() {
        const CallOptions options{.restores = true};
        Lookup lookup = some_request<Lookup>();
        const auto found = co_await session_->call(std::move(lookup), options);
        co_return found.has_value() || found.error().status != Status::io_error;
    }

    // ---- the client

    void start_call(FuzzInput& input) {
        const auto which = input.number<std::uint8_t>();
        const auto how = input.number<std::uint8_t>();
        if (!session_)
            return;
        CallOptions options;
        options.lane = (how & 1U) != 0 ? LaneKind::data : LaneKind::metadata;
        options.ahead = (how & 2U) != 0;
        options.in_order = (how & 4U) != 0 && options.lane == LaneKind::metadata;
        options.change = how >> 4;
        if ((how & 8U) != 0)
            spawn(be_somebody(how));
        else
            visit_at<Askable>(
                which, [&]<class Request>(Request*) { spawn(call<Request>(options, cancellations_.emplace_back())); });
        run();
    }

    template <class Request>
    Task<void> call(CallOptions options, Cancellation& cancellation) {
        ++unfinished_;
        Request request = some_request<Request>();
        const OpcodeFacts* facts = find_opcode(Request::opcode);
        const std::size_t limit = reply_bulk_limit(facts, encode_body(request));
        std::optional<Result<Reply<Request>>> outcome;
        if (facts->takes_bulk)
            outcome.emplace(
                co_await session_->call_with_bulk(std::move(request), Buffer::copy_of("data"), options, &cancellation));
        else
            outcome.emplace(co_await session_->call(std::move(request), options, &cancellation));
        --unfinished_;
        if (!*outcome)
            co_return;
        const auto& reply = **outcome;
        REMOFILE_ASSERT(reply.bulk.size() <= limit);
        if constexpr (std::is_same_v<Request, Readdir> || std::is_same_v<Request, List>)
            check_listing(reply.bulk, reply.body.count);
    }

    static void check_listing(const Buffer& bulk, std::uint16_t count) {
        const auto entries = decode_directory(bulk, count);
        if (!entries)
            return;
        for (const DirectoryEntry& entry : *entries)
            REMOFILE_ASSERT(is_valid_name(entry.name) || entry.name == "." || entry.name == "..");
    }

    Task<void> be_somebody(std::uint32_t uid) {
        ++unfinished_;
        std::vector<std::uint32_t> groups{uid, 1000};
        const auto number = co_await session_->credential(uid, uid, std::move(groups));
        --unfinished_;
        if (number)
            held_.push_back(session_->hold(*number));
    }

    // ---- the server

    FarEnd* end_at(std::size_t place) {
        auto& ends = FarEnd::all();
        return ends.empty() ? nullptr : ends[place % ends.size()];
    }

    void connect_lane(std::size_t place) {
        FarEnd* end = end_at(place);
        if (end == nullptr || end->stage != FarEnd::Stage::connecting)
            return;
        end->stage = FarEnd::Stage::connected;
        end->handlers.on_connected();
        run();
    }

    void lose_lane(std::size_t place, Status why) {
        FarEnd* end = end_at(place);
        if (end == nullptr || end->stage == FarEnd::Stage::down)
            return;
        end->stage = FarEnd::Stage::down;
        const auto handler = end->handlers.on_disconnected;
        handler(make_error(why, "the fuzzer says so"));
        run();
    }

    void deliver(std::size_t place, Message message) {
        FarEnd* end = end_at(place);
        if (end == nullptr || end->stage != FarEnd::Stage::connected)
            return;
        const auto handler = end->handlers.on_message;
        handler(std::move(message));
        run();
    }
    void deliver_to(FarEnd* end, Message message) {
        const auto found = std::ranges::find(FarEnd::all(), end);
        if (found != FarEnd::all().end())
            deliver(static_cast<std::size_t>(found - FarEnd::all().begin()), std::move(message));
    }

    // To a request that waits, with all that is right of it but what the fuzzer says.
    void answer_one(FuzzInput& input) {
        const auto which = input.number<std::uint8_t>();
        const auto how = input.number<std::uint8_t>();
        const auto status = input.number<std::uint8_t>();
        const auto body = std::as_bytes(std::span(input.frame()));
        if (waiting_.empty())
            return;
        const std::size_t place = which % waiting_.size();
        const Waiting waiting = std::move(waiting_[place]);
        if ((how & 8U) == 0)  // or it is answered again
            waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(place));
        else
            waiting_[place] = waiting;
        RecordHeader header{.opcode = waiting.header.opcode, .id = waiting.header.id, .detail = status};
        header.bulk_encoding = static_cast<BulkEncoding>(how & 3U);
        MessageWriter writer(MessageKind::reply);
        if ((how & 4U) != 0) {
            header.bulk_size = input.number<std::uint32_t>();
            header.flags |= flag_bulk;
            writer.add_encoded(header, body, Buffer::copy_of(input.frame()));
        } else {
            header.bulk_encoding = BulkEncoding::raw;
            writer.add_encoded(header, body);
        }
        if ((how & 16U) != 0)
            writer.set_flags(message_overtakes);
        deliver_to(waiting.end, std::move(writer).finish());
    }

    void answer_all() {
        for (const Waiting& waiting : std::exchange(waiting_, {})) {
            MessageWriter writer(MessageKind::reply);
            const RecordHeader header{.opcode = waiting.header.opcode, .id = waiting.header.id};
            visit_opcode<Requests>(header.opcode, [&]<class Request>(Request*) {
                const auto request = decode_body<Request>(waiting.body);
                REMOFILE_ASSERT(request.has_value());
                writer.add(header, some_reply(*request));
            });
            REMOFILE_ASSERT(!writer.empty());
            deliver_to(waiting.end, std::move(writer).finish());
        }
    }

    void push_one(FuzzInput& input) {
        const auto what = input.number<std::uint8_t>();
        const auto body = std::as_bytes(std::span(input.frame()));
        MessageWriter writer(MessageKind::push);
        constexpr std::array opcodes{Opcode::push_invalidate, Opcode::push_shutdown, Opcode::push_next_keys,
                                     static_cast<Opcode>(0x8004)};
        writer.add_encoded({.opcode = opcodes[(what >> 1U) & 3U]}, body);
        deliver(what & 1U, std::move(writer).finish());
    }

    // Lets the client go on, and takes what it has sent.
    void run() {
        constexpr int turns = 3;  // what follows from what
        for (int turn = 0; turn < turns; ++turn) {
            reactor_.after(Duration::zero(), [this] { reactor_.stop(); });
            reactor_.run();
        }
        for (FarEnd* end : FarEnd::all())
            for (Message& message : std::exchange(end->received, {}))
                receive(end, std::move(message));
    }

    void receive(FarEnd* end, Message message) {
        const auto parsed = parse_message(std::move(message), MessageKind::request);
        REMOFILE_ASSERT(parsed.has_value());
        for (const Record& record : parsed->records) {
            REMOFILE_ASSERT(find_opcode(record.header.opcode) != nullptr);
            if (record.header.opcode != Opcode::bye && waiting_.size() < max_waiting)
                waiting_.push_back(
                    {.end = end, .header = record.header, .body = {record.body.begin(), record.body.end()}});
        }
    }

    const std::uint8_t options_;
    TurnedClock clock_;
    transport::Reactor reactor_{clock_};
    Counters counters_;
    std::vector<Client> holders_;
    bool opened_ = false;
    std::deque<Cancellation> cancellations_;
    std::vector<std::shared_ptr<const void>> held_;
    std::deque<std::function<void()>> acknowledgements_;
    std::vector<Waiting> waiting_;
    std::size_t unfinished_ = 0;
    std::unique_ptr<Session> session_;
};

// ---- seeds

template <class Request>
std::string asked(std::uint8_t how = 0) {
    std::string input{static_cast<char>(ask)};
    std::uint8_t place = 0;
    [&]<class... T>(std::tuple<T...>*) {
        std::uint8_t i = 0;
        ((std::is_same_v<T, Request> ? void(place = i) : void(), ++i), ...);
    }(static_cast<Askable*>(nullptr));
    return input + static_cast<char>(place) + static_cast<char>(how);
}

std::string answered(std::span<const std::byte> body, Status status = Status::ok, std::uint8_t which = 0,
                     std::uint8_t how = 0) {
    std::string input{static_cast<char>(answer), static_cast<char>(which), static_cast<char>(how),
                      static_cast<char>(status)};
    append_frame(input, {reinterpret_cast<const char*>(body.data()), body.size()});
    return input;
}

std::string answered_with_bulk(std::span<const std::byte> body, std::string_view bulk, BulkEncoding encoding,
                               std::uint32_t size) {
    std::string input = answered(body, Status::ok, 0, static_cast<std::uint8_t>(4U | static_cast<unsigned>(encoding)));
    append_number(input, size);
    append_frame(input, bulk);
    return input;
}

template <class Push>
std::string pushed(const Push& body) {
    const auto kind = static_cast<std::uint16_t>(Push::opcode) - static_cast<std::uint16_t>(Opcode::push_invalidate);
    std::string input{static_cast<char>(push), static_cast<char>(2 * kind)};
    const auto bytes = encode_body(body);
    append_frame(input, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    return input;
}

std::string two_bytes(Step step, std::uint8_t first, std::uint8_t second) {
    return {static_cast<char>(step), static_cast<char>(first), static_cast<char>(second)};
}
std::string one_byte(Step step, std::uint8_t first) {
    return {static_cast<char>(step), static_cast<char>(first)};
}
std::string plain(Step step) {
    return {static_cast<char>(step)};
}

// One entry of a directory.
std::string listed(std::string_view name, std::uint64_t cookie) {
    DirectoryEntry entry;
    entry.cookie = cookie;
    entry.name = name;
    const auto bytes = encode_body(entry);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::configure("fuzz", log::Level::off, log::Target::standard_error);
    FuzzInput input(data, size);
    Conversation conversation(input.number<std::uint8_t>());
    for (std::size_t steps = 0; !input.empty() && steps < max_steps; ++steps) {
        const auto step = static_cast<Step>(input.number<std::uint8_t>() % step_count);
        conversation.take(step, input);
    }
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    const std::string leases(1, static_cast<char>(with_leases));
    const std::string all(1, static_cast<char>(with_leases | with_keys | with_time_out | restores));
    std::vector<std::string> seeds;
    const auto each = [&]<class... Request>(std::tuple<Request...>*) {
        (seeds.push_back(leases + asked<Request>() + answered(encode_body(some_reply(some_request<Request>()))) +
                         asked<Request>(1) + answered({}, Status::io_error)),
         ...);
    };
    each(static_cast<Askable*>(nullptr));

    const std::string lost = two_bytes(lose, 0, 0) + two_bytes(lose, 1, 0);
    const std::string second = two_bytes(pass_time, 0xe8, 3);
    const std::string back =
        second + one_byte(connect_one, 0) + plain(answer_honestly) + one_byte(connect_one, 1) + plain(answer_honestly);
    seeds.push_back(leases + asked<Read>(1) + answered_with_bulk({}, "some data", BulkEncoding::raw, 9));
    seeds.push_back(leases + asked<Read>(1) + answered_with_bulk({}, "", BulkEncoding::zeros, 4096));
    seeds.push_back(leases + asked<Read>(1) +
                    answered_with_bulk({}, std::string_view("\x50hello", 6), BulkEncoding::lz4, 5));
    seeds.push_back(leases + asked<List>() +
                    answered_with_bulk(encode_body([] {
                                           auto reply = some_reply(some_request<List>());
                                           reply.count = 2;
                                           reply.leased = true;
                                           return reply;
                                       }()),
                                       listed("a", 1) + listed("b", 2), BulkEncoding::raw,
                                       static_cast<std::uint32_t>((listed("a", 1) + listed("b", 2)).size())));
    seeds.push_back(all + asked<Create>(4) + asked<Write>(1) + lost + back + plain(answer_honestly));
    seeds.push_back(all + asked<Setlk>() + one_byte(cancel, 0) + second + second + plain(answer_honestly));
    seeds.push_back(all + asked<Open>(0x20) + asked<Mkdir>(0x40) + answered({}, Status::no_session) + back + back);
    seeds.push_back(leases + asked<Lookup>(8) + plain(answer_honestly) + asked<Lookup>(8 + 16));
    seeds.push_back(leases +
                    pushed(PushInvalidate{.sequence = 1,
                                          .nodes = {NodeId{1}},
                                          .changes = {{.what = LeaseChange::What::name, .name = "a"},
                                                      {.what = LeaseChange::What::ended}}}) +
                    plain(acknowledge) + pushed(PushShutdown{.reason = "an end"}) + lost +
                    pushed(PushNextKeys{.keys = {{1}}}) + back);
    // HELLO is refused, and answered wrongly.
    const std::string alone(1, static_cast<char>(unwelcome | exclusive));
    seeds.push_back(alone + one_byte(connect_one, 0) +
                    answered(encode_body(InUse{.holders = {{.name = "somebody"}}}), Status::in_use) + second +
                    plain(answer_honestly));
    seeds.push_back(alone + one_byte(connect_one, 0) + answered(encode_body(HelloReply{})));
    std::string said{static_cast<char>(say), 0};
    append_frame(said, "no message");
    seeds.push_back(leases + asked<Getattr>() + said + back);
    return seeds;
}

std::vector<std::string> fuzz_words() {
    return {std::string("RF\x02\x02", 4), std::string("RF\x02\x03", 4)};
}
