// SPDX-License-Identifier: MIT
// How a session judges the reply to each kind of request, and gives back what it brought. What else is known of them
// stands in wire/opcode_table.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.hpp"
#include "client/session.hpp"
#include "wire/messages.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::client {

// A request as its reply is judged.
struct SentRequest {
    std::span<const std::byte> body;
    std::size_t bulk_bytes = 0;
};

struct RequestTraits {
    const wire::OpcodeFacts* facts = nullptr;
    // Whether a reply with status ok makes sense. None: an empty body.
    bool (*accepts)(const SentRequest& request, std::span<const std::byte> reply, const Buffer& bulk) = nullptr;
    // What gives back the nodes, handles and locks that the reply brought to a request that nobody waits for any more.
    std::vector<EncodedRequest> (*give_back)(std::span<const std::byte> request, std::span<const std::byte> reply,
                                             const Buffer& bulk) = nullptr;

    wire::Opcode opcode() const { return facts->opcode; }
};

// None for an opcode that is no request.
const RequestTraits* find_request_traits(wire::Opcode opcode);

// Whether attributes from a server make sense: a file type, sizes and times within their bounds.
bool are_valid(const wire::Attributes& attributes);

}  // namespace remofile::client
