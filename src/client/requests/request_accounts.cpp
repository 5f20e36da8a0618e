// SPDX-License-Identifier: MIT
#include "client/requests/request_accounts.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace remofile::client {
namespace {

// Of the controls that the server allows, those kept free for PINGs, which go whatever else is unanswered: a few for
// each lane, since one acknowledges a part of a window.
constexpr std::size_t reserved_controls = 32;
// The same of the bytes of heads.
constexpr std::size_t reserved_head_bytes = 16U << 10;
// The part of the bulk bytes of requests that the data lane leaves to the metadata lane, for extended attributes.
constexpr std::size_t metadata_bulk_share = 8;

Room room(std::size_t granted, std::size_t taken) {
    return {.left = granted - std::min(granted, taken), .nothing_unanswered = taken == 0};
}

}  // namespace

std::optional<Tally> RequestAccounts::wait_for_lock() {
    if (lock_waits_ >= wire::max_lock_waits)
        return std::nullopt;
    return Tally(lock_waits_);
}

void RequestAccounts::charge(Batch& batch) {
    REMOFILE_ASSERT(!batch.is_charged);
    batch.is_charged = true;
    for (const PendingRecord& record : batch.records) {
        if (record.answered)
            continue;
        ++count_of(record.account);
        bulk_bytes_[batch.lane] += record.bulk.encoded_bytes();
    }
}

void RequestAccounts::release(const Batch& batch, const PendingRecord& record) {
    if (!batch.is_charged)
        return;
    --count_of(record.account);
    std::size_t& bulk_bytes = bulk_bytes_[batch.lane];
    bulk_bytes -= std::min(bulk_bytes, record.bulk.encoded_bytes());
}

void RequestAccounts::release_unanswered(Batch& batch) {
    for (const PendingRecord& record : batch.records) {
        if (!record.answered)
            release(batch, record);
    }
    batch.is_charged = false;
}

void RequestAccounts::move_lane(std::size_t from, std::size_t to) {
    bulk_bytes_[to] += std::exchange(bulk_bytes_[from], 0);
}

void RequestAccounts::clear() {
    unanswered_ = {};
    bulk_bytes_ = {};
}

SendingAllowance RequestAccounts::allowance(std::size_t lane, const wire::HelloReply& granted) const {
    const std::size_t requests = granted.max_requests;
    const std::size_t controls =
        requests > 2 * reserved_controls ? requests - reserved_controls : std::max<std::size_t>(requests / 2, 1);
    const std::size_t bulk_left_out = lane == data_lane ? granted.request_bytes / metadata_bulk_share : 0;
    return {
        .requests = room(requests, count_of(wire::Account::request)),
        .controls = room(controls, count_of(wire::Account::control)),
        .head_bytes = room(wire::max_unanswered_head_bytes - reserved_head_bytes, head_bytes_),
        .bulk_bytes = room(granted.request_bytes - bulk_left_out, bulk_bytes_[metadata_lane] + bulk_bytes_[data_lane])};
}

}  // namespace remofile::client
