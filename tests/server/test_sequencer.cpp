// SPDX-License-Identifier: MIT
#include "server/sessions/sequencer.hpp"

#include <catch.hpp>
#include <map>
#include <random>
#include <set>

using namespace remofile::server;

namespace {

Dependency node(std::uint64_t id, bool exclusive) {
    return {Dependency::Kind::node, id, exclusive};
}

}  // namespace

TEST_CASE("shared uses overlap, exclusive ones do not") {
    Sequencer sequencer;
    const auto shared1 = sequencer.add(std::vector{node(1, false)});
    const auto shared2 = sequencer.add(std::vector{node(1, false)});
    const auto exclusive = sequencer.add(std::vector{node(1, true)});
    const auto later = sequencer.add(std::vector{node(1, false)});
    const auto other = sequencer.add(std::vector{node(2, true), Dependency{Dependency::Kind::handle, 1, true}});
    CHECK(shared1.ready);
    CHECK(shared2.ready);
    CHECK_FALSE(exclusive.ready);
    CHECK_FALSE(later.ready);
    CHECK(other.ready);
    CHECK(sequencer.finish(shared2.ticket).empty());
    CHECK(sequencer.finish(shared1.ticket) == std::vector{exclusive.ticket});
    CHECK(sequencer.finish(exclusive.ticket) == std::vector{later.ticket});
    CHECK(sequencer.finish(later.ticket).empty());
    CHECK(sequencer.finish(other.ticket).empty());
    CHECK(sequencer.size() == 0);
}

TEST_CASE("an id listed twice counts once, at its strictest") {
    Sequencer sequencer;
    const auto first = sequencer.add(std::vector{node(1, false), node(1, true), node(1, false)});
    const auto second = sequencer.add(std::vector{node(1, false)});
    CHECK(first.ready);
    CHECK_FALSE(second.ready);
    CHECK(sequencer.finish(first.ticket) == std::vector{second.ticket});
}

TEST_CASE("what waits for something else holds up only what uses the ids that it makes or changes") {
    Sequencer sequencer;
    const auto first = sequencer.add(std::vector{node(1, true)});
    const auto waits = sequencer.add(std::vector{node(1, false), node(2, true)});
    const auto changes = sequencer.add(std::vector{node(1, true)});
    const auto uses = sequencer.add(std::vector{node(2, false)});
    const auto both = sequencer.add(std::vector{node(1, false), node(2, false)});
    CHECK(sequencer.finish(first.ticket) == std::vector{waits.ticket});
    CHECK(sequencer.let_pass(waits.ticket) == std::vector{changes.ticket});
    CHECK(sequencer.let_pass(waits.ticket).empty());
    CHECK(sequencer.finish(changes.ticket).empty());
    CHECK(sequencer.finish(waits.ticket) == std::vector{uses.ticket, both.ticket});
    CHECK(sequencer.finish(uses.ticket).empty());
    CHECK(sequencer.finish(both.ticket).empty());
    CHECK(sequencer.size() == 0);
}

// The rules as docs/PROTOCOL.md has them: of two uses of one id of which one is exclusive, the later waits for the
// earlier. So a message may run exactly when no earlier, unfinished one conflicts with it.
TEST_CASE("random schedules keep the order and hold nothing up without need") {
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 200; ++round) {
        Sequencer sequencer;
        std::map<Sequencer::Ticket, std::vector<Dependency>> unfinished;
        std::set<Sequencer::Ticket> ready;
        const auto conflict = [](const std::vector<Dependency>& a, const std::vector<Dependency>& b) {
            for (const Dependency& x : a) {
                for (const Dependency& y : b) {
                    if (x.kind == y.kind && x.id == y.id && (x.exclusive || y.exclusive))
                        return true;
                }
            }
            return false;
        };
        const auto keep_exclusive = [](std::vector<Dependency>& uses) {
            const std::vector<Dependency> all = uses;
            std::erase_if(uses, [&](const Dependency& use) {
                return std::ranges::none_of(all, [&](const Dependency& other) {
                    return other.kind == use.kind && other.id == use.id && other.exclusive;
                });
            });
        };
        const auto may_run = [&](Sequencer::Ticket ticket) {
            for (const auto& [earlier, uses] : unfinished) {
                if (earlier < ticket && conflict(uses, unfinished.at(ticket)))
                    return false;
            }
            return true;
        };
        const unsigned ids = 1 + random() % 6;
        for (int step = 0; step < 300 || !unfinished.empty(); ++step) {
            if (step < 300 && (ready.empty() || random() % 2 == 0)) {
                std::vector<Dependency> uses;
                for (unsigned i = random() % 4; i > 0; --i)
                    uses.push_back({random() % 2 == 0 ? Dependency::Kind::node : Dependency::Kind::handle,
                                    1 + random() % ids, random() % 3 == 0});
                const auto added = sequencer.add(uses);
                unfinished.emplace(added.ticket, uses);
                if (added.ready)
                    ready.insert(added.ticket);
                REQUIRE(added.ready == may_run(added.ticket));
            } else {
                auto chosen = ready.begin();
                std::advance(chosen, static_cast<long>(random() % ready.size()));
                const Sequencer::Ticket ticket = *chosen;
                if (random() % 4 == 0) {  // it waits for something else
                    keep_exclusive(unfinished.at(ticket));
                    for (const Sequencer::Ticket released : sequencer.let_pass(ticket))
                        REQUIRE(ready.insert(released).second);
                    for (const auto& [each, uses] : unfinished)
                        REQUIRE(ready.contains(each) == may_run(each));
                    continue;
                }
                ready.erase(chosen);
                unfinished.erase(ticket);
                for (const Sequencer::Ticket released : sequencer.finish(ticket))
                    REQUIRE(ready.insert(released).second);
            }
            for (const auto& [ticket, uses] : unfinished)
                REQUIRE(ready.contains(ticket) == may_run(ticket));
        }
        REQUIRE(sequencer.size() == 0);
    }
}
