// SPDX-License-Identifier: MIT
// Acting as a caller: the kernel then checks permissions, quotas and ownership as it would for a local process of
// theirs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "server/file_service.hpp"

namespace remofile::server {

// A thread's capabilities, as bits (linux/capability.h).
struct Capabilities {
    std::uint64_t effective = 0;
    std::uint64_t permitted = 0;
    std::uint64_t inheritable = 0;
};

// Who the server itself is.
struct OwnIdentity {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
    Capabilities capabilities = {};

    static OwnIdentity of_this_process();
};

// While it lives, the thread that made it has the caller's effective uid, gid and supplementary groups, and keeps
// set-id bits or not as the caller asks. That is settled by CAP_FSETID, so that the kernel takes the bits away itself,
// in the step that changes the content and by all of its rules.
//
// Linux keeps an identity for each thread; glibc's functions change all of them, so the system calls are made directly.
// The effective uid is what changes, not only the fsuid: that empties the set of effective capabilities
// altogether, where setfsuid(2) would leave those that are not about files but matter for them (CAP_SYS_RESOURCE spends
// the blocks reserved for root, CAP_SYS_ADMIN reaches trusted.* attributes). The saved uid stays the server's, which
// gives the capabilities back in the end. Whoever acts as uid 0 keeps them all.
class ActingAs {
public:
    // Does nothing if the caller does not ask for it. Errors: not_permitted if the server may not.
    static Result<ActingAs> take_on(const OwnIdentity& own, const Caller& caller);

    ActingAs(ActingAs&& other) noexcept
        : own_(other.own_),
          identity_changed_(std::exchange(other.identity_changed_, false)),
          capabilities_changed_(std::exchange(other.capabilities_changed_, false)) {}
    ActingAs(const ActingAs&) = delete;
    ActingAs& operator=(const ActingAs&) = delete;
    ActingAs& operator=(ActingAs&&) = delete;
    // Restores the server's identity. If the kernel refuses, the program ends: a thread with the wrong identity would
    // serve other callers with it.
    ~ActingAs();

private:
    explicit ActingAs(const OwnIdentity& own) : own_(&own) {}
    const OwnIdentity* own_;
    bool identity_changed_ = false;
    bool capabilities_changed_ = false;
};

// While it lives, files made by this thread get `umask` taken off their mode, unless the directory has a default ACL,
// which then decides: that rule is the kernel's, so it is the kernel's umask that is set.
class CreationMask {
public:
    explicit CreationMask(mode_t umask);
    CreationMask(const CreationMask&) = delete;
    CreationMask& operator=(const CreationMask&) = delete;
    ~CreationMask();

    // The mode to create with in that directory: `mode` itself, unless the kernel would not let this thread have a
    // umask of its own (unshare(2) is barred in some containers); then the rule is followed here.
    mode_t apply(mode_t mode, int directory) const;

private:
    mode_t umask_;
    mode_t previous_ = 0;
    bool own_ = false;
};

}  // namespace remofile::server
