// SPDX-License-Identifier: MIT
#include "wire/frame.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"

namespace remofile::wire {

std::size_t Message::byte_count() const {
    std::size_t count = head.size();
    for (const Buffer& frame : bulk)
        count += frame.size();
    return count;
}

MessageWriter::MessageWriter(MessageKind kind) {
    header_.kind = kind;
    head_.reserve(256);
    head_.resize(MessageHeader::encoded_bytes);  // filled in by finish()
}

std::size_t MessageWriter::begin(const RecordHeader& header) {
    const std::size_t start = head_.size();
    Encoder(head_).put(header);
    return start;
}

void MessageWriter::end(std::size_t record_start) {
    const std::size_t body_bytes = head_.size() - record_start - RecordHeader::encoded_bytes;
    for (std::size_t i = 0; i < sizeof(std::uint32_t); ++i)
        head_[record_start + i] = static_cast<std::byte>(body_bytes >> (8 * i));
    ++header_.records;
    REMOFILE_ASSERT(header_.records <= max_records);
}

void MessageWriter::add_encoded(RecordHeader header, std::span<const std::byte> body) {
    const std::size_t start = begin(header);
    head_.insert(head_.end(), body.begin(), body.end());
    end(start);
}

void MessageWriter::add_encoded(RecordHeader header, std::span<const std::byte> body, Buffer bulk) {
    header.flags |= flag_bulk;
    if (header.bulk_encoding == BulkEncoding::raw)
        header.bulk_size = static_cast<std::uint32_t>(bulk.size());
    add_encoded(header, body);
    bulk_.push_back(std::move(bulk));
}

Message MessageWriter::finish(RequestId answered_below, std::uint64_t received_bytes) && {
    header_.answered_below = answered_below;
    header_.received_bytes = received_bytes;
    const std::vector<std::byte> encoded = encode_body(header_);
    REMOFILE_ASSERT(encoded.size() == MessageHeader::encoded_bytes);
    std::copy(encoded.begin(), encoded.end(), head_.begin());

    auto* owner = new std::vector<std::byte>(std::move(head_));
    Message message;
    message.head = Buffer(
        owner->data(), owner->size(), [](void* hint) noexcept { delete static_cast<std::vector<std::byte>*>(hint); },
        owner);
    message.bulk = std::move(bulk_);
    return message;
}

Result<ParsedMessage> parse_message(Message message, MessageKind expected) {
    if (message.head.size() > max_head_bytes)
        return make_error(Status::malformed, "the head frame is longer than the protocol allows");
    ParsedMessage parsed;
    Decoder decoder(message.head.bytes());
    decoder.get(parsed.header);
    if (!decoder.ok() || parsed.header.magic != message_magic)
        return make_error(Status::malformed, "not a Remofile 2 message");
    if (parsed.header.version != protocol_version)
        return make_error(Status::version_mismatch,
                          fmt::format("protocol version {} instead of {}", parsed.header.version, protocol_version));
    if (parsed.header.kind != expected)
        return make_error(Status::malformed, "a message of the wrong kind");
    const std::uint16_t known_flags = expected == MessageKind::reply ? message_overtakes : 0;
    if ((parsed.header.flags & ~known_flags) != 0)
        return make_error(Status::malformed, "a message with an unknown flag");
    if (parsed.header.records == 0 || parsed.header.records > max_records)
        return make_error(Status::malformed, "a message with no record or with too many");

    std::span<const std::byte> rest = message.head.bytes().subspan(MessageHeader::encoded_bytes);
    parsed.records.reserve(parsed.header.records);
    std::size_t next_bulk = 0;
    for (std::size_t i = 0; i < parsed.header.records; ++i) {
        Record& record = parsed.records.emplace_back();
        Decoder record_decoder(rest);
        record_decoder.get(record.header);
        if (!record_decoder.ok() || record.header.body_bytes > record_decoder.remaining())
            return make_error(Status::malformed, "a record is longer than its message");
        record.body = rest.subspan(RecordHeader::encoded_bytes, record.header.body_bytes);
        rest = rest.subspan(RecordHeader::encoded_bytes + record.header.body_bytes);

        if ((record.header.flags & ~(flag_link | flag_bulk | flag_resent | flag_void | flag_in_order | set_id_flags)) !=
                0 ||
            (record.header.flags & set_id_flags) == set_id_flags || record.header.bulk_encoding > BulkEncoding::zeros)
            return make_error(Status::malformed, "a record with an unknown flag or bulk encoding");
        if (record.header.bulk_size > max_bulk_bytes)
            return make_error(Status::malformed, "a record declares too much bulk data");
        if ((record.header.flags & flag_bulk) == 0) {
            if (record.header.bulk_size != 0 || record.header.bulk_encoding != BulkEncoding::raw)
                return make_error(Status::malformed, "a record declares bulk data and has none");
            continue;
        }
        if (next_bulk == message.bulk.size())
            return make_error(Status::malformed, "a bulk frame is missing");
        record.bulk = std::move(message.bulk[next_bulk++]);
        if (record.bulk.size() > max_frame_bytes)
            return make_error(Status::malformed, "a bulk frame is longer than the protocol allows");
        if (record.header.bulk_encoding != BulkEncoding::lz4 &&
            record.bulk.size() != (record.header.bulk_encoding == BulkEncoding::raw ? record.header.bulk_size : 0))
            return make_error(Status::malformed, "a bulk frame's length is not what its record says");
    }
    if (!rest.empty())
        return make_error(Status::malformed, "bytes after the last record");
    if (next_bulk != message.bulk.size())
        return make_error(Status::malformed, "a bulk frame that no record owns");
    parsed.frames = std::move(message);
    return parsed;
}

}  // namespace remofile::wire
