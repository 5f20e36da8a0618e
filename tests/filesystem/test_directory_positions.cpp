// SPDX-License-Identifier: MIT
#include "filesystem/directory_positions.hpp"

#include <numeric>
#include <vector>

#include "catch.hpp"

using remofile::filesystem::DirectoryPositions;

namespace {

// The numbers that a listing of these cookies gets, after `before`.
std::vector<std::uint64_t> numbers_of(DirectoryPositions& positions, const std::vector<std::uint64_t>& cookies,
                                      std::uint64_t before = DirectoryPositions::start) {
    std::vector<std::uint64_t> numbers;
    for (const std::uint64_t cookie : cookies)
        numbers.push_back(before = positions.number(before, cookie));
    return numbers;
}

constexpr std::uint64_t large = std::uint64_t{1} << 62U;

}  // namespace

TEST_CASE("positions: small numbers stand for the server's cookies") {
    DirectoryPositions positions;
    CHECK(numbers_of(positions, {large + 3, large + 1, large + 2}) == std::vector<std::uint64_t>{1, 2, 3});
    CHECK(positions.cookie(0) == 0);
    CHECK(positions.cookie(2) == large + 1);
    CHECK_FALSE(positions.cookie(4));
}

TEST_CASE("positions: a listing that is read again, from anywhere, has the same numbers") {
    DirectoryPositions positions;
    numbers_of(positions, {large + 3, large + 1, large + 2});
    CHECK(numbers_of(positions, {large + 3, large + 1, large + 2}) == std::vector<std::uint64_t>{1, 2, 3});
    CHECK(numbers_of(positions, {large + 2, large + 9}, 2) == std::vector<std::uint64_t>{3, 4});
}

TEST_CASE("positions: what has come and gone leaves the others where they were") {
    DirectoryPositions positions;
    const auto before = numbers_of(positions, {large + 3, large + 1, large + 2, large + 4});
    const std::vector<std::uint64_t> cookies{large + 3, large + 7, large + 2, large + 4};
    const auto after = numbers_of(positions, cookies);
    for (std::size_t i = 0; i < cookies.size(); ++i)
        CHECK(positions.cookie(after[i]) == cookies[i]);
    CHECK(positions.cookie(before[1]) == large + 1);
    CHECK(positions.cookie(before[3]) == large + 4);
}

TEST_CASE("positions: those of a short listing outlive its beginning anew, those of a long one do not pile up") {
    DirectoryPositions positions;
    numbers_of(positions, {large, large + 1});
    positions.restart();
    CHECK(positions.cookie(2) == large + 1);
    std::vector<std::uint64_t> many(200'000);
    for (int round = 0; round < 3; ++round) {
        std::iota(many.begin(), many.end(), large + static_cast<std::uint64_t>(round));
        CHECK(numbers_of(positions, many).back() <= 2 * many.size());
        positions.restart();
    }
}
