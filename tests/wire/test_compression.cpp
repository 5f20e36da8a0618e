// SPDX-License-Identifier: MIT
#include "wire/compression.hpp"

#include <lz4.h>

#include <catch.hpp>
#include <random>
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
                      std::uint64_t features = encoding_features, std::size_t limit = no_limit) {
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
    // Nor in memory.
    const auto many = decode(BulkEncoding::zeros, "", max_bulk_bytes);
    CHECK(is_shared_zeros(*many));
    CHECK(many->size() == max_bulk_bytes);
    CHECK(is_all_zeros(many->bytes()));
    CHECK_FALSE(is_shared_zeros(Buffer::allocate(10)));
    CHECK_FALSE(is_shared_zeros(Buffer()));
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

// ---------------------------------------------------------------- encoding

namespace {

std::string text_of(std::size_t size) {
    std::string text;
    for (std::size_t line = 0; text.size() < size; ++line)
        text += "line " + std::to_string(line * 7919 % 10007) + " of a text that has some words more than once\n";
    text.resize(size);
    return text;
}

std::string noise_of(std::size_t size) {
    std::mt19937_64 random(1);
    std::string noise(size, '\0');
    for (char& byte : noise)
        byte = static_cast<char>(random());
    return noise;
}

struct Encoding {
    Counters counters;
    CompressionMeter meter{counters, "test"};
    Compressibility stream;

    EncodedBulk encode(const std::string& data, const EncodingPlan& plan) {
        return encode_bulk(Buffer::copy_of(std::string_view(data)), plan, &stream, meter);
    }
};

std::string decoded(EncodedBulk bulk) {
    RecordHeader header;
    header.bulk_encoding = bulk.encoding;
    header.bulk_size = bulk.size;
    const auto data = decode_bulk(header, std::move(bulk.data), encoding_features, max_bulk_bytes);
    REQUIRE(data.has_value());
    return std::string(data->text());
}

constexpr EncodingPlan at_level(std::uint8_t level) {
    return {.zeros = true, .level = level, .adaptive = false};
}
constexpr EncodingPlan automatic{.zeros = true, .level = 1, .adaptive = true};

}  // namespace

TEST_CASE("what is encoded at any level decodes to what it was") {
    Encoding f;
    std::size_t shortest = max_bulk_bytes;
    for (std::uint8_t level = 1; level <= max_compression_level; ++level) {
        for (const std::size_t size : {512UL, 5000UL, 100'000UL, max_bulk_bytes}) {
            const std::string text = text_of(size);
            EncodedBulk bulk = f.encode(text, at_level(level));
            INFO("level " << int{level} << ", " << size << " bytes");
            CHECK(bulk.encoding == BulkEncoding::lz4);
            CHECK(bulk.size == size);
            CHECK(bulk.data.size() < size * 7 / 8 + 1);
            if (size == max_bulk_bytes && level == max_compression_level)
                CHECK(bulk.data.size() < shortest);
            if (size == max_bulk_bytes && level == 1)
                shortest = bulk.data.size();
            CHECK(decoded(std::move(bulk)) == text);
        }
    }
}

TEST_CASE("what does not shrink, or is too short to, is sent as it is") {
    Encoding f;
    for (const std::uint8_t level : {1, 12}) {
        const std::string noise = noise_of(200'000);
        EncodedBulk bulk = f.encode(noise, at_level(level));
        CHECK(bulk.encoding == BulkEncoding::raw);
        CHECK(decoded(std::move(bulk)) == noise);
    }
    CHECK(f.encode(text_of(100), at_level(1)).encoding == BulkEncoding::raw);
    CHECK(f.encode("", at_level(1)).encoding == BulkEncoding::raw);
    CHECK(f.encode(text_of(100'000), {}).encoding == BulkEncoding::raw);
}

TEST_CASE("zeros are told, whatever their number, and only if they are all zeros") {
    Encoding f;
    for (const std::size_t size : {1UL, 15UL, 16UL, 17UL, 4096UL, max_bulk_bytes}) {
        std::string data(size, '\0');
        EncodedBulk bulk = f.encode(data, at_level(1));
        CHECK(bulk.encoding == BulkEncoding::zeros);
        CHECK(bulk.data.empty());
        CHECK(decoded(std::move(bulk)) == data);
        for (const std::size_t place : {std::size_t{0}, size / 2, size - 1}) {
            data.assign(size, '\0');
            data[place] = 'x';
            INFO(size << " bytes, one at " << place);
            CHECK_FALSE(is_all_zeros(std::as_bytes(std::span(data))));
            CHECK(decoded(f.encode(data, at_level(1))) == data);
        }
    }
    CHECK(is_all_zeros({}));
    CHECK(f.encode(std::string(100, '\0'), {.zeros = false}).encoding == BulkEncoding::raw);
}

TEST_CASE("data that did not shrink is not tried for ever longer, and tried again when it may have changed") {
    Encoding f;
    const std::string noise = noise_of(256 << 10);
    const std::string text = text_of(256 << 10);
    std::size_t tries = 0;
    for (int i = 0; i < 4096; ++i) {  // a GiB
        const auto before = f.meter.refused_blocks.value();
        REQUIRE(f.encode(noise, automatic).encoding == BulkEncoding::raw);
        tries += f.meter.refused_blocks.value() - before;
    }
    CHECK(tries > 10);
    CHECK(tries < 32);
    int until_noticed = 0;
    while (f.encode(text, automatic).encoding == BulkEncoding::raw)
        ++until_noticed;
    CHECK(until_noticed <= 2 * (64 << 20) / (256 << 10));
    CHECK(f.encode(text, automatic).encoding == BulkEncoding::lz4);
    // A level is an order.
    for (int i = 0; i < 5; ++i)
        CHECK(f.encode(noise, at_level(1)).encoding == BulkEncoding::raw);
    CHECK(f.encode(text, at_level(1)).encoding == BulkEncoding::lz4);
}

TEST_CASE("the plan follows what was negotiated, what was asked for, and the link") {
    CHECK(make_plan(0, 9, 1).level == 0);
    CHECK_FALSE(make_plan(0, 9, 1).zeros);
    CHECK_FALSE(make_plan(feature_lz4, 9, 1).zeros);
    CHECK(make_plan(encoding_features, compression_off, 1).level == 0);
    CHECK(make_plan(encoding_features, compression_off, 1).zeros);
    CHECK(make_plan(encoding_features, 9, 0).level == 9);
    CHECK_FALSE(make_plan(encoding_features, 9, 0).adaptive);
    CHECK(make_plan(encoding_features, compression_automatic, 0).level == 0);
    CHECK(make_plan(encoding_features, compression_automatic, 3).level == 3);
    CHECK(make_plan(encoding_features, compression_automatic, 1).adaptive);
}

TEST_CASE("the automatic level follows the link, and is modest before that is known") {
    Encoding f;
    CHECK(automatic_level(std::nullopt, false, f.meter) == 1);
    CHECK(automatic_level(std::nullopt, true, f.meter) == 0);
    CHECK(automatic_level(12.5e6, false, f.meter) == 3);  // 100 Mbit/s
    CHECK(automatic_level(117e6, false, f.meter) == 1);   // 1 Gbit/s
    CHECK(automatic_level(1.1e9, false, f.meter) == 0);
    CHECK(automatic_level(300e6, true, f.meter) == 0);
    CHECK(automatic_level(12.5e6, true, f.meter) == 3);  // a tunnel
    // A busy or feeble machine.
    for (int i = 0; i < 100; ++i) {
        f.meter.note_run(1, 1'000'000, std::chrono::milliseconds(10));
        f.meter.note_run(3, 1'000'000, std::chrono::milliseconds(50));
    }
    CHECK(automatic_level(117e6, false, f.meter) == 0);
    CHECK(automatic_level(12.5e6, false, f.meter) == 1);
}

}  // namespace remofile::wire
