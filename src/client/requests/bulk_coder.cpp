// SPDX-License-Identifier: MIT
#include "client/requests/bulk_coder.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/exception.hpp"

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

BulkCoder::BulkCoder(transport::Reactor& reactor, Counters& counters, std::uint8_t compression, bool is_local)
    : reactor_(reactor),
      compression_(compression),
      is_local_(is_local),
      meter_(std::make_shared<wire::CompressionMeter>(counters, "client.compression")) {}

BulkCoder::~BulkCoder() = default;

// ---------------------------------------------------------------- encoding

std::shared_ptr<wire::Compressibility> BulkCoder::stream_of(const PendingRecord& record) {
    if (record.traits->opcode() != wire::Opcode::write)
        return nullptr;
    const auto write = wire::decode_body<wire::Write>(record.body);
    REMOFILE_ASSERT(write.has_value());
    if (streams_.size() >= max_streams && !streams_.contains(write->handle))
        streams_.clear();
    std::shared_ptr<wire::Compressibility>& stream = streams_[write->handle];
    if (stream == nullptr)
        stream = std::make_shared<wire::Compressibility>();
    return stream;
}

void BulkCoder::encode(PendingRecord& record, const wire::EncodingPlan& plan, const std::function<void()>& on_encoded) {
    const auto stream = plan.level == 0 || record.bulk.size() == 0 ? nullptr : stream_of(record);
    const auto encode_with = [plan, stream, uses = meter_](Buffer plain) {
        return wire::encode_bulk(std::move(plain), plan, stream.get(), *uses);
    };
    const std::size_t size = record.bulk.size();
    const bool elsewhere =
        plan.level != 0 && size != 0 && (size >= min_compressed_elsewhere || plan.level >= first_slow_level);
    if (!elsewhere)
        return record.bulk.encode(encode_with);
    thread_.submit([encoding = record.bulk.begin_encoding(), encode_with, &to = reactor_, on_encoded] {
        encoding->carry_out(encode_with);
        to.post(on_encoded);
    });
}

void BulkCoder::prepare(OutgoingQueue& queue, std::uint64_t features, std::optional<double> bytes_per_s,
                        const std::function<void()>& on_encoded) {
    while (PendingRecord* record = queue.next_plain()) {
        const auto plan =
            wire::make_plan(features, compression_, wire::automatic_level(bytes_per_s, is_local_, *meter_));
        encode(*record, plan, on_encoded);
    }
}

// ---------------------------------------------------------------- decoding

namespace {

// What the codec thread and the coroutine share of one reply being decoded.
struct Decoding {
    wire::RecordHeader header;
    Buffer bulk;
    Result<Buffer> result = Status::io_error;
};

}  // namespace

struct BulkCoder::Wait {
    Wait(std::set<Wait*>& given_all, std::uint64_t given_number) : all(given_all), number(given_number) {
        all.insert(this);
    }
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;
    ~Wait() { all.erase(this); }

    std::set<Wait*>& all;
    const std::uint64_t number;
    Completion<bool> done;  // false: stop() came first
};

bool BulkCoder::belongs_elsewhere(const wire::RecordHeader& header, std::uint64_t features, std::size_t limit) {
    return header.bulk_encoding == wire::BulkEncoding::lz4 && header.opcode == wire::Opcode::read &&
           header.bulk_size >= min_decompressed_elsewhere && header.bulk_size <= limit &&
           (features & wire::feature_lz4) != 0;
}

Task<Result<Buffer>> BulkCoder::decode_elsewhere(wire::RecordHeader header, Buffer bulk, std::uint64_t features) {
    const auto self = shared_from_this();
    auto decoding = std::make_shared<Decoding>();
    decoding->header = header;
    decoding->bulk = std::move(bulk);
    Wait wait(waits_, ++last_wait_);
    thread_.submit([decoding, features, number = wait.number, &to = reactor_, weak = weak_from_this()] {
        try {
            decoding->result =
                wire::decode_bulk(decoding->header, std::move(decoding->bulk), features, wire::max_bulk_bytes);
        } catch (...) {
            decoding->result = status_of_exception("decompressing an answer");
        }
        to.post([weak, number] {
            if (const auto coder = weak.lock())
                coder->on_decoded(number);
        });
    });
    const bool decoded = co_await wait.done;
    if (!decoded)
        co_return Result<Buffer>(Status::shutting_down);
    co_return std::move(decoding->result);
}

void BulkCoder::on_decoded(std::uint64_t number) {
    const auto found = std::ranges::find(waits_, number, &Wait::number);
    if (found != waits_.end())
        (*found)->done.deliver(true);
}

void BulkCoder::stop() {
    const auto self = shared_from_this();
    while (!waits_.empty()) {
        Wait* wait = *waits_.begin();
        waits_.erase(waits_.begin());
        wait->done.deliver(false);
    }
}

}  // namespace remofile::client
