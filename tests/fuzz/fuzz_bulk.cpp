// SPDX-License-Identifier: MIT
// Bulk data from a peer that lies about its size and encoding. The input is the encoding (a byte), the features in
// force (a byte), the size that the record declares and the limit (u32 each), then the frame.
#include <algorithm>

#include "base/assert.hpp"
#include "fuzz_input.hpp"
#include "fuzz_target.hpp"
#include "wire/compression.hpp"

using namespace remofile;
using namespace remofile::wire;

namespace {

// What was decoded travels on, by each level, and arrives as it was.
void check_way_back(std::span<const std::byte> data, std::uint8_t level) {
    static Counters counters;
    static CompressionMeter meter(counters, "fuzz");
    Compressibility stream;
    const EncodingPlan plan = make_plan(encoding_features, level, 1);
    EncodedBulk encoded = encode_bulk(Buffer::copy_of(data), plan, &stream, meter);
    const RecordHeader header{.bulk_encoding = encoded.encoding, .bulk_size = encoded.size};
    const auto again = decode_bulk(header, std::move(encoded.data), encoding_features, data.size());
    REMOFILE_ASSERT(again.has_value() && std::ranges::equal(std::as_const(*again).bytes(), data));
}

std::string seed(BulkEncoding encoding, std::uint32_t declared, std::uint32_t limit, std::string_view frame) {
    std::string input{static_cast<char>(encoding), static_cast<char>(encoding_features)};
    append_number(input, declared);
    append_number(input, limit);
    return input += frame;
}

std::string compressed(const std::string& data, std::uint8_t level) {
    Counters counters;
    CompressionMeter meter(counters, "fuzz");
    const EncodingPlan plan{.level = level};
    const EncodedBulk encoded = encode_bulk(Buffer::copy_of(std::string_view(data)), plan, nullptr, meter);
    REMOFILE_ASSERT(encoded.encoding == BulkEncoding::lz4);
    return seed(encoded.encoding, encoded.size, encoded.size, encoded.data.text());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzInput input(data, size);
    RecordHeader header;
    header.bulk_encoding = static_cast<BulkEncoding>(input.number<std::uint8_t>());
    const auto features = input.number<std::uint8_t>();
    header.bulk_size = input.number<std::uint32_t>();
    const auto limit = input.number<std::uint32_t>();
    const auto decoded = decode_bulk(header, Buffer::copy_of(input.rest()), features, limit);
    if (!decoded)
        return 0;
    REMOFILE_ASSERT(decoded->size() == header.bulk_size && decoded->size() <= limit);
    // Each byte is looked at: one that was never written is an error of MemorySanitizer, one outside of it of ASan.
    check_way_back(decoded->bytes(), features % (max_compression_level + 1));
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    std::string text;
    for (int line = 0; line < 40; ++line)
        text += "line " + std::to_string(line) + " of a text that shrinks\n";
    return {seed(BulkEncoding::raw, 9, 9, "some data"), seed(BulkEncoding::raw, 10, 100, "some data"),
            seed(BulkEncoding::zeros, max_bulk_bytes, max_bulk_bytes, ""),
            seed(BulkEncoding::zeros, max_bulk_bytes, 10, ""), seed(BulkEncoding::zeros, 1, 1, "x"),
            seed(BulkEncoding::lz4, 0, 0, std::string(1, '\0')),
            seed(BulkEncoding::lz4, 5, 10, std::string("\x50hello", 6)),
            seed(BulkEncoding::lz4, 500, max_bulk_bytes, std::string("\x50hello", 6)),
            // A match that begins before the data, and one that is repeated beyond the declared size.
            seed(BulkEncoding::lz4, 20, 20, std::string("\x14x\xff\xff\x50hello", 10)),
            seed(BulkEncoding::lz4, 20, 20, std::string("\x1fx\x01\x00\xff\xff\xff\x00", 8)), compressed(text, 1),
            compressed(text, 9), compressed(std::string(4000, 'a'), 1)};
}

std::vector<std::string> fuzz_words() {
    return {std::string("\x01\x00", 2), std::string("\xff\xff\xff\xff", 4)};
}
