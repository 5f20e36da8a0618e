// SPDX-License-Identifier: MIT
// Who may rely on what: the leases of directories that sessions hold, what each was told to let go of, and how far it
// has said that it did. docs/adr/0017 argues that nobody is left with an answer that is no longer true.
//
// A lease covers every name in its directory, those that are not there included, the directory's own attributes, and
// the attributes and content of what the names stand for. What was changed is told to a holder once: until it asks for
// the name again it keeps nothing that another change could make untrue. Hence the order that all callers keep:
//
//     a lease is granted, and what the holder was told is taken back, BEFORE the files are looked at for an answer;
//     a change is reported AFTER it was made.
//
// Then a change that an answer does not show is reported after the answer was asked for, and so is told.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/guarded.hpp"
#include "server/file_service.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

// A session that may hold leases, by its files; only an identity.
using LeaseHolder = const SessionFiles*;

// What a holder was told so far is numbered from 1 upwards.
using ToldNumber = std::uint64_t;

// Callable from any thread unless it says otherwise. One lock, held for a few look-ups, never together with another.
class LeaseTable {
public:
    struct Limits {
        Duration term = std::chrono::seconds(10);
        std::size_t leases_each = 32'768;  // of one holder; beyond it its oldest ends
        // Of all; beyond it the oldest of whoever has most. 350 bytes each, besides 640 for the directory's node: 32
        // MB, half of what a server may take that moves contents as well.
        std::size_t leases = 32'768;
        // Names of one lease that its holder has been told of and not asked for again; beyond it the lease ends.
        std::size_t told_names = 64;
        // The same of all leases of one holder together; beyond it the one in question ends. At most 5 MB of names.
        std::size_t told_names_each = 16'384;
        // What waits to be told to one holder; beyond it all its leases end.
        std::size_t untold = 16'384;
        // Times within penalty_period that a holder may lose its leases by silence before it gets none for as long.
        int losses = 2;
        Duration penalty_period = std::chrono::minutes(1);
        // For how long nobody is given an exclusive lease of a directory that others had to wait for.
        Duration hold_off = std::chrono::seconds(1);
    };

    LeaseTable(const Clock& clock, const Limits& limits, Counters& counters);
    ~LeaseTable();
    LeaseTable(const LeaseTable&) = delete;
    LeaseTable& operator=(const LeaseTable&) = delete;

    Duration term() const { return limits_.term; }
    // For tests, which bring a change in between: called once the holder has asked, and before it is answered.
    std::function<void()> on_asked;

    // ---- while a request is carried out

    // The holder may rely on the directory, which it knows as `node`; what it was told of it counts no more. False if
    // it gets no lease. A lease that it has keeps the node under which it is told of: it may not know of another yet.
    bool grant(LeaseHolder holder, const InodePtr& directory, NodeId node);
    // The holder asks what the name stands for; false if it has no lease of the directory, and so cannot keep the
    // answer.
    bool asks_for_name(LeaseHolder holder, const Inode& directory, std::string_view name);
    // The holder asks for attributes of the file that is known to have that name; with an empty name, of the directory
    // itself. False if it was not told that they had changed.
    bool asks_for_attributes(LeaseHolder holder, const Inode& directory, std::string_view name);
    // It keeps nothing any more of the directory.
    void give_back(LeaseHolder holder, const Inode& directory);
    // The holder knows the directory as `node` no more, and as `other`, if that is one, still. Without another the
    // lease ends, unless it has been granted anew under one meanwhile. The node that takes its place, if one does:
    // whoever finds that it has gone, too, tells of that in the same way.
    std::optional<NodeId> node_gone(LeaseHolder holder, NodeId node, NodeId other);
    // Whether anybody but the author has a lease: if not, nobody need be told.
    bool others_than(LeaseHolder author) const;
    bool nobody() const { return total_.load() == 0; }
    // Whether anybody has one of the directory, or had and has not confirmed its end.
    bool is_leased(const Inode& directory) const;
    // Directories that have none any more, since the last call.
    std::vector<InodePtr> unleased();

    // ---- exclusive leases: see docs/adr/0020-exclusive-leases.md

    // As grant(), for a lease that nobody has one beside. Not while others have one, which ends by this, nor while
    // another's change of the directory, or of the one `above`, is under way. The holder, which has named the directory
    // as `node`, is told of it so from then on.
    struct Taking {
        bool taken = false;
        bool is_new = false;  // there was no lease in force before
    };
    Taking take(LeaseHolder holder, const InodePtr& directory, const Inode* above, NodeId node);
    // All that was answered on the strength of it has been carried out: others may look.
    void share(LeaseHolder holder, const Inode& directory);

    // What a request looks at or changes: directories, or any that there is.
    struct Concerned {
        std::vector<InodePtr> directories;
        bool everywhere = false;
    };
    // False if nobody else has, or can be given, an exclusive lease that a request could have to do with: then what it
    // concerns need not be found out. `changes`: what nobody may be given one of meanwhile.
    bool may_concern_others(LeaseHolder holder, bool changes) const;
    // Tells those who have exclusive leases of it to share them; if there are none, the request may be carried out.
    Passage pass(LeaseHolder holder, const Concerned& concerned, bool changes);
    bool is_exclusive_to_another(LeaseHolder holder, const Inode& directory) const;
    // None of them is exclusive to another any more.
    bool are_shared(LeaseHolder holder, std::span<const InodePtr> directories) const;
    // How many have ceased to be exclusive so far.
    std::uint64_t shares() const { return shares_.load(); }
    // Whether any has since the last call. One thread.
    bool newly_shared();
    std::size_t exclusive() const { return exclusive_total_.load(); }
    // All are to be shared.
    void recall_all();

    // ---- as sessions come, change things and go

    // `may_take`: it may be given exclusive leases.
    void enter(LeaseHolder holder, SessionId session, bool may_take = false);
    void leave(LeaseHolder holder);

    // Whose word must be waited for before the author of a change may be answered, and up to which number.
    struct Wait {
        SessionId holder;
        ToldNumber number = 0;
        friend bool operator==(const Wait&, const Wait&) = default;
    };
    // Tells the holders of leases, all but the author, what was touched.
    std::vector<Wait> tell(LeaseHolder author, std::span<const Touched> touched);
    // Tells every holder but the author that the attributes of these nodes have changed: for files whose names are not
    // all known.
    using NodesOf = std::function<std::vector<NodeId>(LeaseHolder)>;
    std::vector<Wait> tell_nodes(LeaseHolder author, const NodesOf& nodes_of);
    // All leases end that depend on what cannot be told in detail.
    void end_all();
    // No lease is granted from now on.
    void close();

    // ---- what is pushed

    struct News {
        bool all_leases = false;
        std::vector<wire::LeaseChange> changes;
        ToldNumber last = 0;  // once this is confirmed, so is all of it and all before
    };
    // The oldest of what has not been taken, as far as `max_bytes` of encoded changes go.
    std::optional<News> take_news(LeaseHolder holder, std::size_t max_bytes);
    bool has_news(LeaseHolder holder) const;
    // The sessions for which there are news since the last call.
    std::vector<SessionId> newly_told();
    // The holder says that it let go of all up to that number.
    void confirm(LeaseHolder holder, ToldNumber number);

    // Holders that have not done all they were told to confirm or to share, and since when the oldest of it waits.
    struct Outstanding {
        SessionId session;
        TimePoint since{};
        bool is_recall = false;  // it has not shared what it was to share
    };
    std::vector<Outstanding> outstanding() const;
    // Whether the holder has not shared all it was to share.
    bool is_to_share(LeaseHolder holder) const;
    // The holder trusts its leases no more, for its term has run out: all have ended, and nothing needs to be
    // confirmed.
    struct Expired {
        std::size_t leases = 0;
        bool too_often = false;  // it gets none for a while
    };
    Expired expire(SessionId session);

    struct Figures {
        std::uint32_t leases = 0;
        std::uint64_t revoked = 0;
        std::uint64_t expired = 0;
    };
    Figures figures(LeaseHolder holder) const;

private:
    struct Told {
        std::string name;  // empty: the directory itself
        bool is_new_meaning = false;
        ToldNumber number = 0;
    };
    struct Holder;
    struct Lease {
        Holder* holder = nullptr;
        InodePtr directory;
        NodeId node;      // by which the holder is told of it
        NodeId asked_by;  // under which it was granted last
        std::vector<Told> told;
        ToldNumber ended = 0;  // nothing of it may be relied on once this has been confirmed; 0: it is in force
        // An exclusive one stays when its end has been confirmed: others wait until it is shared.
        bool exclusive = false;
        bool wanted = false;                                     // a request has waited for it
        std::optional<std::list<TimePoint>::iterator> recalled;  // of Holder::recalls
    };
    using LeasePosition = std::list<Lease>::iterator;
    struct Untold {
        ToldNumber number = 0;
        wire::LeaseChange change;
    };
    struct Holder {
        LeaseHolder key = nullptr;
        SessionId session;
        std::list<Lease> in_force;  // the oldest first
        std::list<Lease> ended;     // not confirmed yet
        std::unordered_map<NodeId, LeasePosition> by_node;
        ToldNumber last = 0;
        ToldNumber confirmed = 0;
        std::deque<Untold> untold;
        std::size_t told_names = 0;  // of all its leases
        ToldNumber all_ended = 0;    // the number of the latest news that all leases ended
        bool all_ended_untold = false;
        bool newly_told = false;
        // When what is not confirmed was decided; the numbers rise.
        struct Decision {
            ToldNumber last = 0;
            TimePoint at{};
        };
        std::deque<Decision> decisions;
        bool may_take = false;
        std::size_t exclusive = 0;
        std::list<TimePoint> recalls;   // when it was told to share what it has not shared yet
        std::vector<TimePoint> losses;  // the latest, at most as many as matter
        TimePoint refused_until{};
        std::uint64_t revoked = 0;
        std::uint64_t expired = 0;
    };
    struct State {
        std::unordered_map<LeaseHolder, Holder> holders;
        std::unordered_map<SessionId, LeaseHolder> sessions;
        std::unordered_multimap<const Inode*, LeasePosition> by_directory;
        std::vector<SessionId> newly_told;
        std::vector<InodePtr> unleased;
        std::size_t in_force = 0;
        bool closed = false;
        std::unordered_map<const Inode*, Lease*> exclusive;
        // Requests under way that change something; at most one for each worker.
        struct Change {
            std::uint64_t number = 0;
            LeaseHolder author = nullptr;
            Concerned concerned;
        };
        std::vector<Change> changes;
        std::uint64_t last_change = 0;
        // Directories that nobody is given an exclusive lease of yet, the soonest first. Inodes are only compared.
        struct HeldOff {
            TimePoint until{};
            const Inode* directory = nullptr;
        };
        std::deque<HeldOff> held_off;
    };
    // Inodes to let go after the lock, as that may take others.
    using LetGo = std::vector<InodePtr>;

    static Lease* find(State& state, LeaseHolder holder, const Inode& directory);
    static void go_by(Lease& lease, NodeId node);
    static Told* find_told(Lease& lease, std::string_view name);
    static void mark_told(Lease& lease, Told told);
    static void take_back_all(Lease& lease);
    bool grant(State& state, LeaseHolder key, const InodePtr& directory, NodeId node, LetGo& let_go);
    bool is_refused(const Holder& holder) const;
    bool make_room(State& state, Holder& holder);
    bool is_kept_from(State& state, LeaseHolder taker, const Inode& directory, const Inode* above) const;
    bool end_others(State& state, LeaseHolder taker, const Inode& directory);
    void recall(State& state, Lease& lease, bool wanted);
    void tell_to_share(State& state, Lease& lease);
    void end_exclusive(State& state, Lease& lease);
    friend class ChangeUnderWay;
    void change_is_done(std::uint64_t number);
    static void announce(State& state, Holder& holder);
    ToldNumber note(State& state, Holder& holder, wire::LeaseChange change);
    ToldNumber tell_one(State& state, Lease& lease, const Touched& touched);
    ToldNumber tell_own_attributes(State& state, Lease& lease, ToldNumber told_with);
    ToldNumber end(State& state, Lease& lease);
    ToldNumber end_all_of(State& state, Holder& holder);
    void remove(State& state, LeasePosition lease, LetGo& let_go);
    void remove_all(State& state, Holder& holder, LetGo& let_go);
    bool count_loss(Holder& holder) const;

    const Clock& clock_;
    const Limits limits_;
    Counters::Counter& held_;
    Counters::Counter& granted_;
    Counters::Counter& revoked_;
    Counters::Counter& expired_;
    Counters::Counter& refused_;
    Counters::Counter& exclusive_;
    Counters::Counter& recalled_;
    std::atomic<std::size_t> total_ = 0;  // leases, those included whose end is not confirmed
    std::atomic<std::size_t> exclusive_total_ = 0;
    std::atomic<std::size_t> takers_ = 0;  // sessions that may be given exclusive leases
    std::atomic<std::uint64_t> shares_ = 0;
    std::uint64_t shares_seen_ = 0;  // by newly_shared()
    mutable Guarded<State> state_;
};

}  // namespace remofile::server
