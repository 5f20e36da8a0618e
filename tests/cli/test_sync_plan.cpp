// SPDX-License-Identifier: MIT
// Plans of remofile sync, carried out on trees in memory: nothing that anybody has changed is ever lost.
#include <catch.hpp>
#include <random>
#include <stdexcept>

#include "cli/sync_plan.hpp"

namespace remofile::cli {
namespace {

// A tree with contents. The size of a file says nothing of them: all are of two sizes.
struct Replica {
    Tree tree;
    std::map<std::string, std::string> contents;

    void put(const std::string& path, const std::string& content, std::int64_t time) {
        tree[path] = {.type = ItemType::file, .size = content.size() % 2, .seconds = time, .mode = 0644};
        contents[path] = content;
    }
    void erase_tree(const std::string& path) {
        std::erase_if(tree,
                      [&](const auto& entry) { return entry.first == path || entry.first.starts_with(path + "/"); });
        std::erase_if(contents, [&](const auto& entry) { return !tree.contains(entry.first); });
    }
    bool has_children(const std::string& path) const {
        const auto next = tree.lower_bound(path + "/");
        return next != tree.end() && next->first.starts_with(path + "/");
    }
    std::set<std::string> all_contents() const {
        std::set<std::string> all;
        for (const auto& [path, content] : contents)
            all.insert(content);
        return all;
    }
};

std::string parent_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? "" : path.substr(0, slash);
}

// What a file system would refuse is a mistake of the plan.
void demand(bool holds, const std::string& what) {
    if (!holds)
        throw std::logic_error(what);
}

void carry_out(const Plan& plan, Replica& local, Replica& server) {
    const auto on = [&](Side side) -> Replica& { return side == Side::local ? local : server; };
    const auto demand_room = [](const Replica& replica, const std::string& path) {
        const std::string parent = parent_of(path);
        demand(parent.empty() || (replica.tree.contains(parent) && replica.tree.at(parent).type == ItemType::directory),
               "no directory for " + path);
    };
    for (const Step& step : plan.renames) {
        Replica& replica = on(step.side);
        demand(replica.contents.contains(step.path) && !replica.tree.contains(step.new_path), "rename " + step.path);
        replica.tree[step.new_path] = replica.tree.at(step.path);
        replica.contents[step.new_path] = replica.contents.at(step.path);
        replica.erase_tree(step.path);
    }
    for (const Step& step : plan.removals) {
        Replica& replica = on(step.side);
        demand(replica.tree.contains(step.path) && !replica.has_children(step.path), "remove " + step.path);
        replica.erase_tree(step.path);
    }
    for (const Step& step : plan.directories) {
        Replica& replica = on(step.side);
        demand_room(replica, step.path);
        demand(!replica.tree.contains(step.path), "make " + step.path);
        replica.tree[step.path] = {.type = ItemType::directory};
    }
    for (const Step& step : plan.copies) {
        const Replica& from = on(opposite(step.side));
        Replica& to = on(step.side);
        demand(from.contents.contains(step.path), "copy " + step.path);
        demand_room(to, step.path);
        demand(!to.tree.contains(step.path) || to.contents.contains(step.path), "a directory at " + step.path);
        to.tree[step.path] = from.tree.at(step.path);
        to.contents[step.path] = from.contents.at(step.path);
    }
    for (const Step& step : plan.attributes) {
        const Item& from = on(opposite(step.side)).tree.at(step.path);
        Item& to = on(step.side).tree.at(step.path);
        if (step.kind != Step::Kind::set_times)
            to.mode = from.mode;
        if (step.kind != Step::Kind::set_mode)
            to.seconds = from.seconds;
    }
}

Plan plan_for(const Replica& local, const Replica& server, const Memory& memory, const SyncSettings& settings) {
    Comparisons comparisons;
    for (const std::string& path : undecided(local.tree, server.tree, settings))
        comparisons[path] = local.contents.at(path) == server.contents.at(path);
    int number = 0;
    return make_plan(local.tree, server.tree, memory, settings, comparisons,
                     [&](const std::string& path, Side) { return path + ".conflict" + std::to_string(++number); });
}

class Editor {
public:
    explicit Editor(unsigned seed) : random_(seed) {}

    // Some changes at random. What was written is added to `written`, unless it is overwritten or deleted at once.
    void edit(Replica& replica) {
        for (unsigned edits = random_() % 8; edits > 0; --edits)
            edit_once(replica);
    }
    std::mt19937& random() { return random_; }

private:
    std::string random_path() {
        std::string path;
        for (unsigned depth = 1 + random_() % 3; depth > 0; --depth)
            path += (path.empty() ? "" : "/") + std::string(1, static_cast<char>('a' + random_() % 3));
        return path;
    }

    void edit_once(Replica& replica) {
        const std::string path = random_path();
        switch (random_() % 4) {
            case 0:
                replica.erase_tree(path);
                break;
            case 1:
                if (const auto found = replica.tree.find(path); found != replica.tree.end())
                    found->second.mode = random_() % 2 == 0 ? 0600 : 0755;
                break;
            default:
                write(replica, path);
        }
    }

    void write(Replica& replica, const std::string& path) {
        for (std::size_t end = path.find('/'); end != path.npos; end = path.find('/', end + 1)) {
            const std::string parent = path.substr(0, end);
            if (replica.contents.contains(parent))
                replica.erase_tree(parent);
            replica.tree.try_emplace(parent, Item{.type = ItemType::directory, .mode = 0755});
        }
        if (replica.tree.contains(path) && !replica.contents.contains(path))
            replica.erase_tree(path);
        ++clock_;
        replica.put(path, "content " + std::to_string(clock_) + std::string(random_() % 2, '.'), clock_);
    }

    std::mt19937 random_;
    std::int64_t clock_ = 0;
};

bool are_alike(const Replica& a, const Replica& b) {
    return a.contents == b.contents && std::ranges::equal(a.tree, b.tree, [](const auto& x, const auto& y) {
               return x.first == y.first && x.second.type == y.second.type && x.second.mode == y.second.mode;
           });
}

std::size_t steps_of(const Plan& plan) {
    return plan.renames.size() + plan.removals.size() + plan.directories.size() + plan.copies.size() +
           plan.attributes.size();
}

// The first steps of a plan: somebody has pulled the plug.
Plan cut_short(Plan plan, std::size_t steps) {
    for (std::vector<Step>* part : {&plan.renames, &plan.removals, &plan.directories, &plan.copies, &plan.attributes}) {
        part->resize(std::min(part->size(), steps));
        steps -= part->size();
    }
    return plan;
}

}  // namespace

TEST_CASE("both ways: nothing that was changed is lost, and both sides become alike") {
    const unsigned first_seed = std::random_device{}();
    for (unsigned run = 0; run < 3000; ++run) {
        const unsigned seed = first_seed + run;
        INFO("seed " << seed);
        Editor editor(seed);
        Replica local;
        Replica server;
        Memory memory;
        const SyncSettings settings{.checksum = editor.random()() % 2 == 0};
        std::set<std::string> before;  // what both had when they were last alike
        for (int round = 0; round < 6; ++round) {
            editor.edit(local);
            editor.edit(server);
            std::set<std::string> changed;
            for (const Replica* side : {&local, &server}) {
                for (const std::string& content : side->all_contents()) {
                    if (!before.contains(content))
                        changed.insert(content);
                }
            }
            for (unsigned interruptions = editor.random()() % 3; interruptions > 0; --interruptions) {
                const Plan plan = plan_for(local, server, memory, settings);
                forget_conflicts(memory, plan);
                CHECK_NOTHROW(carry_out(cut_short(plan, editor.random()() % 6), local, server));
            }
            CHECK_NOTHROW(carry_out(plan_for(local, server, memory, settings), local, server));
            REQUIRE(are_alike(local, server));
            const std::set<std::string> now = local.all_contents();
            REQUIRE(std::ranges::includes(now, changed));
            memory = remember(local.tree, server.tree, memory, {});
            REQUIRE(steps_of(plan_for(local, server, memory, settings)) == 0);
            before = now;
        }
    }
}

TEST_CASE("an interrupted conflict of files that seemed unchanged loses neither") {
    Replica local;
    local.put("f", "first", 1);
    Replica server = local;
    Memory memory = remember(local.tree, server.tree, {}, {});
    // Only a checksum finds this.
    local.put("f", "other", 1);
    const SyncSettings settings{.checksum = true};
    const Plan plan = plan_for(local, server, memory, settings);
    REQUIRE(plan.renames.size() == 1);
    forget_conflicts(memory, plan);
    carry_out(cut_short(plan, 1), local, server);
    carry_out(plan_for(local, server, memory, settings), local, server);
    CHECK(are_alike(local, server));
    CHECK(local.all_contents() == std::set<std::string>{"first", "other"});
}

TEST_CASE("one way: the target becomes as the source, which stays as it is") {
    const unsigned first_seed = std::random_device{}();
    for (unsigned run = 0; run < 2000; ++run) {
        const unsigned seed = first_seed + run;
        INFO("seed " << seed);
        Editor editor(seed);
        Replica local;
        Replica server;
        const SyncSettings settings{.from = editor.random()() % 2 == 0 ? Side::local : Side::server, .remove = true};
        for (int round = 0; round < 4; ++round) {
            editor.edit(local);
            editor.edit(server);
            const Replica source = *settings.from == Side::local ? local : server;
            CHECK_NOTHROW(carry_out(plan_for(local, server, {}, settings), local, server));
            REQUIRE(are_alike(local, server));
            REQUIRE(are_alike(source, local));
            REQUIRE(steps_of(plan_for(local, server, {}, settings)) == 0);
        }
    }
}

TEST_CASE("one way without deletions, nothing of the target goes but what is replaced") {
    const unsigned first_seed = std::random_device{}();
    for (unsigned run = 0; run < 2000; ++run) {
        const unsigned seed = first_seed + run;
        INFO("seed " << seed);
        Editor editor(seed);
        Replica local;
        Replica server;
        editor.edit(local);
        editor.edit(server);
        const Replica source = local;
        const Replica target = server;
        const Plan plan = plan_for(local, server, {}, {.from = Side::local});
        CHECK_NOTHROW(carry_out(plan, local, server));
        REQUIRE(are_alike(source, local));
        for (const auto& [path, content] : target.contents) {
            INFO(path);
            // Only a file, or a directory in the place of a file, has taken it.
            REQUIRE((server.contents.contains(path) || source.tree.contains(path)));
        }
        for (const auto& [path, content] : source.contents) {
            INFO(path);
            const bool left_alone = std::ranges::any_of(
                plan.left_alone, [&](const std::string& left) { return path == left || path.starts_with(left + "/"); });
            REQUIRE((left_alone || server.contents.at(path) == content));
        }
    }
}

TEST_CASE("what cannot be looked at is neither copied nor deleted, and no conclusion drawn from it") {
    Replica local;
    Replica server;
    local.tree["d"] = {.type = ItemType::directory, .mode = 0755};
    local.put("d/f", "old", 1);
    server = local;
    const Memory memory = remember(local.tree, server.tree, {}, {});
    REQUIRE(memory.size() == 2);
    // The local directory cannot be listed any more: what it holds seems to be gone.
    local.erase_tree("d/f");
    local.tree["d"].type = ItemType::unusable;
    const Plan both = plan_for(local, server, memory, {});
    CHECK(steps_of(both) == 0);
    CHECK(both.left_alone == std::vector<std::string>{"d"});
    CHECK(steps_of(plan_for(local, server, {}, {.from = Side::local, .remove = true})) == 0);
    // It is remembered as it was.
    const Memory after = remember(local.tree, server.tree, memory, {});
    CHECK(after.size() == 2);
}

TEST_CASE("times of whole seconds or microseconds are as good as nanoseconds") {
    Replica local;
    local.put("f", "content", 100);
    local.tree["f"].nanoseconds = 123'456'789;
    Replica server = local;
    for (const std::uint32_t kept : {0U, 123'456'000U}) {
        server.tree["f"].nanoseconds = kept;
        CHECK(steps_of(plan_for(local, server, {}, {.from = Side::local})) == 0);
    }
    server.tree["f"].nanoseconds = 123'000'000;
    CHECK(steps_of(plan_for(local, server, {}, {.from = Side::local})) == 1);
}

}  // namespace remofile::cli
