// SPDX-License-Identifier: MIT
#include "client/requests/unanswered_requests.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace remofile::client {

RequestId UnansweredRequests::take_numbers(std::size_t count) {
    const RequestId first{last_id_.value + 1};
    last_id_.value += count;
    return first;
}

void UnansweredRequests::enter(std::unique_ptr<Batch>& batch) {
    const auto [place, entered] = batches_.try_emplace(RequestId{last_id_.value + 1}, nullptr);
    REMOFILE_ASSERT(entered);
    batch->first_id = take_numbers(batch->records.size());
    place->second = std::move(batch);
}

RequestId UnansweredRequests::enter_greeting(std::size_t lane) {
    return greetings_[lane] = take_numbers(1);
}

std::optional<UnansweredRequests::Place> UnansweredRequests::find(RequestId id, std::size_t lane) const {
    const auto after = batches_.upper_bound(id);
    if (after == batches_.begin())
        return std::nullopt;
    Batch& batch = *std::prev(after)->second;
    const std::uint64_t index = id.value - batch.first_id.value;
    if (index >= batch.records.size() || batch.lane != lane || batch.records[index].answered)
        return std::nullopt;
    return Place{&batch, index};
}

Batch* UnansweredRequests::find_batch(RequestId first_id) const {
    const auto found = batches_.find(first_id);
    return found == batches_.end() ? nullptr : found->second.get();
}

std::vector<Batch*> UnansweredRequests::of_lane(std::size_t lane) const {
    std::vector<Batch*> found;
    for (const auto& [id, batch] : batches_) {
        if (batch->lane == lane)
            found.push_back(batch.get());
    }
    return found;
}

bool UnansweredRequests::has(std::size_t lane, LaneKind kind) const {
    return std::ranges::any_of(
        batches_, [&](const auto& entry) { return entry.second->lane == lane && entry.second->kind == kind; });
}

RequestId UnansweredRequests::answered_below() const {
    RequestId lowest{last_id_.value + 1};
    if (!batches_.empty()) {
        const Batch& first = *batches_.begin()->second;
        const auto open = std::ranges::find(first.records, false, &PendingRecord::answered);
        lowest = first.id_of(static_cast<std::size_t>(open - first.records.begin()));
    }
    for (const RequestId greeting : greetings_) {
        if (greeting)
            lowest = std::min(lowest, greeting);
    }
    return lowest;
}

std::unique_ptr<Batch> UnansweredRequests::take(const Batch& batch) {
    const auto found = batches_.find(batch.first_id);
    REMOFILE_ASSERT(found != batches_.end());
    auto taken = std::move(found->second);
    batches_.erase(found);
    return taken;
}

std::vector<std::unique_ptr<Batch>> UnansweredRequests::take_lane(std::size_t lane) {
    const auto found = of_lane(lane);
    std::vector<std::unique_ptr<Batch>> taken;
    taken.reserve(found.size());  // or what is taken out would be lost if there were no memory for it
    for (const Batch* batch : found)
        taken.push_back(take(*batch));
    return taken;
}

std::vector<std::unique_ptr<Batch>> UnansweredRequests::take_all() {
    std::vector<std::unique_ptr<Batch>> taken;
    taken.reserve(batches_.size());
    for (auto& [id, batch] : std::exchange(batches_, {}))
        taken.push_back(std::move(batch));
    return taken;
}

bool UnansweredRequests::move_lane(std::size_t from, std::size_t to) {
    const auto moved = of_lane(from);
    for (Batch* batch : moved)
        batch->lane = to;
    return !moved.empty();
}

}  // namespace remofile::client
