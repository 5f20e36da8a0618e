// SPDX-License-Identifier: MIT
#include "server/caller_identity.hpp"

#include <grp.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "server/export.hpp"

namespace remofile::server {
namespace {

constexpr auto unchanged = static_cast<uid_t>(-1);

bool set_groups(const std::vector<gid_t>& groups) {
    return syscall(SYS_setgroups, groups.size(), groups.data()) == 0;
}

bool set_effective_gid(gid_t gid) {
    return syscall(SYS_setresgid, unchanged, gid, unchanged) == 0;
}

bool set_effective_uid(uid_t uid) {
    return syscall(SYS_setresuid, unchanged, uid, unchanged) == 0;
}

bool restore(const OwnIdentity& own) {
    return set_effective_uid(own.uid) && set_effective_gid(own.gid) && set_groups(own.groups);
}

// Whether this thread has a umask of its own; arranged at the first call on each thread.
bool has_own_umask() {
    thread_local const bool own = [] {
        if (unshare(CLONE_FS) == 0)
            return true;
        log::warn("threads cannot have a umask of their own here; default ACLs are looked up instead");
        umask(0);
        return false;
    }();
    return own;
}

}  // namespace

OwnIdentity OwnIdentity::of_this_process() {
    OwnIdentity own{.uid = geteuid(), .gid = getegid(), .groups = {}};
    const int count = getgroups(0, nullptr);
    if (count > 0) {
        own.groups.resize(static_cast<std::size_t>(count));
        const int filled = getgroups(count, own.groups.data());
        own.groups.resize(static_cast<std::size_t>(filled < 0 ? 0 : filled));
    }
    return own;
}

Result<ActingAs> ActingAs::take_on(const OwnIdentity& own, const Caller& caller) {
    if (!caller.switch_identity || (caller.uid == own.uid && caller.gid == own.gid && caller.groups == own.groups))
        return ActingAs(nullptr);
    // -1 would mean "leave it as it is" to the system calls below.
    if (caller.uid == unchanged || caller.gid == unchanged)
        return Status::invalid;
    if (set_groups(caller.groups) && set_effective_gid(caller.gid) && set_effective_uid(caller.uid))
        return ActingAs(&own);
    REMOFILE_ASSERT(restore(own) || own.uid != 0);
    return Status::not_permitted;
}

ActingAs::~ActingAs() {
    if (own_ != nullptr)
        REMOFILE_ASSERT(restore(*own_));
}

CreationMask::CreationMask(mode_t umask) : umask_(umask & 0777), own_(has_own_umask()) {
    if (own_)
        previous_ = ::umask(umask_);
}

CreationMask::~CreationMask() {
    if (own_)
        ::umask(previous_);
}

mode_t CreationMask::apply(mode_t mode, int directory) const {
    if (own_ || getxattr(DescriptorPath(directory).c_str(), "system.posix_acl_default", nullptr, 0) > 0)
        return mode;
    return mode & ~umask_;
}

}  // namespace remofile::server
