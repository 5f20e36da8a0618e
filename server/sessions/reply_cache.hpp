// SPDX-License-Identifier: MIT
// Replies that may have to be given again after a lost connection, so that what cannot be repeated is carried out once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/buffer.hpp"
#include "base/strong_id.hpp"
#include "server/sessions/answer_journal.hpp"
#include "wire/frame.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::server {

// One answered record. Shared by the lane that has yet to send it and, if its request is not repeatable, the reply
// cache.
struct Reply {
    wire::RecordHeader header;
    std::vector<std::byte> body;
    Buffer bulk;  // as it travels: see header.bulk_encoding
    bool has_bulk = false;
    // The reply cache has it: the bulk must stay, and it is dropped from there once acknowledged.
    bool kept = false;
    // What the request takes of the client's grants until this reply leaves.
    std::optional<wire::Account> account;
    std::size_t request_bulk_bytes = 0;
    // Where the answer is kept beyond the end of the process, for as long as this is.
    std::shared_ptr<const AnswerJournal::Note> note;

    std::size_t byte_count() const { return wire::RecordHeader::encoded_bytes + body.size() + bulk.size(); }
};
using ReplyPtr = std::shared_ptr<Reply>;

// A reply's bulk data, shared and not copied; it keeps the reply.
Buffer share_bulk(const ReplyPtr& reply);

// One session's; one thread.
class ReplyCache {
public:
    // Where a reply was last sent, so that the same connection is not answered twice.
    struct Entry {
        ReplyPtr reply;
        std::uint8_t lane = 0;
        std::uint64_t generation = 0;
    };

    // Beyond these nothing is kept: see full().
    ReplyCache(std::size_t max_entries, std::size_t max_bytes) : max_entries_(max_entries), max_bytes_(max_bytes) {}

    void keep(RequestId request, Entry entry);
    Entry* find(RequestId request);
    // The client has this reply.
    void drop(RequestId request);
    // The client has the replies to all smaller ids.
    void drop_below(RequestId request);
    // The client has all that was sent on earlier connections of this lane.
    void drop_earlier(std::uint8_t lane, std::uint64_t generation);

    std::size_t size() const { return entries_.size(); }
    // More replies than any client that acknowledges what it gets can leave open.
    bool full() const { return entries_.size() >= max_entries_ || bytes_ >= max_bytes_; }

private:
    using Entries = std::map<RequestId, Entry>;
    Entries::iterator drop(Entries::iterator entry);

    const std::size_t max_entries_;
    const std::size_t max_bytes_;
    Entries entries_;
    std::size_t bytes_ = 0;
};

}  // namespace remofile::server
