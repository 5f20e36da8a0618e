// SPDX-License-Identifier: MIT
#include "client/requests/reply_judge.hpp"

#include "base/log.hpp"
#include "client/requests/bulk_coder.hpp"

namespace remofile::client {

Result<JudgedReply> judge_reply(const PendingRecord& request, wire::Record& record, std::uint64_t features,
                                bool can_wait) {
    const RequestTraits& traits = *request.traits;
    const auto rejected = [&](std::string_view why) {
        return make_error(Status::io_error,
                          fmt::format("the server's answer to {} is rejected: {}", traits.facts->name, why));
    };
    if (record.header.opcode != traits.opcode())
        return rejected("it is for another kind of request");
    if (!is_known(record.header.detail))
        return rejected(fmt::format("its status {} is unknown", record.header.detail));
    JudgedReply judged;
    judged.reply.status = static_cast<Status>(record.header.detail);
    if (judged.reply.status != Status::ok)
        return judged;

    if ((record.header.flags & wire::flag_bulk) != 0) {
        const std::size_t limit = wire::reply_bulk_limit(traits.facts, request.body);
        judged.bulk_is_encoded = can_wait && BulkCoder::belongs_elsewhere(record.header, features, limit);
        if (!judged.bulk_is_encoded) {
            auto decoded = wire::decode_bulk(record.header, std::move(record.bulk), features, limit);
            if (!decoded)
                return rejected(decoded.error().to_string());
            judged.reply.bulk = std::move(*decoded);
        }
    }
    const SentRequest as_sent{.body = request.body, .bulk_bytes = request.bulk.size()};
    const bool accepted =
        traits.accepts != nullptr ? traits.accepts(as_sent, record.body, judged.reply.bulk) : record.body.empty();
    if (!accepted)
        return rejected("its body makes no sense");
    judged.reply.body.assign(record.body.begin(), record.body.end());
    return judged;
}

}  // namespace remofile::client
