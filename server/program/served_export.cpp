// SPDX-License-Identifier: MIT
#include "server/program/served_export.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "server/leases/change_watch.hpp"
#include "server/leases/lease_table.hpp"
#include "server/program/journal_file.hpp"
#include "server/program/version.hpp"

namespace remofile::server {
namespace {

// Of each export, however many there are: what one client keeps of a large tree.
constexpr std::size_t least_leases = 2048;

std::shared_ptr<LeaseTable> make_lease_table(const ExportSettings& settings, std::size_t exports, const Clock& clock,
                                             Counters& counters) {
    if (settings.lease_term == settings.lease_term.zero())
        return nullptr;
    LeaseTable::Limits limits;
    // A session must not end before its client has ceased to trust its leases.
    limits.term = std::min(settings.lease_term, settings.session_timeout);
    limits.leases = std::max(limits.leases / exports, least_leases);
    limits.leases_each = std::min(limits.leases_each, limits.leases);
    return std::make_shared<LeaseTable>(clock, limits, counters);
}

}  // namespace

// Whatever becomes of the work, it counts no more when it has gone.
void ServedExport::CountingExecutor::submit(std::uint64_t group, Work work) {
    struct Unfinished {
        explicit Unfinished(std::shared_ptr<std::atomic<std::size_t>> its_count) : count(std::move(its_count)) {
            ++*count;
        }
        Unfinished(Unfinished&& other) noexcept = default;
        Unfinished& operator=(Unfinished&&) = delete;
        ~Unfinished() {
            if (count != nullptr)
                --*count;
        }
        std::shared_ptr<std::atomic<std::size_t>> count;
    };
    // Captures go the other way round: the work before its count.
    executor_.submit(
        group, [unfinished = Unfinished(unfinished_), work = std::move(work)]() mutable { Work{std::move(work)}(); });
}

ServedExport::ServedExport(ExportSettings settings, ServedDirectory directory, const ExportSurroundings& surroundings)
    : settings_(std::move(settings)),
      directory_(std::move(directory)),
      reactor_(surroundings.reactor),
      router_(surroundings.router),
      security_(surroundings.security),
      counters_(settings_.name.empty() ? surroundings.counters : own_counters_),
      executor_(surroundings.executor),
      leases_(make_lease_table(settings_, surroundings.exports, reactor_.clock(), counters_)) {}

Result<std::unique_ptr<ServedExport>> ServedExport::open(ExportSettings settings, std::string token,
                                                         ServedDirectory directory,
                                                         const ExportSurroundings& surroundings) {
    std::unique_ptr<ServedExport> served(new ServedExport(std::move(settings), std::move(directory), surroundings));
    REMOFILE_TRY(files, FileService::open({.directory = served->settings_.directory,
                                           .read_only = served->settings_.read_only,
                                           .lends_inodes = !served->settings_.no_lent_inodes,
                                           .keeps_files = !served->settings_.no_kept_files,
                                           .max_idle_descriptors = surroundings.descriptors.idle_each,
                                           .descriptors = surroundings.descriptors.open,
                                           .leases = served->leases_,
                                           .watch = served->settings_.watch},
                                          served->counters_));
    served->files_ = std::move(files);
    served->service_.emplace(*served->files_, served->executor_, surroundings.thread, served->counters_,
                             served->service_options(std::move(token), surroundings));
    served->router_.add(*served->service_);
    return served;
}

ServedExport::~ServedExport() {
    end();
}

SessionTurns::Limits ServedExport::limits() const {
    SessionTurns::Limits limits;
    limits.always_exclusive = settings_.exclusive;
    limits.max_sessions = settings_.max_clients;
    limits.max_sessions_per_owner = settings_.max_clients_per_key;
    return limits;
}

RateLimits ServedExport::rates() const {
    return {.requests_per_s = settings_.requests_per_second, .bytes_per_s = settings_.bytes_per_second};
}

CallerPolicy ServedExport::callers() const {
    return {.client_identity = settings_.identity == IdentityMode::client, .allow_root = settings_.allow_root};
}

ServiceOptions ServedExport::service_options(std::string token, const ExportSurroundings& surroundings) {
    ServiceOptions service;
    service.export_name = settings_.name;
    service.admits = [this](const std::optional<transport::PublicKey>& key) -> std::optional<Admittance> {
        if (security_.keys == nullptr)
            return Admittance{};
        if (!key)
            return std::nullopt;
        return security_.keys->admits(security_.file_of_keys(settings_), settings_.name, *key);
    };
    service.exports = [this](const std::optional<transport::PublicKey>& key) { return router_.exports_for(key); };
    service.granted_by_all = [this] { return router_.granted_bytes(); };
    service.limits = limits();
    service.grants.timeout = settings_.session_timeout;
    service.callers = callers();
    service.read_only = settings_.read_only;
    service.rates = rates();
    service.token = std::move(token);
    service.version = version;
    service.boot = surroundings.boot;
    service.next_keys = surroundings.security.next_keys;
    service.slow_request = surroundings.slow_request;
    service.leases = leases_;
    return service;
}

void ServedExport::begin(std::span<const std::string> endpoints) {
    // Everything works without: then a program may be told of an error when the server is killed.
    if (auto journal = open_journal(settings_.directory, security_, endpoints)) {
        journal_ = std::move(*journal);
        service_->keep_answers_in(journal_);
    } else {
        log::warn("answers will not be known after a crash of the server: {}", journal.error().to_string());
    }
    watches_ = files_->change_watch() != nullptr;
    watch_changes();
    watch_mounts();
}

// A program that writes all the time makes an event with each write; a pause between two looks lets the kernel join
// them.
void ServedExport::watch_changes() {
    static constexpr Duration pause = std::chrono::milliseconds(1);
    ChangeWatch* watch = files_->change_watch();
    if (watch == nullptr)
        return;
    reactor_.watch(watch->descriptor(), [this, watch] {
        reactor_.unwatch(watch->descriptor());
        ChangeWatch::Seen seen = watch->read();
        const bool all_names_known = files_->add_other_names(seen.touched);
        service_->changed_outside(seen.touched, seen.lost);
        if (!all_names_known)
            service_->unknown_names_changed();
        next_watch_ = reactor_.after(pause, [this] {
            next_watch_.reset();
            watch_changes();
        });
    });
}

void ServedExport::watch_mounts() {
    ChangeWatch* watch = files_->change_watch();
    if (watch == nullptr)
        return;
    reactor_.watch(watch->mounts().descriptor(), [this, watch] {
        if (watch->mounts().changed())
            service_->mounts_changed();
    });
}

void ServedExport::change(ExportSettings settings, std::string token) {
    if (settings.session_timeout != settings_.session_timeout || settings.lease_term != settings_.lease_term ||
        settings.watch != settings_.watch || settings.no_lent_inodes != settings_.no_lent_inodes ||
        settings.no_kept_files != settings_.no_kept_files)
        log::warn(
            "{}session-timeout, lease-term, watch, no-lent-inodes and no-kept-files of what is served already stay as "
            "they were until the server is started again",
            settings.place());
    const ExportSettings before = std::exchange(settings_, std::move(settings));
    settings_.session_timeout = before.session_timeout;
    settings_.lease_term = before.lease_term;
    settings_.watch = before.watch;
    settings_.no_lent_inodes = before.no_lent_inodes;
    settings_.no_kept_files = before.no_kept_files;
    files_->change_read_only(settings_.read_only);
    service_->change(limits(), callers(), settings_.read_only, std::move(token));
    service_->change_rates(rates());
}

void ServedExport::end() {
    if (!service_)
        return;
    if (std::exchange(watches_, false)) {
        ChangeWatch* watch = files_->change_watch();
        if (next_watch_)
            reactor_.cancel(*next_watch_);
        else
            reactor_.unwatch(watch->descriptor());
        reactor_.unwatch(watch->mounts().descriptor());
    }
    if (journal_ != nullptr)
        journal_->leave();
    router_.remove(*service_);
    service_.reset();
    if (journal_ != nullptr)
        journal_->remove_if_unneeded();
}

}  // namespace remofile::server
