// SPDX-License-Identifier: MIT
#include "wire/compression.hpp"

#include <lz4.h>

#include <catch.hpp>
#include <string>

namespace remofile::wire {
namespace {

constexpr std::size_t no_limit = max_bulk_bytes;

std::string compressed(const std::string& text) {
    std::string out(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(text.size()))), '\0');
    const int size =
        LZ4_compress_default(text.data(), out.data(), static_cast<int>(text.size()), static_cast<int>(out.size()));
    REQUIRE(size > 0);
    out.resize(static_cast<std::size_t>(size));
    return out;
}

Result<Buffer> decode(BulkEncoding encoding, const std::string& data, std::size_t size,
                      std::uint64_t features = decodable_features, std::size_t limit = no_limit) {
    RecordHeader header;
    header.bulk_encoding = encoding;
    header.bulk_size = static_cast<std::uint32_t>(size);
    return decode_bulk(header, Buffer::copy_of(std::string_view(data)), features, limit);
}

}  // namespace

TEST_CASE("raw bulk data is passed on") {
    CHECK(decode(BulkEncoding::raw, "abc", 3)->text() == "abc");
    CHECK(decode(BulkEncoding::raw, "abc", 4).status() == Status::malformed);
    CHECK(decode(BulkEncoding::raw, "abc", 3, 0, 2).status() == Status::malformed);
}

TEST_CASE("zeros take no bytes on the way") {
    const auto zeros = decode(BulkEncoding::zeros, "", 5);
    REQUIRE(zeros.has_value());
    CHECK(zeros->text() == std::string_view("\0\0\0\0\0", 5));
    CHECK(decode(BulkEncoding::zeros, "", 0)->empty());
    CHECK(decode(BulkEncoding::zeros, "x", 5).status() == Status::malformed);
    CHECK(decode(BulkEncoding::zeros, "", 5, feature_lz4).status() == Status::malformed);
    CHECK(decode(BulkEncoding::zeros, "", max_bulk_bytes + 1, feature_zeros, SIZE_MAX).status() == Status::malformed);
}

TEST_CASE("LZ4 blocks must decompress to exactly the declared size") {
    const std::string text(max_bulk_bytes, 'a');
    const std::string block = compressed(text);
    CHECK(decode(BulkEncoding::lz4, block, text.size())->text() == text);
    CHECK(decode(BulkEncoding::lz4, block, text.size() - 1).status() == Status::malformed);
    CHECK(decode(BulkEncoding::lz4, compressed("hello hello hello"), 18).status() == Status::malformed);
    CHECK(decode(BulkEncoding::lz4, "", 10).status() == Status::malformed);
    CHECK(decode(BulkEncoding::lz4, std::string(100, '\xff'), 10).status() == Status::malformed);
    CHECK(decode(BulkEncoding::lz4, block, text.size(), feature_zeros).status() == Status::malformed);
    CHECK(decode(BulkEncoding::lz4, block, text.size(), feature_lz4, text.size() - 1).status() == Status::malformed);
}

TEST_CASE("an encoding that does not exist is refused") {
    CHECK(decode(static_cast<BulkEncoding>(9), "abc", 3).status() == Status::malformed);
}

}  // namespace remofile::wire
