// SPDX-License-Identifier: MIT
#include "server/leases/held_replies.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace remofile::server {

void HeldReplies::hold(SessionId author, RequestId request, Outcome outcome, std::span<const LeaseTable::Wait> waits) {
    REMOFILE_ASSERT(!waits.empty());
    const auto held = std::make_shared<Held>(Held{.author = author,
                                                  .request = request,
                                                  .outcome = std::move(outcome),
                                                  .order = ++last_order_,
                                                  .waits = waits.size()});
    for (const LeaseTable::Wait& wait : waits)
        waiting_[wait.holder].emplace(wait.number, held);
    ++held_;
}

void HeldReplies::release(Waiting waiting) {
    std::vector<HeldPtr> released;
    for (auto& [number, held] : waiting) {
        if (--held->waits == 0)
            released.push_back(std::move(held));
    }
    std::ranges::sort(released, {}, [](const HeldPtr& held) { return held->order; });
    held_ -= released.size();
    for (const HeldPtr& held : released)
        answer_(held->author, held->request, std::move(held->outcome));
}

void HeldReplies::confirmed(SessionId holder, ToldNumber number) {
    const auto found = waiting_.find(holder);
    if (found == waiting_.end())
        return;
    Waiting done;
    while (!found->second.empty() && found->second.begin()->first <= number)
        done.insert(found->second.extract(found->second.begin()));
    if (found->second.empty())
        waiting_.erase(found);
    release(std::move(done));
}

void HeldReplies::let_go(SessionId holder) {
    if (auto gone = waiting_.extract(holder); !gone.empty())
        release(std::move(gone.mapped()));
}

void HeldReplies::let_all_go() {
    while (!waiting_.empty())
        let_go(waiting_.begin()->first);
}

}  // namespace remofile::server
