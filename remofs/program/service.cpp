// SPDX-License-Identifier: MIT
#include "remofs/program/service.hpp"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>

#include "base/counters.hpp"
#include "base/log.hpp"
#include "client/client_list.hpp"
#include "client/open_session.hpp"
#include "remofs/kernel/mountpoint.hpp"
#include "remofs/operations/mount.hpp"
#include "remofs/program/mount_metrics.hpp"
#include "remofs/program/spooler.hpp"
#include "transport/context.hpp"
#include "transport/reactor.hpp"

namespace remofile::remofs {
namespace {

// How long a signal's unmounting may take to write what is dirty before the server is given up: systemd's own patience
// with a stopping unit is 90 s, a person's at a terminal far less.
constexpr auto unmount_patience = std::chrono::seconds(10);
// How long mounting waits for the connection that data goes by: longer than it takes to find out that the server's
// second port cannot be reached.
constexpr auto data_lane_patience = std::chrono::seconds(4);

// cache_size unless told otherwise: some seconds of a fast link, and a small part of any machine that mounts things.
constexpr std::size_t default_cache_bytes = 256U << 20;

// The signals that the event loop takes in by a descriptor.
UniqueFd receive_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1})
        sigaddset(&signals, signal);
    // nohup(1) asks to be spared this one.
    struct sigaction hangup {};
    if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&signals, SIGHUP);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    return UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

std::string local_time(std::uint64_t seconds) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    std::string text(32, '\0');
    text.resize(localtime_r(&time, &parts) == nullptr ? 0 : strftime(text.data(), text.size(), "%F %T", &parts));
    return text;
}

std::string describe_clients(const std::vector<wire::Client>& clients) {
    std::string text;
    for (const wire::Client& client : clients)
        text += fmt::format("{}{} ({}) since {}{}", text.empty() ? "" : ", ", client.name, client.address,
                            local_time(client.since), client.exclusive ? ", exclusively" : "");
    return text;
}

class Service {
public:
    Service(ServicePlan plan, StartReport report)
        : plan_(std::move(plan)), report_(std::move(report)), signals_(receive_signals()) {
        if (plan_.spool)
            spooler_.emplace(std::move(*plan_.spool), plan_.options.source, counters_);
    }

    client::ExitStatus run() {
        reactor_.watch(signals_.get(), [this] { on_signal(); });
        spawn(start(), [this](Status status) { fail(client::exit_status_for(status), std::string(describe(status))); });
        reactor_.spin_before_sleeping(transport::usual_spin);
        reactor_.run();
        reactor_.unwatch(signals_.get());
        metrics_.reset();
        mount_.reset();
        session_.reset();
        if (was_mounted_)
            forget_for_umount(plan_.mountpoint);
        return status_;
    }

private:
    Task<void> start() {
        if (const auto offered = offer_metrics(); !offered)
            co_return fail(client::ExitStatus::failure, offered.error().to_string());
        std::vector<wire::Client> holders;
        auto opened = co_await client::open_session(context_, reactor_, plan_.session, counters_, &holders, [this] {
            report_.note(fmt::format("{} has as many clients as it takes; trying again for half a minute",
                                     plan_.options.source));
        });
        if (!opened)
            co_return fail(client::exit_status_for(opened.status()), explain(opened.error(), holders));
        session_ = std::move(*opened);
        if (const auto others = client::others_than(plan_.session.client_name, session_->hello().others);
            !others.empty())
            report_.note(fmt::format("{} is also in use by {}", plan_.options.source, describe_clients(others)));
        co_await data_lane_ready();
        if (spooler_)
            co_await send_kept();
        auto mount = Mount::create(*session_, reactor_, counters_, settings());
        if (!mount)
            co_return fail(client::ExitStatus::failure, mount.error().to_string());
        mount_ = std::move(*mount);
        co_await mount_->file_system().learn_root();
        const auto started = mount_->start(
            plan_.mountpoint, [this] { on_ready(); }, [this](const std::string& reason) { wind_up(reason); });
        if (!started)
            co_return fail(client::ExitStatus::mountpoint,
                           fmt::format("cannot mount on {}: {}", plan_.mountpoint, started.error().to_string()));
    }

    Result<> offer_metrics() {
        if (!plan_.options.metrics)
            return {};
        REMOFILE_TRY(port, transport::MetricsPort::open(reactor_, *plan_.options.metrics,
                                                        [this] { return metrics_text(counters_, mount_.get()); }));
        metrics_ = std::move(port);
        log::info("metrics at {}", metrics_->url());
        if (plan_.options.metrics->beyond_loopback)
            log::warn("metrics are neither encrypted nor authorised, and can be read from other machines");
        return {};
    }

    // Programs must not see what the mount before has changed already as it was.
    Task<void> send_kept() {
        if (plan_.options.read_only || session_->hello().read_only) {
            log::warn("nothing of what is kept in {} is sent: {} is read-only", plan_.options.spool,
                      plan_.options.source);
            co_return;
        }
        co_await spooler_->send(*session_, reactor_, [this](std::string_view line) { report_.note(line); });
    }

    // So that the first program need not wait for it. Metadata flows without, so that it is no reason not to mount.
    Task<void> data_lane_ready() {
        client::Cancellation patience;
        const transport::TimerId timer =
            reactor_.after(data_lane_patience, [patience]() mutable { patience.cancel(); });
        co_await session_->data_lane_ready(&patience);
        reactor_.cancel(timer);
    }

    std::string explain(const Error& error, const std::vector<wire::Client>& holders) const {
        if (error.status == Status::bad_token && plan_.session.token.empty())
            return fmt::format("{}: {}; pass its file with -o token_file=", plan_.options.source, error.to_string());
        if (error.status != Status::in_use || holders.empty())
            return fmt::format("{}: {}", plan_.options.source, error.to_string());
        return fmt::format(
            "{} is in use by {}; {}", plan_.options.source, describe_clients(holders),
            plan_.options.wait ? "its turn has not come in the time to wait for it" : "-o wait waits for its turn");
    }

    MountSettings settings() const {
        const Options& options = plan_.options;
        MountSettings settings;
        settings.kernel_options = options.kernel_options;
        std::erase(settings.kernel_options, "atime");  // the default, which libfuse 3.17 has no name for
        std::vector<std::string> lasting = options.lasting_options;
        if (options.read_only)
            lasting.emplace_back("ro");  // the session is for reading alone
        settings.lasting_options = join_options(lasting);
        settings.kernel_options.push_back(
            "fsname=" + (options.file_system_name.empty() ? options.source : options.file_system_name));
        settings.kernel_options.emplace_back("subtype=remofs");
        const bool lets_others_in = options.allow_other || options.allow_root;
        settings.check_permissions_here = lets_others_in || options.default_permissions;
        if (lets_others_in)
            settings.kernel_options.emplace_back("allow_other");
        if (settings.check_permissions_here)
            settings.kernel_options.emplace_back("default_permissions");
        settings.is_single_user = !lets_others_in;
        if (options.allow_root)
            settings.only_user = ::geteuid();
        settings.contain_symlinks = options.symlinks == SymlinkPolicy::contain;
        const auto is_given = [&](std::string_view name) {
            return std::ranges::find(options.kernel_options, name) != options.kernel_options.end();
        };
        settings.waits_for_names = options.sync_names || is_given("sync") || is_given("dirsync");
        settings.ids = plan_.ids;
        settings.overrides = options.overrides;
        settings.cache_bytes = options.cache_size_bytes.value_or(default_cache_bytes);
        settings.keeps_unsent = spooler_.has_value();
        if (spooler_)
            settings.spool_files_left = spooler_->left();
        // A server that acts as its callers knows their numbers: nothing to map then.
        const wire::HelloReply& hello = session_->hello();
        if (plan_.map_user && !hello.client_identity)
            settings.ids = IdMap::single_user(hello.server_uid, hello.server_gid, ::geteuid(), ::getegid());
        return settings;
    }

    void fail(client::ExitStatus status, const std::string& reason) {
        status_ = status;
        report_.failed(status, reason);
        if (session_)
            session_->close();
        reactor_.stop();
    }

    void on_ready() {
        report_.ready();
        was_mounted_ = true;
        mount_->note_for_umount(plan_.options.source);
        log::info("{} is mounted at {}", plan_.options.source, plan_.mountpoint);
    }

    void on_signal() {
        signalfd_siginfo signal{};
        while (::read(signals_.get(), &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
            if (signal.ssi_signo == SIGUSR1)
                log_counters();
            else
                on_stop_signal();
        }
    }

    void on_stop_signal() {
        if (!mount_) {
            // Nothing is mounted and nobody else waits for this process: what open() is waiting for can be left to it.
            report_.failed(client::ExitStatus::failure, "interrupted before it was mounted");
            log::flush();
            std::_Exit(static_cast<int>(client::ExitStatus::failure));
        }
        if (std::exchange(stopping_, true))
            return give_up();
        log::info("unmounting {} because of a signal", plan_.mountpoint);
        mount_->unmount([this](bool) { wind_up("a signal asked for it"); });
        reactor_.after(patience_with_server(), [this] {
            log::warn("gave up waiting for the server while unmounting {}", plan_.mountpoint);
            give_up();
        });
    }

    // What is kept can wait: a server that has been away for so long already is not waited for.
    Duration patience_with_server() const {
        if (!spooler_ || session_->connected())
            return unmount_patience;
        const Duration left = session_->lost_at() + unmount_patience - reactor_.clock().now();
        return std::clamp(left, Duration::zero(), Duration(unmount_patience));
    }

    // The server is not waited for any longer.
    void give_up() {
        if (std::exchange(gave_up_, true))
            return;
        const filesystem::FileSystem::Usage usage = mount_->file_system().usage();
        if (usage.pending_write_bytes > 0 || usage.pending_changes > 0) {
            if (spooler_)
                spooler_->keep(mount_->file_system());
            else
                log::warn(
                    "gave up sending what programs did in {} before it was unmounted: {} bytes and {} changes of names "
                    "and attributes are not at the server",
                    plan_.mountpoint, usage.pending_write_bytes, usage.pending_changes);
        }
        session_->close();
    }

    // Every way to the end passes here.
    void wind_up(std::string_view reason) {
        if (std::exchange(winding_up_, true))
            return;
        log::info("the mount at {} ends: {}", plan_.mountpoint, reason);
        if (spooler_)
            spooler_->announce_end();
        reactor_.after(patience_with_server(), [this] { give_up(); });
        spawn(end(), [this](Status) { reactor_.stop(); });
    }

    // What was closed is written; this is for what was detached while it was being written.
    Task<void> end() {
        co_await mount_->file_system().all_written_out();
        session_->close();
        mount_->finish([this] { reactor_.stop(); });
    }

    void log_counters() {
        for (const auto& [name, value] : counters_.snapshot())
            log::info("{}={}", name, value);
        log::info("reactor.wakeups={} reactor.sleeps={}", reactor_.wakeups(), reactor_.sleeps());
        if (!mount_)
            return;
        const filesystem::FileSystem::Usage usage = mount_->file_system().usage();
        log::info("files.known={} files.open={} directories.open={}", usage.known_files, usage.open_files,
                  usage.open_directories);
        log::info("cache.bytes={} cache.limit_bytes={} writes.pending_bytes={} changes.pending={}", usage.cached_bytes,
                  usage.cache_limit_bytes, usage.pending_write_bytes, usage.pending_changes);
    }

    ServicePlan plan_;
    StartReport report_;
    UniqueFd signals_;
    client::ExitStatus status_ = client::ExitStatus::success;
    bool stopping_ = false;
    bool winding_up_ = false;
    bool gave_up_ = false;
    bool was_mounted_ = false;
    Counters counters_;
    transport::Context context_;
    transport::Reactor reactor_;
    std::optional<Spooler> spooler_;
    std::unique_ptr<client::Session> session_;
    std::unique_ptr<Mount> mount_;
    std::unique_ptr<transport::MetricsPort> metrics_;
};

}  // namespace

client::ExitStatus serve(ServicePlan plan, StartReport report) {
    const Options& options = plan.options;
    log::configure("remofs", options.debug ? log::Level::debug : log::Level::info,
                   options.foreground ? log::Target::standard_error : log::Target::syslog, options.log_format);
    if (options.auto_unmount)
        if (const auto split_off = unmount_when_killed(plan.mountpoint); !split_off) {
            report.failed(client::ExitStatus::failure, "auto_unmount: " + split_off.error().to_string());
            return client::ExitStatus::failure;
        }
    Service service(std::move(plan), std::move(report));
    return service.run();
}

}  // namespace remofile::remofs
