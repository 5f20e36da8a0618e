// SPDX-License-Identifier: MIT
// What two trees need to become alike: decided from what is known of both, and of how they were when they were last
// alike. Nothing here touches a file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace remofile::cli {

enum class Side : std::uint8_t { local, server };
constexpr Side opposite(Side side) {
    return side == Side::local ? Side::server : Side::local;
}

enum class ItemType : std::uint8_t {
    none,
    file,
    directory,
    symlink,
    unusable,  // devices, the unreadable
    excluded,  // left out because the person said so
};

struct Item {
    ItemType type = ItemType::none;
    std::uint64_t size = 0;
    std::int64_t seconds = 0;  // of the modification
    std::uint32_t nanoseconds = 0;
    std::uint32_t mode = 0;   // permission bits
    std::string target = {};  // of a symbolic link
    std::uint64_t inode = 0;  // tells what was seen from what came later; not remembered
};

// Paths are relative ("a/b"), without "." and "..". A parent comes before what it holds.
using Tree = std::map<std::string, Item, std::less<>>;

// A path whose two ends were alike, and how each of them looked.
struct Known {
    Item local;
    Item server;
};
using Memory = std::map<std::string, Known, std::less<>>;

struct SyncSettings {
    std::optional<Side> from;  // one way, from here; both ways without
    bool remove = false;       // one way: what the source does not have goes
    bool checksum = false;     // times are not trusted
};

struct Step {
    enum class Kind : std::uint8_t {
        rename,          // `path` becomes `new_path`
        remove,          // a file, link or empty directory
        make_directory,  //
        copy,            // a file or link, from the other side
        set_times,       // as on the other side
        set_mode,        // as on the other side
        finish,          // the same of a directory, once nothing is made in it any more
        restore,         // the mode of a directory that had to be opened for the other steps
    };
    Kind kind = Kind::copy;
    Side side = Side::server;  // where something is done
    std::string path;
    std::string new_path = {};
};

struct Plan {
    // Within each, in an order in which they can be carried out; copies in any.
    std::vector<Step> renames;
    std::vector<Step> removals;
    std::vector<Step> directories;
    std::vector<Step> copies;
    std::vector<Step> attributes;
    // For the person: what could not be decided, a line each. Nothing is lost by any of these.
    std::vector<std::string> conflicts;
    std::vector<std::string> left_alone;
    std::uint64_t unchanged = 0;  // files and links
};

// Files of the same size on both sides of which only their contents can tell whether they are alike.
std::vector<std::string> undecided(const Tree& local, const Tree& server, const SyncSettings& settings);

// Whether the contents of the undecided() files are the same.
using Comparisons = std::map<std::string, bool, std::less<>>;
// A new path for what loses a conflict on `side`. If that is in use it is asked again, and must give another.
using ConflictName = std::function<std::string(const std::string& path, Side side)>;

Plan make_plan(const Tree& local, const Tree& server, const Memory& memory, const SyncSettings& settings,
               const Comparisons& comparisons, const ConflictName& conflict_name);

// What is to be remembered before a plan is begun with: if it is interrupted, a file of a conflict that has its new
// name already, and not yet its other copy, must not be taken for deleted.
void forget_conflicts(Memory& memory, const Plan& plan);

// What is to be remembered of trees on which a plan was carried out, all but what concerns the `failed` paths.
Memory remember(const Tree& local, const Tree& server, const Memory& before,
                const std::set<std::string, std::less<>>& failed);

// The number of files and links that the plan removes on a side, not counting those that are replaced.
std::uint64_t removed_files(const Plan& plan, const Tree& tree, Side side);

}  // namespace remofile::cli
