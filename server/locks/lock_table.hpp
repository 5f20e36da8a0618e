// SPDX-License-Identifier: MIT
// Byte-range locks and flock locks of all sessions.
//
// The kernel holds them: byte ranges as open-file-description locks on one descriptor for each (session, owner, file),
// flock on the handle's own descriptor. So they exclude processes on the server as well, and whatever ends a
// descriptor ends its locks. What is kept here beside them says who holds what, for GETLK and for detecting deadlocks.
//
// A client whose session is lost may have its locks again in another one: as long as nobody has been granted a lock of
// the file since, which is what is remembered here (Grants).
//
// A server that comes back gives those who had locks the time to have them again: until then all other requests for
// locks are held back, and not refused (the grace period of NFS).
//
// A request that has to wait is queued with its file. It is tried again, in the order of asking, whenever a remofs
// lock on the file is given up, and by the thread "locks" every 10 ms to 500 ms, because nothing tells when a process
// on the server gives up its own. The thread sleeps while nobody waits.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/counters.hpp"
#include "base/guarded.hpp"
#include "base/result.hpp"
#include "server/files/open_file.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

// Callable from any thread.
class LockTable {
public:
    // A session, for which stands what its descriptors are counted in; it says close_session before it goes.
    using Session = DescriptorBudget::Share;
    // Called once, on any thread and with no lock held, when a wait is over: ok, interrupted, deadlock or no_locks.
    using Decided = std::function<void(Status)>;

    // `budget` is shared by the export and its sessions: descriptors of locks count, too.
    LockTable(std::shared_ptr<DescriptorBudget> budget, Counters& counters);
    ~LockTable();
    LockTable(const LockTable&) = delete;
    LockTable& operator=(const LockTable&) = delete;

    // A lock that stands in the way of `range`, or type unlock. The pid is that of the holder on its own machine, 0
    // for a process on the server.
    Result<wire::LockRange> test(const Session& session, LockOwner owner, const HeldFile& file, wire::LockRange range);

    // Takes or gives up a range. Errors: try_again (without `wait`), bad_handle (not opened for it), invalid, deadlock,
    // no_locks. Empty: it waits, and `decided` will be called.
    std::optional<Status> set_range(const Session& session, RequestId request, LockOwner owner, const HeldFile& file,
                                    wire::LockRange range, bool wait, Decided decided);
    // flock(2), likewise.
    std::optional<Status> set_whole(const Session& session, RequestId request, const HeldFile& file,
                                    wire::LockType type, bool wait, Decided decided);

    // A point in the order of what was granted: now. 0 is the beginning.
    std::uint64_t moment() const;
    // `work` is done before the first lock is granted. Before there are sessions.
    void before_first_grant(std::function<void()> work) { before_first_grant_ = std::move(work); }
    // What a lost session had until `lost_at`, likewise. Errors: stale, if somebody else has it or may have had it
    // since then; else as above. It never waits.
    Status reclaim_range(const Session& session, LockOwner owner, const HeldFile& file, const wire::LockRange& range,
                         std::uint64_t lost_at);
    Status reclaim_whole(const HeldFile& file, wire::LockType type, std::uint64_t lost_at);

    // From now on nobody is granted a lock but who has had it, for so long or until end_grace(). Before there are
    // sessions.
    void begin_grace(std::chrono::milliseconds length);
    void end_grace();

    // FLUSH: the owner closed a descriptor of the file.
    void close_owner(const Session& session, LockOwner owner, const InodePtr& inode);
    // RELEASE: gives up the flock of the handle and ends its waits. Byte ranges that were taken through it and that no
    // FLUSH gave up go as well: their owner was the open file itself (F_OFD_SETLK), which is no more.
    void close_handle(const Session& session, const OpenFilePtr& file);
    void cancel(const Session& session, RequestId request);
    // Ends the waits of the session with `interrupted`, and gives up its byte-range locks.
    void close_session(const Session& session);

    // Ends all waits with `interrupted` and joins the thread. Nothing waits from then on.
    void stop();

private:
    struct Holder {
        Session session;
        LockOwner owner;
        UniqueFd descriptor;
        DescriptorBudget::Slot slot;           // which the descriptor is counted as
        const OpenFile* first_used = nullptr;  // the handle that the owner first locked through; only compared
        std::vector<wire::LockRange> ranges;   // by start, none overlapping
    };
    struct Waiter {
        Session session;
        RequestId request;
        LockOwner owner;        // of a byte range
        HeldFile file;          // so that its descriptor, which the lock is to be on, stays open
        wire::LockRange range;  // of flock: only the type counts
        bool whole = false;
        Decided decided;
    };
    // A request that came while only those are granted locks who have had them.
    struct HeldBack {
        Waiter request;
        bool waits = false;
        bool is_let_in = false;  // just now
        std::optional<Status> ended;
    };
    // When a lock of each file was granted last; of what is long past only that something was. Not what was had again.
    class Grants {
    public:
        std::uint64_t moment() const { return moment_; }
        void note(const Inode& inode);
        bool any_since(const Inode& inode, std::uint64_t moment) const;

    private:
        // By inode number: files of another device of the same number pass for the same.
        using ByFile = std::unordered_map<std::uint64_t, std::uint64_t>;
        std::uint64_t moment_ = 0;
        ByFile recent_;
        ByFile older_;
        std::uint64_t older_until_ = 0;
        std::uint64_t forgotten_until_ = 0;
    };
    struct FileLocks {
        InodePtr inode;
        std::list<Holder> holders;
        std::list<Waiter> waiters;
        bool abandoned = false;  // no longer in files_; look it up again
        bool idle() const { return holders.empty() && waiters.empty(); }
    };
    // The kernel's lock and the record of it change together, so the system calls are made with the lock held; they
    // never wait. Shared by files_ and the threads at work on it.
    using FilePtr = std::shared_ptr<Guarded<FileLocks>>;
    // Waits that are over, to be told once no lock is held.
    using Decisions = std::vector<std::pair<Decided, Status>>;

    template <class Work>
    auto with_file(const InodePtr& inode, Work&& work);
    template <class Work>
    void with_known_file(const Inode* inode, Work&& work);
    template <class Work>
    void with_every_file(Work&& work);

    Result<Holder*> holder_of(FileLocks& locks, const Session& session, LockOwner owner, const HeldFile& file) const;
    Status try_range(FileLocks& locks, const Session& session, LockOwner owner, const HeldFile& file,
                     const wire::LockRange& range) const;
    static Status try_whole(const HeldFile& file, wire::LockType type);
    Status try_waiter(FileLocks& locks, const Waiter& waiter);
    void may_grant(wire::LockType type);
    void note_grant(const HeldFile& file, wire::LockType type, Status status);
    template <class Attempt>
    Status reclaim(const HeldFile& file, std::uint64_t lost_at, Attempt&& attempt);
    static void drop_idle_holders(FileLocks& locks);
    void retry(FileLocks& locks, Decisions& decisions);
    void end_waits(FileLocks& locks, Status status, Decisions& decisions,
                   const std::function<bool(const Waiter&)>& which);
    static void tell(Decisions decisions);
    std::optional<Status> enqueue(FileLocks& locks, Waiter waiter);
    bool would_deadlock(const Session& session, LockOwner owner, const InodePtr& inode, const wire::LockRange& range);
    std::optional<Status> hold_back(Waiter request, bool waits);
    void let_in_held_back();
    void end_held_back(Status status, const std::function<bool(const Waiter&)>& which);
    void run();

    const std::shared_ptr<DescriptorBudget> budget_;
    Counters::Counter& waits_;
    std::function<void()> before_first_grant_;
    std::once_flag first_grant_;
    Guarded<std::unordered_map<const Inode*, FilePtr>> files_;
    mutable Guarded<Grants> grants_;  // taken with a file's

    std::mutex deciding_;  // whether a byte range may be waited for; taken before any other
    std::mutex mutex_;     // taken last
    std::condition_variable wake_;
    // Guarded by mutex_.
    std::size_t waiting_ = 0;
    bool fresh_wait_ = false;
    bool stopping_ = false;
    std::optional<std::chrono::steady_clock::time_point> grace_until_;
    std::list<HeldBack> held_back_;

    std::atomic<bool> in_grace_ = false;  // set with mutex_
    std::thread thread_;
};

}  // namespace remofile::server
