// SPDX-License-Identifier: MIT
// How bulk data is encoded before it is sent, and decoded once it has arrived. See session_state.hpp.
#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "client/session/session_state.hpp"
#include "transport/endpoint_address.hpp"

namespace remofile::client {
namespace {

// Up to here a hand-off to the codec thread takes longer than the work, some 25 µs.
constexpr std::size_t min_compressed_elsewhere = 16U << 10;
constexpr std::size_t min_decompressed_elsewhere = 64U << 10;
// Levels from here on are slow: LZ4 HC.
constexpr std::uint8_t first_slow_level = 3;
// Open files whose data is remembered as compressible or not; beyond it all is forgotten and learned anew.
constexpr std::size_t max_streams = 256;

}  // namespace

// ---------------------------------------------------------------- encoding

std::shared_ptr<wire::Compressibility> Session::State::stream_of(const PendingRecord& record) {
    if (record.traits->opcode() != wire::Opcode::write)
        return nullptr;
    const auto write = wire::decode_body<wire::Write>(record.body);
    REMOFILE_ASSERT(write.has_value());
    if (streams.size() >= max_streams && !streams.contains(write->handle))
        streams.clear();
    std::shared_ptr<wire::Compressibility>& stream = streams[write->handle];
    if (stream == nullptr)
        stream = std::make_shared<wire::Compressibility>();
    return stream;
}

void Session::State::encode(PendingRecord& record, std::size_t lane) {
    const Connection& connection = connections[lane];
    const wire::EncodingPlan plan =
        wire::make_plan(greeting_reply.features, options.compression,
                        wire::automatic_level(connection.traffic.bytes_per_s(),
                                              transport::is_local_address(options.lane.endpoint), *meter));
    const auto stream = plan.level == 0 || record.bulk.size() == 0 ? nullptr : stream_of(record);
    const auto encode_with = [plan, stream, uses = meter](Buffer plain) {
        return wire::encode_bulk(std::move(plain), plan, stream.get(), *uses);
    };
    const std::size_t size = record.bulk.size();
    const bool elsewhere =
        plan.level != 0 && size != 0 && (size >= min_compressed_elsewhere || plan.level >= first_slow_level);
    if (!elsewhere)
        return record.bulk.encode(encode_with);
    codec.submit([encoding = record.bulk.begin_encoding(), encode_with, &to = reactor, weak = weak_from_this()] {
        encoding->carry_out(encode_with);
        to.post([weak] {
            if (const auto self = weak.lock())
                self->schedule_flush();
        });
    });
}

// Has the next requests in line encoded, as late as that keeps the codec thread ahead of the network: until then we
// may have learned more about the link.
void Session::State::prepare(std::size_t lane) {
    while (PendingRecord* record = connections[lane].queue.next_plain())
        encode(*record, lane);
}

// ---------------------------------------------------------------- decoding

Result<> Session::State::decode_reply(const Batch& batch, std::size_t index, wire::Record& record, std::size_t limit,
                                      EncodedReply& reply) {
    // READ's data says nothing about whether the reply makes sense, so that it can be looked at later.
    const bool elsewhere = record.header.bulk_encoding == wire::BulkEncoding::lz4 &&
                           record.header.opcode == wire::Opcode::read && batch.call != nullptr &&
                           record.header.bulk_size >= min_decompressed_elsewhere && record.header.bulk_size <= limit &&
                           (greeting_reply.features & wire::feature_lz4) != 0;
    if (elsewhere) {
        batch.call->encoded.push_back({.index = index, .header = record.header, .bulk = std::move(record.bulk)});
        return {};
    }
    REMOFILE_TRY(bulk, wire::decode_bulk(record.header, std::move(record.bulk), greeting_reply.features, limit));
    reply.bulk = std::move(bulk);
    return {};
}

namespace {

// What the codec thread and the call share of one reply being decoded.
struct Decoding {
    wire::RecordHeader header;
    Buffer bulk;
    Result<Buffer> result = Status::io_error;
};

}  // namespace

struct detail::DecodingWait {
    DecodingWait(std::set<DecodingWait*>& given_all, std::uint64_t given_number)
        : all(given_all), number(given_number) {
        all.insert(this);
    }
    DecodingWait(const DecodingWait&) = delete;
    DecodingWait& operator=(const DecodingWait&) = delete;
    ~DecodingWait() { all.erase(this); }

    std::set<DecodingWait*>& all;  // those of the session
    const std::uint64_t number;
    Completion<bool> done;  // false: the session is closed
};

Task<void> Session::State::decode_replies(Call& call) {
    const auto self = call.state;
    for (Call::EncodedBulk& encoded : std::exchange(call.encoded, {})) {
        if (call.replies[encoded.index].status != Status::ok)
            continue;
        auto decoding = std::make_shared<Decoding>();
        decoding->header = encoded.header;
        decoding->bulk = std::move(encoded.bulk);
        detail::DecodingWait wait(decoding_waits, ++last_decoding);
        codec.submit([decoding, features = greeting_reply.features, number = wait.number, &to = reactor,
                      weak = weak_from_this()] {
            try {
                decoding->result =
                    wire::decode_bulk(decoding->header, std::move(decoding->bulk), features, wire::max_bulk_bytes);
            } catch (...) {
                decoding->result = status_of_exception("decompressing an answer");
            }
            to.post([weak, number] {
                if (const auto state = weak.lock())
                    state->on_decoded(number);
            });
        });
        const bool decoded = co_await wait.done;
        EncodedReply& reply = call.replies[encoded.index];
        if (decoded && decoding->result) {
            reply.bulk = std::move(*decoding->result);
        } else {
            if (decoded) {
                count("client.rejected_replies");
                log::warn("the server's answer is rejected: {}", decoding->result.error().to_string());
            }
            const Status status = decoding->result.status();
            reply = {.status = !decoded                          ? Status::shutting_down
                               : status == Status::out_of_memory ? status
                                                                 : Status::io_error};
        }
    }
}

void Session::State::on_decoded(std::uint64_t number) {
    const auto found = std::ranges::find(decoding_waits, number, &detail::DecodingWait::number);
    if (found != decoding_waits.end())
        (*found)->done.deliver(true);
}

// The session is closed: nobody waits for the codec thread any more.
void Session::State::end_decoding() {
    while (!decoding_waits.empty()) {
        detail::DecodingWait* wait = *decoding_waits.begin();
        decoding_waits.erase(decoding_waits.begin());
        wait->done.deliver(false);
    }
}

}  // namespace remofile::client
