// SPDX-License-Identifier: MIT
#include "cli/sync_plan.hpp"

#include <algorithm>
#include <string_view>

namespace remofile::cli {
namespace {

const Item nothing;

const Item& item_at(const Tree& tree, const std::string& path) {
    const auto found = tree.find(path);
    return found == tree.end() ? nothing : found->second;
}

std::string_view parent_of(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? std::string_view() : path.substr(0, slash);
}

bool is_content(const Item& item) {
    return item.type == ItemType::file || item.type == ItemType::symlink;
}

// Nothing is done with it, nor concluded from it.
bool is_no_concern(const Item& item) {
    return item.type == ItemType::unusable || item.type == ItemType::excluded;
}

// Some file systems keep only microseconds, or whole seconds.
bool same_time(const Item& a, const Item& b) {
    if (a.seconds != b.seconds)
        return false;
    const std::uint32_t apart = std::max(a.nanoseconds, b.nanoseconds) - std::min(a.nanoseconds, b.nanoseconds);
    return apart < 1000 || a.nanoseconds == 0 || b.nanoseconds == 0;
}

// All that can be told without looking at contents.
bool looks_alike(const Item& a, const Item& b) {
    if (a.type != b.type)
        return false;
    switch (a.type) {
        case ItemType::file:
            return a.size == b.size && same_time(a, b);
        case ItemType::symlink:
            return a.target == b.target;
        default:
            return true;
    }
}

// What becomes of one path.
enum class Fate : std::uint8_t {
    alike,        // is so already, or on neither side
    from_local,   // the server's becomes as the local one, which may be nothing
    from_server,  // the other way round
    keep_both,    // a conflict
    left_alone,
};

class Planner {
public:
    Planner(const Tree& local, const Tree& server, const Memory& memory, const SyncSettings& settings,
            const Comparisons& comparisons, const ConflictName& conflict_name)
        : local_(local),
          server_(server),
          memory_(memory),
          settings_(settings),
          comparisons_(comparisons),
          conflict_name_(conflict_name) {}

    Plan make();

private:
    const Tree& tree(Side side) const { return side == Side::local ? local_ : server_; }
    bool alike(const std::string& path, const Item& local, const Item& server) const;
    Fate decide(const std::string& path) const;
    Fate decide_one_way(const Item& local, const Item& server) const;
    Fate decide_both_ways(const std::string& path, const Item& local, const Item& server) const;
    Fate keep_directory(const Item& wanted, Fate the_other_way) const;
    void keep_needed_directories();
    void finish_directories();
    void act(const std::string& path, Fate fate);
    void replace(const std::string& path, Side side, const Item& there, const Item& wanted);
    void keep_both(const std::string& path, const Item& local, const Item& server);
    void align(const std::string& path, const Item& local, const Item& server);
    bool was_deleted(const std::string& path, const Item& now) const;
    std::string unused_name(const std::string& path, Side side) const;

    const Tree& local_;
    const Tree& server_;
    const Memory& memory_;
    const SyncSettings& settings_;
    const Comparisons& comparisons_;
    const ConflictName& conflict_name_;
    std::map<std::string, Fate> fates_;
    Plan plan_;
};

bool Planner::alike(const std::string& path, const Item& local, const Item& server) const {
    const auto compared = comparisons_.find(path);
    return compared == comparisons_.end() ? looks_alike(local, server) : compared->second;
}

Fate Planner::decide_one_way(const Item& local, const Item& server) const {
    const bool to_server = *settings_.from == Side::local;
    const Item& source = to_server ? local : server;
    const Item& target = to_server ? server : local;
    const Fate copy = to_server ? Fate::from_local : Fate::from_server;
    if (source.type == ItemType::none)
        return settings_.remove ? copy : Fate::alike;
    // A directory with all that it holds does not make room for a file, unless it is said.
    if (target.type == ItemType::directory && is_content(source) && !settings_.remove)
        return Fate::left_alone;
    return copy;
}

Fate Planner::decide_both_ways(const std::string& path, const Item& local, const Item& server) const {
    const auto known = memory_.find(path);
    const bool before = known != memory_.end();
    const bool local_changed = !looks_alike(before ? known->second.local : nothing, local);
    const bool server_changed = !looks_alike(before ? known->second.server : nothing, server);
    if (local_changed && !server_changed)
        return Fate::from_local;
    if (server_changed && !local_changed)
        return Fate::from_server;
    // A deletion yields to a change, as act() says.
    if (local.type == ItemType::none)
        return Fate::from_server;
    if (server.type == ItemType::none)
        return Fate::from_local;
    // Neither has changed and yet they differ: what was once alike is no more to be trusted.
    return Fate::keep_both;
}

Fate Planner::decide(const std::string& path) const {
    const Item& local = item_at(local_, path);
    const Item& server = item_at(server_, path);
    if (is_no_concern(local) || is_no_concern(server))
        return Fate::left_alone;
    const auto above = fates_.find(std::string(parent_of(path)));
    if (above != fates_.end() && above->second == Fate::left_alone)
        return Fate::left_alone;
    if (alike(path, local, server))
        return Fate::alike;
    return settings_.from ? decide_one_way(local, server) : decide_both_ways(path, local, server);
}

// For a directory that was to become what `wanted` is, a file or nothing.
Fate Planner::keep_directory(const Item& wanted, Fate the_other_way) const {
    if (settings_.from)
        return wanted.type == ItemType::none ? Fate::alike : Fate::left_alone;
    return wanted.type == ItemType::none ? the_other_way : Fate::keep_both;
}

// A directory that was to go stays if anything in it does; a file that was to take its place stays beside it.
void Planner::keep_needed_directories() {
    std::set<std::string, std::less<>> needed;
    for (auto it = fates_.rbegin(); it != fates_.rend(); ++it) {
        const std::string& path = it->first;
        const Item& local = item_at(local_, path);
        const Item& server = item_at(server_, path);
        Fate& fate = it->second;
        if (needed.contains(path)) {
            if (fate == Fate::from_local && local.type != ItemType::directory)
                fate = keep_directory(local, Fate::from_server);
            else if (fate == Fate::from_server && server.type != ItemType::directory)
                fate = keep_directory(server, Fate::from_local);
        }
        const bool stays = (fate == Fate::alike && (local.type != ItemType::none || server.type != ItemType::none)) ||
                           (fate == Fate::from_local && local.type != ItemType::none) ||
                           (fate == Fate::from_server && server.type != ItemType::none) || fate == Fate::keep_both ||
                           fate == Fate::left_alone;
        if (stays && !parent_of(path).empty())
            needed.emplace(parent_of(path));
    }
}

std::string Planner::unused_name(const std::string& path, Side side) const {
    for (;;) {
        std::string name = conflict_name_(path, side);
        if (!local_.contains(name) && !server_.contains(name))
            return name;
    }
}

// Makes what is on `side` as it is on the other.
void Planner::replace(const std::string& path, Side side, const Item& there, const Item& wanted) {
    const bool into_directory = wanted.type == ItemType::directory;
    // A file or link takes the place of another in one step.
    if (there.type != ItemType::none && !(is_content(there) && is_content(wanted)))
        plan_.removals.push_back({Step::Kind::remove, side, path});
    if (into_directory) {
        plan_.directories.push_back({Step::Kind::make_directory, side, path});
        plan_.attributes.push_back({Step::Kind::finish, side, path});
    } else if (wanted.type != ItemType::none) {
        plan_.copies.push_back({Step::Kind::copy, side, path});
    }
}

// The one that was changed last, or the directory, keeps the name; the other gets a new one. Then both are copied.
void Planner::keep_both(const std::string& path, const Item& local, const Item& server) {
    Side loser = std::pair(local.seconds, local.nanoseconds) <= std::pair(server.seconds, server.nanoseconds)
                     ? Side::local
                     : Side::server;
    if (local.type == ItemType::directory)
        loser = Side::server;
    if (server.type == ItemType::directory)
        loser = Side::local;
    const Item& winning = loser == Side::local ? server : local;
    const std::string name = unused_name(path, loser);
    plan_.renames.push_back({Step::Kind::rename, loser, path, name});
    plan_.copies.push_back({Step::Kind::copy, opposite(loser), name});
    replace(path, loser, nothing, winning);
    plan_.conflicts.push_back(path + ": changed on both sides; the " +
                              (loser == Side::local ? "local one" : "server's") + " is kept as " + name);
}

// Both have the same content: times and modes follow the side that has changed them.
void Planner::align(const std::string& path, const Item& local, const Item& server) {
    Side from = Side::local;
    if (settings_.from) {
        from = *settings_.from;
    } else if (const auto known = memory_.find(path); known != memory_.end()) {
        const Item& then = known->second.local;
        if (same_time(then, local) && then.mode == local.mode)
            from = Side::server;
    }
    const bool times = local.type == ItemType::file && !same_time(local, server);
    const bool mode = local.type != ItemType::symlink && local.mode != server.mode;
    if (local.type == ItemType::directory) {
        // Both ways, the times of directories say nothing: each side's own work changes them.
        if (mode || (settings_.from && !same_time(local, server)))
            plan_.attributes.push_back({Step::Kind::finish, opposite(from), path});
        return;
    }
    if (mode)
        plan_.attributes.push_back({Step::Kind::set_mode, opposite(from), path});
    if (times)
        plan_.attributes.push_back({Step::Kind::set_times, opposite(from), path});
    if (!mode && !times)
        ++plan_.unchanged;
}

bool Planner::was_deleted(const std::string& path, const Item& now) const {
    return now.type == ItemType::none && !settings_.from && memory_.contains(path);
}

void Planner::act(const std::string& path, Fate fate) {
    const Item& local = item_at(local_, path);
    const Item& server = item_at(server_, path);
    switch (fate) {
        case Fate::alike:
            if (local.type != ItemType::none && server.type != ItemType::none)
                align(path, local, server);
            break;
        case Fate::from_local:
            replace(path, Side::server, server, local);
            if (was_deleted(path, server) && is_content(local))
                plan_.conflicts.push_back(path + ": deleted on the server and changed here; it is kept");
            break;
        case Fate::from_server:
            replace(path, Side::local, local, server);
            if (was_deleted(path, local) && is_content(server))
                plan_.conflicts.push_back(path + ": deleted here and changed on the server; it is kept");
            break;
        case Fate::keep_both:
            keep_both(path, local, server);
            break;
        case Fate::left_alone:
            // Who has left it out knows.
            if (local.type == ItemType::excluded || server.type == ItemType::excluded)
                break;
            if (!fates_.contains(std::string(parent_of(path))) ||
                fates_.at(std::string(parent_of(path))) != Fate::left_alone)
                plan_.left_alone.push_back(path);
            break;
    }
}

// One way, directories have the times of their source; work in one changes them.
void Planner::finish_directories() {
    if (!settings_.from)
        return;
    const Side target = opposite(*settings_.from);
    std::set<std::string, std::less<>> finished;
    for (const Step& step : plan_.attributes) {
        if (step.kind == Step::Kind::finish)
            finished.insert(step.path);
    }
    std::set<std::string, std::less<>> touched;
    for (const std::vector<Step>* steps : {&plan_.removals, &plan_.directories, &plan_.copies}) {
        for (const Step& step : *steps)
            touched.emplace(parent_of(step.path));
    }
    for (const std::string& path : touched) {
        if (!finished.contains(path) && item_at(tree(opposite(target)), path).type == ItemType::directory)
            plan_.attributes.push_back({Step::Kind::finish, target, path});
    }
    std::ranges::sort(plan_.attributes, {}, &Step::path);
}

Plan Planner::make() {
    for (const Tree* tree : {&local_, &server_}) {
        for (const auto& [path, item] : *tree)
            fates_.emplace(path, Fate::alike);
    }
    for (auto& [path, fate] : fates_)
        fate = decide(path);
    keep_needed_directories();
    for (const auto& [path, fate] : fates_)
        act(path, fate);
    finish_directories();
    // What a directory holds goes before it, and its attributes come after all that is made in it.
    std::ranges::reverse(plan_.removals);
    std::ranges::reverse(plan_.attributes);
    return std::move(plan_);
}

}  // namespace

std::vector<std::string> undecided(const Tree& local, const Tree& server, const SyncSettings& settings) {
    std::vector<std::string> paths;
    for (const auto& [path, item] : local) {
        const Item& other = item_at(server, path);
        if (item.type != ItemType::file || other.type != ItemType::file || item.size != other.size)
            continue;
        if (settings.checksum || !same_time(item, other))
            paths.push_back(path);
    }
    return paths;
}

Plan make_plan(const Tree& local, const Tree& server, const Memory& memory, const SyncSettings& settings,
               const Comparisons& comparisons, const ConflictName& conflict_name) {
    return Planner(local, server, memory, settings, comparisons, conflict_name).make();
}

void forget_conflicts(Memory& memory, const Plan& plan) {
    for (const Step& step : plan.renames)
        memory.erase(step.path);
}

Memory remember(const Tree& local, const Tree& server, const Memory& before,
                const std::set<std::string, std::less<>>& failed) {
    Memory memory;
    for (const auto& [path, item] : local) {
        const Item& other = item_at(server, path);
        if (!is_no_concern(item) && looks_alike(item, other) && !failed.contains(path))
            memory.emplace(path, Known{item, other});
    }
    // What is gone from both is forgotten; of the rest the last that was good.
    for (const auto& [path, known] : before) {
        if (failed.contains(path) || local.contains(path) || server.contains(path))
            memory.emplace(path, known);
    }
    return memory;
}

std::uint64_t removed_files(const Plan& plan, const Tree& tree, Side side) {
    return static_cast<std::uint64_t>(std::ranges::count_if(
        plan.removals, [&](const Step& step) { return step.side == side && is_content(item_at(tree, step.path)); }));
}

}  // namespace remofile::cli
