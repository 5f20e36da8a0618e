// SPDX-License-Identifier: MIT
// GETLK to RECLAIM_LOCKS.
#include "server/operations/operation.hpp"
#include "wire/frame.hpp"

namespace remofile::server::operations {
namespace {

using wire::Empty;

LockTable::Decided answer_later(Context& context) {
    return [later = context.later](Status status) {
        Outcome outcome;
        outcome.status = status;
        if (status == Status::ok)
            outcome.body = wire::encode_body(Empty{});
        later(std::move(outcome));
    };
}

Result<Empty> conclude(Context& context, std::optional<Status> status) {
    context.waits = !status.has_value();
    // A session that was closed meanwhile has given up its locks before this one was taken.
    if (context.files->closed())
        context.locks.close_session(context.files->share());
    if (status && *status != Status::ok)
        return *status;
    return Empty{};
}

// A lock keeps a descriptor open, the handle's or one of its own.
Result<> make_room_for(Context& context, wire::LockType type) {
    if (type == wire::LockType::unlock)
        return {};
    if (!context.make_room())
        return Status::no_locks;
    context.files->takes_lock();
    return {};
}

}  // namespace

Result<wire::LockReply> getlk(Context& context, const wire::Getlk& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    REMOFILE_TRY(range, context.locks.test(context.files->share(), request.owner, file, request.range));
    return wire::LockReply{range};
}

Result<Empty> setlk(Context& context, const wire::Setlk& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    REMOFILE_CHECK(make_room_for(context, request.range.type));
    return conclude(context, context.locks.set_range(context.files->share(), context.request, request.owner, file,
                                                     request.range, request.wait, answer_later(context)));
}

Result<Empty> flock(Context& context, const wire::Flock& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    REMOFILE_CHECK(make_room_for(context, request.type));
    return conclude(context, context.locks.set_whole(context.files->share(), context.request, file, request.type,
                                                     request.wait, answer_later(context)));
}

Result<wire::ReclaimLocksReply> reclaim_locks(Context& context, const wire::ReclaimLocks& request) {
    if (request.locks.size() > wire::max_reclaimed_locks)
        return Status::malformed;
    const auto lost_at = context.files->locks_lost_at();
    const auto take = [&](const wire::HeldLock& lock) -> Result<> {
        if (!lost_at)
            return Status::stale;
        REMOFILE_TRY(file, context.hold_file(lock.handle));
        REMOFILE_CHECK(make_room_for(context, lock.range.type));
        const Status status =
            lock.whole ? context.locks.reclaim_whole(file, lock.range.type, *lost_at)
                       : context.locks.reclaim_range(context.files->share(), lock.owner, file, lock.range, *lost_at);
        if (status != Status::ok)
            return status;
        return {};
    };
    wire::ReclaimLocksReply reply;
    for (std::size_t i = 0; i < request.locks.size(); ++i) {
        if (!take(request.locks[i]))
            reply.lost.push_back(static_cast<std::uint32_t>(i));
    }
    REMOFILE_CHECK(conclude(context, Status::ok));
    if (!request.more)
        context.files->has_locks();
    return reply;
}

}  // namespace remofile::server::operations
