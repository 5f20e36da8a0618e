// SPDX-License-Identifier: MIT
#include <sys/stat.h>

#include <iostream>
#include <map>
#include <random>
#include <vector>

#include "catch.hpp"
#include "filesystem/inode_map.hpp"

using namespace remofile;
using namespace remofile::filesystem;

namespace {

wire::Attributes attributes_of(std::uint64_t inode, std::uint32_t type = S_IFREG) {
    return {.identity = {.device = 7, .inode = inode}, .mode = type | 0644U};
}

wire::EntryReply entry(std::uint64_t node, std::uint64_t inode, std::uint32_t type = S_IFREG) {
    return {.node = NodeId{node}, .attributes = attributes_of(inode, type)};
}

struct Fixture {
    InodeMap table{1, NodeId{1}, attributes_of(1, S_IFDIR)};
    std::vector<wire::ForgetNode> given_back;

    Inode& adopt(const wire::EntryReply& reply, InodeNumber parent = root_inode) {
        Inode* inode = table.adopt(parent, reply, given_back);
        REQUIRE(inode != nullptr);
        return *inode;
    }
};

}  // namespace

TEST_CASE("the server's count is given back when the last entry is") {
    Fixture f;
    const InodeNumber id = f.adopt(entry(10, 100)).id;
    CHECK(f.adopt(entry(10, 100)).id == id);
    CHECK(f.adopt(entry(10, 100)).id == id);
    f.table.forget(id, 2, f.given_back);
    CHECK(f.given_back.empty());
    f.table.forget(id, 1, f.given_back);
    REQUIRE(f.given_back.size() == 1);
    CHECK(f.given_back[0].node == NodeId{10});
    CHECK(f.given_back[0].count == 3);
    CHECK(f.table.find(id) == nullptr);
    CHECK(f.table.find(NodeId{10}) == nullptr);
    CHECK(f.adopt(entry(11, 100)).id != id);
}

TEST_CASE("a file that the server names twice is one inode, and the second name goes back at once") {
    Fixture f;
    const InodeNumber id = f.adopt(entry(10, 100)).id;
    CHECK(f.adopt(entry(20, 100)).id == id);
    REQUIRE(f.given_back.size() == 1);
    CHECK(f.given_back[0].node == NodeId{20});
    f.given_back.clear();
    f.table.forget(id, 2, f.given_back);
    REQUIRE(f.given_back.size() == 1);
    CHECK(f.given_back[0].node == NodeId{10});
    CHECK(f.given_back[0].count == 1);
}

TEST_CASE("a directory is found by a name of the server's that is on its way back, too") {
    Fixture f;
    const InodeNumber id = f.adopt(entry(10, 100, S_IFDIR)).id;
    CHECK(f.adopt(entry(20, 100, S_IFDIR)).id == id);
    CHECK(f.given_back.size() == 1);
    REQUIRE(f.table.find(NodeId{20}) != nullptr);
    CHECK(f.table.find(NodeId{20})->id == id);
    CHECK(f.table.find(id)->node == NodeId{10});
    SECTION("as long as there is the directory") {
        f.table.forget(id, 2, f.given_back);
        CHECK(f.table.find(NodeId{20}) == nullptr);
        // Whoever finds it again may do so by that name.
        const InodeNumber again = f.adopt(entry(20, 100, S_IFDIR)).id;
        CHECK(f.table.find(NodeId{20})->id == again);
        for (std::uint64_t other = 1000; other < 6000; ++other)
            f.adopt(entry(other, 100, S_IFDIR));
        CHECK(f.table.find(NodeId{20})->id == again);
        CHECK(f.table.find(NodeId{1000}) == nullptr);
        CHECK(f.table.find(NodeId{5999})->id == again);
    }
    SECTION("in the session") {
        f.table.new_epoch(2, NodeId{1}, attributes_of(1, S_IFDIR));
        CHECK(f.table.find(NodeId{20}) == nullptr);
    }
}

TEST_CASE("an open file is known until it is closed, whoever forgets its entries") {
    Fixture f;
    Inode& inode = f.adopt(entry(10, 100));
    f.table.opened(inode);
    f.table.opened(inode);
    f.table.forget(inode.id, 1, f.given_back);
    CHECK(f.table.find(NodeId{10}) == &inode);
    CHECK(f.adopt(entry(10, 100)).id == inode.id);
    f.table.forget(inode.id, 1, f.given_back);
    f.table.closed(inode, f.given_back);
    CHECK(f.given_back.empty());
    f.table.closed(inode, f.given_back);
    REQUIRE(f.given_back.size() == 1);
    CHECK(f.given_back[0].count == 2);
    CHECK(f.table.size() == 1);
}

TEST_CASE("what a server must not name is refused") {
    Fixture f;
    CHECK(f.table.adopt(root_inode, entry(0, 100), f.given_back) == nullptr);
    CHECK(f.given_back.empty());
    CHECK(f.table.adopt(root_inode, entry(5, 1, S_IFDIR), f.given_back) == nullptr);
    CHECK(f.given_back.size() == 1);
}

TEST_CASE("an inode number used again for another type is another file") {
    Fixture f;
    const InodeNumber file = f.adopt(entry(10, 100, S_IFREG)).id;
    const InodeNumber directory = f.adopt(entry(11, 100, S_IFDIR)).id;
    CHECK(file != directory);
    f.table.forget(file, 1, f.given_back);
    CHECK(f.adopt(entry(11, 100, S_IFDIR)).id == directory);
}

TEST_CASE("a new session makes inodes stale until they are found again under their numbers") {
    Fixture f;
    const InodeNumber id = f.adopt(entry(10, 100)).id;
    const InodeNumber lost = f.adopt(entry(12, 120)).id;
    f.table.new_epoch(2, NodeId{1}, attributes_of(1, S_IFDIR));
    CHECK_FALSE(f.table.stale(f.table.root()));
    CHECK(f.table.stale(*f.table.find(id)));
    CHECK(f.table.find(NodeId{10}) == nullptr);

    CHECK(f.adopt(entry(50, 100)).id == id);
    CHECK_FALSE(f.table.stale(*f.table.find(id)));
    f.table.forget(lost, 1, f.given_back);
    CHECK(f.given_back.empty());  // the old session's count went with it
    f.table.forget(id, 2, f.given_back);
    REQUIRE(f.given_back.size() == 1);
    CHECK(f.given_back[0].node == NodeId{50});
    CHECK(f.given_back[0].count == 1);
}

TEST_CASE("the depth of a directory is counted from the root") {
    Fixture f;
    const InodeNumber a = f.adopt(entry(10, 100, S_IFDIR)).id;
    const InodeNumber b = f.adopt(entry(11, 101, S_IFDIR), a).id;
    CHECK(f.table.depth(root_inode) == 0);
    CHECK(f.table.depth(a) == 1);
    CHECK(f.table.depth(b) == 2);
    // Moved to the root.
    f.adopt(entry(11, 101, S_IFDIR), root_inode);
    CHECK(f.table.depth(b) == 1);
    // A link with two names counts as the one nearest to the root.
    f.adopt(entry(11, 101, S_IFDIR), a);
    Inode& link = f.adopt(entry(12, 102, S_IFLNK), b);
    CHECK(f.table.depth(link.parent) == 2);
    f.adopt(entry(12, 102, S_IFLNK), root_inode);
    f.adopt(entry(12, 102, S_IFLNK), b);
    CHECK(f.table.depth(link.parent) == 0);
    // A server that makes up a ring gets no depth.
    f.adopt(entry(10, 100, S_IFDIR), b);
    CHECK(f.table.depth(a) == 0);
}

TEST_CASE("random look-ups and forgets leave no count behind") {
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const auto below = [&](std::uint32_t limit) { return static_cast<std::uint32_t>(random() % limit); };

    Fixture f;
    std::map<std::uint64_t, std::uint64_t> server;  // the server's counts, by node
    std::map<InodeNumber, std::uint64_t> holder;    // the counts of whoever got the entries
    std::uint64_t next_node = 2;
    std::uint64_t epoch = 1;
    const auto settle = [&] {
        for (const auto& forgotten : f.given_back) {
            INFO("node " << forgotten.node.value);
            REQUIRE(server[forgotten.node.value] >= forgotten.count);
            server[forgotten.node.value] -= forgotten.count;
        }
        f.given_back.clear();
    };
    for (int step = 0; step < 20000; ++step) {
        const std::uint32_t what = below(100);
        if (what < 60) {
            // The server answers with the node that the file has, or sometimes with another.
            const std::uint64_t file = 100 + below(40);
            Inode* known = nullptr;
            for (auto& [id, count] : holder)
                if (Inode* inode = f.table.find(id); inode != nullptr && inode->identity.inode == file)
                    known = inode;
            const bool reuse = known != nullptr && !f.table.stale(*known) && below(10) != 0;
            const std::uint64_t node = reuse ? known->node.value : next_node++;
            ++server[node];
            Inode& inode = f.adopt(entry(node, file));
            if (below(10) == 0)
                f.table.forget(inode.id, 1, f.given_back);
            else
                ++holder[inode.id];
        } else if (what < 99 && !holder.empty()) {
            auto chosen = std::next(holder.begin(), below(static_cast<std::uint32_t>(holder.size())));
            const std::uint64_t count = 1 + below(static_cast<std::uint32_t>(chosen->second));
            f.table.forget(chosen->first, count, f.given_back);
            chosen->second -= count;
            if (chosen->second == 0)
                holder.erase(chosen);
        } else if (below(20) == 0) {
            settle();
            server.clear();
            f.table.new_epoch(++epoch, NodeId{1}, attributes_of(1, S_IFDIR));
        }
        settle();
    }
    for (const auto& [id, count] : holder)
        f.table.forget(id, count, f.given_back);
    settle();
    CHECK(f.table.size() == 1);
    for (const auto& [node, count] : server) {
        INFO("node " << node);
        CHECK(count == 0);
    }
}

TEST_CASE("what was used longest ago is named first") {
    Fixture f;
    std::vector<InodeNumber> ids;
    for (std::uint64_t i = 0; i < 10; ++i)
        ids.push_back(f.adopt(entry(10 + i, 100 + i)).id);
    f.adopt(entry(10, 100));  // given out once more
    CHECK(f.table.not_used_lately(3) == std::vector<InodeNumber>{ids[1], ids[2], ids[3]});
    // Those are the last to be named again.
    CHECK(f.table.not_used_lately(7) ==
          std::vector<InodeNumber>{ids[4], ids[5], ids[6], ids[7], ids[8], ids[9], ids[0]});
    f.table.forget(ids[1], 1, f.given_back);
    f.table.forget(ids[3], 1, f.given_back);
    CHECK(f.table.not_used_lately(2) == std::vector<InodeNumber>{ids[2], ids[4]});
    // No more than there are.
    CHECK(f.table.not_used_lately(100).size() == 8);
}

TEST_CASE("what is open, leased or given back already is not named, and what has pages in front rather not") {
    Fixture f;
    const auto id_of = [&](std::uint64_t number) { return f.adopt(entry(10 + number, 100 + number)).id; };
    const InodeNumber open = id_of(0);
    const InodeNumber leased = id_of(1);
    const InodeNumber with_pages = id_of(2);
    const InodeNumber closed_later = id_of(3);
    const InodeNumber plain = id_of(4);
    f.table.opened(*f.table.find(open));
    InodeMap::hold(*f.table.find(leased));
    f.table.find(with_pages)->pages.kept = true;
    f.table.opened(*f.table.find(closed_later));
    f.table.forget(closed_later, 1, f.given_back);
    CHECK(f.table.not_used_lately(1) == std::vector<InodeNumber>{plain});
    // Where there are too few others, those with pages too.
    CHECK(f.table.not_used_lately(2) == std::vector<InodeNumber>{plain, with_pages});
    f.table.closed(*f.table.find(open), f.given_back);
    f.table.let_go(*f.table.find(leased), f.given_back);
    CHECK(f.table.not_used_lately(5).size() == 4);
}

TEST_CASE("the order of use holds whatever comes and goes") {
    Fixture f;
    std::mt19937_64 random(7);
    std::vector<InodeNumber> order;  // the model
    for (int step = 0; step < 20'000; ++step) {
        const std::uint64_t number = random() % 50;
        if (random() % 3 == 0 && !order.empty()) {
            const std::size_t which = random() % order.size();
            f.table.forget(order[which], 1000, f.given_back);
            order.erase(order.begin() + static_cast<std::ptrdiff_t>(which));
        } else {
            const InodeNumber id = f.adopt(entry(10 + number, 100 + number)).id;
            std::erase(order, id);
            order.push_back(id);
        }
        if (step % 100 == 0)
            CHECK(f.table.not_used_lately(order.size()) == order);
    }
}

TEST_CASE("a file that a walk has met takes less than 400 bytes") {
    // Its place in the table of numbers and in that of identities, as libstdc++ makes them, besides.
    constexpr std::size_t in_tables = 3 * sizeof(void*) + sizeof(InodeNumber) + 4 * sizeof(void*) + 2 * sizeof(void*);
    CHECK(sizeof(Inode) + in_tables < 400);
}
