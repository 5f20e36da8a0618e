// SPDX-License-Identifier: MIT
#include "server/locks/lock_table.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <set>
#include <utility>

#include "base/exception.hpp"
#include "wire/lock_ranges.hpp"

namespace remofile::server {
namespace {

using wire::LockRange;
using wire::LockType;

// How often locks that processes on the server hold are tried again. The first figure is short against what a person
// notices, the second bounds the load of waits that take long.
constexpr auto first_pause = std::chrono::milliseconds(10);
constexpr auto longest_pause = std::chrono::milliseconds(500);
// Ranges of one owner in one file: no program known needs more, and each takes kernel memory.
constexpr std::size_t max_ranges = 16384;
// Files of which it is remembered when a lock was granted last, twice.
constexpr std::size_t max_remembered = 8192;
// Waiting requests of all sessions: each keeps a callback and a handle.
constexpr std::size_t max_waits = 65536;

struct flock to_kernel(const LockRange& range) {
    struct flock kernel {};
    kernel.l_type = range.type == LockType::read ? F_RDLCK : range.type == LockType::write ? F_WRLCK : F_UNLCK;
    kernel.l_whence = SEEK_SET;
    kernel.l_start = static_cast<off_t>(range.start);
    kernel.l_len = range.end == wire::last_locked_byte ? 0 : static_cast<off_t>(range.end - range.start + 1);
    return kernel;
}

LockRange from_kernel(const struct flock& kernel) {
    LockRange range;
    range.type = kernel.l_type == F_RDLCK   ? LockType::read
                 : kernel.l_type == F_WRLCK ? LockType::write
                                            : LockType::unlock;
    range.start = static_cast<std::uint64_t>(kernel.l_start);
    range.end = kernel.l_len == 0 ? wire::last_locked_byte : range.start + static_cast<std::uint64_t>(kernel.l_len) - 1;
    return range;
}

Status set_in_kernel(int descriptor, const LockRange& range) {
    struct flock kernel = to_kernel(range);
    if (fcntl(descriptor, F_OFD_SETLK, &kernel) == 0)
        return Status::ok;
    return errno == EACCES ? Status::try_again : from_errno(errno);
}

Status flock_in_kernel(int descriptor, LockType type) {
    const int operation = type == LockType::read ? LOCK_SH : type == LockType::write ? LOCK_EX : LOCK_UN;
    return ::flock(descriptor, operation | LOCK_NB) == 0 ? Status::ok : from_errno(errno);
}

}  // namespace

LockTable::LockTable(std::shared_ptr<DescriptorBudget> budget, Counters& counters)
    : budget_(std::move(budget)), waits_(counters.at("files.lock_waits")), thread_([this] { run(); }) {}

LockTable::~LockTable() {
    stop();
}

void LockTable::stop() {
    {
        const std::lock_guard guard(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable())
        thread_.join();
    Decisions decisions;
    with_every_file([&](FileLocks& locks) {
        end_waits(locks, Status::interrupted, decisions, [](const Waiter&) { return true; });
    });
    tell(std::move(decisions));
    end_held_back(Status::interrupted, [](const Waiter&) { return true; });
}

// ---------------------------------------------------------------- files that have locks

// Runs `work` on the locks of a file, which are made if there were none and dropped again if none are left.
template <class Work>
auto LockTable::with_file(const InodePtr& inode, Work&& work) {
    for (;;) {
        FilePtr file;
        {
            auto files = files_.lock();
            auto& slot = (*files)[inode.get()];
            if (!slot) {
                slot = std::make_shared<Guarded<FileLocks>>();
                slot->lock()->inode = inode;
            }
            file = slot;
        }
        std::optional<decltype(work(std::declval<FileLocks&>()))> result;
        bool idle = false;
        {
            auto locks = file->lock();
            if (locks->abandoned)
                continue;
            result = work(*locks);
            idle = locks->idle();
        }
        if (idle) {
            InodePtr let_go;  // after the locks
            auto files = files_.lock();
            auto locks = file->lock();
            if (locks->idle() && !locks->abandoned) {
                locks->abandoned = true;
                let_go = std::move(locks->inode);
                files->erase(inode.get());
            }
        }
        return std::move(*result);
    }
}

template <class Work>
void LockTable::with_known_file(const Inode* inode, Work&& work) {
    InodePtr known;
    {
        auto files = files_.lock();
        const auto found = files->find(inode);
        if (found == files->end())
            return;
        known = found->second->lock()->inode;
    }
    if (known)
        with_file(known, [&](FileLocks& locks) {
            work(locks);
            return true;
        });
}

template <class Work>
void LockTable::with_every_file(Work&& work) {
    std::vector<const Inode*> inodes;
    files_.with([&](const auto& files) {
        for (const auto& [inode, file] : files)
            inodes.push_back(inode);
    });
    for (const Inode* inode : inodes)
        with_known_file(inode, work);
}

// ---------------------------------------------------------------- one attempt

Result<LockTable::Holder*> LockTable::holder_of(FileLocks& locks, const Session& session, LockOwner owner,
                                                const HeldFile& file) const {
    const auto found = std::ranges::find_if(
        locks.holders, [&](const Holder& holder) { return holder.session == session && holder.owner == owner; });
    if (found != locks.holders.end())
        return &*found;
    // Its own open file description: locks through one description never exclude each other. For reading and writing if
    // the server may, since later locks of the owner may need either.
    UniqueFd descriptor;
    for (const int access : {O_RDWR, file->writable ? O_WRONLY : O_RDONLY, O_RDONLY}) {
        auto opened = open_for_io(file.fd(), S_IFREG, access);
        if (opened) {
            descriptor = std::move(*opened);
            break;
        }
        if (opened.error().status == Status::too_many_files)
            return Status::no_locks;
    }
    if (!descriptor)
        return Status::no_locks;
    return &locks.holders.emplace_back(
        Holder{session, owner, std::move(descriptor), budget_->take(session), file.file.get(), {}});
}

Status LockTable::try_range(FileLocks& locks, const Session& session, LockOwner owner, const HeldFile& file,
                            const LockRange& range) const {
    // What is known to be in the way the kernel need not be asked about, nor is a descriptor opened: there may be
    // thousands who wait.
    for (const Holder& other : locks.holders) {
        if ((other.session != session || other.owner != owner) && range.type != LockType::unlock &&
            std::ranges::any_of(other.ranges, [&](const LockRange& held) { return wire::conflict(held, range); }))
            return Status::try_again;
    }
    auto holder = holder_of(locks, session, owner, file);
    if (!holder)
        return holder.error().status;
    if (range.type != LockType::unlock && (*holder)->ranges.size() >= max_ranges)
        return Status::no_locks;
    const Status status = set_in_kernel((*holder)->descriptor.get(), range);
    if (status == Status::ok)
        wire::apply((*holder)->ranges, range);
    return status;
}

Status LockTable::try_whole(const HeldFile& file, LockType type) {
    const Status status = flock_in_kernel(file.fd(), type);
    // A descriptor with a lock is not to be closed. A conversion that fails has given up what was held before.
    if (status == Status::ok || status == Status::try_again)
        file->open->set_locked(status == Status::ok && type != LockType::unlock);
    return status;
}

Status LockTable::try_waiter(FileLocks& locks, const Waiter& waiter) {
    const Status status = waiter.whole ? try_whole(waiter.file, waiter.range.type)
                                       : try_range(locks, waiter.session, waiter.owner, waiter.file, waiter.range);
    note_grant(waiter.file, waiter.range.type, status);
    return status;
}

void LockTable::may_grant(LockType type) {
    if (before_first_grant_ && type != LockType::unlock)
        std::call_once(first_grant_, before_first_grant_);
}

void LockTable::note_grant(const HeldFile& file, LockType type, Status status) {
    if (status == Status::ok && type != LockType::unlock)
        grants_.lock()->note(*file->inode);
}

void LockTable::drop_idle_holders(FileLocks& locks) {
    std::erase_if(locks.holders, [](const Holder& holder) { return holder.ranges.empty(); });
}

// ---------------------------------------------------------------- waiting

std::optional<Status> LockTable::enqueue(FileLocks& locks, Waiter waiter) {
    {
        const std::lock_guard guard(mutex_);
        if (stopping_)
            return Status::interrupted;
        if (waiting_ >= max_waits)
            return Status::no_locks;
        ++waiting_;
        fresh_wait_ = true;
    }
    wake_.notify_all();
    waits_.add();
    locks.waiters.push_back(std::move(waiter));
    return std::nullopt;
}

// In the order of asking; one that still has to wait does not hold up later ones that need not, as in the kernel.
void LockTable::retry(FileLocks& locks, Decisions& decisions) {
    decisions.reserve(decisions.size() + locks.waiters.size());  // whoever gets the lock must be told
    for (auto waiter = locks.waiters.begin(); waiter != locks.waiters.end();) {
        const Status status = try_waiter(locks, *waiter);
        if (status == Status::try_again) {
            drop_idle_holders(locks);
            ++waiter;
            continue;
        }
        decisions.emplace_back(std::move(waiter->decided), status);
        waiter = locks.waiters.erase(waiter);
        const std::lock_guard guard(mutex_);
        --waiting_;
    }
    drop_idle_holders(locks);
}

void LockTable::end_waits(FileLocks& locks, Status status, Decisions& decisions,
                          const std::function<bool(const Waiter&)>& which) {
    decisions.reserve(decisions.size() + locks.waiters.size());
    for (auto waiter = locks.waiters.begin(); waiter != locks.waiters.end();) {
        if (!which(*waiter)) {
            ++waiter;
            continue;
        }
        decisions.emplace_back(std::move(waiter->decided), status);
        waiter = locks.waiters.erase(waiter);
        const std::lock_guard guard(mutex_);
        --waiting_;
    }
}

void LockTable::tell(Decisions decisions) {
    for (auto& [decided, status] : decisions) {
        try {
            decided(status);
        } catch (...) {
            status_of_exception("the answer to a wait for a lock");
        }
    }
}

// ---------------------------------------------------------------- after a start

void LockTable::begin_grace(std::chrono::milliseconds length) {
    {
        const std::lock_guard guard(mutex_);
        grace_until_ = std::chrono::steady_clock::now() + length;
        in_grace_ = true;
    }
    wake_.notify_all();
}

void LockTable::end_grace() {
    {
        const std::lock_guard guard(mutex_);
        in_grace_ = false;
    }
    wake_.notify_all();
}

// Empty if it is held back: `decided` will be called. try_again: there is no reason to any more.
std::optional<Status> LockTable::hold_back(Waiter request, bool waits) {
    const std::lock_guard guard(mutex_);
    if (!in_grace_)
        return Status::try_again;
    if (stopping_)
        return Status::interrupted;
    if (held_back_.size() >= max_waits)
        return Status::no_locks;
    held_back_.push_back({.request = std::move(request), .waits = waits, .ended = {}});
    waits_.add();
    return std::nullopt;
}

// In the order of asking. By one thread alone; a request that is given up meanwhile ends afterwards.
void LockTable::let_in_held_back() {
    for (;;) {
        HeldBack* held = nullptr;
        {
            const std::lock_guard guard(mutex_);
            if (held_back_.empty())
                return;
            held = &held_back_.front();
            held->is_let_in = true;
        }
        const Waiter& asked = held->request;
        std::optional<Status> status = Status::io_error;
        try {
            status = asked.whole ? set_whole(asked.session, asked.request, asked.file, asked.range.type, held->waits,
                                             asked.decided)
                                 : set_range(asked.session, asked.request, asked.owner, asked.file, asked.range,
                                             held->waits, asked.decided);
        } catch (...) {
            status = status_of_exception("a lock that was held back");
        }
        std::list<HeldBack> done;
        {
            const std::lock_guard guard(mutex_);
            done.splice(done.end(), held_back_, held_back_.begin());
        }
        if (status)
            tell({{done.front().request.decided, *status}});
        else if (done.front().ended)
            cancel(done.front().request.session, done.front().request.request);
    }
}

void LockTable::end_held_back(Status status, const std::function<bool(const Waiter&)>& which) {
    Decisions decisions;
    {
        const std::lock_guard guard(mutex_);
        for (auto held = held_back_.begin(); held != held_back_.end();) {
            const auto each = held++;
            if (!which(each->request))
                continue;
            if (each->is_let_in) {
                each->ended = status;
                continue;
            }
            decisions.emplace_back(std::move(each->request.decided), status);
            held_back_.erase(each);
        }
    }
    tell(std::move(decisions));
}

void LockTable::run() {
    pthread_setname_np(pthread_self(), "locks");
    auto pause = first_pause;
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        if (grace_until_) {
            wake_.wait_until(lock, *grace_until_, [&] { return stopping_ || !in_grace_; });
            if (stopping_)
                continue;
            grace_until_.reset();
            in_grace_ = false;
            lock.unlock();
            let_in_held_back();
            lock.lock();
            continue;
        }
        if (waiting_ == 0) {
            wake_.wait(lock, [&] { return stopping_ || waiting_ > 0 || grace_until_; });
            pause = first_pause;
            continue;
        }
        if (std::exchange(fresh_wait_, false))
            pause = first_pause;
        wake_.wait_for(lock, pause, [&] { return stopping_ || fresh_wait_; });
        if (stopping_ || fresh_wait_)
            continue;
        lock.unlock();
        Decisions decisions;
        try {
            with_every_file([&](FileLocks& locks) { retry(locks, decisions); });
        } catch (...) {
            status_of_exception("trying locks again");  // they are tried once more after a pause
        }
        pause = decisions.empty() ? std::min(pause * 2, longest_pause) : first_pause;
        tell(std::move(decisions));
        lock.lock();
    }
}

// A request waits for those that hold what it wants, they for those that hold what they wait for, and so on. If that
// leads back to its owner, none of them would ever go on. Processes on the server are not seen.
bool LockTable::would_deadlock(const Session& session, LockOwner owner, const InodePtr& inode, const LockRange& range) {
    // Sessions are compared, and there may be thousands of waits: no counts are touched.
    using Party = std::pair<const void*, LockOwner>;
    struct Wait {
        Party waiter;
        Party holder;
    };
    std::vector<Wait> waits;
    with_every_file([&](FileLocks& locks) {
        const auto blocked_by_holders = [&](const Party& party, const LockRange& wanted) {
            for (const Holder& holder : locks.holders)
                if (Party(holder.session.get(), holder.owner) != party &&
                    std::ranges::any_of(holder.ranges,
                                        [&](const LockRange& held) { return wire::conflict(held, wanted); }))
                    waits.push_back({party, {holder.session.get(), holder.owner}});
        };
        for (const Waiter& waiter : locks.waiters)
            if (!waiter.whole)
                blocked_by_holders({waiter.session.get(), waiter.owner}, waiter.range);
        if (locks.inode == inode)
            blocked_by_holders({session.get(), owner}, range);
    });
    const Party self{session.get(), owner};
    std::set<Party> seen;
    std::vector<Party> next{self};
    while (!next.empty()) {
        const Party party = next.back();
        next.pop_back();
        for (const Wait& wait : waits) {
            if (wait.waiter != party)
                continue;
            if (wait.holder == self)
                return true;
            if (seen.insert(wait.holder).second)
                next.push_back(wait.holder);
        }
    }
    return false;
}

// ---------------------------------------------------------------- what sessions ask for

Result<LockRange> LockTable::test(const Session& session, LockOwner owner, const HeldFile& file, LockRange range) {
    if (!wire::is_valid(range) || range.type == LockType::unlock)
        return Status::invalid;
    return with_file(file->inode, [&](FileLocks& locks) -> Result<LockRange> {
        int descriptor = file.fd();
        for (const Holder& holder : locks.holders) {
            if (holder.session == session && holder.owner == owner) {
                // Its own locks are not in its way, so the kernel is asked through the descriptor that has them.
                descriptor = holder.descriptor.get();
                continue;
            }
            for (const LockRange& held : holder.ranges)
                if (wire::conflict(held, range))
                    return held;
        }
        struct flock kernel = to_kernel(range);
        if (fcntl(descriptor, F_OFD_GETLK, &kernel) != 0)
            return errno_error();
        return kernel.l_type == F_UNLCK ? LockRange{} : from_kernel(kernel);
    });
}

std::optional<Status> LockTable::set_range(const Session& session, RequestId request, LockOwner owner,
                                           const HeldFile& file, LockRange range, bool wait, Decided decided) {
    if (!wire::is_valid(range))
        return Status::invalid;
    if ((range.type == LockType::read && !file->readable) || (range.type == LockType::write && !file->writable))
        return Status::bad_handle;
    file->locked.store(true, std::memory_order_relaxed);
    if (in_grace_ && range.type != LockType::unlock) {
        const auto held = hold_back({session, request, owner, file, range, false, decided}, wait);
        if (held != Status::try_again)
            return held;
    }
    may_grant(range.type);
    Decisions decisions;
    const auto attempt = [&](bool queue) {
        return with_file(file->inode, [&](FileLocks& locks) -> std::optional<Status> {
            const Status status = try_range(locks, session, owner, file, range);
            note_grant(file, range.type, status);
            drop_idle_holders(locks);
            // Unlocking, or a write lock that became a read lock, lets others go on.
            if (status == Status::ok && !locks.waiters.empty())
                retry(locks, decisions);
            if (status != Status::try_again || !queue)
                return status;
            return enqueue(locks, {session, request, owner, file, range, false, std::move(decided)});
        });
    };
    std::optional<Status> status = attempt(false);
    if (status == Status::try_again && wait) {
        // One at a time, or two requests that wait for each other could both look before either is seen to wait.
        const std::lock_guard guard(deciding_);
        status = would_deadlock(session, owner, file->inode, range) ? Status::deadlock : attempt(true);
    }
    tell(std::move(decisions));
    return status;
}

std::optional<Status> LockTable::set_whole(const Session& session, RequestId request, const HeldFile& file,
                                           LockType type, bool wait, Decided decided) {
    if (type > LockType::unlock)
        return Status::invalid;
    file->locked.store(true, std::memory_order_relaxed);
    if (in_grace_ && type != LockType::unlock) {
        const auto held = hold_back({session, request, LockOwner{}, file, {.type = type}, true, decided}, wait);
        if (held != Status::try_again)
            return held;
    }
    may_grant(type);
    Decisions decisions;
    std::optional<Status> status = with_file(file->inode, [&](FileLocks& locks) -> std::optional<Status> {
        const Status tried = try_whole(file, type);
        note_grant(file, type, tried);
        // Even a failed conversion gives up what was held before, as flock(2) says.
        retry(locks, decisions);
        if (tried != Status::try_again || !wait)
            return tried;
        return enqueue(locks, {session, request, LockOwner{}, file, {.type = type}, true, std::move(decided)});
    });
    tell(std::move(decisions));
    return status;
}

// ---------------------------------------------------------------- locks of lost sessions

void LockTable::Grants::note(const Inode& inode) {
    recent_[inode.identity().inode] = ++moment_;
    if (recent_.size() < max_remembered)
        return;
    forgotten_until_ = older_until_;
    older_ = std::exchange(recent_, {});
    older_until_ = moment_;
}

bool LockTable::Grants::any_since(const Inode& inode, std::uint64_t moment) const {
    if (moment < forgotten_until_)
        return true;
    return std::ranges::any_of(std::array{&recent_, &older_}, [&](const ByFile* files) {
        const auto found = files->find(inode.identity().inode);
        return found != files->end() && found->second > moment;
    });
}

std::uint64_t LockTable::moment() const {
    return grants_.lock()->moment();
}

template <class Attempt>
Status LockTable::reclaim(const HeldFile& file, std::uint64_t lost_at, Attempt&& attempt) {
    file->locked.store(true, std::memory_order_relaxed);
    const Status status = with_file(file->inode, [&](FileLocks& locks) -> Status {
        if (grants_.lock()->any_since(*file->inode, lost_at))
            return Status::stale;
        const Status tried = attempt(locks);
        drop_idle_holders(locks);
        return tried;
    });
    return status == Status::try_again ? Status::stale : status;
}

// How the handle is opened does not matter: the lock was had.
Status LockTable::reclaim_range(const Session& session, LockOwner owner, const HeldFile& file, const LockRange& range,
                                std::uint64_t lost_at) {
    if (!wire::is_valid(range) || range.type == LockType::unlock)
        return Status::invalid;
    return reclaim(file, lost_at, [&](FileLocks& locks) { return try_range(locks, session, owner, file, range); });
}

Status LockTable::reclaim_whole(const HeldFile& file, LockType type, std::uint64_t lost_at) {
    if (type >= LockType::unlock)
        return Status::invalid;
    return reclaim(file, lost_at, [&](FileLocks&) { return try_whole(file, type); });
}

// ---------------------------------------------------------------- what ends

void LockTable::close_owner(const Session& session, LockOwner owner, const InodePtr& inode) {
    Decisions decisions;
    with_known_file(inode.get(), [&](FileLocks& locks) {
        if (std::erase_if(locks.holders, [&](const Holder& holder) {
                return holder.session == session && holder.owner == owner;
            }) != 0)
            retry(locks, decisions);
    });
    tell(std::move(decisions));
}

void LockTable::close_handle(const Session& session, const OpenFilePtr& file) {
    if (!file->locked.load(std::memory_order_relaxed))
        return;
    Decisions decisions;
    end_held_back(Status::bad_handle, [&](const Waiter& waiter) {
        return waiter.session == session && waiter.whole && waiter.file.file == file;
    });
    // A request at work may still hold the descriptor open, so it is not left to close(). One that was given up has
    // none.
    if (const Descriptor descriptor = file->open->held())
        try_whole({file, descriptor}, LockType::unlock);
    with_known_file(file->inode.get(), [&](FileLocks& locks) {
        std::erase_if(locks.holders, [&](const Holder& holder) {
            return holder.session == session && holder.first_used == file.get();
        });
        end_waits(locks, Status::bad_handle, decisions, [&](const Waiter& waiter) {
            return waiter.session == session && waiter.whole && waiter.file.file == file;
        });
        retry(locks, decisions);
    });
    tell(std::move(decisions));
}

void LockTable::cancel(const Session& session, RequestId request) {
    Decisions decisions;
    with_every_file([&](FileLocks& locks) {
        end_waits(locks, Status::interrupted, decisions,
                  [&](const Waiter& waiter) { return waiter.session == session && waiter.request == request; });
    });
    tell(std::move(decisions));
    end_held_back(Status::interrupted,
                  [&](const Waiter& waiter) { return waiter.session == session && waiter.request == request; });
}

void LockTable::close_session(const Session& session) {
    Decisions decisions;
    with_every_file([&](FileLocks& locks) {
        end_waits(locks, Status::interrupted, decisions,
                  [&](const Waiter& waiter) { return waiter.session == session; });
        if (std::erase_if(locks.holders, [&](const Holder& holder) { return holder.session == session; }) != 0)
            retry(locks, decisions);
    });
    tell(std::move(decisions));
    end_held_back(Status::interrupted, [&](const Waiter& waiter) { return waiter.session == session; });
}

}  // namespace remofile::server
