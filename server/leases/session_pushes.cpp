// SPDX-License-Identifier: MIT
#include "server/leases/session_pushes.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "wire/frame.hpp"

namespace remofile::server {
namespace {

// Nodes and changes of one INVALIDATE: its record fills half a head frame.
constexpr std::size_t max_push_bytes = 64U << 10;
// Pushes that wait for INVALIDATED; what changes meanwhile is joined to the next.
constexpr std::size_t max_unconfirmed = 8;
// Nodes to invalidate of a client that confirms nothing. A list that long takes minutes of another's work.
constexpr std::size_t max_invalid_nodes = 1U << 20;

std::size_t encoded_bytes(const std::vector<wire::LeaseChange>& changes) {
    return wire::encode_body(wire::PushInvalidate{.changes = changes}).size();
}

}  // namespace

bool SessionPushes::overflowed() const {
    return invalid_.size() > max_invalid_nodes;
}

const wire::PushInvalidate* SessionPushes::next() {
    if (sent_ < unconfirmed_.size())
        return &unconfirmed_[sent_++].body;
    if (unconfirmed_.size() >= max_unconfirmed)
        return nullptr;
    // Somebody waits for what concerns leases; nobody for the nodes.
    auto news = leases_ == nullptr ? std::nullopt : leases_->take_news(holder_, max_push_bytes);
    if (!news && invalid_.empty())
        return nullptr;
    Push push;
    push.body.sequence = ++last_;
    if (news) {
        push.body.flags = news->all_leases ? wire::invalidate_all_leases : 0;
        push.body.changes = std::move(news->changes);
        push.told = news->last;
    }
    const std::size_t room = max_push_bytes - std::min(max_push_bytes, encoded_bytes(push.body.changes));
    const std::size_t nodes = std::min(invalid_.size(), room / sizeof(std::uint64_t));
    const auto end = std::next(invalid_.begin(), static_cast<std::ptrdiff_t>(nodes));
    push.body.nodes.assign(invalid_.begin(), end);
    invalid_.erase(invalid_.begin(), end);
    unconfirmed_.push_back(std::move(push));
    ++sent_;
    return &unconfirmed_.back().body;
}

std::optional<ToldNumber> SessionPushes::confirm(std::uint64_t sequence) {
    if (sequence > last_)
        return std::nullopt;
    ToldNumber told = 0;
    while (!unconfirmed_.empty() && unconfirmed_.front().body.sequence <= sequence) {
        told = std::max(told, unconfirmed_.front().told);
        unconfirmed_.pop_front();
        sent_ -= std::min<std::size_t>(sent_, 1);
    }
    if (told != 0)
        leases_->confirm(holder_, told);
    return told;
}

}  // namespace remofile::server
