// SPDX-License-Identifier: MIT
// The server's end of one lane of a session: what waits to be sent, and what was sent and not acknowledged.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "server/sessions/reply_cache.hpp"
#include "server/sessions/sequencer.hpp"
#include "transport/link_speed.hpp"
#include "transport/listener.hpp"
#include "wire/frame.hpp"

namespace remofile::server {

// One thread. A lane lives as long as its session; connections come and go, each with its own generation.
class SessionLane {
public:
    explicit SessionLane(std::uint8_t number) : number_(number) {}

    std::uint8_t number() const { return number_; }

    // Takes a new connection. Precondition: detached.
    void attach(transport::RouteId route);
    // The connection is lost or replaced. Replies that were queued for it are handed back.
    std::deque<ReplyPtr> detach();
    const std::optional<transport::RouteId>& route() const { return route_; }
    std::uint64_t generation() const { return generation_; }

    void queue(ReplyPtr reply);

    struct Outgoing {
        wire::Message message;
        std::vector<ReplyPtr> replies;  // what it answers
    };
    // The next message: as many replies as fit, of at most so many bytes. It counts as sent. None if the first reply
    // does not fit. `flags` are the message's.
    std::optional<Outgoing> next_message(std::uint64_t room, std::uint16_t flags = 0);
    // Counts a message that does not wait for the window: a push.
    void count_sent(std::size_t bytes) { sent_bytes_ += bytes; }

    // What the client says it has received on this connection; the requests whose cached replies were among it are
    // handed back. A claim beyond what was sent counts as all of it: it may include answers from before the connection
    // was a lane, and one who lies could claim as much without.
    std::vector<RequestId> acknowledge(std::uint64_t received_bytes);

    // Reply bytes that were sent and not acknowledged, and with them those that wait to be sent or are expected.
    std::uint64_t unacknowledged_bytes() const { return sent_bytes_ - acknowledged_bytes_; }
    std::uint64_t open_bytes() const { return queued_bytes_ + unacknowledged_bytes() + expected_bytes; }
    std::size_t queued_replies() const { return queue_.size(); }

    // The client sends again what it misses, before anything new: once that comes, it has all that it asked for on
    // earlier connections.
    bool resending = false;

    // Of all bytes sent on this connection.
    std::uint64_t acknowledged_bytes() const { return acknowledged_bytes_; }

    Sequencer sequencer;
    transport::LinkSpeed speed;  // towards the client
    // Bulk bytes that replies under way are expected to bring.
    std::uint64_t expected_bytes = 0;

private:
    bool fits_message(const wire::MessageWriter& writer, std::size_t bulk_bytes, const Reply& reply) const;

    const std::uint8_t number_;
    std::optional<transport::RouteId> route_;
    std::uint64_t generation_ = 0;
    std::deque<ReplyPtr> queue_;
    std::uint64_t queued_bytes_ = 0;
    std::uint64_t sent_bytes_ = 0;
    std::uint64_t acknowledged_bytes_ = 0;
    // Sent replies that the reply cache keeps, with the count of sent bytes after their message.
    struct Sent {
        std::uint64_t end;
        RequestId request;
    };
    std::deque<Sent> unacknowledged_;
};

}  // namespace remofile::server
