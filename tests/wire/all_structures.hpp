// SPDX-License-Identifier: MIT
// Every structure that travels as a body or in a bulk frame, for tests that hold for all of them.
#pragma once

#include <tuple>

#include "wire/messages.hpp"

namespace remofile::wire {

using Requests =
    std::tuple<Hello, Attach, Bye, Ping, Cancel, Credential, ServerStatus, Invalidated, LaneTicket, ReturnLeases,
               TakeLeases, ShareLeases, LendInodes, Exports, Lookup, Forget, Getattr, Setattr, Readlink, Mknod, Mkdir,
               Unlink, Rmdir, Symlink, Rename, Link, Access, Statfs, MakeLent, FindKept, Open, Create, Tmpfile, Read,
               Write, Release, Flush, Fsync, Fallocate, Seek, CopyRange, Hash, Fetch, Opendir, Readdir, Releasedir,
               Fsyncdir, List, Getxattr, Setxattr, Listxattr, Removexattr, Getlk, Setlk, Flock, ReclaimLocks>;
using Pushes = std::tuple<PushInvalidate, PushShutdown, PushNextKeys>;
using OtherStructures =
    std::tuple<HelloReply, InUse, ExportNeeded, LaneTicketReply, ServerStatusReply, ExportsReply, ExportEntry,
               EntryReply, AttributesReply, ReadlinkReply, StatfsReply, CreateReply, WriteReply, SeekReply,
               CopyRangeReply, ReaddirReply, ListReply, FetchReply, LeaseChange, LendInodesReply, LentInode,
               DirectoryEntry, XattrReply, LockReply, HeldLock, ReclaimLocksReply>;

namespace detail {
template <class Tuple, class Visit>
void visit_each(Visit& visit) {
    [&]<class... T>(std::tuple<T...>*) { (visit.template operator()<T>(), ...); }(static_cast<Tuple*>(nullptr));
}
}  // namespace detail

// Calls visit.operator()<T>() for each structure T.
template <class Visit>
void for_each_structure(Visit visit) {
    detail::visit_each<Requests>(visit);
    detail::visit_each<Pushes>(visit);
    detail::visit_each<OtherStructures>(visit);
}

}  // namespace remofile::wire
