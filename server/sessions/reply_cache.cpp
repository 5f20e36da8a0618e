// SPDX-License-Identifier: MIT
#include "server/sessions/reply_cache.hpp"

#include <iterator>
#include <utility>

namespace remofile::server {

Buffer share_bulk(const ReplyPtr& reply) {
    auto* owner = new ReplyPtr(reply);
    return Buffer(
        reply->bulk.data(), reply->bulk.size(), [](void* hint) noexcept { delete static_cast<ReplyPtr*>(hint); },
        owner);
}

void ReplyCache::keep(RequestId request, Entry entry) {
    if (full())
        return;
    drop(request);
    bytes_ += entry.reply->byte_count();
    entries_.emplace(request, std::move(entry));
}

ReplyCache::Entries::iterator ReplyCache::drop(Entries::iterator entry) {
    bytes_ -= entry->second.reply->byte_count();
    return entries_.erase(entry);
}

void ReplyCache::drop(RequestId request) {
    if (const auto found = entries_.find(request); found != entries_.end())
        drop(found);
}

void ReplyCache::drop_below(RequestId request) {
    for (auto entry = entries_.begin(); entry != entries_.end() && entry->first < request;)
        entry = drop(entry);
}

void ReplyCache::drop_earlier(std::uint8_t lane, std::uint64_t generation) {
    for (auto entry = entries_.begin(); entry != entries_.end();) {
        const bool earlier = entry->second.lane == lane && entry->second.generation < generation;
        entry = earlier ? drop(entry) : std::next(entry);
    }
}

ReplyCache::Entry* ReplyCache::find(RequestId request) {
    const auto found = entries_.find(request);
    return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace remofile::server
