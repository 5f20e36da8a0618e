// SPDX-License-Identifier: MIT
// One export with all that it has for itself: files, leases, sessions, counters.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/counters.hpp"
#include "base/result.hpp"
#include "server/file_service.hpp"
#include "server/program/client_keys.hpp"
#include "server/program/export_settings.hpp"
#include "server/program/server_security.hpp"
#include "server/sessions/export_router.hpp"
#include "server/sessions/worker_pool.hpp"
#include "transport/reactor.hpp"

namespace remofile::server {

// What the exports of a server have in common. All must outlive them.
struct ExportSurroundings {
    transport::Reactor& reactor;
    ServiceThread& thread;
    Executor& executor;
    Counters& counters;  // also those of an export without a name
    ExportRouter& router;
    const Security& security;
    FileService::SharedDescriptors descriptors;
    std::size_t exports = 1;  // how many share what memory there is for leases
    std::uint64_t boot = 0;
    std::chrono::seconds slow_request{};  // see ServiceOptions
};

// Lives on the reactor's thread.
class ServedExport {
public:
    // Its service is the router's from now on. Errors: those of FileService::open().
    static Result<std::unique_ptr<ServedExport>> open(ExportSettings settings, std::string token,
                                                      ServedDirectory directory,
                                                      const ExportSurroundings& surroundings);
    // end() must have been called, and the executor must have nothing left to do for it.
    ~ServedExport();
    ServedExport(const ServedExport&) = delete;
    ServedExport& operator=(const ServedExport&) = delete;

    // Once the server listens there: what goes by connections, and what programs on this machine change.
    void begin(std::span<const std::string> endpoints);
    // From now on new sessions get this. What counts when an export is opened stays as it was; the log says so.
    void change(ExportSettings settings, std::string token);
    // No new sessions any more, or again.
    void retire() { service_->take_new_sessions(false); }
    void revive() { service_->take_new_sessions(true); }
    bool is_retired() const { return !service_->takes_new_sessions(); }
    // Nothing is under way any more, neither here nor at the executor.
    bool is_idle() const { return service_->is_idle() && executor_.unfinished() == 0; }
    // Ends all sessions; those that have not said good-bye go on with the next server.
    void end();

    const std::string& name() const { return settings_.name; }
    const ServedDirectory& directory() const { return directory_; }
    Service& service() { return *service_; }
    const Service& service() const { return *service_; }
    const Counters& counters() const { return counters_; }
    std::string change_watch_text() const { return files_->change_watch_text(); }

private:
    // Counts what is not done yet.
    class CountingExecutor final : public Executor {
    public:
        explicit CountingExecutor(Executor& executor) : executor_(executor) {}
        void submit(std::uint64_t group, Work work) override;
        std::size_t unfinished() const { return unfinished_->load(); }

    private:
        Executor& executor_;
        // Shared with the work.
        const std::shared_ptr<std::atomic<std::size_t>> unfinished_ = std::make_shared<std::atomic<std::size_t>>(0);
    };

    ServedExport(ExportSettings settings, ServedDirectory directory, const ExportSurroundings& surroundings);
    ServiceOptions service_options(std::string token, const ExportSurroundings& surroundings);
    SessionTurns::Limits limits() const;
    RateLimits rates() const;
    CallerPolicy callers() const;
    void watch_changes();
    void watch_mounts();

    ExportSettings settings_;
    const ServedDirectory directory_;
    transport::Reactor& reactor_;
    ExportRouter& router_;
    const Security& security_;
    Counters own_counters_;
    Counters& counters_;
    CountingExecutor executor_;
    std::shared_ptr<LeaseTable> leases_;  // shared with the files and the service
    std::unique_ptr<FileService> files_;
    std::shared_ptr<AnswerJournal> journal_;  // shared with the sessions
    std::optional<Service> service_;
    std::optional<transport::TimerId> next_watch_;
    bool watches_ = false;
};

}  // namespace remofile::server
