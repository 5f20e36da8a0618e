// SPDX-License-Identifier: MIT
// The FileService of file_service.hpp: opens the export, and leads each request to its row of the table of opcodes.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <csignal>

#include "base/log.hpp"
#include "server/leases/change_watch.hpp"
#include "server/operations/exclusive_leases.hpp"
#include "server/operations/operation_table.hpp"

namespace remofile::server {
namespace {

// Raises the limit of open files as far as it goes, and returns it.
std::size_t raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log::warn("the limit of open files stays as it is: {}", describe(from_errno(errno)));
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

struct RowCounters {
    Counters::Counter* requests = nullptr;
    Counters::Counter* errors = nullptr;
};

struct Watch {
    std::unique_ptr<ChangeWatch> changes;
    std::string text;  // for the log
};

class ExportService final : public FileService {
public:
    ExportService(ExportOptions options, std::unique_ptr<InodeTable> inodes, std::shared_ptr<DescriptorBudget> budget,
                  Watch watch, std::unique_ptr<Lender> lender, std::shared_ptr<KeptFiles> kept_files,
                  Counters& counters)
        : options_(std::move(options)),
          own_(OwnIdentity::of_this_process()),
          inodes_(std::move(inodes)),
          budget_(std::move(budget)),
          watch_(std::move(watch.changes)),
          watch_text_(std::move(watch.text)),
          lender_(std::move(lender)),
          kept_files_(std::move(kept_files)),
          // Shared with the sessions, which give up their locks even if they outlive the export.
          locks_(std::make_shared<LockTable>(budget_, counters)),
          room_(options_.room ? options_.room : std::make_shared<FileSystemRoom>()) {
        for (const OperationRow& row : operation_rows()) {
            const std::string name = "files." + std::string(wire::find_opcode(row.opcode)->name);
            row_counters_.push_back({&counters.at(name), &counters.at(name + ".errors")});
        }
    }
    ~ExportService() override { locks_->stop(); }

    Result<OpenedSession> open_session(std::string_view path, NodeId root, const Caller& caller,
                                       bool read_only) override {
        REMOFILE_TRY(root_directory, inodes_->descriptor(inodes_->root()));
        if (is_removed(root_directory->get()))
            return Status::stale;
        REMOFILE_TRY(inode, walk(path, caller));
        REMOFILE_CHECK(check_directory(*inode));
        REMOFILE_TRY(attributes, inodes_->attributes(inode));
        auto files = std::make_shared<SessionFiles>(options_, read_only || read_only_, locks_, *budget_);
        REMOFILE_CHECK(files->bind({.id = root, .reuse = false}, inode));
        return OpenedSession{std::move(files), attributes};
    }

    void change_read_only(bool read_only) override { read_only_ = read_only; }

    Passage pass(const std::shared_ptr<SessionFiles>& files, wire::Opcode opcode,
                 std::span<const std::byte> body) override {
        const wire::OpcodeFacts* facts = find_operation(opcode);
        // What gives back never waits for what it may set free; TAKE_LEASES tells others itself; what is lent is in no
        // directory that anybody knows.
        if (!options_.leases || facts == nullptr || facts->account == wire::Account::control ||
            opcode == wire::Opcode::take_leases || opcode == wire::Opcode::lend_inodes)
            return {};
        LeaseTable& leases = *options_.leases;
        const bool changes = !facts->harmless_late;
        if (!leases.may_concern_others(files.get(), changes))
            return {};
        auto concerned = concerned_by_ids(*inodes_, *files, opcode, body);
        if (!leases.may_concern_others(files.get(), false)) {
            // From now on nobody is given one of what the names could stand for, either.
            Passage passage = leases.pass(files.get(), concerned, changes);
            if (!passage.awaited.empty() || !leases.may_concern_others(files.get(), false))
                return passage;
        }
        add_concerned_by_names(*inodes_, *files, opcode, body, concerned);
        return leases.pass(files.get(), concerned, changes);
    }

    bool has_room() override {
        const auto root = inodes_->descriptor(inodes_->root());
        return root && room_->is_ample((*root)->get(), reserve_.kept_bytes());
    }

    bool keeps_reserve() override { return reserve_.kept_bytes() > 0; }
    void end_reserve() override {
        reserve_.give_up_if([this] { return options_.leases == nullptr || options_.leases->exclusive() == 0; });
    }

    std::optional<Outcome> carry_out(const std::shared_ptr<SessionFiles>& files, Asked request, wire::Opcode opcode,
                                     std::span<const std::byte> body, Buffer bulk, const Caller& caller,
                                     std::function<void(Outcome)> later) override {
        const OperationRow* row = find_row(opcode);
        if (row == nullptr)
            return failure(Status::not_implemented);
        const RowCounters& counted = row_counters_[static_cast<std::size_t>(row - operation_rows().data())];
        counted.requests->add();
        auto outcome = carry_out_row(*row, files, request, body, std::move(bulk), caller, std::move(later));
        if (outcome && outcome->status != Status::ok)
            counted.errors->add();
        return outcome;
    }

    std::optional<Outcome> carry_out_at_once(const std::shared_ptr<SessionFiles>& files, wire::Opcode opcode,
                                             std::span<const std::byte> body, const Caller& caller) override {
        if (caller.switch_identity || files->closed())
            return std::nullopt;
        if (options_.leases && options_.leases->may_concern_others(files.get(), false)) {
            const auto concerned = concerned_by_ids(*inodes_, *files, opcode, body);
            if (concerned.everywhere || !options_.leases->are_shared(files.get(), concerned.directories))
                return std::nullopt;
        }
        Context context{.inodes = *inodes_,
                        .locks = *locks_,
                        .leases = options_.leases.get(),
                        .watch = watch_.get(),
                        .room = *room_,
                        .reserve = reserve_,
                        .lender = lender_.get(),
                        .kept_files = kept_files_.get(),
                        .own = own_,
                        .files = files,
                        .caller = caller,
                        .request = {},
                        .bulk = {},
                        .later = {}};
        std::optional<Outcome> outcome = server::carry_out_at_once(context, opcode, body);
        if (outcome)
            row_counters_[static_cast<std::size_t>(find_row(opcode) - operation_rows().data())].requests->add();
        return outcome;
    }

    void cancel(const std::shared_ptr<SessionFiles>& files, RequestId request) override {
        locks_->cancel(files->share(), request);
    }

    std::vector<NodeId> known_as(const SessionFiles& files, std::span<const InodePtr> changed) override {
        return files.ids_of(changed);
    }

    ChangeWatch* change_watch() override { return watch_.get(); }
    std::string change_watch_text() const override { return watch_text_; }

    bool add_other_names(std::vector<Touched>& touched) override {
        std::vector<Touched> others;
        bool all_known = true;
        for (const Touched& each : touched) {
            if (each.is_new_meaning)
                all_known &= add_other_names_of(each, others);
        }
        touched.insert(touched.end(), std::make_move_iterator(others.begin()), std::make_move_iterator(others.end()));
        return all_known;
    }

    void stop_watching(std::span<const InodePtr> directories) override {
        if (!watch_)
            return;
        for (const InodePtr& directory : directories) {
            const auto descriptor = inodes_->descriptor(directory);
            watch_->remove(directory, descriptor ? (*descriptor)->get() : -1,
                           [&] { return options_.leases->is_leased(*directory); });
        }
    }

    std::uint64_t locks_lost_at(const std::shared_ptr<SessionFiles>& files) const override {
        return files->locks_lost_at().value_or(locks_->moment());
    }
    void take_place_of(const std::shared_ptr<SessionFiles>& files, std::uint64_t locks_lost_at,
                       std::function<void()> has_locks) override {
        files->take_place_of(locks_lost_at, std::move(has_locks));
    }
    void before_first_lock(std::function<void()> work) override { locks_->before_first_grant(std::move(work)); }
    void before_first_lock_of(const std::shared_ptr<SessionFiles>& files, std::function<void()> work) override {
        files->before_first_lock(std::move(work));
    }
    void begin_lock_grace(std::chrono::milliseconds length) override { locks_->begin_grace(length); }
    void end_lock_grace() override { locks_->end_grace(); }

    bool keeps_files() const override { return kept_files_ != nullptr; }
    void keep_for(const std::shared_ptr<SessionFiles>& files, const HolderTag& holder,
                  const std::optional<HolderTag>& in_place_of) override {
        if (!kept_files_)
            return;
        files->set_holder(kept_files_, holder);
        if (in_place_of)
            kept_files_->take_place(*in_place_of, holder);
    }
    void expect_back(const std::shared_ptr<SessionFiles>& files) override { files->expect_back(); }
    bool has_unclaimed_files() const override { return kept_files_ && kept_files_->has_left(); }
    void remove_unclaimed_files() override {
        if (kept_files_)
            kept_files_->remove_unclaimed();
    }

    void close_session(const std::shared_ptr<SessionFiles>& files) override { files->close(); }

private:
    static Outcome failure(Status status) {
        Outcome outcome;
        outcome.status = status;
        return outcome;
    }

    std::optional<Outcome> carry_out_row(const OperationRow& row, const std::shared_ptr<SessionFiles>& files,
                                         Asked request, std::span<const std::byte> body, Buffer bulk,
                                         const Caller& caller, std::function<void(Outcome)> later) {
        if (files->closed())
            return failure(Status::no_session);
        if (wire::find_opcode(row.opcode)->changes_files && files->read_only())
            return failure(Status::read_only);
        Context context{.inodes = *inodes_,
                        .locks = *locks_,
                        .leases = options_.leases.get(),
                        .watch = watch_.get(),
                        .room = *room_,
                        .reserve = reserve_,
                        .lender = lender_.get(),
                        .kept_files = kept_files_.get(),
                        .own = own_,
                        .files = files,
                        .caller = caller,
                        .request = request.id,
                        .begun_at = request.begun_at,
                        .bulk = std::move(bulk),
                        .later = std::move(later)};
        try {
            auto outcome = row.carry_out(context, body);
            while (request.answered && outcome && is_for_want_of_room(outcome->status) && give_up_room())
                outcome = row.carry_out(context, body);
            return outcome;
        } catch (...) {
            // What it has changed is not told any more.
            if (!context.changed.empty() && options_.leases)
                options_.leases->end_all();
            throw;
        }
    }

    static bool is_for_want_of_room(Status status) {
        return status == Status::no_space || status == Status::quota_exceeded;
    }

    // For what clients have answered until they hear of it; then they wait for the server again.
    bool give_up_room() {
        if (!reserve_.give_up_part())
            return false;
        if (options_.leases)
            options_.leases->recall_all();
        return true;
    }

    // Only a link makes a further name; a file that has one name is in no other directory.
    bool add_other_names_of(const Touched& touched, std::vector<Touched>& others) {
        const auto name = EntryName::check(touched.name);
        const auto directory = inodes_->descriptor(touched.directory);
        if (!name || !directory)
            return true;
        auto attributes = stat_entry((*directory)->get(), *name);
        if (!attributes || S_ISDIR(attributes->mode) || attributes->links < 2)
            return true;
        const InodePtr file = inodes_->recognize(*attributes, touched.directory, *name).inode;
        if (!file)
            return false;
        const InodeTable::Places places = inodes_->places(*file);
        for (const Place& place : places.places)
            others.push_back({place.parent, place.name.text()});
        return places.all && places.places.size() >= attributes->links;
    }

    static Result<> check_directory(const Inode& inode) {
        if (inode.is_directory())
            return {};
        return (inode.type() & S_IFMT) == S_IFLNK ? Status::symlink_loop : Status::not_directory;
    }

    // From the export's root to the directory that a session begins at.
    Result<InodePtr> walk(std::string_view path, const Caller& caller) {
        if (!path.starts_with('/'))
            return make_error(Status::no_entry, "the path is not absolute");
        InodePtr inode = inodes_->root();
        while (!path.empty()) {
            const std::size_t end = std::min(path.find('/'), path.size());
            const std::string_view component = path.substr(0, end);
            path.remove_prefix(std::min(end + 1, path.size()));
            if (component.empty() || component == ".")
                continue;
            if (component == "..")
                return make_error(Status::access_denied, "\"..\" is not followed");
            REMOFILE_CHECK(check_directory(*inode));
            auto name = EntryName::check(std::string(component));
            if (!name)
                return Status::no_entry;
            REMOFILE_TRY(directory, inodes_->descriptor(inode));
            Result<wire::Attributes> found = Status::no_entry;
            {
                REMOFILE_TRY(acting, ActingAs::take_on(own_, caller));
                found = stat_entry(directory->get(), *name);
            }
            if (!found)
                return found.error();
            inode = inodes_->intern(*found, inode, *name);
        }
        return inode;
    }

    const ExportOptions options_;
    std::atomic<bool> read_only_ = options_.read_only;
    const OwnIdentity own_;
    std::vector<RowCounters> row_counters_;  // in the order of operation_rows()
    const std::unique_ptr<InodeTable> inodes_;
    const std::shared_ptr<DescriptorBudget> budget_;  // shared with sessions and what they have open
    const std::unique_ptr<ChangeWatch> watch_;
    const std::string watch_text_;
    const std::unique_ptr<Lender> lender_;
    const std::shared_ptr<KeptFiles> kept_files_;  // shared with sessions, which leave what is theirs
    const std::shared_ptr<LockTable> locks_;
    const std::shared_ptr<const Room> room_;  // shared with tests
    Reserve reserve_;
};

// No changes where they are not to be had.
Watch open_watch(const ExportOptions& options, int root, Counters& counters) {
    if (!options.watch || !options.leases)
        return {};
    auto changes = ChangeWatch::open(root, !options.read_only, counters);
    if (!changes)
        return {nullptr, "changes by programs on this machine are not noticed, clients ask again after a second: " +
                             changes.error().to_string()};
    return {std::move(*changes), "changes by programs on this machine are noticed"};
}

// None where nothing is to be made.
Result<std::unique_ptr<Lender>> open_lender(const ExportOptions& options, int root) {
    if (options.read_only)
        return std::unique_ptr<Lender>();
    Lender::remove_leftovers(root);
    if (!options.lends_inodes)
        return std::unique_ptr<Lender>();
    REMOFILE_TRY(kept_root, duplicate_as_path(root));
    return std::make_unique<Lender>(std::move(kept_root));
}

// None where nothing can be removed, or is to be kept.
Result<std::shared_ptr<KeptFiles>> open_kept_files(const ExportOptions& options, int root) {
    if (options.read_only)
        return std::shared_ptr<KeptFiles>();
    REMOFILE_TRY(kept_root, duplicate_as_path(root));
    auto kept_files = std::make_shared<KeptFiles>(std::move(kept_root));
    kept_files->take_over_leftovers();
    if (options.keeps_files)
        return kept_files;
    kept_files->remove_all_left();
    return std::shared_ptr<KeptFiles>();
}

}  // namespace

FileService::SharedDescriptors FileService::share_descriptors(std::size_t exports) {
    const std::size_t wanted_each = ExportOptions{}.max_idle_descriptors;
    // What one request looks at. So few only where the limit is low, and then what connections leave goes into it.
    constexpr std::size_t least_each = 16;
    const DescriptorPlan plan = divide_descriptors(raise_descriptor_limit(), wanted_each * exports);
    return {.open = std::make_shared<DescriptorBudget>(plan.open),
            .idle_each = std::max(plan.idle / exports, std::min(plan.idle, least_each))};
}

Result<std::unique_ptr<FileService>> FileService::open(ExportOptions options, Counters& counters) {
    REMOFILE_TRY(root, open_export_root(options.directory));
    // A write beyond the limit of file sizes shall be an error of that write, not the end of the server.
    std::signal(SIGXFSZ, SIG_IGN);
    auto budget = options.descriptors;
    std::size_t idle = options.max_idle_descriptors;
    if (budget == nullptr) {
        const DescriptorPlan plan = divide_descriptors(raise_descriptor_limit(), idle);
        budget = std::make_shared<DescriptorBudget>(std::min(plan.open, options.max_open_descriptors));
        idle = plan.idle;
    }
    REMOFILE_TRY(lender, open_lender(options, root.get()));
    REMOFILE_TRY(kept_files, open_kept_files(options, root.get()));
    auto watch = open_watch(options, root.get(), counters);
    REMOFILE_TRY(inodes, InodeTable::open(std::move(root), idle, budget, counters));
    return std::make_unique<ExportService>(std::move(options), std::move(inodes), std::move(budget), std::move(watch),
                                           std::move(lender), std::move(kept_files), counters);
}

}  // namespace remofile::server
