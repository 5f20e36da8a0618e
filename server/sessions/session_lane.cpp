// SPDX-License-Identifier: MIT
#include "server/sessions/session_lane.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace remofile::server {
namespace {

// Bulk data of one reply message: as much as one record may bring, so that a small reply behind a large one does not
// wait for a third.
constexpr std::size_t max_reply_bulk_bytes = wire::max_bulk_bytes;

}  // namespace

void SessionLane::attach(transport::RouteId route) {
    REMOFILE_ASSERT(!route_);
    route_ = std::move(route);
    ++generation_;
    resending = true;
}

std::deque<ReplyPtr> SessionLane::detach() {
    route_.reset();
    unacknowledged_.clear();
    queued_bytes_ = 0;
    sent_bytes_ = 0;
    acknowledged_bytes_ = 0;
    speed.reset();
    return std::exchange(queue_, {});
}

void SessionLane::queue(ReplyPtr reply) {
    queued_bytes_ += reply->byte_count();
    queue_.push_back(std::move(reply));
}

bool SessionLane::fits_message(const wire::MessageWriter& writer, std::size_t bulk_bytes, const Reply& reply) const {
    return writer.empty() ||
           (writer.records() < wire::max_records && bulk_bytes + reply.bulk.size() <= max_reply_bulk_bytes &&
            writer.head_bytes() + wire::RecordHeader::encoded_bytes + reply.body.size() <= wire::max_head_bytes);
}

std::optional<SessionLane::Outgoing> SessionLane::next_message(std::uint64_t room, std::uint16_t flags) {
    if (!route_ || queue_.empty() || queue_.front()->byte_count() > room)
        return std::nullopt;

    wire::MessageWriter writer(wire::MessageKind::reply);
    writer.set_flags(flags);
    Outgoing outgoing;
    std::size_t bulk_bytes = 0;
    while (!queue_.empty() && queue_.front()->byte_count() <= room &&
           fits_message(writer, bulk_bytes, *queue_.front())) {
        ReplyPtr reply = std::move(queue_.front());
        queue_.pop_front();
        room -= reply->byte_count();
        queued_bytes_ -= reply->byte_count();
        bulk_bytes += reply->bulk.size();
        if (reply->has_bulk) {
            Buffer bulk = reply->kept ? share_bulk(reply) : std::move(reply->bulk);
            writer.add_encoded(reply->header, reply->body, std::move(bulk));
        } else {
            writer.add_encoded(reply->header, reply->body);
        }
        outgoing.replies.push_back(std::move(reply));
    }
    outgoing.message = std::move(writer).finish();
    sent_bytes_ += outgoing.message.byte_count();
    for (const ReplyPtr& reply : outgoing.replies) {
        if (reply->kept)
            unacknowledged_.push_back({sent_bytes_, reply->header.id});
    }
    return outgoing;
}

std::vector<RequestId> SessionLane::acknowledge(std::uint64_t received_bytes) {
    acknowledged_bytes_ = std::max(acknowledged_bytes_, std::min(received_bytes, sent_bytes_));
    std::vector<RequestId> received;
    while (!unacknowledged_.empty() && unacknowledged_.front().end <= acknowledged_bytes_) {
        received.push_back(unacknowledged_.front().request);
        unacknowledged_.pop_front();
    }
    return received;
}

}  // namespace remofile::server
