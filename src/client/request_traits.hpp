// SPDX-License-Identifier: MIT
// What a session must know of each kind of request: a table of opcodes.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/buffer.hpp"
#include "client/session.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// A request as its reply is judged.
struct SentRequest {
    std::span<const std::byte> body;
    std::size_t bulk_bytes = 0;
};

struct RequestTraits {
    wire::Opcode opcode;
    std::string_view name;  // of its counter
    // Takes the server microseconds and waits for nothing: may share a message with others that somebody waits for,
    // because the server carries out the records of a message one after the other.
    bool quick = false;
    // Accepted by the server even when max_requests are unanswered.
    bool unlimited = false;
    // The most bulk data that the reply may bring. None: no bulk frame.
    std::size_t (*reply_bulk_limit)(std::span<const std::byte> body) = nullptr;
    // Whether a reply with status ok makes sense. None: an empty body.
    bool (*accepts)(const SentRequest& request, std::span<const std::byte> reply, const Buffer& bulk) = nullptr;
    // What gives back the nodes and handles that the reply brought to a request that nobody waits for any more.
    std::vector<EncodedRequest> (*give_back)(std::span<const std::byte> request, std::span<const std::byte> reply,
                                             const Buffer& bulk) = nullptr;
    // The same without a reply, by the ids that the request chose: for one that is not sent again after a reconnect.
    // The server refuses those that it does not know, which does no harm. None for requests that have no effect but
    // the ids in their reply; these are sent again.
    std::vector<EncodedRequest> (*give_back_unseen)(std::span<const std::byte> request) = nullptr;
    // Has no effect on files: may be carried out long after its caller has gone.
    bool harmless_late = false;
};

// None for an opcode that is no request.
const RequestTraits* find_request_traits(wire::Opcode opcode);

// True for SETLK and FLOCK that may take as long as another holds the lock.
bool waits_for_lock(wire::Opcode opcode, std::span<const std::byte> body);

// Whether attributes from a server make sense: a file type, sizes and times within their bounds.
bool are_valid(const wire::Attributes& attributes);

}  // namespace remofile::client
