// SPDX-License-Identifier: MIT
#include <array>
#include <random>

#include "catch.hpp"
#include "filesystem/carried_out.hpp"

using namespace remofile;
using namespace remofile::filesystem;

namespace {

using Names = std::map<NamePlace, InodeNumber>;
using Changes = std::vector<std::vector<NameChange>>;

const NamePlace a{1, "a"};
const NamePlace b{1, "b"};
const NamePlace c{2, "c"};

auto as_in(const Names& now) {
    return [&now](const NamePlace& place, InodeNumber inode) {
        const auto found = now.find(place);
        return (found == now.end() ? 0 : found->second) == inode;
    };
}

void put_in_place(const std::vector<NameChange>& change, Names& names) {
    for (const NameChange& each : change) {
        if (each.after == 0)
            names.erase(each.place);
        else
            names[each.place] = each.after;
    }
}

}  // namespace

TEST_CASE("what has been carried out is found by what names stand for") {
    const Changes changes{{{a, 0, 10}}, {{c, 0, 11}}, {{a, 10, 0}, {b, 20, 10}}, {{c, 11, 0}}};
    Names names{{b, 20}};
    for (std::size_t done = 0; done < changes.size(); ++done) {
        const auto found = carried_out(changes, as_in(names));
        REQUIRE(found);
        CHECK(found->count == done);
        put_in_place(changes[done], names);
    }
    CHECK(carried_out(changes, as_in(names))->count == changes.size());
    CHECK(carried_out({}, as_in(names))->count == 0);
}

TEST_CASE("a name that a later change takes away says nothing of what was made before it") {
    // "b" is not there, so nothing was carried out, although "a" is as it would be in the end.
    const Changes changes{{{a, 0, 10}}, {{b, 0, 11}}, {{a, 10, 0}}};
    const auto found = carried_out(changes, as_in(Names{}));
    REQUIRE(found);
    CHECK(found->count == 0);
}

TEST_CASE("names that somebody else has changed fit nowhere") {
    const Changes changes{{{a, 0, 10}}, {{b, 0, 11}}};
    CHECK_FALSE(carried_out(changes, as_in(Names{{b, 11}})));
    CHECK_FALSE(carried_out(changes, as_in(Names{{a, 99}})));
}

TEST_CASE("of one change names tell whether it was carried out, unless they would be the same or are others") {
    const auto with_unknown = [](const Names& now) {
        return [&now](const NamePlace& place, InodeNumber inode) {
            if (inode == unknown_inode || inode == unnumbered_inode)
                return inode == unknown_inode || now.contains(place);
            return as_in(now)(place, inode);
        };
    };
    const std::vector<NameChange> rename{{a, 10, 0}, {b, unknown_inode, 10}};
    CHECK(was_carried_out(rename, with_unknown(Names{{a, 10}})) == false);
    CHECK(was_carried_out(rename, with_unknown(Names{{a, 10}, {b, 20}})) == false);
    CHECK(was_carried_out(rename, with_unknown(Names{{b, 10}})) == true);
    CHECK_FALSE(was_carried_out(rename, with_unknown(Names{})));
    CHECK_FALSE(was_carried_out(rename, with_unknown(Names{{b, 20}})));
    const std::vector<NameChange> exchange{{a, unnumbered_inode, unnumbered_inode},
                                           {b, unnumbered_inode, unnumbered_inode}};
    CHECK_FALSE(was_carried_out(exchange, with_unknown(Names{{a, 10}, {b, 20}})));
}

TEST_CASE("wherever changes were cut off, carrying out the rest comes to the same end") {
    std::mt19937 random(20261130);
    for (int run = 0; run < 300; ++run) {
        Names names;
        Changes changes;
        std::vector<Names> after{names};
        InodeNumber last = 100;
        const std::array<NamePlace, 4> places{a, b, c, NamePlace{2, "d"}};
        for (int step = 0; step < 12; ++step) {
            const auto value = [&](const NamePlace& place) { return names.contains(place) ? names[place] : 0; };
            const NamePlace& place = places[random() % places.size()];
            const NamePlace& other = places[random() % places.size()];
            std::vector<NameChange> change;
            if (value(place) == 0)
                change = {{place, 0, ++last}};
            else if (random() % 2 == 0 || place == other)
                change = {{place, value(place), 0}};
            else
                change = {{place, value(place), 0}, {other, value(other), value(place)}};
            put_in_place(change, names);
            changes.push_back(change);
            after.push_back(names);
        }
        for (const Names& cut_off : after) {
            const auto found = carried_out(changes, as_in(cut_off));
            REQUIRE(found);
            Names end = cut_off;
            for (std::size_t i = found->count; i < changes.size(); ++i)
                put_in_place(changes[i], end);
            REQUIRE(end == names);
        }
    }
}
