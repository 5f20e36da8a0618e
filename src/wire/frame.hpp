// SPDX-License-Identifier: MIT
// A message: one head frame of records, and a bulk frame for each record that owns one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.hpp"
#include "base/result.hpp"
#include "base/strong_id.hpp"
#include "wire/codec.hpp"
#include "wire/protocol.hpp"

namespace remofile::wire {

// What travels: the frames of one ZeroMQ message (less the routing id).
struct Message {
    Buffer head;
    std::vector<Buffer> bulk;

    // Payload bytes of all frames: the unit of the reply window.
    std::size_t byte_count() const;
};

// Leads the head frame.
struct MessageHeader {
    static constexpr std::size_t encoded_bytes = 24;
    std::uint16_t magic = message_magic;
    std::uint8_t version = protocol_version;
    MessageKind kind = MessageKind::request;
    std::uint16_t records = 0;
    std::uint16_t flags = 0;  // of replies: message_overtakes. 0 in others
    // In requests: every request of the session with a smaller id has been answered and the answer seen. 0 in others.
    RequestId answered_below;
    // In requests: byte_count() of all replies and pushes taken from this lane since it was attached. 0 in others.
    std::uint64_t received_bytes = 0;
    static constexpr auto fields = std::tuple{
        &MessageHeader::magic, &MessageHeader::version,        &MessageHeader::kind,          &MessageHeader::records,
        &MessageHeader::flags, &MessageHeader::answered_below, &MessageHeader::received_bytes};
};

// Leads each record, which follows the one before without padding.
struct RecordHeader {
    static constexpr std::size_t encoded_bytes = 24;
    std::uint32_t body_bytes = 0;
    Opcode opcode{};  // of a reply: that of its request
    std::uint8_t flags = 0;
    BulkEncoding bulk_encoding = BulkEncoding::raw;
    RequestId id;                 // of a push: 0
    std::uint32_t detail = 0;     // request: number of the credential; reply: status
    std::uint32_t bulk_size = 0;  // bytes of the bulk data once decoded

    SetId set_id() const { return static_cast<SetId>(flags & set_id_flags); }
    static constexpr auto fields = std::tuple{
        &RecordHeader::body_bytes, &RecordHeader::opcode, &RecordHeader::flags,    &RecordHeader::bulk_encoding,
        &RecordHeader::id,         &RecordHeader::detail, &RecordHeader::bulk_size};
};

// One record of a received message. `body` points into the message's head, which must outlive it.
struct Record {
    RecordHeader header;
    std::span<const std::byte> body;
    Buffer bulk;  // as it travelled; see bulk_encoding

    bool linked() const { return (header.flags & flag_link) != 0; }
};

// Builds one message.
class MessageWriter {
public:
    explicit MessageWriter(MessageKind kind);

    // Appends a record. `header.body_bytes` is set here, and flag_bulk when `bulk` is given; the caller sets bulk_size
    // and bulk_encoding if the data is encoded (raw data's size is set here).
    template <Structure Body>
    void add(RecordHeader header, const Body& body) {
        const std::size_t start = begin(header);
        Encoder(head_).put(body);
        end(start);
    }
    template <Structure Body>
    void add(RecordHeader header, const Body& body, Buffer bulk) {
        header.flags |= flag_bulk;
        if (header.bulk_encoding == BulkEncoding::raw)
            header.bulk_size = static_cast<std::uint32_t>(bulk.size());
        add(header, body);
        bulk_.push_back(std::move(bulk));
    }
    // A record whose body is encoded already.
    void add_encoded(RecordHeader header, std::span<const std::byte> body);
    void add_encoded(RecordHeader header, std::span<const std::byte> body, Buffer bulk);

    void set_flags(std::uint16_t flags) { header_.flags = flags; }
    std::size_t records() const { return header_.records; }
    std::size_t head_bytes() const { return head_.size(); }
    bool empty() const { return header_.records == 0; }

    // The finished message; the writer is spent.
    Message finish(RequestId answered_below = {}, std::uint64_t received_bytes = 0) &&;

private:
    std::size_t begin(const RecordHeader& header);
    void end(std::size_t record_start);

    MessageHeader header_;
    std::vector<std::byte> head_;
    std::vector<Buffer> bulk_;
};

struct ParsedMessage {
    MessageHeader header;
    std::vector<Record> records;
    Message frames;  // keeps the bytes that the records point into; its bulk frames have moved into the records
};

// Takes a message apart. Checks everything that can be checked without knowing the opcode: magic, version, kind,
// lengths, counts, limits, and that bulk frames and records that own one match. Errors: malformed, version_mismatch;
// the message says what is wrong.
Result<ParsedMessage> parse_message(Message message, MessageKind expected);

// Decodes a body completely. Errors: malformed.
template <Structure Body>
Result<Body> decode_body(std::span<const std::byte> bytes) {
    Decoder decoder(bytes);
    Body body;
    decoder.get(body);
    if (!decoder.finished())
        return Status::malformed;
    return body;
}

// Encodes a structure by itself.
template <Structure Body>
std::vector<std::byte> encode_body(const Body& body) {
    std::vector<std::byte> bytes;
    Encoder(bytes).put(body);
    return bytes;
}

}  // namespace remofile::wire
