// SPDX-License-Identifier: MIT
#include "base/byte_size.hpp"

#include <limits>

#include "catch.hpp"

using namespace remofile;

TEST_CASE("sizes as people write them") {
    CHECK(parse_byte_size("0") == 0);
    CHECK(parse_byte_size("65536") == 65536);
    CHECK(parse_byte_size("512B") == 512);
    CHECK(parse_byte_size("64K") == 65536);
    CHECK(parse_byte_size("64k") == 65536);
    CHECK(parse_byte_size("64KB") == 65536);
    CHECK(parse_byte_size("64KiB") == 65536);
    CHECK(parse_byte_size("256M") == 256ULL << 20);
    CHECK(parse_byte_size("1G") == 1ULL << 30);
    CHECK(parse_byte_size("3TiB") == 3ULL << 40);
    CHECK(parse_byte_size("18446744073709551615") == std::numeric_limits<std::uint64_t>::max());
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
    CHECK(parse_byte_size("16777215T") == 16777215ULL << 40);
    CHECK(parse_byte_size("18014398509481984K").status() == Status::out_of_range);
}
