// SPDX-License-Identifier: MIT
// The server's side of the protocol: connections become sessions, messages become requests, outcomes become replies.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/leases/held_replies.hpp"
#include "server/leases/lease_table.hpp"
#include "server/sessions/ended_sessions.hpp"
#include "server/sessions/service_log.hpp"
#include "server/sessions/service_strangers.hpp"
#include "server/sessions/session.hpp"
#include "server/sessions/session_token.hpp"
#include "server/sessions/session_turns.hpp"
#include "transport/lane_tickets.hpp"

namespace remofile::server {

// What a client may do in an export.
struct Admittance {
    bool read_only = false;
    std::optional<transport::Account> identity = {};  // whom all its requests act as; none: as the export says
};

struct ServiceOptions {
    // The first component of HELLO's paths; empty: the export has no name, and paths begin at its root.
    std::string export_name;
    // Whether whoever has that key (none without encryption) may use the export. Empty: everybody may.
    std::function<std::optional<Admittance>(const std::optional<transport::PublicKey>&)> admits;
    // All exports that whoever has that key may use. Empty: there is this one.
    std::function<std::vector<wire::ExportEntry>(const std::optional<transport::PublicKey>&)> exports;
    // SessionGrants::bytes() of the sessions of all exports together. Empty: there is this one.
    std::function<std::uint64_t()> granted_by_all;

    // These can be changed; see Service::change().
    SessionTurns::Limits limits;
    CallerPolicy callers;
    bool read_only = false;
    std::string token;  // empty: none is asked for
    RateLimits rates;   // of each client

    SessionGrants grants;
    std::string version;
    std::uint64_t boot = 0;  // differs for every start
    // Those that the server will have, for clients to be told of.
    std::vector<transport::PublicKey> next_keys;
    Duration slow_request{};  // from which on a request is logged; zero: none is
    // The one that the files were opened with. None: no leases are granted.
    std::shared_ptr<LeaseTable> leases;
};

// The sessions of one export. Lives on the thread that it is given; everything but the file operations happens there.
class Service {
public:
    using PeerOf = std::function<transport::Peer()>;

    // All references must outlive the service; `files` also the work that `executor` has been given.
    Service(FileService& files, Executor& executor, ServiceThread& thread, Counters& counters, ServiceOptions options);
    // Ends all sessions that are left, on this thread. Work that still runs is not waited for.
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    // A message has come by a connection.
    void on_message(const transport::RouteId& route, const PeerOf& peer, wire::Message message);
    // A message of a connection was lost for want of memory: its client is told to send again what is unanswered.
    void on_lost(const transport::RouteId& route) { thread_.send(route, message_lost()); }
    // A connection that was clogged takes messages again.
    void on_unclogged(const transport::RouteId& route);
    // From now on sessions that are encrypted may have sealed lanes, which connect to this TCP port. `tickets` must
    // outlive the service.
    void offer_sealed_lanes(transport::LaneTickets& tickets, std::uint16_t port);
    // From now on answers that must not be lost with this process are kept there.
    void keep_answers_in(std::shared_ptr<AnswerJournal> journal);
    // From now on new sessions get this, and HELLOs must bring this token. Sessions go on with what they were granted.
    void change(SessionTurns::Limits limits, CallerPolicy callers, bool read_only, std::string token);
    // From now on these limit clients, those that are there too.
    void change_rates(RateLimits rates);
    // Whether there are new sessions; if not, who asks for one is told that there is no such export. At first there
    // are.
    void take_new_sessions(bool take);

    const std::string& export_name() const { return options_.export_name; }
    bool takes_new_sessions() const { return takes_new_sessions_; }
    std::optional<Admittance> admits(const std::optional<transport::PublicKey>& key) const;
    // As EXPORTS shows it to whoever has that key; nothing if they may not use it.
    std::optional<wire::ExportEntry> entry_for(const std::optional<transport::PublicKey>& key) const;
    // Whether a connection belongs to a session here, or to a HELLO that is not answered yet.
    bool has(const transport::RouteId& route) const {
        return routes_.contains(route.bytes) || opening_routes_.contains(route.bytes);
    }
    bool has(SessionId session) const { return sessions_.contains(session); }
    std::uint64_t granted_bytes() const;
    // There are no sessions nor HELLOs, nor is anything due. Work that the executor was given may be under way.
    bool is_idle() const;

    // A program on the server has touched this; or, if something was `lost`, whatever it may be.
    void changed_outside(std::span<const Touched> touched, bool lost);
    // A program has given a further name to a file whose other names are not all known: all leases end.
    void unknown_names_changed();
    // Names in the export stand for what is on other file systems now, or no longer.
    void mounts_changed();

    // Tells every client, refuses what is new, and calls `stopped` when the requests under way are answered (true) or
    // `deadline` has passed (false).
    void stop(Duration deadline, std::function<void(bool)> stopped);

    std::size_t sessions() const { return sessions_.size(); }
    std::size_t open_requests() const;
    // What there is at the moment, by names like those of counters; SERVER_STATUS tells it among them.
    std::vector<wire::CounterValue> gauges() const;
    const RequestTimes& request_times() const { return request_times_; }

private:
    // A HELLO on its way to a session.
    struct Opening {
        SessionTurns::Visitor visitor = 0;
        transport::RouteId route;
        RequestId request;
        wire::Hello hello;
        transport::Peer peer;
        std::string owner;
        std::string path;  // below the export
        bool read_only = false;
        CallerPolicy callers = {};
        // Of the session that it may become.
        SessionId session{};
        SessionSecret secret{};
    };
    struct Member {
        std::unique_ptr<Session> session;
        SessionTurns::Visitor visitor = 0;
    };
    struct Place {
        SessionId session;
        std::uint8_t lane = 0;
    };

    SessionEnvironment make_environment();

    void take(const transport::RouteId& route, const PeerOf& peer, wire::Message message);
    void welcome(const transport::RouteId& route, const PeerOf& peer, wire::ParsedMessage message);
    void refuse_unreadable(const transport::RouteId& route, const PeerOf& peer, bool pickle, const Error& error,
                           Session* session);
    void answer_stranger(const transport::RouteId& route, const wire::RecordHeader& request, Status status,
                         std::span<const std::byte> body = {});

    void hello(const transport::RouteId& route, const PeerOf& peer, const wire::Record& record);
    Status check_hello(const wire::Hello& hello, const Opening& opening);
    Status enter_export(Opening& opening);
    void begin(Opening opening);
    void resume(Opening opening, Session& session);
    void resumed(Opening opening, Outcome outcome);
    void ask_turn(Opening opening);
    void open(Opening opening);
    static void keep_files_for(FileService& service, const Opening& opening,
                               const std::shared_ptr<SessionFiles>& files);
    void opened(Opening opening, Result<FileService::OpenedSession> result);
    void refuse(const Opening& opening, Status status);
    std::uint64_t offered_features(const transport::Peer& peer) const;
    void take_place_of_lost(SessionTerms& terms, const Opening& opening, const std::shared_ptr<SessionFiles>& files);
    void keep_answers(SessionTerms& terms, const wire::Hello& hello);
    SessionGrants next_grants() const;
    std::shared_ptr<ClientRate> rate_of(const std::string& owner);
    void say_hello(Session& session, const Opening& opening, bool resumed, const wire::Attributes& attributes);
    void attach(const transport::RouteId& route, const PeerOf& peer, const wire::Record& record);
    void take_lane(Session& session, std::uint8_t lane, const transport::RouteId& route);
    void leave_lane(const transport::RouteId& route);
    wire::LaneTicketReply issue_ticket(const Session& session, std::uint8_t lane);

    Session* find(SessionId id);
    Session* prove(SessionId id, const SessionSecret& secret, const transport::Peer& peer);
    void end(SessionId id, const std::string& reason);
    void log_closed(const Session& session, const std::string& reason) const;
    void next_turns();
    std::vector<wire::Client> clients(SessionId except) const;
    wire::ServerStatusReply status() const;
    std::vector<wire::ExportEntry> exports_for(const std::optional<transport::PublicKey>& key) const;

    void turn_has_work();
    void end_of_turn();
    struct Change {
        SessionId by;
        std::vector<InodePtr> files;
    };
    void spread_changes();
    void tell_changes(Session& session, const std::vector<Change>& changes);
    std::vector<LeaseTable::Wait> tell_holders(LeaseHolder author, Outcome& outcome);
    bool hold_back(Session& author, RequestId request, Outcome& outcome);
    void left_behind(Outcome outcome);
    void answer_held(SessionId author, RequestId request, Outcome outcome);
    bool is_silent(const Session& session) const;
    void expire_leases(Session& holder, std::string_view why);
    void check_leases();
    void arm_lease_timer();
    void check_room();
    void arm_kept_files_timer();
    void remove_unclaimed_files();
    void arm_room_timer();
    void check_time();
    void arm_timer();
    void check_stopped();

    FileService& files_;
    Executor& executor_;
    ServiceThread& thread_;
    Counters& counters_;
    ServiceOptions options_;
    const std::uint64_t started_;
    RequestTimes request_times_;
    SlowRequestLog slow_requests_;
    SessionEnvironment environment_;

    transport::LaneTickets* tickets_ = nullptr;
    std::uint16_t sealed_port_ = 0;
    EndedSessions ended_;
    std::shared_ptr<AnswerJournal> journal_;  // shared with the sessions whose answers it has; none: they are not kept
    TokenGuard tokens_;
    SessionTurns turns_;
    ServiceStrangers strangers_;
    LogLimiter log_limiter_;

    std::map<std::string, std::weak_ptr<ClientRate>> rates_;  // by SessionTerms::owner; bounded by sessions
    std::unordered_map<SessionId, Member> sessions_;
    std::unordered_map<std::string, Place> routes_;                // bounded by sessions x lanes
    std::map<SessionTurns::Visitor, Opening> waiting_;             // for their turn; bounded by turns_
    std::map<std::string, SessionTurns::Visitor> opening_routes_;  // whose HELLO is not answered yet
    SessionTurns::Visitor last_visitor_ = 0;

    // Of this turn.
    bool turn_scheduled_ = false;
    std::vector<SessionId> to_flush_;
    std::vector<std::pair<SessionId, std::string>> to_end_;
    std::vector<Change> changes_;
    HeldReplies held_;

    std::optional<transport::TimerId> timer_;
    std::optional<transport::TimerId> lease_timer_;
    std::optional<TimePoint> loss_logged_;  // of changes by programs
    TimePoint lease_timer_due_{};
    std::optional<transport::TimerId> room_timer_;
    std::optional<transport::TimerId> kept_files_timer_;
    bool room_is_looked_at_ = false;
    TimePoint last_exclusive_{};  // lease that there was when room was looked at
    std::optional<transport::TimerId> stop_timer_;
    std::function<void(bool)> stopped_;
    bool stopping_ = false;
    bool takes_new_sessions_ = true;
};

}  // namespace remofile::server
