// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "client/requests/outgoing_queue.hpp"
#include "client/session.hpp"
#include "wire/frame.hpp"

namespace remofile::client {

struct JudgedReply {
    EncodedReply reply;
    // Its data is better decoded elsewhere, and has been left in the record; see BulkCoder.
    bool bulk_is_encoded = false;
};

// What a reply comes to, whose request is `request`. `features`: those in force. `can_wait`: there is somebody who may
// wait for its data to be decoded elsewhere. Error: io_error if it breaks the protocol, with what a person should know.
Result<JudgedReply> judge_reply(const PendingRecord& request, wire::Record& record, std::uint64_t features,
                                bool can_wait);

}  // namespace remofile::client
