// SPDX-License-Identifier: MIT
// The inside of a Session: its parts, and how calls, connections and messages go through them. What must always hold is
// each part's own affair. One thread: the reactor's. session.cpp starts and ends calls, session_connection.cpp makes
// and loses connections, session_restoration.cpp goes on where the server has lost the session, session_traffic.cpp
// sends and receives.
//
// Whatever resumes a coroutine may end with this object closed and nearly destroyed: functions that may do so hold a
// shared_ptr to it (handlers take one at their entry) and look at `closed` before they go on.
#pragma once

#include <array>
#include <map>
#include <set>

#include "client/requests/bulk_coder.hpp"
#include "client/requests/lanes.hpp"
#include "client/requests/lock_owners.hpp"
#include "client/requests/outgoing_queue.hpp"
#include "client/requests/request_accounts.hpp"
#include "client/requests/unanswered_requests.hpp"
#include "client/session.hpp"
#include "client/session/admission.hpp"
#include "client/session/bandwidth.hpp"
#include "client/session/connection.hpp"
#include "client/session/data_lane.hpp"
#include "client/session/flush_schedule.hpp"
#include "client/session/identities.hpp"
#include "client/session/restoration.hpp"
#include "client/session/server_contact.hpp"
#include "client/session/server_keys.hpp"
#include "client/session/session_counters.hpp"
#include "client/session/session_terms.hpp"
#include "client/session/unconfirmed_pushes.hpp"

namespace remofile::client {

// The pause between attempts to connect where the server is there and refuses us: waiting is all that is left to do.
inline constexpr Duration refused_retry_delay = std::chrono::seconds(30);

// How long the end of a connection is waited for on which requests are refused because the server is stopping: longer
// than a server takes to finish what it has begun.
inline constexpr Duration stopping_patience = std::chrono::seconds(7);

// How long the server's answer to CANCEL is waited for before the caller is let go without it.
inline constexpr Duration cancel_grace = std::chrono::seconds(1);
// Attempts to connect the data lane alone before its requests go by the metadata lane.
inline constexpr int max_data_lane_failures = 5;
// How often a data lane is asked for while its requests go by the metadata lane: a server or firewall that took no
// second connection may take one later, and an attempt costs both ends a few messages.
inline constexpr Duration merged_retry_delay = std::chrono::seconds(30);
// The data lane is sealed if this attempt succeeds in time; without, it is encrypted by CURVE at the server's first
// port. A firewall that swallows packets to the second costs so long, once a greeting.
inline constexpr Duration sealed_connect_timeout = std::chrono::seconds(3);

namespace detail {

// What the copies of a Cancellation share with the calls under way.
struct CancellationState {
    bool cancelled = false;
    std::set<Call*> calls;
    std::map<std::uint64_t, std::function<void()>> watches;
    std::uint64_t last_watch = 0;
};

// One call from its start to its end; lives in the frame of the coroutine that awaits it. Its destructor gives the
// call up, so that a frame may be destroyed while it waits.
struct Call {
    explicit Call(std::shared_ptr<Session::State> given_state) : state(std::move(given_state)) {}
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call();

    // Shared with the session: frames may outlive it by a moment.
    std::shared_ptr<Session::State> state;
    std::vector<EncodedReply> replies;
    // Data of replies that has yet to be decoded.
    struct EncodedBulk {
        std::size_t index;  // of the reply
        wire::RecordHeader header;
        Buffer bulk;
    };
    std::vector<EncodedBulk> encoded;
    Completion<bool> finished;
    bool ended = false;
    Batch* batch = nullptr;
    // Shared with its copies and other calls.
    std::shared_ptr<CancellationState> cancellation;
    bool cancelling = false;  // CANCEL has been sent, and the reply has the grace period to come
    transport::TimerId timeout_timer;
    transport::TimerId grace_timer;
};

}  // namespace detail

using detail::Call;

struct Session::State : std::enable_shared_from_this<Session::State> {
    // ---- constant after construction
    transport::Context& context;
    transport::Reactor& reactor;
    const SessionOptions options;

    SessionCounters counters;

    // ---- what requests, queued or sent, take of; before all that holds them
    const std::shared_ptr<Identities> identities;  // shared with those who wait for one
    RequestAccounts accounts;

    // ---- connections
    ServerKeys server_keys;
    std::array<Connection, lane_count> connections;
    std::array<std::optional<transport::PublicKey>, lane_count> lane_keys;  // with which their lanes were made
    DataLane data;
    ServerContact contact;
    std::optional<Duration> quickest_answer;  // on the metadata lane's connection
    transport::TimerId tick_timer;

    // ---- the session
    Session* owner = nullptr;  // whose handlers are called; none once it goes
    bool closed = false;
    bool in_export = false;  // HELLO asks for options.export_path in place of options.path
    Admission admission;
    SessionTerms terms;
    NewIds new_ids;
    UnconfirmedPushes pushes;

    // ---- requests
    LockOwners lock_owners;
    UnansweredRequests sent;
    Restoration restoration;
    Bandwidth bandwidth;
    transport::TimerId bandwidth_timer;
    const std::shared_ptr<FlushSchedule> flushes;  // what the reactor is to run holds it weakly
    const std::shared_ptr<BulkCoder> coder;        // shared with those who wait for it

    State(transport::Context& given_context, transport::Reactor& given_reactor, SessionOptions given_options,
          Counters& given_counters);
    ~State();

    // session.cpp
    const std::string& path() const { return in_export ? options.export_path : options.path; }

    void start(Call& call, std::vector<EncodedRequest> requests, const CallOptions& options, Cancellation* cancellation,
               bool urgent = false);
    void cancel(Call& call);
    void ask_to_cancel(Batch& batch);
    void on_time_out(Call& call, Duration timeout);
    bool silent() const { return contact.silent(reactor.clock().now()); }
    void suspect(TimePoint since);
    void tell(EncodedRequest request, LaneKind kind);
    // For `identities`.
    Task<Status> ask_credential(wire::Credential question);
    // Has the codec thread decode what is left to it of a call's replies.
    Task<void> decode_replies(Call& call);
    // Ends a call: what is not answered gets `status`. Resumes its coroutine.
    void end_call(Call& call, Status status);
    // Nobody waits for the call any more. Takes back what was not sent.
    void give_up(Call& call);
    void close(Status status);

    // session_connection.cpp
    template <class Work>
    void guard(std::size_t lane, Work&& work);
    void begin();
    std::unique_ptr<transport::Lane> make_lane(std::size_t lane, transport::LaneOptions lane_options);
    std::optional<transport::PublicKey> expected_key() const;
    void renew_lane(std::size_t lane);
    bool try_other_key(std::size_t lane, Status status);
    Error describe_failure(const Error& error) const;
    void connect(std::size_t lane);
    Task<void> connect_sealed();
    void on_connected(std::size_t lane);
    void on_disconnected(std::size_t lane, const Error& error);
    void drop_connection(std::size_t lane, const Error& error);
    void retry_later(std::size_t lane, const Error& error);
    void merge_lanes(std::string_view why);
    void retry_merged(std::string_view why);
    bool may_use_own_lane();
    void send_hello();
    void send_attach();
    void send_greeting(std::size_t lane, wire::Opcode opcode, std::vector<std::byte> body);
    void on_greeting_reply(std::size_t lane, const wire::Record& record);
    void on_hello_refused(Status status, std::span<const std::byte> body);
    void on_hello_accepted(std::span<const std::byte> body);
    void begin_second_connection();
    // The metadata lane's connection is good for requests.
    void become_usable();
    void on_attach_reply(Status status);
    void become_ready(std::size_t lane);
    void start_epoch();
    void finish_opening(Result<> result);
    void restart_session();
    void tick();
    void ping();
    void schedule_tick();

    // session_restoration.cpp
    bool may_restore() const;
    void begin_restoring();
    Task<void> restore(std::uint64_t number);
    Task<bool> give_ids_meaning();
    void end_restoring(std::uint64_t number, bool has_meaning);
    void settle_doubts();
    bool is_answer_known(const Batch& batch) const;
    Fate fate_of(const Batch& batch);
    void give_up_restoring();
    void end_lost(Batch& batch);
    void drop_data_connection();
    void drop_unawaited();
    void plan_resending();
    bool send_again(std::size_t lane);

    // session_traffic.cpp
    void flush();
    void flush_lane(std::size_t lane);
    void flush_when_allowed();
    void prepare(std::size_t lane, OutgoingQueue& queue);
    struct Unsent;
    bool send_next(std::size_t lane) { return send_next(lane, connections[lane].queue); }
    bool send_next(std::size_t lane, OutgoingQueue& queue, bool urgent_alone = false);
    void acknowledge(std::size_t lane, OutgoingQueue& queue);
    bool must_acknowledge(std::size_t lane) const {
        return connections[lane].traffic.owes_acknowledgement(terms.hello().reply_window_bytes);
    }
    void send_message(std::size_t lane, wire::Message message);
    void resend(std::size_t lane);
    void on_message(std::size_t lane, wire::Message message);
    void on_replies(std::size_t lane, wire::ParsedMessage message);
    void on_reply(std::size_t lane, wire::Record& record, bool renews);
    bool is_left_to_next_server(std::size_t lane, Batch& batch, std::size_t index, wire::RecordHeader& answer);
    void on_rejected(std::size_t lane, Status status);
    void on_push(std::size_t lane, wire::ParsedMessage message);
    void on_stopping(std::size_t lane, const std::string& reason);
    void on_next_keys(const wire::PushNextKeys& push);
    void on_invalidation(wire::PushInvalidate push);
    void acknowledge_invalidation(std::uint64_t of_epoch, std::uint64_t sequence);
    void reject_message(std::size_t lane, const Error& error);
    void settle(Batch& batch, std::size_t index, EncodedReply reply);
    // Forgets a batch whose records are all answered, and resumes who waits for it.
    void retire(Batch& batch);
    EncodedReply judged(const Batch& batch, std::size_t index, wire::Record& record);
    void give_back(const PendingRecord& record, const EncodedReply& reply, LaneKind kind);
    void count(std::string_view name, std::uint64_t amount = 1) { counters.count(name, amount); }
};

// The boundary for exceptions of what a connection does by itself. What it was about is unknown: a new connection asks
// again.
template <class Work>
void Session::State::guard(std::size_t lane, Work&& work) {
    const auto self = shared_from_this();  // whatever is resumed may let go of the session
    try {
        work();
    } catch (...) {
        const Status status = status_of_exception("a connection's work");
        if (!closed)
            drop_connection(lane, make_error(Status::unreachable, std::string(describe(status))));
    }
}

// The root of what the session works in.
inline constexpr NodeId root_node{1};

// What a refused HELLO means to a person.
Error hello_error(Status status, const SessionOptions& options, const std::string& path);

}  // namespace remofile::client
