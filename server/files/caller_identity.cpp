// SPDX-License-Identifier: MIT
#include "server/files/caller_identity.hpp"

#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "server/files/export.hpp"
#include "server/files/xattr_names.hpp"

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

constexpr std::uint64_t keeps_set_id = std::uint64_t{1} << CAP_FSETID;

using CapabilityHalves = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

Capabilities capabilities_of_this_thread() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    CapabilityHalves halves{};
    if (syscall(SYS_capget, &header, halves.data()) != 0)
        return {};
    const auto both = [&halves](auto field) {
        return std::uint64_t{halves[0].*field} | (std::uint64_t{halves[1].*field} << 32U);
    };
    return {.effective = both(&__user_cap_data_struct::effective),
            .permitted = both(&__user_cap_data_struct::permitted),
            .inheritable = both(&__user_cap_data_struct::inheritable)};
}

bool set_effective_capabilities(const Capabilities& own, std::uint64_t effective) {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    CapabilityHalves halves{};
    for (unsigned half = 0; half < halves.size(); ++half)
        halves[half] = {.effective = static_cast<std::uint32_t>(effective >> (32U * half)),
                        .permitted = static_cast<std::uint32_t>(own.permitted >> (32U * half)),
                        .inheritable = static_cast<std::uint32_t>(own.inheritable >> (32U * half))};
    return syscall(SYS_capset, &header, halves.data()) == 0;
}

// What the thread may do once it acts as that user: a uid other than root's empties the set.
std::uint64_t effective_as(const OwnIdentity& own, uid_t uid) {
    return own.uid == 0 && uid != 0 ? 0 : own.capabilities.effective;
}

std::uint64_t wanted_capabilities(const OwnIdentity& own, std::uint64_t effective, wire::SetId set_id) {
    switch (set_id) {
        case wire::SetId::drop:
            return effective & ~keeps_set_id;
        case wire::SetId::keep:
            return effective | (own.capabilities.permitted & keeps_set_id);
        default:
            return effective;
    }
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
    OwnIdentity own{.uid = geteuid(), .gid = getegid(), .groups = {}, .capabilities = capabilities_of_this_thread()};
    const int count = getgroups(0, nullptr);
    if (count > 0) {
        own.groups.resize(static_cast<std::size_t>(count));
        const int filled = getgroups(count, own.groups.data());
        own.groups.resize(static_cast<std::size_t>(filled < 0 ? 0 : filled));
    }
    return own;
}

Result<ActingAs> ActingAs::take_on(const OwnIdentity& own, const Caller& caller) {
    ActingAs acting(own);
    if (caller.switch_identity && (caller.uid != own.uid || caller.gid != own.gid || caller.groups != own.groups)) {
        // -1 would mean "leave it as it is" to the system calls below.
        if (caller.uid == unchanged || caller.gid == unchanged)
            return Status::invalid;
        if (!set_groups(caller.groups) || !set_effective_gid(caller.gid) || !set_effective_uid(caller.uid)) {
            REMOFILE_ASSERT(restore(own) || own.uid != 0);
            return Status::not_permitted;
        }
        acting.identity_changed_ = true;
    }
    const std::uint64_t before = effective_as(own, acting.identity_changed_ ? caller.uid : own.uid);
    const std::uint64_t wanted = wanted_capabilities(own, before, caller.set_id);
    if (wanted != before) {
        if (!set_effective_capabilities(own.capabilities, wanted))
            return Status::not_permitted;
        acting.capabilities_changed_ = true;
    }
    return acting;
}

ActingAs::~ActingAs() {
    if (identity_changed_)
        REMOFILE_ASSERT(restore(*own_));
    // After the identity, which sets all that are permitted.
    if (capabilities_changed_)
        REMOFILE_ASSERT(set_effective_capabilities(own_->capabilities, own_->capabilities.effective));
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
    if (own_ || has_default_acl(DescriptorPath(directory).c_str()))
        return mode;
    return mode & ~umask_;
}

}  // namespace remofile::server
