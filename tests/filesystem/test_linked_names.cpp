// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "filesystem/linked_names.hpp"

using namespace remofile::filesystem;

namespace {

using Names = std::vector<NamePlace>;

const NamePlace a{1, "a"};
const NamePlace b{1, "b"};
const NamePlace c{2, "c"};

}  // namespace

TEST_CASE("linked names: a file is looked for under the latest first, and not where it is not any more") {
    LinkedNames names;
    CHECK(names.of(10).empty());
    names.add(10, a);
    names.add(10, b);
    names.add(10, a);
    CHECK(names.of(10) == Names{a, b});
    names.move(a, c);
    CHECK(names.of(10) == Names{c, b});
    names.remove(b);
    names.remove(b);
    CHECK(names.of(10) == Names{c});
    names.remove(c);
    CHECK(names.of(10).empty());
}

TEST_CASE("linked names: a name is of one file") {
    LinkedNames names;
    names.add(10, a);
    names.add(10, b);
    names.add(20, b);
    names.add(20, c);
    CHECK(names.of(10) == Names{a});
    CHECK(names.of(20) == Names{c, b});
    names.move(a, c);  // in the place of the other
    CHECK(names.of(10) == Names{c});
    CHECK(names.of(20) == Names{b});
    names.move({3, "not known"}, b);
    CHECK(names.of(20).empty());
    names.forget(20);
    names.forget(10);
    CHECK(names.of(10).empty());
    names.add(30, c);
    CHECK(names.of(30) == Names{c});
}

TEST_CASE("linked names: of a file with many, the latest are kept") {
    LinkedNames names;
    for (std::size_t i = 0; i < 3 * LinkedNames::max_names; ++i)
        names.add(10, {1, std::to_string(i)});
    CHECK(names.of(10).size() == LinkedNames::max_names);
    CHECK(names.of(10).front() == NamePlace{1, std::to_string(3 * LinkedNames::max_names - 1)});
    names.add(20, {1, "0"});
    CHECK(names.of(20).size() == 1);
}
