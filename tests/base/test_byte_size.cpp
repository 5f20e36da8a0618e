// SPDX-License-Identifier: MIT
#include "base/byte_size.hpp"

#include <limits>

#include "catch.hpp"

using namespace remofile;

namespace {

// Catch2 3 with g++ 14 cannot compare an std::expected by itself.
std::uint64_t bytes_in(const char* text) {
    const auto size = parse_byte_size(text);
    REQUIRE(size);
    return *size;
}

}  // namespace

TEST_CASE("sizes as people write them") {
    CHECK(bytes_in("0") == 0);
    CHECK(bytes_in("65536") == 65536);
    CHECK(bytes_in("512B") == 512);
    CHECK(bytes_in("64K") == 65536);
    CHECK(bytes_in("64k") == 65536);
    CHECK(bytes_in("64KB") == 65536);
    CHECK(bytes_in("64KiB") == 65536);
    CHECK(bytes_in("256M") == 256ULL << 20);
    CHECK(bytes_in("1G") == 1ULL << 30);
    CHECK(bytes_in("3TiB") == 3ULL << 40);
    CHECK(bytes_in("18446744073709551615") == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("what is no size") {
    for (const char* text : {"", " ", "K", "-1", "+1", "1.5G", "1 G", " 1", "1 ", "0x10", "1KK", "1iB", "1E", "1Kb",
                             "1KiBx", "1kib", "64\n"}) {
        INFO('"' << text << '"');
        CHECK(parse_byte_size(text).status() == Status::invalid);
    }
}

TEST_CASE("a size beyond 64 bits") {
    CHECK(parse_byte_size("18446744073709551616").status() == Status::out_of_range);
    CHECK(parse_byte_size("16777216T").status() == Status::out_of_range);
    CHECK(bytes_in("16777215T") == 16777215ULL << 40);
    CHECK(parse_byte_size("18014398509481984K").status() == Status::out_of_range);
}
