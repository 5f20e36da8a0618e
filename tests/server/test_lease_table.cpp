// SPDX-License-Identifier: MIT
// What the table of leases tells whom, whose word must be waited for, and what ends leases.
#include <array>
#include <atomic>
#include <catch.hpp>
#include <random>
#include <thread>
#include <vector>

#include "server/leases/held_replies.hpp"
#include "server/leases/lease_table.hpp"
#include "server/leases/session_pushes.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace std::chrono_literals;
using What = wire::LeaseChange::What;

namespace {

class TurnedClock final : public Clock {
public:
    TimePoint now() const override { return now_; }
    void advance(Duration by) { now_ += by; }

private:
    TimePoint now_{std::chrono::hours(1)};
};

InodePtr some_inode() {
    auto owner = std::make_shared<int>(0);  // opaque to the table
    return {owner, reinterpret_cast<Inode*>(owner.get())};
}

// A table, two holders, and one directory.
struct Fixture {
    TurnedClock clock;
    Counters counters;
    LeaseTable table;
    InodePtr directory = some_inode();
    InodePtr other = some_inode();
    // Anything will do for an identity.
    int first_identity = 0;
    int second_identity = 0;
    LeaseHolder one = reinterpret_cast<LeaseHolder>(&first_identity);
    LeaseHolder two = reinterpret_cast<LeaseHolder>(&second_identity);
    static constexpr SessionId first{1};
    static constexpr SessionId second{2};
    static constexpr NodeId node{7};

    explicit Fixture(const LeaseTable::Limits& limits = {}) : table(clock, limits, counters) {
        table.enter(one, first);
        table.enter(two, second);
    }
    std::vector<LeaseTable::Wait> change(const std::string& name, bool is_new_meaning, LeaseHolder author = nullptr) {
        const std::vector<Touched> touched{{directory, name, is_new_meaning}};
        return table.tell(author == nullptr ? two : author, touched);
    }
    std::vector<wire::LeaseChange> told(LeaseHolder holder = nullptr) {
        auto news = table.take_news(holder == nullptr ? one : holder, 1 << 16);
        return news ? news->changes : std::vector<wire::LeaseChange>{};
    }
    ToldNumber take_and_confirm() {
        const auto news = table.take_news(one, 1 << 16);
        REQUIRE(news);
        table.confirm(one, news->last);
        return news->last;
    }
};

using Waits = std::vector<LeaseTable::Wait>;
using Changes = std::vector<wire::LeaseChange>;

}  // namespace

TEST_CASE("the holder of a lease is told what another changes, and its word is waited for") {
    Fixture f;
    CHECK(f.change("file", false).empty());  // nobody has a lease
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    CHECK(f.change("file", false, f.one).empty());  // the author knows
    CHECK(f.told().empty());

    CHECK(f.change("file", false) == Waits{{Fixture::first, 1}});
    CHECK(f.change("name", true) == Waits{{Fixture::first, 2}});
    CHECK(f.table.newly_told() == std::vector<SessionId>{Fixture::first});
    CHECK(f.table.newly_told().empty());
    const auto news = f.table.take_news(f.one, 1 << 16);
    REQUIRE(news);
    CHECK_FALSE(news->all_leases);
    CHECK(news->last == 2);
    CHECK(news->changes == Changes{{Fixture::node, What::content, "file"}, {Fixture::node, What::name, "name"}});
    CHECK_FALSE(f.table.has_news(f.one));
    CHECK(f.table.figures(f.one).leases == 1);
    CHECK(f.table.figures(f.one).revoked == 2);
}

TEST_CASE("what a holder was told it is not told again until it asks, but waited for until it has confirmed") {
    Fixture f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    CHECK(f.change("file", false) == Waits{{Fixture::first, 1}});
    // It may still answer from memory until the push has come.
    CHECK(f.change("file", false) == Waits{{Fixture::first, 1}});
    CHECK(f.told().size() == 1);
    f.table.confirm(f.one, 1);
    CHECK(f.change("file", false).empty());
    CHECK(f.told().empty());

    CHECK(f.table.asks_for_attributes(f.one, *f.directory, "file"));
    CHECK_FALSE(f.table.asks_for_attributes(f.one, *f.directory, "file"));
    CHECK(f.change("file", false) == Waits{{Fixture::first, 2}});
    CHECK(f.told() == Changes{{Fixture::node, What::content, "file"}});
    f.table.confirm(f.one, 2);
    CHECK(f.table.asks_for_name(f.one, *f.directory, "file"));
    CHECK(f.change("file", false).size() == 1);
}

TEST_CASE("that a name stands for something else is told also after its content") {
    Fixture f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    f.change("file", false);
    CHECK(f.change("file", true) == Waits{{Fixture::first, 2}});
    CHECK(f.told() == Changes{{Fixture::node, What::content, "file"}, {Fixture::node, What::name, "file"}});
    f.table.confirm(f.one, 2);
    CHECK(f.change("file", false).empty());
    CHECK(f.change("file", true).empty());
    // Attributes of a file do not say what a name stands for.
    CHECK_FALSE(f.table.asks_for_attributes(f.one, *f.directory, "file"));
    CHECK(f.change("file", true).empty());
    CHECK(f.table.asks_for_name(f.one, *f.directory, "file"));
    CHECK(f.change("file", true).size() == 1);
}

TEST_CASE("a changed name has changed the directory too") {
    Fixture f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    f.change("name", true);
    CHECK(f.told().size() == 1);
    f.table.confirm(f.one, 1);
    CHECK(f.change("", false).empty());  // told with the name
    CHECK(f.table.asks_for_attributes(f.one, *f.directory, ""));
    // The name is old news, the directory's attributes are not.
    CHECK(f.change("name", true) == Waits{{Fixture::first, 2}});
    CHECK(f.told() == Changes{{Fixture::node, What::directory, ""}});
    f.table.confirm(f.one, 2);
    CHECK(f.change("name", true).empty());
    CHECK(f.change("another", true) == Waits{{Fixture::first, 3}});
    f.table.asks_for_attributes(f.one, *f.directory, "");
    CHECK(f.change("", false) == Waits{{Fixture::first, 4}});
}

TEST_CASE("a lease with too many names to ask for again ends, and is waited for until that is confirmed") {
    LeaseTable::Limits limits;
    limits.told_names = 3;
    Fixture f(limits);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    for (const auto* name : {"a", "b", "c"})
        CHECK(f.change(name, false).size() == 1);
    CHECK(f.change("d", false) == Waits{{Fixture::first, 4}});
    CHECK(f.table.figures(f.one).leases == 0);
    CHECK(f.change("e", true) == Waits{{Fixture::first, 4}});
    CHECK(f.told().back() == wire::LeaseChange{Fixture::node, What::ended, ""});
    CHECK_FALSE(f.table.asks_for_name(f.one, *f.directory, "a"));
    f.table.confirm(f.one, 4);
    CHECK(f.change("f", true).empty());
    CHECK(f.table.nobody());
}

TEST_CASE("what one holder was told of all its leases is bounded, and what it asks for again counts no more") {
    LeaseTable::Limits limits;
    limits.told_names_each = 4;
    Fixture f(limits);
    constexpr NodeId other_node{8};
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    REQUIRE(f.table.grant(f.one, f.other, other_node));
    const auto change_other = [&](const std::string& name) {
        return f.table.tell(f.two, std::vector<Touched>{{f.other, name, false}});
    };
    for (int round = 0; round < 3; ++round) {
        f.change("a", false);
        f.change("b", false);
        change_other("a");
        change_other("b");
        CHECK(f.table.asks_for_attributes(f.one, *f.directory, "a"));
        CHECK(f.table.asks_for_name(f.one, *f.directory, "b"));
        CHECK(f.table.grant(f.one, f.other, other_node));
        CHECK(f.table.figures(f.one).leases == 2);
    }
    for (const auto* name : {"a", "b", "c", "d"})
        f.change(name, false);
    CHECK(f.told().back() == wire::LeaseChange{Fixture::node, What::content, "d"});
    change_other("a");
    CHECK(f.told() == Changes{{other_node, What::ended, ""}});
    // With the lease that it was told of goes what counts.
    f.table.give_back(f.one, *f.directory);
    REQUIRE(f.table.grant(f.one, f.other, other_node));
    change_other("a");
    CHECK(f.told() == Changes{{other_node, What::content, "a"}});
}

TEST_CASE("a lease that is asked for again is whole again") {
    Fixture f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    f.change("file", true);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    CHECK(f.table.figures(f.one).leases == 1);
    CHECK(f.change("file", true) == Waits{{Fixture::first, 2}});
    CHECK(f.told() == Changes{{Fixture::node, What::name, "file"}, {Fixture::node, What::name, "file"}});
    f.table.give_back(f.one, *f.directory);
    CHECK(f.table.nobody());
    CHECK(f.change("file", true).empty());
}

TEST_CASE("a lease is told of by the node that it was first granted under, as long as its holder knows that one") {
    Fixture f;
    const auto told_by = [&] {
        f.change("file", true);
        const Changes told = f.told();
        f.table.asks_for_name(f.one, *f.directory, "file");
        f.table.asks_for_attributes(f.one, *f.directory, {});
        return told.empty() ? NodeId{} : told.front().directory;
    };
    constexpr NodeId second{8};
    constexpr NodeId third{9};
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    REQUIRE(f.table.grant(f.one, f.directory, second));
    CHECK(told_by() == Fixture::node);
    // One that it does not go by.
    CHECK(f.table.node_gone(f.one, third, NodeId{}) == std::nullopt);
    CHECK(f.table.node_gone(f.two, Fixture::node, NodeId{}) == std::nullopt);
    CHECK(told_by() == Fixture::node);
    CHECK(f.table.node_gone(f.one, Fixture::node, third) == third);
    CHECK(told_by() == third);
    CHECK(f.table.node_gone(f.one, Fixture::node, NodeId{}) == std::nullopt);
    // Granted under another one after that was looked for in vain.
    REQUIRE(f.table.grant(f.one, f.directory, second));
    CHECK(f.table.node_gone(f.one, third, NodeId{}) == second);
    CHECK(told_by() == second);
    CHECK(f.table.node_gone(f.one, second, NodeId{}) == std::nullopt);
    CHECK(f.table.nobody());
    CHECK(told_by() == NodeId{});
    // What is another directory's already does not become this one's.
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    REQUIRE(f.table.grant(f.one, f.other, second));
    CHECK(f.table.node_gone(f.one, Fixture::node, second) == std::nullopt);
    CHECK_FALSE(f.table.is_leased(*f.directory));
    CHECK(f.table.is_leased(*f.other));
}

TEST_CASE("a lease that was ended and is asked for again before that is confirmed is in force") {
    LeaseTable::Limits limits;
    limits.told_names = 1;
    Fixture f(limits);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    f.change("a", false);
    CHECK(f.change("b", false) == Waits{{Fixture::first, 2}});
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    CHECK(f.change("b", false) == Waits{{Fixture::first, 3}});
    f.table.confirm(f.one, 2);  // of the old one
    CHECK(f.table.figures(f.one).leases == 1);
    CHECK(f.change("b", false) == Waits{{Fixture::first, 3}});
}

TEST_CASE("each holder is told by its own number of the directory") {
    Fixture f;
    int third_identity = 0;
    const auto three = reinterpret_cast<LeaseHolder>(&third_identity);
    f.table.enter(three, SessionId{3});
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    REQUIRE(f.table.grant(three, f.directory, NodeId{99}));
    CHECK(f.change("file", true).size() == 2);
    CHECK(f.told() == Changes{{Fixture::node, What::name, "file"}});
    CHECK(f.told(three) == Changes{{NodeId{99}, What::name, "file"}});
    CHECK(f.table.others_than(f.one));
    f.table.leave(three);
    CHECK_FALSE(f.table.others_than(f.one));
    CHECK(f.table.others_than(f.two));
    CHECK(f.change("x", true).size() == 1);
}

TEST_CASE("only sessions that have come and not gone get leases") {
    Fixture f;
    int stranger = 0;
    CHECK_FALSE(f.table.grant(reinterpret_cast<LeaseHolder>(&stranger), f.directory, Fixture::node));
    f.table.leave(f.one);
    CHECK_FALSE(f.table.grant(f.one, f.directory, Fixture::node));
    f.table.close();
    CHECK_FALSE(f.table.grant(f.two, f.directory, Fixture::node));
    CHECK(f.table.nobody());
}

TEST_CASE("beyond its share a holder's oldest lease ends") {
    LeaseTable::Limits limits;
    limits.leases_each = 2;
    Fixture f(limits);
    const InodePtr third = some_inode();
    REQUIRE(f.table.grant(f.one, f.directory, NodeId{1}));
    REQUIRE(f.table.grant(f.one, f.other, NodeId{2}));
    REQUIRE(f.table.grant(f.one, f.directory, NodeId{1}));  // is the newest now
    REQUIRE(f.table.grant(f.one, third, NodeId{3}));
    CHECK(f.table.figures(f.one).leases == 2);
    CHECK(f.told() == Changes{{NodeId{2}, What::ended, ""}});
    // Until it knows, changes there are waited for.
    CHECK(f.table.tell(f.two, std::vector<Touched>{{f.other, "x", true}}) == Waits{{Fixture::first, 1}});
    f.table.confirm(f.one, 1);
    CHECK(f.table.tell(f.two, std::vector<Touched>{{f.other, "x", true}}).empty());
}

TEST_CASE("beyond the share of all, whoever has most loses its oldest") {
    LeaseTable::Limits limits;
    limits.leases = 2;
    Fixture f(limits);
    REQUIRE(f.table.grant(f.one, f.directory, NodeId{1}));
    REQUIRE(f.table.grant(f.one, f.other, NodeId{2}));
    REQUIRE(f.table.grant(f.two, f.directory, NodeId{1}));
    CHECK(f.table.figures(f.one).leases == 1);
    CHECK(f.table.figures(f.two).leases == 1);
    CHECK(f.told() == Changes{{NodeId{1}, What::ended, ""}});
    CHECK(f.told(f.two).empty());
}

TEST_CASE("one that keeps asking for leases and confirms nothing ends up with none") {
    LeaseTable::Limits limits;
    limits.leases_each = 4;
    Fixture f(limits);
    std::vector<InodePtr> directories;
    bool refused = false;
    for (std::uint64_t i = 1; i <= 100; ++i) {
        directories.push_back(some_inode());
        refused = !f.table.grant(f.one, directories.back(), NodeId{i}) || refused;
    }
    CHECK(refused);
    CHECK(f.table.figures(f.one).leases == 0);
    const auto news = f.table.take_news(f.one, 1 << 16);
    REQUIRE(news);
    CHECK(news->all_leases);
    CHECK(news->changes.empty());
    // Whoever changes what it may still rely on waits for it all the same.
    CHECK(f.table.tell(f.two, std::vector<Touched>{{directories[7], "x", true}}).size() == 1);
    f.table.confirm(f.one, news->last);
    CHECK(f.table.nobody());
    CHECK(f.table.grant(f.one, f.directory, NodeId{1}));
}

TEST_CASE("what waits to be told is bounded") {
    LeaseTable::Limits limits;
    limits.untold = 5;
    Fixture f(limits);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    for (int i = 0; i < 5; ++i) {
        CHECK(f.change("file", false).size() == 1);
        f.table.asks_for_name(f.one, *f.directory, "file");
    }
    CHECK(f.change("file", false) == Waits{{Fixture::first, 6}});
    const auto news = f.table.take_news(f.one, 1 << 16);
    REQUIRE(news);
    CHECK(news->all_leases);
    CHECK(news->changes.empty());
    CHECK(news->last == 6);
    CHECK(f.change("other", false) == Waits{{Fixture::first, 6}});
    f.table.confirm(f.one, 6);
    CHECK(f.change("other", false).empty());
}

TEST_CASE("news are taken in parts that fit") {
    Fixture f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    for (int i = 0; i < 10; ++i)
        f.change(std::string(100, static_cast<char>('a' + i)), true);
    std::size_t parts = 0;
    ToldNumber last = 0;
    while (const auto news = f.table.take_news(f.one, 350)) {
        CHECK(news->changes.size() <= 3);
        CHECK(news->last > last);
        last = news->last;
        ++parts;
    }
    CHECK(parts == 4);
    CHECK(last == 10);
}

TEST_CASE("a holder whose term has run out has no leases, and is told so before it gets new ones") {
    Fixture f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    REQUIRE(f.table.grant(f.one, f.other, NodeId{8}));
    f.change("file", false);
    CHECK(f.table.outstanding().size() == 1);
    CHECK(f.table.expire(Fixture::first).leases == 2);
    CHECK(f.table.outstanding().empty());
    CHECK(f.table.nobody());
    CHECK(f.change("file", false).empty());
    CHECK(f.table.figures(f.one).expired == 2);
    // One that was asked for before it knows would be taken for an old one.
    CHECK_FALSE(f.table.grant(f.one, f.directory, Fixture::node));
    const auto news = f.table.take_news(f.one, 1 << 16);
    REQUIRE(news);
    CHECK(news->all_leases);
    CHECK(news->changes.empty());
    CHECK_FALSE(f.table.grant(f.one, f.directory, Fixture::node));
    f.table.confirm(f.one, news->last);
    CHECK(f.table.grant(f.one, f.directory, Fixture::node));
}

TEST_CASE("one that loses its leases again and again gets none for a while") {
    Fixture f;
    const auto lose = [&] {
        REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
        const bool too_often = f.table.expire(Fixture::first).too_often;
        f.take_and_confirm();
        return too_often;
    };
    CHECK_FALSE(lose());
    f.clock.advance(61s);
    CHECK_FALSE(lose());
    f.clock.advance(20s);
    CHECK(lose());
    CHECK_FALSE(f.table.grant(f.one, f.directory, Fixture::node));
    f.clock.advance(59s);
    CHECK_FALSE(f.table.grant(f.one, f.directory, Fixture::node));
    f.clock.advance(1s);
    CHECK_FALSE(lose());
}

TEST_CASE("what is outstanding is known since the oldest of it") {
    Fixture f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    const TimePoint begin = f.clock.now();
    f.change("a", false);
    f.clock.advance(3s);
    f.change("b", false);
    REQUIRE(f.table.outstanding().size() == 1);
    CHECK(f.table.outstanding()[0].since == begin);
    f.table.confirm(f.one, 1);
    REQUIRE(f.table.outstanding().size() == 1);
    CHECK(f.table.outstanding()[0].since == begin + 3s);
    f.table.confirm(f.one, 2);
    CHECK(f.table.outstanding().empty());
}

TEST_CASE("files whose names are not all known are told of by their nodes") {
    Fixture f;
    const auto nodes = [&](LeaseHolder holder) {
        return holder == f.one ? std::vector<NodeId>{NodeId{20}, NodeId{21}} : std::vector<NodeId>{};
    };
    CHECK(f.table.tell_nodes(f.two, nodes).empty());  // it has no lease
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    CHECK(f.table.tell_nodes(f.one, nodes).empty());
    CHECK(f.table.tell_nodes(f.two, nodes) == Waits{{Fixture::first, 2}});
    CHECK(f.told() == Changes{{NodeId{20}, What::directory, ""}, {NodeId{21}, What::directory, ""}});
}

// ---------------------------------------------------------------- answers held back

TEST_CASE("an answer is held until all have confirmed, and answers come in their order") {
    std::vector<std::uint64_t> answered;
    HeldReplies held([&](SessionId author, RequestId request, Outcome) {
        CHECK(author == SessionId{9});
        answered.push_back(request.value);
    });
    const auto hold = [&](std::uint64_t request, std::vector<LeaseTable::Wait> waits) {
        held.hold(SessionId{9}, RequestId{request}, {}, waits);
    };
    hold(1, {{SessionId{1}, 5}, {SessionId{2}, 7}});
    hold(2, {{SessionId{1}, 3}});
    hold(3, {{SessionId{1}, 3}});
    held.confirmed(SessionId{1}, 2);
    CHECK(answered.empty());
    held.confirmed(SessionId{1}, 5);
    CHECK(answered == std::vector<std::uint64_t>{2, 3});
    held.confirmed(SessionId{2}, 6);
    CHECK(held.size() == 1);
    held.confirmed(SessionId{2}, 7);
    CHECK(answered == std::vector<std::uint64_t>{2, 3, 1});
    CHECK(held.size() == 0);

    hold(4, {{SessionId{1}, 9}, {SessionId{2}, 9}});
    hold(5, {{SessionId{2}, 9}});
    held.let_go(SessionId{2});
    CHECK(answered.back() == 5);
    held.let_go(SessionId{1});
    CHECK(answered.back() == 4);
    hold(6, {{SessionId{1}, 1}});
    hold(7, {{SessionId{2}, 1}});
    held.let_all_go();
    CHECK(held.size() == 0);
    CHECK(answered.size() == 7);
    held.let_go(SessionId{1});  // nobody waits
    held.confirmed(SessionId{1}, 100);
}

// ---------------------------------------------------------------- pushes

TEST_CASE("pushes join what cannot be sent yet, and are repeated on a new connection until confirmed") {
    Fixture f;
    SessionPushes pushes(&f.table, f.one);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    for (int i = 1; i <= 8; ++i) {
        f.change("file" + std::to_string(i), true);
        const auto* push = pushes.next();
        REQUIRE(push != nullptr);
        CHECK(push->sequence == static_cast<std::uint64_t>(i));
        CHECK(push->changes.size() == 1);
    }
    CHECK_FALSE(pushes.is_behind());
    f.change("ninth", true);
    f.change("tenth", true);
    pushes.invalidate({NodeId{4}, NodeId{3}, NodeId{4}});
    CHECK(pushes.next() == nullptr);
    CHECK(pushes.is_behind());

    pushes.start_again();
    for (int i = 1; i <= 8; ++i)
        CHECK(pushes.next()->sequence == static_cast<std::uint64_t>(i));
    CHECK(pushes.next() == nullptr);
    CHECK_FALSE(pushes.confirm(9));
    CHECK(pushes.confirm(3) == ToldNumber{3});
    CHECK(f.change("file3", true).empty());
    CHECK(f.change("file4", true).size() == 1);
    const auto* joined = pushes.next();
    REQUIRE(joined != nullptr);
    CHECK(joined->sequence == 9);
    CHECK(joined->changes.size() == 2);
    CHECK(joined->nodes == std::vector<NodeId>{NodeId{3}, NodeId{4}});
    CHECK_FALSE(pushes.is_behind());
    CHECK(pushes.confirm(2) == ToldNumber{0});
    pushes.start_again();
    CHECK(pushes.confirm(9) == ToldNumber{10});
    CHECK(pushes.next() == nullptr);
    CHECK(f.table.outstanding().empty());
}

TEST_CASE("a push fits a head frame, whatever is told") {
    LeaseTable::Limits limits;
    limits.told_names = 10'000;
    Fixture f(limits);
    SessionPushes pushes(&f.table, f.one);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    for (int i = 0; i < 1000; ++i)
        f.change(std::to_string(i) + std::string(wire::max_name_bytes - 8, 'x'), true);
    std::vector<NodeId> nodes;
    for (std::uint64_t i = 1; i <= 20'000; ++i)
        nodes.emplace_back(i);
    pushes.invalidate(nodes);
    std::size_t changes = 0;
    std::size_t invalid = 0;
    while (const auto* push = pushes.next()) {
        CHECK(wire::encode_body(*push).size() <= (64U << 10) + 64);
        changes += push->changes.size();
        invalid += push->nodes.size();
        pushes.confirm(push->sequence);
    }
    CHECK(changes == 1000);
    CHECK(invalid == 20'000);
}

TEST_CASE("that all leases have ended is pushed once, in place of what was not told") {
    Fixture f;
    SessionPushes pushes(&f.table, f.one);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    f.change("a", true);
    REQUIRE(pushes.next() != nullptr);
    f.change("b", true);
    f.table.expire(Fixture::first);
    const auto* push = pushes.next();
    REQUIRE(push != nullptr);
    CHECK(push->flags == wire::invalidate_all_leases);
    CHECK(push->changes.empty());
    CHECK(pushes.next() == nullptr);
    CHECK(pushes.confirm(2));
    CHECK(f.table.grant(f.one, f.directory, Fixture::node));
}

// ---------------------------------------------------------------- exclusive leases

namespace {

// Both may be given exclusive leases.
struct Takers : Fixture {
    explicit Takers(const LeaseTable::Limits& limits = {}) : Fixture(limits) {
        table.leave(one);
        table.leave(two);
        table.enter(one, first, true);
        table.enter(two, second, true);
    }
    bool take(LeaseHolder holder, const InodePtr& taken, NodeId by_node = node) {
        return table.take(holder, taken, nullptr, by_node).taken;
    }
    std::vector<InodePtr> look(LeaseHolder holder, const InodePtr& at) {
        return table.pass(holder, {.directories = {at}}, false).awaited;
    }
};

const LeaseTable::Limits two_each{.leases_each = 2};

}  // namespace

TEST_CASE("an exclusive lease is one holder's, and only of those that may have one") {
    Takers f;
    REQUIRE(f.take(f.one, f.directory));
    CHECK_FALSE(f.take(f.two, f.directory));
    CHECK_FALSE(f.table.grant(f.two, f.directory, Fixture::node));
    CHECK(f.table.is_exclusive_to_another(f.two, *f.directory));
    CHECK_FALSE(f.table.is_exclusive_to_another(f.one, *f.directory));
    f.table.leave(f.one);
    f.table.enter(f.one, Fixture::first);
    CHECK_FALSE(f.take(f.one, f.other));
    CHECK(f.table.exclusive() == 0);
    CHECK(f.table.newly_shared());
    CHECK_FALSE(f.table.newly_shared());
}

TEST_CASE("nothing has to be found out about a request while nobody else has an exclusive lease, or could") {
    Takers f;
    CHECK_FALSE(f.table.may_concern_others(f.one, false));
    CHECK(f.table.may_concern_others(f.one, true));  // the other could take one meanwhile
    REQUIRE(f.take(f.one, f.directory));
    CHECK_FALSE(f.table.may_concern_others(f.one, false));
    CHECK(f.table.may_concern_others(f.two, false));
    const LeaseHolder unknown = nullptr;
    CHECK(f.table.may_concern_others(unknown, false));
    f.table.leave(f.two);
    CHECK_FALSE(f.table.may_concern_others(f.one, true));
}

TEST_CASE("a holder is told once to share, however many wait") {
    Takers f;
    REQUIRE(f.take(f.one, f.directory));
    CHECK(f.look(f.one, f.directory).empty());
    CHECK(f.look(f.two, f.other).empty());
    CHECK(f.look(f.two, f.directory) == std::vector{f.directory});
    CHECK(f.look(nullptr, f.directory) == std::vector{f.directory});
    CHECK(f.table.pass(f.two, {.directories = {}, .everywhere = true}, false).awaited == std::vector{f.directory});
    CHECK(f.told() == Changes{{Fixture::node, What::shared, {}}});
    CHECK_FALSE(f.table.are_shared(f.two, std::vector{f.other, f.directory}));
    f.table.share(f.one, *some_inode());
    CHECK_FALSE(f.table.newly_shared());
    f.table.share(f.one, *f.directory);
    CHECK(f.table.newly_shared());
    CHECK(f.table.are_shared(f.two, std::vector{f.other, f.directory}));
    CHECK(f.look(f.two, f.directory).empty());
    CHECK(f.table.is_leased(*f.directory));
}

TEST_CASE("who has taken a directory is told to share it by the node that he named it by") {
    Takers f;
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    constexpr NodeId second{8};
    REQUIRE(f.take(f.one, f.directory, second));
    CHECK(f.look(f.two, f.directory) == std::vector{f.directory});
    CHECK(f.told() == Changes{{second, What::shared, {}}});
    // That he forgets the other does not matter.
    CHECK(f.table.node_gone(f.one, Fixture::node, second) == std::nullopt);
    CHECK_FALSE(f.table.are_shared(f.two, std::vector{f.directory}));
    f.table.share(f.one, *f.directory);
    CHECK(f.table.are_shared(f.two, std::vector{f.directory}));
    CHECK(f.table.is_leased(*f.directory));
}

TEST_CASE("since when something is to be shared is known until it has been") {
    Takers f;
    REQUIRE(f.take(f.one, f.directory));
    REQUIRE(f.take(f.one, f.other, NodeId{8}));
    const TimePoint begin = f.clock.now();
    f.look(f.two, f.other);
    f.clock.advance(1s);
    f.look(f.two, f.directory);
    f.take_and_confirm();
    auto outstanding = f.table.outstanding();
    REQUIRE(outstanding.size() == 1);
    CHECK(outstanding[0].is_recall);
    CHECK(outstanding[0].since == begin);
    f.table.share(f.one, *f.other);
    outstanding = f.table.outstanding();
    REQUIRE(outstanding.size() == 1);
    CHECK(outstanding[0].since == begin + 1s);
    CHECK(f.table.expire(Fixture::first).leases == 2);
    CHECK(f.table.outstanding().empty());
    CHECK(f.table.exclusive() == 0);
}

TEST_CASE("an exclusive lease that ends for want of room is shared first") {
    Takers f(two_each);
    REQUIRE(f.take(f.one, f.directory));
    const InodePtr third = some_inode();
    REQUIRE(f.take(f.one, f.other, NodeId{8}));
    REQUIRE(f.take(f.one, third, NodeId{9}));
    CHECK(f.told() == Changes{{Fixture::node, What::shared, {}}, {Fixture::node, What::ended, {}}});
    f.table.confirm(f.one, 2);
    CHECK(f.look(f.two, f.directory) == std::vector{f.directory});
    CHECK_FALSE(f.take(f.two, f.directory));
    f.table.share(f.one, *f.directory);
    CHECK_FALSE(f.table.is_leased(*f.directory));
    CHECK(f.counters.at("leases.exclusive").value() == 2);
}

TEST_CASE("when all leases end, which are to be shared is said after that") {
    Takers f;
    REQUIRE(f.take(f.one, f.directory));
    REQUIRE(f.take(f.one, f.other, NodeId{8}));
    REQUIRE(f.table.grant(f.one, some_inode(), NodeId{9}));
    f.look(f.two, f.directory);  // has not been told
    f.table.end_all();
    const auto news = f.table.take_news(f.one, 1 << 16);
    REQUIRE(news);
    CHECK(news->all_leases);
    CHECK(news->changes.size() == 2);
    for (const wire::LeaseChange& change : news->changes)
        CHECK(change.what == What::shared);
    f.table.confirm(f.one, news->last);
    CHECK(f.table.exclusive() == 2);
    CHECK(f.counters.at("leases.recalled").value() == 2);
    f.table.share(f.one, *f.directory);
    f.table.share(f.one, *f.other);
    CHECK(f.table.nobody());
}

TEST_CASE("an exclusive lease that has ended and is asked for again by LIST is still to be shared") {
    Takers f;
    REQUIRE(f.take(f.one, f.directory));
    f.table.take(f.two, f.directory, nullptr, Fixture::node);
    f.table.confirm(f.one, 2);
    REQUIRE(f.table.grant(f.one, f.directory, Fixture::node));
    CHECK(f.table.exclusive() == 1);
    CHECK_FALSE(f.take(f.one, f.directory));
    f.table.share(f.one, *f.directory);
    CHECK(f.table.exclusive() == 0);
    CHECK(f.table.is_leased(*f.directory));
}

TEST_CASE("a change under way keeps others from a directory, its author not") {
    Takers f;
    const InodePtr above = some_inode();
    {
        const Passage change = f.table.pass(f.two, {.directories = {above}}, true);
        CHECK_FALSE(f.table.take(f.one, f.directory, above.get(), Fixture::node).taken);
        CHECK_FALSE(f.take(f.one, above));
        CHECK(f.take(f.one, f.other));
        CHECK(f.table.take(f.two, f.directory, above.get(), Fixture::node).taken);
        f.table.give_back(f.two, *f.directory);
    }
    {
        const Passage anywhere = f.table.pass(nullptr, {.directories = {}, .everywhere = true}, true);
        CHECK(anywhere.awaited == std::vector{f.other});  // and so it is not under way
        CHECK(f.take(f.one, f.directory));
    }
    f.table.give_back(f.one, *f.directory);
    f.table.leave(f.two);
    f.table.leave(f.one);
    f.table.enter(f.one, Fixture::first, true);
    const Passage anywhere = f.table.pass(nullptr, {.directories = {}, .everywhere = true}, true);
    CHECK_FALSE(f.take(f.one, f.directory));
}

TEST_CASE("what others had to wait for is nobody's alone for a while, what was shared unasked is") {
    Takers f;
    REQUIRE(f.take(f.one, f.directory));
    f.table.recall_all();
    CHECK_FALSE(f.take(f.one, f.directory));
    f.table.share(f.one, *f.directory);
    REQUIRE(f.take(f.one, f.directory));
    f.look(f.two, f.directory);
    f.clock.advance(5s);
    f.table.give_back(f.one, *f.directory);
    CHECK_FALSE(f.take(f.one, f.directory));
    CHECK_FALSE(f.take(f.two, f.directory));
    CHECK(f.take(f.two, f.other));
    f.clock.advance(1s);
    CHECK(f.take(f.two, f.directory));
}

TEST_CASE("a taker that must confirm first ends nobody's lease") {
    Takers f;
    REQUIRE(f.table.grant(f.one, f.other, Fixture::node));
    f.table.expire(Fixture::first);
    REQUIRE(f.table.grant(f.two, f.directory, Fixture::node));
    CHECK_FALSE(f.take(f.one, f.directory));
    CHECK(f.told(f.two).empty());
    f.take_and_confirm();
    CHECK_FALSE(f.take(f.one, f.directory));
    CHECK(f.told(f.two) == Changes{{Fixture::node, What::ended, {}}});
}

TEST_CASE("threads that take, look, change and share at the same time never have a directory to themselves together") {
    Counters counters;
    LeaseTable::Limits limits;
    limits.hold_off = Duration::zero();
    LeaseTable table(Clock::system(), limits, counters);
    const std::array directories{some_inode(), some_inode()};
    std::array<std::atomic<int>, 2> alone{};
    std::atomic<bool> broken = false;
    std::atomic<int> taken = 0;
    std::atomic<int> passed = 0;
    std::array<int, 4> identities{};
    const auto work = [&](unsigned number) {
        std::mt19937 random(number);
        const auto self = reinterpret_cast<LeaseHolder>(&identities[number]);
        const int mark = static_cast<int>(number) + 1;
        table.enter(self, SessionId{number + 1}, true);
        for (int i = 0; i < 5000; ++i) {
            const std::size_t which = random() % 2;
            const InodePtr& directory = directories[which];
            const NodeId node{which + 10};
            if (random() % 2 == 0) {
                const Passage passage = table.pass(self, {.directories = {directory}}, true);
                if (passage.awaited.empty()) {
                    broken = broken || alone[which].load() != 0;
                    ++passed;
                    std::this_thread::yield();
                    broken = broken || alone[which].load() != 0;
                }
            } else if (table.take(self, directory, nullptr, node).taken) {
                broken = broken || alone[which].exchange(mark) != 0;
                ++taken;
                std::this_thread::yield();
                broken = broken || alone[which].exchange(0) != mark;
                table.share(self, *directory);
            }
            // Whatever ended by this is confirmed, and given back so that somebody is given one now and then.
            while (const auto news = table.take_news(self, 1 << 16))
                table.confirm(self, news->last);
            if (random() % 4 == 0)
                table.give_back(self, *directory);
        }
        table.leave(self);
    };
    {
        std::vector<std::jthread> threads;
        for (unsigned number = 0; number < identities.size(); ++number)
            threads.emplace_back(work, number);
    }
    CHECK_FALSE(broken);
    CHECK(taken > 0);
    CHECK(passed > 0);
    CHECK(table.nobody());
    CHECK(table.exclusive() == 0);
}
