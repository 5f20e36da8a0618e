// SPDX-License-Identifier: MIT
#include "server/session_callers.hpp"

#include <algorithm>
#include <utility>

namespace remofile::server {
namespace {

Caller without_credential(const CallerPolicy& policy) {
    return {.switch_identity = policy.client_identity, .uid = anonymous_id, .gid = anonymous_id, .groups = {}};
}

}  // namespace

SessionCallers::SessionCallers(CallerPolicy policy)
    : policy_(policy), unnumbered_(std::make_shared<const Caller>(without_credential(policy))) {}

Result<> SessionCallers::bind(const wire::Credential& credential) {
    // (uid_t)-1 means "leave as it is" to the system calls that switch identities.
    if (credential.number == 0 || credential.uid == UINT32_MAX || credential.gid == UINT32_MAX ||
        std::ranges::find(credential.groups, UINT32_MAX) != credential.groups.end())
        return Status::invalid;
    if (credential.groups.size() > wire::max_groups)
        return Status::limit_exceeded;
    if (numbered_.size() >= max_numbers && !numbered_.contains(credential.number))
        return Status::limit_exceeded;

    Caller caller = without_credential(policy_);
    if (policy_.client_identity) {
        const auto squash = [&](std::uint32_t id) { return id == 0 && !policy_.allow_root ? anonymous_id : id; };
        caller.uid = squash(credential.uid);
        caller.gid = squash(credential.gid);
        std::ranges::transform(credential.groups, std::back_inserter(caller.groups), squash);
    }
    numbered_.insert_or_assign(credential.number, std::make_shared<const Caller>(std::move(caller)));
    return {};
}

std::shared_ptr<const Caller> SessionCallers::find(std::uint32_t number) const {
    // Without identities a number says nothing, and a client need not bind any.
    if (number == 0 || !policy_.client_identity)
        return unnumbered_;
    const auto found = numbered_.find(number);
    return found == numbered_.end() ? nullptr : found->second;
}

}  // namespace remofile::server
