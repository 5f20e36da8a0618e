// SPDX-License-Identifier: MIT
// remofile sync: makes two trees alike, one after the other or each after both.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "base/json_text.hpp"
#include "base/log.hpp"
#include "cli/local_files.hpp"
#include "cli/parallel.hpp"
#include "cli/receiver.hpp"
#include "cli/same_directory.hpp"
#include "cli/sender.hpp"
#include "cli/sync_memory.hpp"
#include "cli/sync_plan.hpp"
#include "cli/sync_scan.hpp"
#include "client/conflict_name.hpp"
#include "client/hosts_file.hpp"
#include "transport/endpoint_address.hpp"

namespace remofile::cli {
namespace {

using client::RemoteTree;
using Kind = Step::Kind;

// A kernel's clock for files goes on in steps of up to 10 ms: a file may change twice with the same time. Once this
// long has passed since it was looked at, what is read has all changes of that time.
constexpr auto tick = std::chrono::milliseconds(20);
// Changes so long ago are no concern, even if the server's clock is behind.
constexpr std::int64_t young_seconds = 10;
// Requests under way for what has no content.
constexpr std::uint64_t max_steps = 64;
// More deletions than this, of more than half of all files, are asked about.
constexpr std::uint64_t few_files = 10;
const client::CallOptions data_lane{.lane = client::LaneKind::data};

struct Options {
    TransferOptions transfer;
    std::string local;
    std::string source;  // the server's directory, as the person wrote it
    SyncSettings settings;
    bool both = false;
    std::optional<std::uint64_t> max_delete;
};

const char* where(Side side) {
    return side == Side::local ? "here" : "on the server";
}

std::string describe(const Step& step, bool is_directory) {
    const std::string path = log::printable(step.path);
    switch (step.kind) {
        case Kind::rename:
            return fmt::format("rename {}: {} to {}", where(step.side), path, log::printable(step.new_path));
        case Kind::remove:
            return fmt::format("delete {}{}: {}", is_directory ? "directory " : "", where(step.side), path);
        case Kind::make_directory:
            return fmt::format("make directory {}: {}", where(step.side), path);
        case Kind::copy:
            return fmt::format("{}: {}", step.side == Side::server ? "send" : "fetch", path);
        case Kind::set_times:
            return fmt::format("set times {}: {}", where(step.side), path);
        case Kind::set_mode:
        case Kind::finish:
        case Kind::restore:
            return fmt::format("set mode {}: {}", where(step.side), path);
    }
    return {};
}

void let_the_clock_go_on(const Tree& local, const Tree& server) {
    const std::int64_t now = std::time(nullptr);
    const auto is_young = [now](const auto& entry) { return entry.second.seconds > now - young_seconds; };
    if (std::ranges::any_of(local, is_young) || std::ranges::any_of(server, is_young))
        std::this_thread::sleep_for(tick);
}

std::pair<std::string, std::string> split(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? std::pair(std::string(), path)
                              : std::pair(path.substr(0, slash), path.substr(slash + 1));
}

// A new one each time it is asked for the same path.
class ConflictNames {
public:
    std::string operator()(const std::string& path, Side side) {
        const auto [directory, name] = split(path);
        return (directory.empty() ? "" : directory + "/") +
               client::conflict_name(name, side == Side::local ? "local" : "server", time_, ++numbers_[path]);
    }

private:
    const std::time_t time_ = std::time(nullptr);
    std::map<std::string, int> numbers_;
};

struct Totals {
    std::uint64_t sent = 0;
    std::uint64_t fetched = 0;
    std::uint64_t deleted_here = 0;
    std::uint64_t deleted_on_server = 0;
    std::uint64_t unchanged = 0;
    std::vector<std::string> conflicts;

    bool operator==(const Totals&) const = default;
};

// One run over the two trees, within one session.
class Syncer {
public:
    Syncer(RemoteTree& tree, transport::Reactor& reactor, const Options& options, const SyncMemory* memory,
           Progress& progress, Totals& totals)
        : tree_(tree),
          session_(tree.session()),
          reactor_(reactor),
          options_(options),
          memory_file_(memory),
          progress_(progress),
          totals_(totals),
          sender_(tree, options.transfer, progress),
          receiver_(tree, options.transfer, progress) {}

    Task<Result<>> run(std::string server_path);

private:
    using Carry = Task<Result<>> (Syncer::*)(const Step&);

    Task<Result<client::RemoteFile>> open_server_root(std::string path, bool may_be_made);
    Result<> open_local_root(bool may_be_made);
    Task<Result<>> scan(std::string server_path);
    Task<Result<>> scan_both();
    Result<> leave_out_each_other();
    void leave_out(Tree& tree, const std::string& path);
    void set_aside_what_is_excluded();
    Result<> save(Memory memory) const;
    Task<Result<Comparisons>> compare();
    Task<void> compare_one(std::string path, Comparisons& comparisons, Result<>& outcome);
    Result<> check_removals(const Plan& plan) const;
    Result<> check_limit(const Plan& plan) const;
    void show(const Plan& plan);
    std::string described(const Step& step) const;
    Task<void> carry_out(const Plan& plan);
    Task<void> open_directories(const Plan& plan);
    Task<void> open_on_server(std::string path);
    void open_here(const std::string& path);
    std::vector<Step> last_steps(const Plan& plan) const;
    // All of them, those of one depth side by side.
    Task<void> carry_out_by_depth(std::vector<Step> steps, bool deepest_first, Carry how);
    Task<void> carry_out_one(const Step& step, Carry how);

    Task<Result<>> rename(const Step& step);
    Task<Result<>> remove(const Step& step);
    Task<Result<>> remove_on_server(const Step& step);
    Result<> remove_here(const Step& step) const;
    Task<Result<>> make_directory(const Step& step);
    Task<Result<>> copy(const Step& step);
    Task<Result<>> send(const Step& step);
    Task<Result<>> fetch(const Step& step);
    Task<Result<>> set_attributes(const Step& step);
    Task<Result<>> set_attributes_on_server(Step step, Item wanted, bool times, bool mode);
    Task<Result<>> set_attributes_here(Step step, Item wanted, bool times, bool mode);
    Task<Result<>> restore(Step step);
    Task<void> finish_root();
    bool with_owner(const Step& step) const { return step.kind == Kind::finish && options_.transfer.archive; }

    Result<UniqueFd> open_directory(const std::string& path) const;
    RemoteDirectory* server_directory(const std::string& path);
    Tree& tree_of(Side side) { return side == Side::local ? local_ : server_.items; }
    const Tree& tree_of(Side side) const { return side == Side::local ? local_ : server_.items; }
    Occupant occupant(Side side, const std::string& path) const;
    void failed(const std::string& path, const Error& error);

    RemoteTree& tree_;
    client::Session& session_;
    transport::Reactor& reactor_;
    const Options& options_;
    const SyncMemory* memory_file_;  // none one way
    Progress& progress_;
    Totals& totals_;
    FileSender sender_;
    FileReceiver receiver_;
    UniqueFd local_root_;
    client::RemoteFile server_root_;
    // Directories that had to be opened to work in them, and their own modes.
    std::map<std::pair<Side, std::string>, std::uint32_t> opened_;
    // As they were found, and as they become.
    Tree local_;
    ServerTree server_;
    Memory memory_;
    Memory excluded_memory_;
    std::set<std::string, std::less<>> failed_;
    bool session_ended_ = false;
    Result<> outcome_;  // the first error
};

void Syncer::failed(const std::string& path, const Error& error) {
    failed_.insert(path);
    session_ended_ = session_ended_ || error.status == Status::shutting_down || error.status == Status::no_session;
    const std::string text = fmt::format("{}: {}", log::printable(path), log::printable(error.to_string()));
    if (outcome_)
        outcome_ = make_error(error.status, text);
    else
        progress_.say(text);
}

// ---------------------------------------------------------------- what is there

Task<Result<client::RemoteFile>> Syncer::open_server_root(std::string path, bool may_be_made) {
    using Opened = Result<client::RemoteFile>;
    auto found = co_await tree_.find(path, client::Symlinks::follow);
    if (!found && found.status() == Status::no_entry && may_be_made) {
        auto place = co_await tree_.find_place(path);
        if (!place)
            co_return Opened(place.error());
        if (progress_.is_dry_run())
            co_return Opened(client::RemoteFile());
        const wire::Mkdir mkdir{.parent = place->directory,
                                .name = place->name,
                                .node = {session_.new_node_id(), false},
                                .mode = 0777,
                                .umask = current_umask()};
        const auto made = co_await session_.call(mkdir, data_lane);
        tree_.forget(place->directory);
        if (!made)
            co_return Opened(
                make_error(made.status(), fmt::format("{}: {}", log::printable(path), describe(made.status()))));
        co_return Opened({made->body.node, made->body.attributes});
    }
    if (!found)
        co_return Opened(found.error());
    if (!S_ISDIR(found->attributes.mode))
        co_return Opened(make_error(Status::not_directory, log::printable(path) + ": is no directory"));
    co_return Opened(*found);
}

Result<> Syncer::open_local_root(bool may_be_made) {
    if (may_be_made && !progress_.is_dry_run())
        ::mkdir(options_.local.c_str(), 0777);
    local_root_ = UniqueFd(::open(options_.local.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!local_root_ && !(may_be_made && progress_.is_dry_run() && errno == ENOENT))
        return errno_error(fmt::format("{}: {}", log::printable(options_.local), describe(from_errno(errno))));
    return {};
}

Task<Result<>> Syncer::scan(std::string server_path) {
    const bool both = !options_.settings.from;
    const bool first_time = both && memory_.empty() && excluded_memory_.empty();
    const Result<> opened = open_local_root(both ? first_time : options_.settings.from == Side::server);
    if (!opened)
        co_return opened;
    const auto root = co_await open_server_root(server_path, both ? first_time : options_.settings.from == Side::local);
    if (!root)
        co_return Result<>(root.error());
    server_root_ = *root;
    const Result<> scanned = co_await scan_both();
    if (!scanned)
        co_return scanned;
    let_the_clock_go_on(local_, server_.items);
    co_return leave_out_each_other();
}

// Side by side.
Task<Result<>> Syncer::scan_both() {
    const Complain complain = [this](const std::string& path, const Error& error) { failed(path, error); };
    std::optional<LocalScan> scan;
    if (local_root_)
        scan.emplace(reactor_, options_.local, options_.transfer.archive, options_.transfer.filter);
    if (server_root_.node) {
        auto server = co_await scan_server(tree_, server_root_.node, options_.transfer.archive,
                                           options_.transfer.filter, complain);
        if (!server)
            co_return Result<>(server.error());
        server_ = std::move(*server);
    }
    if (scan) {
        auto local = co_await scan->result(complain);
        if (!local)
            co_return Result<>(local.error());
        local_ = std::move(*local);
    }
    co_return Result<>();
}

// A directory and all that it holds: nothing is concluded from what is not seen.
void Syncer::leave_out(Tree& tree, const std::string& path) {
    failed(path, into_itself());
    tree.at(path).type = ItemType::unusable;
    const auto begin = tree.lower_bound(path + "/");
    auto end = begin;
    while (end != tree.end() && end->first.starts_with(path + "/"))
        ++end;
    tree.erase(begin, end);
}

// Of two trees of which one lies in the other, each time would make the inner one deeper.
Result<> Syncer::leave_out_each_other() {
    struct stat here {};
    if (!local_root_ || !server_root_.node)
        return {};
    if (::fstat(local_root_.get(), &here) != 0)
        return errno_error();
    if (looks_the_same(server_root_.attributes, here, session_))
        return make_error(Status::invalid, log::printable(options_.local) + ": is the directory on the server itself");
    std::vector<std::string> inside;
    const DirectoryNumbers there = numbers_of(server_root_.attributes, session_);
    for (const auto& [path, item] : local_) {
        struct stat status {};
        status.st_ino = item.inode;
        const DirectoryNumbers numbers = numbers_of(status);
        if (item.type == ItemType::directory &&
            (numbers.inode == there.inode || (numbers.may_be_mixed && there.may_be_mixed)) &&
            ::lstat((options_.local + "/" + path).c_str(), &status) == 0 &&
            looks_the_same(server_root_.attributes, status, session_))
            inside.push_back(path);
    }
    for (const std::string& path : inside)
        leave_out(local_, path);
    inside.clear();
    for (const auto& [path, directory] : server_.directories) {
        for (const auto& [name, entry] : directory.entries) {
            const std::string child = path.empty() ? name : path + "/" + name;
            const auto item = server_.items.find(child);
            if (item != server_.items.end() && item->second.type == ItemType::directory &&
                looks_the_same(entry.attributes, here, session_))
                inside.push_back(child);
        }
    }
    for (const std::string& path : inside)
        leave_out(server_.items, path);
    return {};
}

Task<void> Syncer::compare_one(std::string path, Comparisons& comparisons, Result<>& outcome) {
    const auto [parent, name] = split(path);
    const NodeId node = server_.directories.at(parent).entries.at(name).node;
    const UniqueFd fd(::open((options_.local + "/" + path).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd)
        co_return;  // what cannot be read is not sent either, and says so then
    const HandleId handle = session_.new_handle_id();
    const wire::Open open{node, handle, wire::open_read};
    const auto opened = co_await session_.call(open, data_lane);
    if (!opened)
        co_return;
    const auto common = co_await common_blocks(session_, handle, fd.get(), local_.at(path).size);
    session_.tell(wire::Release{handle}, client::LaneKind::data);
    if (common)
        comparisons[path] = std::ranges::find(*common, false) == common->end();
    else if (outcome)
        outcome = common.error();
}

Task<Result<Comparisons>> Syncer::compare() {
    Comparisons comparisons;
    Result<> outcome;
    Parallel under_way(max_steps);
    for (const std::string& path : undecided(local_, server_.items, options_.settings)) {
        comparisons[path] = false;
        co_await under_way.add(1, compare_one(path, comparisons, outcome));
    }
    co_await under_way.idle();
    if (!outcome)
        co_return Result<Comparisons>(outcome.error());
    co_return Result<Comparisons>(std::move(comparisons));
}

// Somebody who has emptied a directory by mistake, or not mounted a disk, does not want the other side emptied too.
Result<> Syncer::check_removals(const Plan& plan) const {
    if (options_.settings.from || options_.settings.remove)
        return {};
    const auto is_file = [](const auto& entry) { return entry.second.local.type != ItemType::directory; };
    const auto known = static_cast<std::uint64_t>(std::ranges::count_if(memory_, is_file));
    for (const Side side : {Side::local, Side::server}) {
        if (removed_files(plan, tree_of(side), side) == 0)
            continue;
        // Not only those that are to be deleted: who has emptied a directory has not kept what was edited elsewhere.
        const Tree& other = tree_of(opposite(side));
        const auto gone = static_cast<std::uint64_t>(std::ranges::count_if(
            memory_, [&](const auto& entry) { return is_file(entry) && !other.contains(entry.first); }));
        if (gone == known || (gone > few_files && gone * 2 > known))
            return make_error(Status::invalid,
                              fmt::format("of {} files known, {} are gone {}: pass --delete if they are to be deleted "
                                          "{} too",
                                          known, gone, where(opposite(side)), where(side)));
    }
    return {};
}

Result<> Syncer::check_limit(const Plan& plan) const {
    const std::size_t count = plan.removals.size();
    if (!options_.max_delete || count <= *options_.max_delete)
        return {};
    return make_error(Status::invalid, fmt::format("{} deletions are more than --max-delete={} allows: nothing is done",
                                                   count, *options_.max_delete));
}

// Of a step that is about to be done, or has been: of one that removes it, before.
std::string Syncer::described(const Step& step) const {
    const auto item = tree_of(step.side).find(step.path);
    return describe(step, item != tree_of(step.side).end() && item->second.type == ItemType::directory);
}

void Syncer::show(const Plan& plan) {
    for (const std::vector<Step>* steps :
         {&plan.renames, &plan.removals, &plan.directories, &plan.copies, &plan.attributes}) {
        for (const Step& step : *steps)
            progress_.tell(described(step));
    }
}

// What is left out this time is neither gone nor forgotten.
void Syncer::set_aside_what_is_excluded() {
    for (auto it = memory_.begin(); it != memory_.end();) {
        const auto entry = it++;
        const bool is_directory = entry->second.local.type == ItemType::directory;
        if (options_.transfer.filter.excludes_on_the_way(entry->first, is_directory))
            excluded_memory_.insert(memory_.extract(entry));
    }
}

Result<> Syncer::save(Memory memory) const {
    memory.insert(excluded_memory_.begin(), excluded_memory_.end());
    return memory_file_->save(memory);
}

Task<Result<>> Syncer::run(std::string server_path) {
    if (memory_file_ != nullptr) {
        auto memory = memory_file_->load();
        if (!memory)
            co_return Result<>(memory.error());
        memory_ = std::move(*memory);
        set_aside_what_is_excluded();
    }
    const Result<> scanned = co_await scan(std::move(server_path));
    if (!scanned)
        co_return scanned;
    const auto comparisons = co_await compare();
    if (!comparisons)
        co_return Result<>(comparisons.error());
    ConflictNames names;
    const Plan plan = make_plan(local_, server_.items, memory_, options_.settings, *comparisons, std::ref(names));
    const Result<> harmless = check_removals(plan);
    if (!harmless)
        co_return harmless;
    totals_.unchanged = plan.unchanged;
    for (const std::string& path : plan.left_alone)
        progress_.say(log::printable(path) +
                      ": left alone (no file, directory or link, or a directory where a file is "
                      "to be)");
    for (const std::string& conflict : plan.conflicts)
        progress_.say("conflict: " + log::printable(conflict));
    totals_.conflicts.insert(totals_.conflicts.end(), plan.conflicts.begin(), plan.conflicts.end());
    if (progress_.is_dry_run())
        show(plan);
    const Result<> few_enough = check_limit(plan);
    if (!few_enough)
        co_return few_enough;
    if (progress_.is_dry_run())
        co_return outcome_;
    if (memory_file_ != nullptr && !plan.renames.empty()) {
        forget_conflicts(memory_, plan);
        const Result<> saved = save(memory_);
        if (!saved)
            co_return saved;
    }
    co_await carry_out(plan);
    if (memory_file_ != nullptr) {
        const Result<> saved = save(remember(local_, server_.items, memory_, failed_));
        if (!saved)
            co_return saved;
    }
    co_return outcome_;
}

// ---------------------------------------------------------------- steps

// As rsync does: what its owner may not write to is opened while something is done in it.
Task<void> Syncer::open_directories(const Plan& plan) {
    std::set<std::pair<Side, std::string>> needed;
    for (const std::vector<Step>* steps : {&plan.renames, &plan.removals, &plan.directories, &plan.copies}) {
        for (const Step& step : *steps)
            needed.emplace(step.side, split(step.path).first);
    }
    Parallel under_way(max_steps);
    for (const auto& [side, path] : needed) {
        const auto item = tree_of(side).find(path);
        if (!path.empty() && (item == tree_of(side).end() || item->second.type != ItemType::directory))
            continue;  // not there yet
        if (side == Side::server)
            co_await under_way.add(1, open_on_server(path));
        else
            open_here(path);
    }
    co_await under_way.idle();
}

Task<void> Syncer::open_on_server(std::string path) {
    const RemoteDirectory* directory = server_directory(path);
    if (directory == nullptr)
        co_return;
    const auto [parent, name] = split(path);
    const std::uint32_t mode =
        (path.empty() ? server_root_ : server_.directories.at(parent).entries.at(name)).attributes.mode & 07777U;
    if ((mode & private_directory) == private_directory)
        co_return;
    const wire::Setattr opening{.node = directory->node, .which = wire::set_mode, .mode = mode | private_directory};
    const auto opened = co_await session_.call(opening, data_lane);
    if (opened)
        opened_.emplace(std::pair(Side::server, path), mode);
}

void Syncer::open_here(const std::string& path) {
    const auto directory = open_directory(path);
    struct stat status {};
    if (!directory || ::fstat(directory->get(), &status) != 0 || status.st_uid != ::geteuid() || ::geteuid() == 0)
        return;
    const std::uint32_t mode = status.st_mode & 07777U;
    if ((mode & private_directory) != private_directory && ::fchmod(directory->get(), mode | private_directory) == 0)
        opened_.emplace(std::pair(Side::local, path), mode);
}

// Attributes, also of directories that were opened and that no other step gives their mode.
std::vector<Step> Syncer::last_steps(const Plan& plan) const {
    std::vector<Step> steps = plan.attributes;
    auto left = opened_;
    for (const Step& step : steps) {
        if (step.kind != Kind::set_times)
            left.erase({step.side, step.path});
    }
    for (const auto& [place, mode] : left)
        steps.push_back({Kind::restore, place.first, place.second});
    return steps;
}

Task<void> Syncer::carry_out(const Plan& plan) {
    co_await open_directories(plan);
    co_await carry_out_by_depth(plan.renames, true, &Syncer::rename);
    co_await carry_out_by_depth(plan.removals, true, &Syncer::remove);
    co_await carry_out_by_depth(plan.directories, false, &Syncer::make_directory);
    Parallel small(small_files_limit);
    for (const Step& step : plan.copies) {
        const auto item = tree_of(opposite(step.side)).find(step.path);
        if (item == tree_of(opposite(step.side)).end() || failed_.contains(step.path))
            continue;  // a rename has failed, and was complained of
        const std::uint64_t size = item->second.size;
        progress_.expect(size);
        if (size > small_file_bytes)
            co_await carry_out_one(step, &Syncer::copy);
        else
            co_await small.add(size + small_file_weight, carry_out_one(step, &Syncer::copy));
    }
    co_await small.idle();
    co_await carry_out_by_depth(last_steps(plan), true, &Syncer::set_attributes);
    co_await finish_root();
}

Task<void> Syncer::carry_out_by_depth(std::vector<Step> steps, bool deepest_first, Carry how) {
    // That of the root is the least.
    const auto depth = [](const Step& step) { return step.path.empty() ? -1 : std::ranges::count(step.path, '/'); };
    std::ranges::stable_sort(
        steps, [&](const Step& a, const Step& b) { return deepest_first ? depth(a) > depth(b) : depth(a) < depth(b); });
    Parallel under_way(max_steps);
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (i > 0 && depth(steps[i]) != depth(steps[i - 1]))
            co_await under_way.idle();
        co_await under_way.add(1, carry_out_one(steps[i], how));
    }
    co_await under_way.idle();
}

// Nothing more happens to a path once something has failed: a file whose rename failed must not be replaced. Nor to any
// once the session has ended, be it by Ctrl-C.
Task<void> Syncer::carry_out_one(const Step& step, Carry how) {
    if ((session_ended_ || failed_.contains(step.path)) && step.kind != Kind::restore)
        co_return;
    const std::string what = described(step);
    const Result<> done = co_await (this->*how)(step);
    if (!done)
        failed(step.path, done.error());
    else if (step.kind != Kind::restore)
        progress_.tell(what);
}

// What is known of a name, which must be it still when it is replaced.
Occupant Syncer::occupant(Side side, const std::string& path) const {
    const auto found = tree_of(side).find(path);
    if (found == tree_of(side).end())
        return {.kind = Occupant::Kind::nothing};
    const Item& item = found->second;
    if (side == Side::server) {
        const auto [parent, name] = split(path);
        return {.kind = Occupant::Kind::only,
                .identity = identity_of(server_.directories.at(parent).entries.at(name).attributes)};
    }
    return {
        .kind = Occupant::Kind::only,
        .identity = {.size = item.size, .seconds = item.seconds, .nanoseconds = item.nanoseconds, .inode = item.inode}};
}

RemoteDirectory* Syncer::server_directory(const std::string& path) {
    const auto found = server_.directories.find(path);
    return found == server_.directories.end() ? nullptr : &found->second;
}

// No link on the way is followed: it may have come after the scan.
Result<UniqueFd> Syncer::open_directory(const std::string& path) const {
    UniqueFd fd(::openat(local_root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (std::size_t begin = 0; fd && begin < path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string name = path.substr(begin, end - begin);
        fd = UniqueFd(::openat(fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
        begin = end + 1;
    }
    if (!fd)
        return errno_error();
    return fd;
}

Task<Result<>> Syncer::rename(const Step& step) {
    const auto [parent, name] = split(step.path);
    const std::string new_name = split(step.new_path).second;
    if (step.side == Side::server) {
        RemoteDirectory* directory = server_directory(parent);
        const wire::Rename request{directory->node, name, directory->node, new_name, wire::rename_noreplace};
        const auto renamed = co_await session_.call(request, data_lane);
        if (!renamed)
            co_return Result<>(renamed.error());
        auto entry = directory->entries.extract(name);
        entry.key() = new_name;
        directory->entries.insert(std::move(entry));
    } else {
        const auto directory = open_directory(parent);
        if (!directory)
            co_return Result<>(directory.error());
        const Result<> renamed = give_new_name(directory->get(), name, new_name);
        if (!renamed)
            co_return renamed;
    }
    auto item = tree_of(step.side).extract(step.path);
    item.key() = step.new_path;
    tree_of(step.side).insert(std::move(item));
    co_return Result<>();
}

Task<Result<>> Syncer::remove_on_server(const Step& step) {
    const auto [parent, name] = split(step.path);
    RemoteDirectory* directory = server_directory(parent);
    const client::RemoteFile& file = directory->entries.at(name);
    const auto there = co_await tree_.find_entry(directory->node, name);
    if (!there)
        co_return Result<>(there.status() == Status::no_entry ? Result<>() : Result<>(there.error()));
    tree_.forget(there->node);
    if (S_ISDIR(file.attributes.mode)) {
        // Incomplete copies go with their directory.
        const RemoteDirectory& inside = server_.directories.at(step.path);
        for (const auto& [entry, ignored] : inside.entries) {
            const wire::Unlink unlink{inside.node, entry};
            if (is_partial(entry))
                co_await session_.call(unlink, data_lane);
        }
        const wire::Rmdir rmdir{directory->node, name};
        const auto removed = co_await session_.call(rmdir, data_lane);
        if (!removed)
            co_return Result<>(removed.error());
        server_.directories.erase(step.path);
    } else {
        if (identity_of(there->attributes) != identity_of(file.attributes))
            co_return Result<>(make_error(Status::try_again, "changed on the server meanwhile; it is not deleted"));
        const wire::Unlink unlink{directory->node, name};
        const auto removed = co_await session_.call(unlink, data_lane);
        if (!removed)
            co_return Result<>(removed.error());
    }
    directory->entries.erase(name);
    co_return Result<>();
}

Result<> Syncer::remove_here(const Step& step) const {
    const auto [parent, name] = split(step.path);
    REMOFILE_TRY(directory, open_directory(parent));
    struct stat there {};
    if (::fstatat(directory.get(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? Result<>() : Result<>(errno_error());
    if (S_ISDIR(there.st_mode)) {
        REMOFILE_TRY(names, names_in(options_.local + "/" + step.path));
        REMOFILE_TRY(inside, open_directory(step.path));
        for (const std::string& entry : names) {
            if (is_partial(entry))
                ::unlinkat(inside.get(), entry.c_str(), 0);
        }
    } else if (identity_of(there) != occupant(Side::local, step.path).identity) {
        return make_error(Status::try_again, "changed meanwhile; it is not deleted");
    }
    if (::unlinkat(directory.get(), name.c_str(), S_ISDIR(there.st_mode) ? AT_REMOVEDIR : 0) != 0)
        return errno_error();
    return {};
}

Task<Result<>> Syncer::remove(const Step& step) {
    Result<> removed;
    if (step.side == Side::server)
        removed = co_await remove_on_server(step);
    else
        removed = remove_here(step);
    if (removed) {
        tree_of(step.side).erase(step.path);
        ++(step.side == Side::server ? totals_.deleted_on_server : totals_.deleted_here);
    }
    co_return removed;
}

Task<Result<>> Syncer::make_directory(const Step& step) {
    const auto [parent, name] = split(step.path);
    if (step.side == Side::server) {
        RemoteDirectory* directory = server_directory(parent);
        if (directory == nullptr)
            co_return Result<>(Status::no_entry);
        const wire::Mkdir mkdir{.parent = directory->node,
                                .name = name,
                                .node = {session_.new_node_id(), false},
                                .mode = private_directory};
        const auto made = co_await session_.call(mkdir, data_lane);
        if (!made)
            co_return Result<>(made.error());
        server_.directories[step.path].node = made->body.node;
        directory->entries[name] = {made->body.node, made->body.attributes};
        server_.items[step.path] = item_of(made->body.attributes, options_.transfer.archive);
    } else {
        const auto directory = open_directory(parent);
        if (!directory)
            co_return Result<>(directory.error());
        if (::mkdirat(directory->get(), name.c_str(), private_directory) != 0)
            co_return Result<>(errno_error());
        local_[step.path] = {.type = ItemType::directory, .mode = private_directory};
    }
    co_return Result<>();
}

Task<Result<>> Syncer::send(const Step& step) {
    const auto [parent, name] = split(step.path);
    const RemoteDirectory* directory = server_directory(parent);
    if (directory == nullptr)
        co_return Result<>(Status::no_entry);
    auto parent_fd = open_directory(parent);
    if (!parent_fd)
        co_return Result<>(parent_fd.error());
    LocalFile file{.path = options_.local + "/" + step.path,
                   .name = name,
                   .relative = step.path,
                   .status = {},
                   .directory = std::make_shared<const UniqueFd>(std::move(*parent_fd))};
    if (::fstatat(file.at(), file.name_there(), &file.status, AT_SYMLINK_NOFOLLOW) != 0)
        co_return Result<>(errno_error());
    if (identity_of(file.status) != occupant(Side::local, step.path).identity)
        co_return Result<>(make_error(Status::try_again, "changed meanwhile; it is left for the next time"));
    const Occupant there = occupant(Side::server, step.path);
    Result<> sent;
    if (S_ISLNK(file.status.st_mode))
        sent = co_await sender_.send_symlink(directory->node, file, there);
    else if (static_cast<std::uint64_t>(file.status.st_size) <= small_file_bytes)
        sent = co_await sender_.send_small(directory->node, file, there);
    else
        sent = co_await sender_.send_large(directory, file, there);
    if (!sent)
        co_return sent;
    Item& item = local_.at(step.path);
    const std::string target = item.target;
    item = item_of(file.status, options_.transfer.archive);
    item.target = target;
    ++totals_.sent;
    co_return sent;
}

Task<Result<>> Syncer::fetch(const Step& step) {
    const auto [parent, name] = split(step.path);
    const auto directory = open_directory(parent);
    if (!directory)
        co_return Result<>(directory.error());
    const RemoteItem item{.file = server_.directories.at(parent).entries.at(name),
                          .name = name,
                          .shown = step.path,
                          .relative = step.path};
    const Occupant there = occupant(Side::local, step.path);
    Result<> fetched;
    if (S_ISLNK(item.file.attributes.mode))
        fetched = co_await receiver_.receive_symlink(directory->get(), item, there);
    else if (item.file.attributes.size <= small_file_bytes)
        fetched = co_await receiver_.receive_small(directory->get(), item, there);
    else
        fetched = co_await receiver_.receive_large(directory->get(), item, there);
    if (fetched)
        ++totals_.fetched;
    co_return fetched;
}

Task<Result<>> Syncer::copy(const Step& step) {
    Result<> copied;
    if (step.side == Side::server)
        copied = co_await send(step);
    else
        copied = co_await fetch(step);
    if (copied) {
        const Item& original = tree_of(opposite(step.side)).at(step.path);
        tree_of(step.side).insert_or_assign(step.path, original);
        progress_.file_done();
    }
    co_return copied;
}

Task<Result<>> Syncer::set_attributes_here(Step step, Item wanted, bool times, bool mode) {
    const auto [parent, name] = split(step.path);
    const auto directory = open_directory(parent);
    if (!directory)
        co_return Result<>(directory.error());
    const UniqueFd fd(::openat(directory->get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0)
        co_return Result<>(errno_error());
    // The times of an edit must stay, or it would not be seen the next time.
    const bool edited =
        times && !S_ISDIR(status.st_mode) && identity_of(status) != occupant(Side::local, step.path).identity;
    if (S_ISLNK(status.st_mode) || edited)
        co_return Result<>(make_error(Status::try_again, "changed meanwhile; it is left for the next time"));
    if (with_owner(step)) {
        const client::RemoteFile& source = server_.directories.at(parent).entries.at(name);
        const auto xattrs = co_await remote_xattrs(session_, source.node);
        if (!xattrs)
            co_return Result<>(xattrs.error());
        if (::fchownat(fd.get(), "", source.attributes.uid, source.attributes.gid, AT_EMPTY_PATH) != 0)
            log::debug("{}: its owner stays as it is", step.path);
        set_local_xattrs(fd.get(), *xattrs, step.path);
    }
    const std::string itself = path_of(fd.get());
    const timespec stamps[] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                               {.tv_sec = wanted.seconds, .tv_nsec = static_cast<long>(wanted.nanoseconds)}};
    if ((mode && ::chmod(itself.c_str(), wanted.mode) != 0) ||
        (times && ::utimensat(AT_FDCWD, itself.c_str(), stamps, 0) != 0))
        co_return Result<>(errno_error());
    co_return Result<>();
}

Task<Result<>> Syncer::set_attributes_on_server(Step step, Item wanted, bool times, bool mode) {
    const auto [parent, name] = split(step.path);
    const RemoteDirectory& directory = server_.directories.at(parent);
    const client::RemoteFile& file = directory.entries.at(name);
    if (times && !S_ISDIR(file.attributes.mode)) {
        // As for those here.
        const auto there = co_await tree_.find_entry(directory.node, name);
        if (!there)
            co_return Result<>(there.error());
        tree_.forget(there->node);
        if (identity_of(there->attributes) != occupant(Side::server, step.path).identity)
            co_return Result<>(make_error(Status::try_again, "changed meanwhile; it is left for the next time"));
    }
    std::vector<client::EncodedRequest> requests;
    if (with_owner(step)) {
        const auto source = open_directory(step.path);
        struct stat status {};
        if (!source)
            co_return Result<>(source.error());
        if (::fstat(source->get(), &status) != 0)
            co_return Result<>(errno_error());
        const std::vector<std::string> names = co_await remote_xattr_names(session_, file.node);
        requests = sender_.ownership(status, local_xattrs(source->get()), file.node, names);
    }
    requests.push_back(
        client::encoded(wire::Setattr{.node = file.node,
                                      .which = (times ? wire::set_modification : 0U) | (mode ? wire::set_mode : 0U),
                                      .mode = wanted.mode,
                                      .modification = {wanted.seconds, wanted.nanoseconds}}));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    if (replies.back().status != Status::ok)
        co_return Result<>(replies.back().status);
    co_return Result<>();
}

Task<Result<>> Syncer::restore(Step step) {
    const std::uint32_t mode = opened_.at({step.side, step.path});
    if (!step.path.empty() && !tree_of(step.side).contains(step.path))
        co_return Result<>();  // removed
    if (step.side == Side::server) {
        const RemoteDirectory* directory = server_directory(step.path);
        const wire::Setattr setattr{.node = directory->node, .which = wire::set_mode, .mode = mode};
        const auto set = co_await session_.call(setattr, data_lane);
        co_return set ? Result<>() : Result<>(set.error());
    }
    const auto directory = open_directory(step.path);
    if (!directory)
        co_return Result<>(directory.error());
    co_return ::fchmod(directory->get(), mode) == 0 ? Result<>() : Result<>(errno_error());
}

// Like rsync of "FROM/", but only where all is to be kept: FROM's own mode may be no concern of whoever keeps TO.
Task<void> Syncer::finish_root() {
    if (!options_.settings.from || !options_.transfer.archive)
        co_return;
    Result<> finished;
    if (options_.settings.from == Side::local) {
        struct stat status {};
        if (::fstat(local_root_.get(), &status) != 0)
            co_return failed(options_.local, errno_error());
        finished = co_await sender_.finish_directory(server_root_.node, local_xattrs(local_root_.get()), status);
    } else {
        const auto xattrs = co_await remote_xattrs(session_, server_root_.node);
        if (xattrs)
            finished = receiver_.set_attributes(local_root_.get(), server_root_.attributes, *xattrs, options_.local);
        else
            finished = xattrs.error();
    }
    if (!finished)
        failed(options_.settings.from == Side::local ? options_.source : options_.local, finished.error());
}

Task<Result<>> Syncer::set_attributes(const Step& step) {
    if (step.kind == Kind::restore)
        co_return co_await restore(step);
    const Item wanted = tree_of(opposite(step.side)).at(step.path);
    const bool times = step.kind == Kind::set_times || (step.kind == Kind::finish && options_.settings.from);
    const bool mode = step.kind != Kind::set_times;
    auto found = tree_of(step.side).find(step.path);
    if (found == tree_of(step.side).end())
        co_return Result<>();  // it could not be made, as was complained of
    Result<> set;
    if (step.side == Side::server)
        set = co_await set_attributes_on_server(step, wanted, times, mode);
    else
        set = co_await set_attributes_here(step, wanted, times, mode);
    if (!set)
        co_return set;
    if (times) {
        found->second.seconds = wanted.seconds;
        found->second.nanoseconds = wanted.nanoseconds;
    }
    if (mode)
        found->second.mode = wanted.mode;
    co_return Result<>();
}

// ---------------------------------------------------------------- the command

std::string summary(const Totals& totals, const Progress& progress) {
    return fmt::format("{} sent, {} fetched, {} deleted, {} unchanged, {} conflict{}; {} transferred in {:.1f} s",
                       totals.sent, totals.fetched, totals.deleted_here + totals.deleted_on_server, totals.unchanged,
                       totals.conflicts.size(), totals.conflicts.size() == 1 ? "" : "s",
                       size_text(static_cast<double>(progress.sent_bytes())), progress.seconds());
}

void print_summary(const Totals& totals, const Progress& progress, bool json) {
    if (json) {
        std::string conflicts;
        for (const std::string& conflict : totals.conflicts)
            conflicts += (conflicts.empty() ? "" : ", ") + json_text(conflict);
        std::printf(
            "%s\n",
            fmt::format("{{\"sent\": {}, \"fetched\": {}, \"deleted_here\": {}, \"deleted_on_server\": {}, "
                        "\"unchanged\": {}, \"bytes_transferred\": {}, \"seconds\": {:.3f}, \"conflicts\": [{}]}}",
                        totals.sent, totals.fetched, totals.deleted_here, totals.deleted_on_server, totals.unchanged,
                        progress.sent_bytes(), progress.seconds(), conflicts)
                .c_str());
        return;
    }
    std::printf("%s\n", summary(totals, progress).c_str());
}

Task<Result<>> synchronise(RemoteTree& tree, transport::Reactor& reactor, const Options& options,
                           const SyncMemory* memory, std::string path, Activity& activity) {
    if (!options.transfer.quiet)
        say_who_else_is_there(tree.session());
    const ProgressForm form = progress_form(options.transfer);
    Progress progress(Clock::system(), form == ProgressForm::bar ? form : ProgressForm::none, "transferred", activity);
    Totals totals;
    const Result<> done = co_await in_one_session(tree.session(), progress, [&]() -> Task<Result<>> {
        Syncer syncer(tree, reactor, options, memory, progress, totals);
        co_return co_await syncer.run(path);
    });
    progress.finish();
    const bool in_vain = !done && totals == Totals();  // which a program that reads JSON wants to hear all the same
    if (!activity.is_dry_run() && !in_vain)
        activity.note(summary(totals, progress));
    if (!activity.is_dry_run() && (options.transfer.json || (form != ProgressForm::none && !in_vain)))
        print_summary(totals, progress, options.transfer.json);
    co_return activity.end(done);
}

// HOST:…, remofile://… or remofile+ipc:///…; all else is a local path, as for scp and rsync.
bool is_source(const std::string& text) {
    return text.starts_with("remofile://") || text.starts_with("remofile+ipc://") ||
           text.substr(0, text.find('/')).find(':') != text.npos;
}

Result<> complete(Options& options, const std::string& from, const std::string& to) {
    REMOFILE_CHECK(complete(options.transfer));
    if (is_source(from) == is_source(to))
        return make_error(Status::bad_usage, "one of the two must be a directory here, the other a SOURCE");
    options.local = is_source(from) ? to : from;
    options.source = is_source(from) ? from : to;
    if (!options.both)
        options.settings.from = is_source(from) ? Side::server : Side::local;
    options.transfer.delta = true;
    return {};
}

// However the two are written.
Result<SyncMemory> open_memory(const Options& options) {
    REMOFILE_TRY(named, client::look_up(options.source));
    REMOFILE_TRY(source, transport::parse_source(named.source));
    REMOFILE_TRY(components, client::split_path(source.path));
    std::error_code error;
    // Without absolute(), what does not exist yet would stay relative.
    const std::filesystem::path absolute = std::filesystem::absolute(options.local, error);
    const std::filesystem::path local = error ? absolute : std::filesystem::weakly_canonical(absolute, error);
    if (error)
        return make_error(Status::invalid, fmt::format("{}: {}", log::printable(options.local), error.message()));
    // "/a/" ends with an empty component.
    const std::filesystem::path directory = local.has_filename() ? local : local.parent_path();
    return SyncMemory::open(directory, source.endpoint + client::join_path(components));
}

ExitStatus sync(const Options& options) {
    auto activity = Activity::open(options.transfer.activity);
    if (!activity)
        return complain(activity.error());
    std::optional<SyncMemory> memory;
    if (options.both) {
        auto opened = open_memory(options);
        if (!opened)
            return complain(opened.error());
        memory.emplace(std::move(*opened));
    }
    return with_files(options.transfer.connect, {&options.source, 1},
                      [&](RemoteTree& tree, transport::Reactor& reactor, std::vector<std::string> paths) {
                          return synchronise(tree, reactor, options, memory ? &*memory : nullptr, paths.front(),
                                             *activity);
                      });
}

}  // namespace

std::function<ExitStatus()> prepare_sync(CLI::App& app) {
    struct Arguments {
        Options options;
        std::string from;
        std::string to;
    };
    const auto arguments = std::make_shared<Arguments>();  // shared by the parser and the action
    Options& options = arguments->options;
    add_copy_options(app, options.transfer);
    app.add_option("FROM", arguments->from, "A directory here or on a server")->required();
    app.add_option("TO", arguments->to, "The other")->required();
    app.add_flag("--both", options.both, "Both ways: changes and deletions on either side since the last time");
    app.add_flag("--delete", options.settings.remove,
                 "Delete in TO what FROM does not have; both ways: delete even most of a side");
    app.add_option("--max-delete", options.max_delete,
                   "Do nothing if more files and directories than this would be deleted")
        ->check(CLI::NonNegativeNumber)
        ->type_name("N");
    app.add_flag("-c,--checksum", options.settings.checksum, "Compare contents, not times");
    app.footer("FROM and TO are a local directory and a SOURCE.");
    return [arguments] {
        if (const Result<> completed = complete(arguments->options, arguments->from, arguments->to); !completed)
            return complain(completed.error());
        return sync(arguments->options);
    };
}

}  // namespace remofile::cli
