// SPDX-License-Identifier: MIT
#include "server/files/descriptor_budget.hpp"

#include <algorithm>
#include <utility>

namespace remofile::server {

DescriptorPlan divide_descriptors(std::size_t limit, std::size_t wanted_idle) {
    // A quarter, but what a few clients need where the limit is low, and two lanes of a thousand of them where it is
    // high.
    constexpr std::size_t least_rest = 64;
    constexpr std::size_t most_rest = 2048;
    const std::size_t rest = std::min(std::clamp(limit / 4, least_rest, most_rest), limit / 2);
    const std::size_t idle = std::clamp<std::size_t>((limit - rest) / 4, 1, std::max<std::size_t>(1, wanted_idle));
    return {.idle = idle, .open = limit - rest - idle};
}

DescriptorBudget::Slot::Slot(Slot&& other) noexcept
    : budget_(std::move(other.budget_)),
      share_(std::move(other.share_)),
      position_(std::exchange(other.position_, std::nullopt)) {}

DescriptorBudget::Slot& DescriptorBudget::Slot::operator=(Slot&& other) noexcept {
    drop();
    budget_ = std::move(other.budget_);
    share_ = std::move(other.share_);
    position_ = std::exchange(other.position_, std::nullopt);
    return *this;
}

DescriptorBudget::Slot::~Slot() {
    drop();
}

void DescriptorBudget::Slot::drop() {
    if (!budget_)
        return;
    {
        const std::lock_guard guard(budget_->mutex_);
        --budget_->total_;
        --share_->count;
        if (position_)
            share_->ring.erase(*position_);
    }
    position_.reset();
    share_.reset();
    budget_.reset();
}

DescriptorBudget::Share DescriptorBudget::new_share() {
    auto share = std::make_shared<Account>();
    const std::lock_guard guard(mutex_);
    std::erase_if(accounts_, [](const auto& account) { return account.expired(); });
    accounts_.push_back(share);
    return share;
}

DescriptorBudget::Slot DescriptorBudget::take(const Share& share, std::weak_ptr<Holder> holder) {
    Slot slot;
    slot.budget_ = shared_from_this();
    slot.share_ = share;
    const std::lock_guard guard(mutex_);
    ++total_;
    ++share->count;
    if (!holder.expired())
        slot.position_ = share->ring.insert(share->ring.end(), std::move(holder));
    return slot;
}

std::size_t DescriptorBudget::count() const {
    const std::lock_guard guard(mutex_);
    return total_;
}

Result<> DescriptorBudget::make_room(const Share& share) {
    if (!reclaim_until([&] { return fits(*share); }))
        return Status::too_many_files;
    return {};
}

Result<> DescriptorBudget::make_room_for_directory() {
    if (!reclaim_until([&] { return total_ < limit_; }))
        return Status::too_many_files;
    return {};
}

bool DescriptorBudget::reclaim_one() {
    const std::size_t before = count();
    return reclaim_until([&] { return total_ < before; });
}

// Of the largest account that has somebody left to ask; each is asked at most `rounds` times. Called under the lock.
std::shared_ptr<DescriptorBudget::Holder> DescriptorBudget::next_victim(
    std::unordered_map<const Account*, std::size_t>& asked, std::size_t rounds) {
    for (;;) {
        std::shared_ptr<Account> largest;
        for (const auto& weak : accounts_) {
            const auto account = weak.lock();
            if (account && asked[account.get()] < rounds * account->ring.size() &&
                (!largest || account->count > largest->count))
                largest = account;
        }
        if (!largest)
            return nullptr;
        ++asked[largest.get()];
        Ring& ring = largest->ring;
        ring.splice(ring.end(), ring, ring.begin());
        if (auto holder = ring.back().lock())
            return holder;
    }
}

// Whoever is easily spared and was not used since it was last passed over; if there is no such, whoever can be at all.
template <class Enough>
bool DescriptorBudget::reclaim_until(Enough&& enough) {
    for (const bool thorough : {false, true}) {
        std::unordered_map<const Account*, std::size_t> asked;
        for (;;) {
            std::shared_ptr<Holder> victim;
            {
                const std::lock_guard guard(mutex_);
                if (enough())
                    return true;
                victim = next_victim(asked, thorough ? 1 : 2);
            }
            if (!victim)
                break;
            if (!victim->used_.exchange(false, std::memory_order_relaxed) || thorough)
                victim->let_go(thorough);
        }
    }
    return false;
}

}  // namespace remofile::server
