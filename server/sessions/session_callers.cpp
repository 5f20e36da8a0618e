// SPDX-License-Identifier: MIT
#include "server/sessions/session_callers.hpp"

#include <algorithm>
#include <utility>

namespace remofile::server {
namespace {

Caller without_credential(const CallerPolicy& policy) {
    if (policy.account)
        return {.switch_identity = true,
                .uid = policy.account->uid,
                .gid = policy.account->gid,
                .groups = policy.account->groups};
    return {.switch_identity = policy.client_identity, .uid = anonymous_id, .gid = anonymous_id, .groups = {}};
}

}  // namespace

SessionCallers::Variants::Variants(const Caller& caller) {
    const auto with = [&caller](wire::SetId set_id) {
        auto copy = std::make_shared<Caller>(caller);
        copy->set_id = set_id;
        return copy;
    };
    as_caller = with(wire::SetId::as_caller);
    drop = with(wire::SetId::drop);
    keep = with(wire::SetId::keep);
}

const std::shared_ptr<const Caller>& SessionCallers::Variants::of(wire::SetId set_id) const {
    switch (set_id) {
        case wire::SetId::drop:
            return drop;
        case wire::SetId::keep:
            return keep;
        default:
            return as_caller;
    }
}

SessionCallers::SessionCallers(CallerPolicy policy)
    : policy_(std::move(policy)), unnumbered_(without_credential(policy_)) {}

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
    numbered_.insert_or_assign(credential.number, Variants(caller));
    return {};
}

std::shared_ptr<const Caller> SessionCallers::find(std::uint32_t number, wire::SetId set_id) const {
    // Without identities a number says nothing, and a client need not bind any.
    if (number == 0 || !policy_.client_identity)
        return unnumbered_.of(set_id);
    const auto found = numbered_.find(number);
    return found == numbered_.end() ? nullptr : found->second.of(set_id);
}

}  // namespace remofile::server
