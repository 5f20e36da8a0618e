// SPDX-License-Identifier: MIT
// A client's session with a server: connections, request numbers, resending, flow control.
//
// One thread: that of the reactor. A request is sent when it is awaited and the coroutine resumes where the reply
// arrives; no thread waits. A lost connection is made anew and unanswered requests are sent again under their old
// numbers; the server carries each out once. A session that the server no longer has (it expired, or the server was
// restarted) is replaced by another. If `on_session_lost` gives the ids of nodes and handles their meaning there, all
// goes on as after a lost connection, but for requests of which nobody knows whether they were carried out: those end
// with `no_session`. Without, a new epoch begins: all unanswered requests end so, and the ids of the old epoch mean
// nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.hpp"
#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "transport/lane.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

enum class LaneKind : std::uint8_t { metadata = 0, data = 1 };

struct SessionOptions {
    transport::LaneOptions lane;
    // Further keys that the server may have: tried, when it connects, if the server does not hold `lane.server_key`.
    std::vector<transport::PublicKey> more_server_keys;
    // Called when the server says which keys it will have, if those are not the ones above: with the one that it has
    // proved to hold first. From then on they count, and no others. On the reactor's thread. Not set: nothing that the
    // server says counts.
    std::function<void(std::span<const transport::PublicKey> keys)> on_server_keys;
    std::string path = "/";
    // Asked for in its place by a server that has several exports, of which `path` names none. Empty: nothing is.
    std::string export_path;
    std::string client_name;  // "user@host"
    std::string token;        // empty: none
    // As wire::Hello::compression, for both directions.
    std::uint8_t compression = wire::compression_automatic;
    bool exclusive = false;
    bool read_only = false;
    // How long to wait for one's turn if the server is held exclusively; none: refuse at once. Duration::max():
    // forever.
    std::optional<Duration> wait;
    // soft: a request unanswered for that long ends with timed_out, but on the data lane only if nothing else was
    // answered there for that long either. None (hard): it waits as long as it takes.
    std::optional<Duration> request_timeout;
    // With it: once a request has ended so, and the server has said nothing for as long, others end at once until it
    // does. For requests that wait in turn for each other elsewhere.
    bool gives_up_at_once = false;
    Duration first_connect_timeout = std::chrono::seconds(10);  // of open()
    // Whether to ask for leases of directories, and keep them in force while nothing else is sent.
    bool leases = false;
    const Clock* lease_clock = &Clock::with_sleep();  // of on_answered
    // Bytes a second over the link at most, in each direction; 0: as many as it takes. Contents of the data lane wait
    // for it, and nothing else does.
    std::uint64_t bandwidth_limit = 0;
};

// What a request may carry along.
struct CallOptions {
    LaneKind lane = LaneKind::metadata;
    std::uint32_t credential = 0;
    wire::SetId set_id = wire::SetId::as_caller;  // said to servers that understand it
    // Overrides SessionOptions::request_timeout; Duration::max(): none.
    std::optional<Duration> timeout;
    // Nobody waits for it yet, so it may be carried out after others of its kind, with which it shares a message.
    bool ahead = false;
    // The server carries it out after all earlier ones with this wish, and it may share a message with them. Metadata
    // lane only; without feature_exclusive_leases it means nothing. With `ahead` it waits a moment for others to share
    // its message; see hurry().
    bool in_order = false;
    // Gives ids their meaning in a session that takes another's place: goes while all else waits. For on_session_lost.
    bool restores = false;
    // The number by which on_change_in_doubt is asked; 0: nobody can tell what came of it.
    std::uint64_t change = 0;
};

// A reply with status ok; errors arrive as Result's error.
template <class Request>
struct Reply {
    typename Request::Reply body;
    Buffer bulk;  // decoded
};

// One record of a batch before it is sent, and of a batch's answer.
struct EncodedRequest {
    wire::Opcode opcode{};
    std::vector<std::byte> body;
    Buffer bulk;
    bool has_bulk = false;
    bool link = false;
};
struct EncodedReply {
    Status status = Status::ok;
    std::vector<std::byte> body;
    Buffer bulk;
};

// A record of a batch; `link`: those behind it are carried out only if this one succeeds.
template <class Request>
EncodedRequest encoded(const Request& request, bool link = false) {
    return {.opcode = Request::opcode, .body = wire::encode_body(request), .link = link};
}
template <class Request>
EncodedRequest encoded(const Request& request, Buffer bulk, bool link = false) {
    return {.opcode = Request::opcode,
            .body = wire::encode_body(request),
            .bulk = std::move(bulk),
            .has_bulk = true,
            .link = link};
}
// The body of its answer, or why there is none. Which request it was the session has checked.
template <class Request>
Result<typename Request::Reply> decoded(const EncodedReply& reply) {
    if (reply.status != Status::ok)
        return reply.status;
    auto body = wire::decode_body<typename Request::Reply>(reply.body);
    if (!body)
        return Status::io_error;
    return std::move(*body);
}

// What came of a change that a lost server has not answered.
struct Fate {
    bool is_known = false;
    // As it would have been answered, if it was carried out.
    std::optional<std::vector<EncodedReply>> replies;
};

// What the server says that others have changed.
struct Invalidation {
    bool all_leases = false;  // every lease that was asked for before has ended
    std::vector<NodeId> nodes;
    // Checked: a name where one belongs, and none elsewhere.
    std::vector<wire::LeaseChange> changes;
};

namespace detail {
struct CancellationState;
struct Call;
}  // namespace detail

// The wish of one caller to give up, through which its requests are interrupted. Copies share the wish: keep one where
// the interrupt arrives and pass another's address to Session::call. Reactor's thread only; harmless once the requests
// are answered.
class Cancellation {
public:
    Cancellation();

    // Ends the requests under way, and each later one that is given this object, with `interrupted`. A request that
    // has not been sent ends at once. For one that was sent the server is asked, and its reply decides: it may still
    // succeed. If no reply comes within a second, or the connection is down, the request ends with `interrupted`
    // although it may have been carried out; the session then gives back what its late reply may bring. The same at
    // once if the server is silent.
    // Resumes coroutines before it returns.
    void cancel();
    bool cancelled() const;

    // For waits that are not requests: while the returned object lives, cancel() calls `give_up`, once.
    class Watch {
    public:
        Watch() = default;
        Watch(Watch&& other) noexcept = default;
        Watch& operator=(Watch&&) = delete;
        ~Watch();

    private:
        friend class Cancellation;
        // Shared with the copies of the Cancellation.
        std::shared_ptr<detail::CancellationState> state_;
        std::uint64_t number_ = 0;
    };
    Watch watch(std::function<void()> give_up);

private:
    friend class Session;
    // Shared by the copies and, while they are unanswered, the requests.
    std::shared_ptr<detail::CancellationState> state_;
};

// How long a server says nothing, while it is asked, before it counts as silent: little enough for what must be
// answered within a second. Where the link is slower than that, who can do without an answer goes on without it.
inline constexpr Duration silence_after = std::chrono::milliseconds(700);

class Session {
public:
    // Connects and says hello. The result, or the first error, is delivered on the reactor's thread: unreachable,
    // wrong_server_key, not_authorized, bad_token, in_use (holders() names them), version_mismatch, no_entry or
    // not_directory (the path), timed_out.
    static Task<Result<std::unique_ptr<Session>>> open(transport::Context& context, transport::Reactor& reactor,
                                                       SessionOptions options, Counters& counters,
                                                       std::vector<wire::Client>* holders);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // Sends one request and awaits its reply. `cancellation`, if given, must live until then. A reply that breaks the
    // protocol is logged and ends with io_error. Requests made on one kind of lane reach the server in the order in
    // which they were awaited; those of one turn of the reactor may share a message.
    template <class Request>
    Task<Result<Reply<Request>>> call(Request request, CallOptions options = {}, Cancellation* cancellation = nullptr);
    template <class Request>
    Task<Result<Reply<Request>>> call_with_bulk(Request request, Buffer bulk, CallOptions options = {},
                                                Cancellation* cancellation = nullptr);

    // Sends several requests as one message, carried out one after the other. One answer a request, in order; the body
    // of an answer is empty unless its status is ok. At most wire::max_records requests (asserted); if together they
    // are longer than a head frame may be, all are answered `limit_exceeded` without being sent.
    Task<std::vector<EncodedReply>> call_batch(std::vector<EncodedRequest> requests, CallOptions options = {},
                                               Cancellation* cancellation = nullptr);

    // Sends a request whose reply nobody needs (FORGET, RELEASE) along with the next message, or soon.
    template <class Request>
    void tell(Request request, LaneKind lane = LaneKind::metadata);

    // The number that stands for an identity in CallOptions::credential. Only the first use of an identity asks the
    // server. Use the number at once, or hold it: it may be given to another identity a minute after its latest use.
    // Errors: too_big for more than wire::max_groups groups, limit_exceeded when too many identities are active, and
    // those of call(). `cancellation`, if given, must live until then.
    Task<Result<std::uint32_t>> credential(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups,
                                           Cancellation* cancellation = nullptr);
    // The numbers of all identities that the server knows; 0 alone where it acts as itself.
    std::vector<std::uint32_t> credentials() const;
    // As long as what it returns lives, the number is given to no other identity. Shared with nobody; null for a number
    // that stands for nobody (0, or one of an earlier epoch).
    std::shared_ptr<const void> hold(std::uint32_t credential);

    // From now on, requests that carry no credential of their own act as that identity; for a program that works for
    // one user. A new session (another epoch) has forgotten it. Errors: those of credential().
    Task<Result<>> act_as(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups);
    // The same with this process's user, where the server lets clients say who acts.
    Task<Result<>> act_as_process();

    // What the server said in its latest HELLO.
    const wire::HelloReply& hello() const;
    bool is_bandwidth_limited() const;
    // Where it begins: SessionOptions::path, or export_path.
    const std::string& path() const;
    // Rises with each new session; ids of another epoch mean nothing.
    std::uint64_t epoch() const;
    bool connected() const;
    // When the connection was last lost.
    TimePoint lost_at() const;
    // Whether the server has said that it is stopping: the connection will end.
    bool stopping() const;
    // The quickest answer to a request on this connection, from its sending on: hardly more than a round trip. None:
    // none has come.
    std::optional<Duration> quickest_answer() const;
    // Whether the server has said nothing since it was suspected of silence, or the connection was lost, for
    // silence_after; ends with its next word. A connection that swallows everything is noticed only much later.
    bool silent() const;
    // A question that answers at once has waited since then, or is about to be waited for: if the server says nothing
    // more, it is silent. Makes sure that there is something for it to answer.
    void suspect(TimePoint since);
    // Ends when data can be sent at once, too: open() does not wait for the connection that it goes by, which takes
    // some more round trips. `shutting_down` if the session ends before, `interrupted` if `cancellation` says so.
    Task<Status> data_lane_ready(Cancellation* cancellation);
    // Somebody waits for changes that were sent with CallOptions::in_order and `ahead`: they go at once.
    void hurry();
    const Clock& clock() const;

    NodeId new_node_id();
    NodeId new_node_ids(std::uint32_t count);  // the first of `count` in a row
    HandleId new_handle_id();

    // Called for every push_invalidate. `acknowledge` may be called later, on this thread, once all is dropped.
    std::function<void(Invalidation invalidation, std::function<void()> acknowledge)> on_invalidate;
    // Called when the server has another session in place of the one before, on the same terms: to make known again, by
    // calls that say `restores`, what the ids of nodes and handles stand for. Nothing else is sent until the task has
    // ended, but what it calls: so it must wait for nothing else. If the connection is lost meanwhile, those calls end
    // with `no_session`, and it is called anew. false, an exception or no handler: a new epoch begins.
    std::function<Task<bool>()> on_session_lost;
    // Called after that with each unanswered call that says a number for it, in the order in which they were sent:
    // whether it was carried out before. If not it is sent again, and ends with `no_session` if that is not known,
    // unless that would do no harm.
    std::function<Fate(std::uint64_t change, const std::vector<EncodedRequest>& requests)> on_change_in_doubt;
    // Called after the session was replaced, and nothing of the old one has a meaning; hello() is the new one's.
    // Requests of the old one end after it.
    std::function<void()> on_new_epoch;
    // Called, before whoever waits for it is resumed, with each answer that proves that the server held this session's
    // leases when the request was sent, at this time by SessionOptions::lease_clock.
    std::function<void(TimePoint sent_at)> on_answered;
    // Called when the server says that it is stopping: its leases end with that.
    std::function<void()> on_stopping;
    // Called when a lost connection was made anew and the session, or one in its place, lives on. Pushes may have been
    // lost meanwhile.
    std::function<void()> on_reconnected;

    // Says BYE and ends: every unanswered request is answered with `shutting_down`, and later ones too. Returns
    // within SessionOptions::lane.linger whatever the network does.
    void close();

private:
    friend struct detail::Call;
    Session();

    Task<EncodedReply> call_encoded(EncodedRequest request, CallOptions options, Cancellation* cancellation);
    void tell_encoded(wire::Opcode opcode, std::vector<std::byte> body, LaneKind lane);
    // Logs that a reply's body was wrong; the status that the caller gets.
    Status reject_reply(wire::Opcode opcode);

    struct State;
    // Shared with handlers that are running: a coroutine that one of them resumes may destroy the session.
    std::shared_ptr<State> state_;
};

template <class Request>
Task<Result<Reply<Request>>> Session::call(Request request, CallOptions options, Cancellation* cancellation) {
    EncodedRequest encoded{.opcode = Request::opcode, .body = wire::encode_body(request)};
    EncodedReply reply = co_await call_encoded(std::move(encoded), options, cancellation);
    if (reply.status != Status::ok)
        co_return Result<Reply<Request>>(reply.status);
    auto body = wire::decode_body<typename Request::Reply>(reply.body);
    if (!body)
        co_return Result<Reply<Request>>(reject_reply(Request::opcode));
    co_return Result<Reply<Request>>(Reply<Request>{std::move(*body), std::move(reply.bulk)});
}

template <class Request>
Task<Result<Reply<Request>>> Session::call_with_bulk(Request request, Buffer bulk, CallOptions options,
                                                     Cancellation* cancellation) {
    EncodedRequest encoded{.opcode = Request::opcode, .body = wire::encode_body(request)};
    encoded.bulk = std::move(bulk);
    encoded.has_bulk = true;
    EncodedReply reply = co_await call_encoded(std::move(encoded), options, cancellation);
    if (reply.status != Status::ok)
        co_return Result<Reply<Request>>(reply.status);
    auto body = wire::decode_body<typename Request::Reply>(reply.body);
    if (!body)
        co_return Result<Reply<Request>>(reject_reply(Request::opcode));
    co_return Result<Reply<Request>>(Reply<Request>{std::move(*body), std::move(reply.bulk)});
}

template <class Request>
void Session::tell(Request request, LaneKind lane) {
    tell_encoded(Request::opcode, wire::encode_body(request), lane);
}

}  // namespace remofile::client
