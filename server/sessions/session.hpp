// SPDX-License-Identifier: MIT
// One client's session: its lanes, its requests under way, and what it is owed.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/file_service.hpp"
#include "server/leases/session_pushes.hpp"
#include "server/sessions/answer_journal.hpp"
#include "server/sessions/reply_cache.hpp"
#include "server/sessions/request_times.hpp"
#include "server/sessions/service_completions.hpp"
#include "server/sessions/service_thread.hpp"
#include "server/sessions/session_accounts.hpp"
#include "server/sessions/session_batch.hpp"
#include "server/sessions/session_callers.hpp"
#include "server/sessions/session_lane.hpp"
#include "server/sessions/slow_request_log.hpp"
#include "server/sessions/worker_pool.hpp"
#include "transport/keys.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

using SessionSecret = std::array<std::uint8_t, 16>;

// What HELLO grants a session; docs/PROTOCOL.md, "Flow control".
struct SessionGrants {
    std::uint32_t max_requests = wire::default_max_requests;
    std::size_t max_lock_waits = wire::max_lock_waits;  // the protocol's, but for tests
    std::uint32_t request_bytes = wire::default_request_bytes;
    std::uint32_t reply_window_bytes = wire::default_reply_window_bytes;
    Duration timeout = std::chrono::seconds(30);

    // What this may take of the server's memory: the window is shared by all lanes, and each has a small part of its
    // own.
    std::uint64_t bytes() const;
    // Reply bytes that a lane may have unacknowledged whatever the others have: an answer of a few bytes does not wait
    // behind other lanes' megabytes.
    std::uint64_t lane_share_bytes() const { return reply_window_bytes / 32; }
    // A client speaks three times before it is taken for dead.
    Duration ping_interval() const { return timeout / 3; }
};

// What all sessions of a server share, and how they tell the service of what concerns it. Calls come on the service's
// thread.
struct SessionEnvironment {
    FileService& files;
    Executor& executor;
    ServiceThread& thread;
    Counters& counters;
    std::shared_ptr<ServiceCompletions> completions;
    std::shared_ptr<wire::CompressionMeter> compression;  // shared with the work under way
    RequestTimes& request_times;
    SlowRequestLog& slow_requests;
    const std::vector<transport::PublicKey>& next_keys;  // ServiceOptions'
    LeaseTable* leases;                                  // none: there are no leases

    // A live session by its number, or null.
    std::function<class Session*(SessionId)> find;
    // It has something to send: call flush() at the end of the turn.
    std::function<void(Session&)> flush_soon;
    // It changed these files.
    std::function<void(Session&, std::vector<InodePtr>)> files_changed;
    // What a request of it has touched is told to those who hold leases. True if they must confirm it first: then the
    // outcome has been taken, and answer_held() comes later.
    std::function<bool(Session&, RequestId, Outcome&)> hold_back;
    // What a request has done whose session has ended meanwhile: others hear of it all the same.
    std::function<void(Outcome)> left_behind;
    // The client has let go of what it was told of its leases up to that number.
    std::function<void(Session&, ToldNumber)> let_go;
    // It must end at the end of the turn.
    std::function<void(Session&, std::string reason)> end_soon;
    std::function<wire::ServerStatusReply()> status;
    // All that its client may use.
    std::function<std::vector<wire::ExportEntry>(const Session&)> exports;
    // Leave to open a sealed connection for one of its lanes. With feature_sealed_lanes only.
    std::function<wire::LaneTicketReply(const Session&, std::uint8_t lane)> issue_ticket;
};

// Who it is and what was agreed. Constant.
struct SessionTerms {
    SessionId id;
    SessionSecret secret{};
    std::string owner;  // the key, or the address where there is none
    std::optional<transport::PublicKey> key;
    std::string client_name;
    std::string address;
    std::string key_comment;
    std::string path;  // as HELLO named it
    bool exclusive = false;
    bool read_only = false;
    CallerPolicy callers;
    SessionGrants grants;
    bool local = false;  // the client seems to be on this machine
    std::uint64_t features = 0;
    std::uint8_t compression = wire::compression_off;  // HELLO's wish
    std::uint64_t since = 0;                           // seconds since 1970
    TimePoint opened{};
    NodeId root;
    wire::Attributes root_attributes;
    // With feature_kept_answers. Shared with the notes of its requests.
    std::shared_ptr<AnswerJournal::Account> kept_answers = nullptr;
    // Shared by the sessions of one client.
    std::shared_ptr<ClientRate> rate = nullptr;

    // For the log: name, key and address.
    std::string describe() const;
};

// Tells a client that something was lost on a connection, which it gives up then.
wire::Message message_lost();

// Lives on the service's thread.
class Session {
public:
    // terms.rate must be set.
    Session(SessionEnvironment& environment, SessionTerms terms, std::shared_ptr<SessionFiles> files);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    const SessionTerms& terms() const { return terms_; }
    const std::shared_ptr<SessionFiles>& files() const { return files_; }
    TimePoint last_heard() const { return last_heard_; }
    // It has ended by its client's wish, who does not come back to it.
    bool has_said_goodbye() const { return has_said_goodbye_; }
    wire::Client as_client() const;

    // A connection becomes lane `number`, in place of the one it had; that one's route is handed back.
    std::optional<transport::RouteId> attach(std::uint8_t number, transport::RouteId route);
    // All connections of it.
    std::vector<transport::RouteId> routes() const;

    // Queues a reply that belongs to no request of the series: to HELLO, ATTACH or a message that could not be read.
    void queue_reply(std::uint8_t lane, wire::RecordHeader header, std::vector<std::byte> body);

    // Takes a message in that came by a lane.
    void receive(std::uint8_t lane, wire::ParsedMessage message);
    // A message came that could not be read; it is answered, and too many of them end the session.
    void receive_malformed(std::uint8_t lane, Status status);

    // Another session changed files that this one knows.
    void invalidate(const std::vector<NodeId>& nodes);
    // Nobody need be waited for any more before the request is answered.
    void answer_held(RequestId request, Outcome outcome) { answer(request, std::move(outcome)); }
    // Others have shared leases: what waited for them goes on.
    void leases_shared();
    // The server stops: the client is told, waits end, and new requests are refused.
    void shut_down(const std::string& reason);

    // Sends what may be sent. Connections found lost are handed back.
    std::vector<transport::RouteId> flush();

    // Requests not answered yet, the answers that wait to be sent included.
    std::size_t open_requests() const { return accounts_.unanswered(); }
    // Their data, that is in memory.
    std::size_t open_request_bytes() const { return accounts_.bulk_bytes(); }
    // Requests that are being carried out or wait for it, or for a lock.
    std::size_t pending_requests() const { return pending_.size(); }

    // Figures for the log.
    struct Totals {
        std::uint64_t requests = 0;
        std::uint64_t bytes_received = 0;
        std::uint64_t bytes_sent = 0;
    };
    const Totals& totals() const { return totals_; }

private:
    using BatchPtr = std::shared_ptr<SessionBatch>;  // shared by the session and the worker that has it

    // A request that has not been answered.
    struct Pending {
        wire::RecordHeader header;
        const wire::OpcodeFacts* facts = nullptr;
        wire::Account account = wire::Account::request;
        BatchPtr batch;  // null once its message is done with: it waits for a lock, and keeps nothing of that
        std::size_t index = 0;
        std::uint8_t lane = 0;  // where the answer goes, and for which of its connections
        std::uint64_t generation = 0;
        std::size_t bulk_bytes = 0;
        bool cancelled = false;  // by its client
    };

    SessionLane& lane(std::uint8_t number) { return lanes_[number]; }

    void take_acknowledgements(SessionLane& lane, const wire::MessageHeader& header);
    void enter_records(SessionLane& lane, const BatchPtr& batch);
    void enter_record(SessionLane& lane, const BatchPtr& batch, std::size_t index, bool head_fits);
    bool enter_known(SessionLane& lane, const BatchPtr& batch, BatchRecord& record);
    void follow(const BatchPtr& original, const BatchPtr& batch, BatchRecord& record);
    std::optional<Status> resolve_caller(SessionBatch& batch, std::size_t index);
    std::optional<Status> refusal(const BatchRecord& record, wire::Account account, bool last) const;
    void sequence(SessionLane& lane, const BatchPtr& batch);
    void note_violation(std::string_view what);
    void count(wire::Account account);
    void end_soon(std::string reason);

    void proceed(BatchPtr batch);
    bool proceed_here(const BatchPtr& batch);
    void finish(const BatchPtr& batch, std::deque<BatchPtr>& ready);
    void take_turn(BatchPtr batch, std::deque<BatchPtr>& ready);
    std::uint64_t reply_room(const SessionLane& lane) const;
    bool may_start(const SessionLane& lane, std::size_t expected_bytes) const;
    void dispatch(SessionLane& lane);
    bool carry_out_at_once(const BatchPtr& batch);
    void start(SessionLane& lane, const BatchPtr& batch, std::size_t expected_bytes);
    BulkCoding coding_of(const SessionLane& lane) const;
    void slice_done(const BatchPtr& batch, Slice slice);
    void wait_for_others(const BatchPtr& batch, std::vector<InodePtr> awaited);
    bool waits_for_others(const BatchPtr& batch) const;
    void wait_no_more(const BatchPtr& batch);
    void carry_out_ahead(const BatchPtr& batch);
    void refuse_waiting();
    bool is_to_share() const;
    bool take_rate(const BatchPtr& batch);
    void go_on_paced();
    void pace_no_more(const BatchPtr& batch);
    void refuse_paced();
    void release(SessionLane& lane, std::span<const Sequencer::Ticket> tickets, std::deque<BatchPtr>& ready);
    void proceed_all(std::deque<BatchPtr> ready);
    void decided_later(RequestId request, Outcome outcome);

    Outcome carry_out_own(const BatchRecord& record);
    void cancel(RequestId request);
    bool acknowledge_pushes(std::uint64_t sequence);

    void conclude(RequestId request, Outcome outcome);
    void answer(RequestId request, Outcome outcome);
    void deliver(SessionLane& lane, const Pending& pending, ReplyPtr reply);
    void credit(const Reply& reply);
    void lose(SessionLane& lane);
    bool send(SessionLane& lane, wire::Message message);
    bool flush_pushes();
    template <class Push>
    bool send_push(const Push& push);
    wire::PushNextKeys next_keys() const;

    SessionEnvironment& environment_;
    const SessionTerms terms_;
    const std::shared_ptr<SessionFiles> files_;  // shared with the work under way

    std::deque<SessionLane> lanes_;                            // wire::max_lanes of them
    std::array<std::deque<BatchPtr>, wire::max_lanes> ready_;  // whose turn has come, while the window is shut
    std::array<std::unordered_map<Sequencer::Ticket, BatchPtr>, wire::max_lanes> blocked_;
    // Whose turn has come while the client has used up its limits: those without contents, which do not wait for bytes,
    // and those with.
    std::array<std::deque<BatchPtr>, 2> paced_;
    std::optional<transport::TimerId> pace_timer_;
    std::array<bool, wire::max_lanes> dispatching_{};  // dispatch() is under way
    // Whose next record concerns what others have exclusive leases of.
    struct Waiting {
        BatchPtr batch;
        std::vector<InodePtr> awaited;
    };
    std::vector<Waiting> waiting_;
    std::unordered_map<RequestId, Pending> pending_;
    SessionAccounts accounts_;
    ReplyCache replies_;
    RequestId answered_below_;
    SessionCallers callers_;
    Counters::Counter& carried_out_at_once_;
    Counters::Counter& waits_for_others_;
    Counters::Counter& paced_messages_;
    Counters::Counter& requests_;
    Counters::Counter& bytes_received_;
    Counters::Counter& bytes_sent_;

    std::size_t violations_ = 0;
    TimePoint violations_since_{};
    TimePoint last_heard_{};
    bool stopping_ = false;
    bool ending_ = false;
    bool has_said_goodbye_ = false;
    std::string shutdown_reason_;  // to be pushed

    SessionPushes pushes_;
    std::uint64_t pushed_generation_ = 0;  // of lane 0, when pushes were last sent

    Totals totals_;
};

}  // namespace remofile::server
