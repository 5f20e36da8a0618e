// SPDX-License-Identifier: MIT
#include "server/reply_cache.hpp"

#include <utility>

namespace remofile::server {

Buffer share_bulk(const ReplyPtr& reply) {
    auto* owner = new ReplyPtr(reply);
    return Buffer(
        reply->bulk.data(), reply->bulk.size(), [](void* hint) noexcept { delete static_cast<ReplyPtr*>(hint); },
        owner);
}

void ReplyCache::keep(RequestId request, Entry entry) {
    if (!full())
        entries_.insert_or_assign(request, std::move(entry));
}

ReplyCache::Entry* ReplyCache::find(RequestId request) {
    const auto found = entries_.find(request);
    return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace remofile::server
