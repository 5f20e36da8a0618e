// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <sys/stat.h>

#include <set>

#include "catch.hpp"
#include "filesystem/walk.hpp"

using namespace remofile;
using namespace remofile::filesystem;
using namespace std::chrono_literals;

namespace {

struct TestClock : Clock {
    TimePoint now() const override { return TimePoint{} + 1h; }
};

// A tree whose directories become known as they are fetched.
struct Tree {
    Tree() {
        term.agree(10s);
        term.heard(clock.now());
    }
    void add(InodeNumber number, InodeNumber parent, const std::string& name, const std::vector<std::string>& below) {
        DirectoryCache::Listed listed{.directory = number, .place = {parent, name}};
        listed.complete = true;
        listed.asked_at = ++events;
        listed.attributes.mode = S_IFDIR | 0755;
        for (const std::string& each : below) {
            const bool is_directory = each.starts_with('d');
            DirectoryCache::Entry entry{.name = each,
                                        .type = static_cast<std::uint8_t>(is_directory ? DT_DIR : DT_REG)};
            entry.attributes.mode = is_directory ? S_IFDIR | 0755 : S_IFREG | 0644;
            entry.attributes.size = 100;
            entry.attributes.links = 1;
            listed.entries.push_back(std::move(entry));
        }
        REQUIRE(cache.learn(std::move(listed)));
    }
    TestClock clock;
    Counters counters;
    LeaseTerm term{clock};
    std::uint64_t events = 0;
    DirectoryCache cache{term, clock, counters, 1U << 24};
};

std::vector<std::string> numbered(const std::string& prefix, int count) {
    std::vector<std::string> names;
    for (int i = 0; i < count; ++i)
        names.push_back(prefix + std::to_string(100 + i));
    return names;
}

std::string text(const std::vector<Walk::Target>& targets) {
    std::string text;
    for (const auto& target : targets)
        text += std::to_string(target.parent) + "/" + target.name + " ";
    return text;
}

}  // namespace

TEST_CASE("a walk in the order of the listing is seen from its first steps, and fetched ahead in growing pieces") {
    Tree tree;
    std::vector<std::string> names = numbered("d", 100);
    std::swap(names[0], names[50]);  // not the order of the names
    tree.add(1, 0, "", names);
    Walk walk(tree.cache, is_directory_entry, 4, 64);
    CHECK(walk.ahead().empty());
    walk.visit(1, names[0]);
    CHECK(text(walk.ahead()) == "1/d101 1/d102 1/d103 1/d104 ");
    walk.visit(1, names[1]);
    CHECK(walk.window() == 16);
    walk.visit(1, names[2]);
    CHECK(walk.window() == 64);
    walk.visit(1, names[3]);
    CHECK(walk.window() == 64);
    CHECK(walk.ahead().front() == Walk::Target{1, names[4]});
    CHECK(walk.ahead().size() == 64);
}

TEST_CASE("a walk in the order of the names is told from one in that of the listing") {
    Tree tree;
    tree.add(1, 0, "", {"d3", "d1", "d9", "d2", "d4"});
    Walk walk(tree.cache, is_directory_entry, 4, 64);
    walk.visit(1, "d1");
    CHECK(text(walk.ahead()) == "1/d2 1/d3 1/d4 1/d9 ");
    walk.visit(1, "d2");
    CHECK(text(walk.ahead()) == "1/d3 1/d4 1/d9 ");
}

TEST_CASE("what lies within a directory comes before what comes after it") {
    Tree tree;
    tree.add(1, 0, "", {"da", "db", "dc"});
    Walk walk(tree.cache, is_directory_entry, 4, 64);
    walk.visit(1, "da");
    tree.add(2, 1, "da", {"d1", "f", "d2"});
    walk.visit(2, "d1");
    CHECK(text(walk.ahead()) == "2/d2 ");
    tree.add(3, 2, "d1", {"f"});
    tree.add(4, 2, "d2", {"dx"});
    CHECK(text(walk.ahead()) == "2/d2 4/dx ");
    // Whoever leaves it is about more.
    walk.visit(1, "db");
    tree.add(5, 1, "db", {"d3"});
    CHECK(text(walk.ahead()) == "5/d3 1/dc ");
}

TEST_CASE("nothing is fetched from beside what is walked") {
    Tree tree;
    tree.add(1, 0, "", {"da", "db"});
    tree.add(2, 1, "da", {"d1", "d2"});
    tree.add(3, 1, "db", {"d1"});
    Walk walk(tree.cache, is_directory_entry, 4, 64);
    walk.visit(1, "da");
    walk.visit(2, "d1");
    walk.visit(2, "d2");
    CHECK(walk.window() == 64);
    CHECK(walk.ahead().empty());
    CHECK(walk.is_starved());
}

TEST_CASE("several walks through one tree are told apart") {
    Tree tree;
    tree.add(1, 0, "", numbered("d", 400));
    Walk walk(tree.cache, is_directory_entry, 4, 64);
    for (int step = 0; step < 5; ++step)
        for (int thread = 0; thread < 4; ++thread)
            walk.visit(1, "d" + std::to_string(100 + 100 * thread + step));
    CHECK(walk.window() == 64);
    CHECK(walk.ahead().front() == Walk::Target{1, "d405"});
    walk.visit(1, "d205");
    CHECK(walk.window() == 64);
    CHECK(walk.ahead().front() == Walk::Target{1, "d206"});
}

TEST_CASE("more is fetched when half of it is used up") {
    Tree tree;
    const auto names = numbered("d", 100);
    tree.add(1, 0, "", names);
    Walk walk(tree.cache, is_directory_entry, 4, 16);
    walk.visit(1, names[0]);
    REQUIRE(walk.is_due());
    walk.fetched(walk.ahead().size());
    CHECK_FALSE(walk.is_due());
    walk.visit(1, names[1]);  // it may fetch more than before
    REQUIRE(walk.is_due());
    walk.fetched(walk.ahead().size());
    std::size_t visits = 0;
    for (std::size_t i = 2; !walk.is_due(); ++i, ++visits)
        walk.visit(1, names[i]);
    CHECK(visits == 8);
    // Where less was to be had, sooner.
    walk.fetched(4);
    CHECK(walk.is_starved());
    walk.visit(1, names[10]);
    CHECK(walk.is_due());
}

TEST_CASE("files are walked past the ends of their directories") {
    Tree tree;
    tree.add(1, 0, "", {"da", "db"});
    tree.add(2, 1, "da", {"f1", "f2"});
    tree.add(3, 1, "db", {"f3", "f4"});
    Walk walk(tree.cache, is_small_file_entry, 4, 256);
    walk.visit(2, "f1");
    CHECK(text(walk.ahead()) == "2/f2 ");
    walk.visit(2, "f2");
    walk.visit(3, "f3");
    CHECK(walk.window() == 64);
    CHECK(text(walk.ahead()) == "3/f4 ");
}

TEST_CASE("who jumps about pays for next to nothing") {
    Tree tree;
    const auto names = numbered("d", 1000);
    tree.add(1, 0, "", names);
    Walk walk(tree.cache, is_directory_entry, 4, 64);
    std::size_t fetched_ahead = 0;
    std::set<std::string> ahead;
    for (std::size_t i = 0; i < 500; ++i) {
        walk.visit(1, names[(i * 617 + 311) % names.size()]);
        for (const auto& target : walk.ahead())
            fetched_ahead += ahead.insert(target.name).second ? 1 : 0;
    }
    CHECK(fetched_ahead <= 125);
}

TEST_CASE("a tree that is a ring ends") {
    Tree tree;
    tree.add(2, 3, "d", {"d"});
    tree.add(3, 2, "d", {"d"});
    Walk walk(tree.cache, is_directory_entry, 4, 64);
    walk.visit(2, "d");
    CHECK(walk.ahead().size() <= 64);
}
