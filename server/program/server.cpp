// SPDX-License-Identifier: MIT
#include "server/program/server.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <optional>

#include "base/allocator.hpp"
#include "base/log.hpp"
#include "server/leases/change_watch.hpp"
#include "server/leases/lease_table.hpp"
#include "server/program/data_port.hpp"
#include "server/program/journal_file.hpp"
#include "server/program/pid_file.hpp"
#include "server/program/server_metrics.hpp"
#include "server/program/server_security.hpp"
#include "server/program/version.hpp"
#include "server/sessions/service.hpp"
#include "server/sessions/session_token.hpp"
#include "server/sessions/worker_pool.hpp"
#include "transport/context.hpp"
#include "transport/idle_memory.hpp"
#include "transport/listener.hpp"
#include "transport/reactor.hpp"

namespace remofile::server {
namespace {

// How long a clean stop waits for requests under way, and then for a worker that a system call holds.
constexpr Duration stop_deadline = std::chrono::seconds(5);
constexpr Duration last_grace = std::chrono::milliseconds(500);

// The service's thread is the reactor's.
class ReactorThread final : public ServiceThread {
public:
    explicit ReactorThread(transport::Reactor& reactor) : reactor_(reactor) {}
    // Either may be null.
    void use(transport::Listener* listener, transport::Listener* sealed) {
        listener_ = listener;
        sealed_ = sealed;
    }

    const Clock& clock() const override { return reactor_.clock(); }
    std::uint64_t unix_time() const override {
        return static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
                .count());
    }
    bool send(const transport::RouteId& route, wire::Message message) override {
        transport::Listener* listener = listener_of(route);
        return listener != nullptr && listener->send(route, std::move(message));
    }
    bool clogged(const transport::RouteId& route) const override {
        const transport::Listener* listener = listener_of(route);
        return listener != nullptr && listener->clogged(route);
    }
    void keep(const transport::RouteId& route) override {
        if (transport::Listener* listener = listener_of(route))
            listener->keep(route);
    }
    void retire(const transport::RouteId& route) override {
        if (transport::Listener* listener = listener_of(route))
            listener->retire(route);
    }
    transport::TimerId after(Duration delay, Work work) override { return reactor_.after(delay, std::move(work)); }
    void cancel(transport::TimerId timer) override { reactor_.cancel(timer); }
    void at_end_of_turn(Work work) override { reactor_.at_end_of_turn(std::move(work)); }
    void post(Work work) override { reactor_.post(std::move(work)); }

private:
    transport::Listener* listener_of(const transport::RouteId& route) const {
        return route.bytes.starts_with(sealed_route_prefix) ? sealed_ : listener_;
    }

    transport::Reactor& reactor_;
    transport::Listener* listener_ = nullptr;
    transport::Listener* sealed_ = nullptr;
};

// The signals that the server answers, as a descriptor of the reactor.
Result<UniqueFd> take_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1})
        sigaddset(&signals, signal);
    // Before threads start, so that none of them is interrupted.
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd)
        return errno_error("cannot take signals");
    return fd;
}

void harden() {
    // Nothing that this process might ever start gains rights by it; no other process of the user reads its memory.
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (null)
        ::dup2(null.get(), STDIN_FILENO);
}

void log_counters(const Counters& counters) {
    for (const auto& [name, value] : counters.snapshot()) {
        if (value != 0)
            log::info("counter {} {}", name, value);
    }
}

std::shared_ptr<LeaseTable> make_lease_table(const ServerOptions& options, const Clock& clock, Counters& counters) {
    if (options.lease_term == options.lease_term.zero())
        return nullptr;
    // A session must not end before its client has ceased to trust its leases.
    const LeaseTable::Limits limits{.term = std::min(options.lease_term, options.session_timeout)};
    return std::make_shared<LeaseTable>(clock, limits, counters);
}

ServiceOptions service_options(const ServerOptions& options, std::string token, std::shared_ptr<LeaseTable> leases) {
    ServiceOptions service;
    service.limits.always_exclusive = options.exclusive;
    service.limits.max_sessions = options.max_clients;
    service.limits.max_sessions_per_owner = options.max_clients_per_key;
    service.grants.timeout = options.session_timeout;
    service.callers = {.client_identity = options.identity == IdentityMode::client, .allow_root = options.allow_root};
    service.read_only = options.read_only;
    service.token = std::move(token);
    service.version = version;
    randombytes_buf(&service.boot, sizeof service.boot);
    service.leases = std::move(leases);
    return service;
}

// Members in the order in which they are made; they go the other way round.
class Server {
public:
    Server(const ServerOptions& options, UniqueFd signals) : options_(options), signals_(std::move(signals)) {}

    // Everything up to listening. The lines to show for it.
    Result<std::string> start();
    // Until a signal; the exit status.
    int run();

private:
    Result<std::unique_ptr<transport::Listener>> bind(transport::ListenerOptions options);
    Result<> open_data_port();
    Result<> offer_metrics();
    void keep_answers();
    void on_signal();
    void watch_changes();
    void watch_mounts();
    void read_token_again();
    void stop();

    const ServerOptions& options_;
    UniqueFd signals_;
    Counters counters_;
    std::optional<PidFile> pid_file_;
    Security security_;
    transport::Reactor reactor_;
    transport::IdleMemory memory_{reactor_, give_back_freed_memory};
    std::shared_ptr<LeaseTable> leases_;  // shared with the files and the service
    std::unique_ptr<FileService> files_;
    ReactorThread thread_{reactor_};
    std::optional<transport::Context> context_;
    transport::LaneTickets tickets_;
    std::unique_ptr<transport::Listener> listener_;
    std::unique_ptr<transport::Listener> sealed_listener_;  // goes before the other: that asks for its tickets
    std::optional<WorkerPool> workers_;
    std::shared_ptr<AnswerJournal> journal_;  // shared with the sessions
    std::optional<Service> service_;
    std::unique_ptr<transport::MetricsPort> metrics_;
    bool stopping_ = false;
    bool finished_ = true;
};

Result<std::string> Server::start() {
    if (!options_.pid_file.empty()) {
        REMOFILE_TRY(pid_file, PidFile::create(options_.pid_file));
        pid_file_.emplace(std::move(pid_file));
    }
    REMOFILE_TRY(security, prepare_security(options_));
    security_ = std::move(security);
    leases_ = make_lease_table(options_, reactor_.clock(), counters_);
    REMOFILE_TRY(files, FileService::open({.directory = options_.directory,
                                           .read_only = options_.read_only,
                                           .lends_inodes = !options_.no_lent_inodes,
                                           .leases = leases_,
                                           .watch = options_.watch},
                                          counters_));
    files_ = std::move(files);
    context_.emplace();
    workers_.emplace(WorkerPool::default_options(), counters_);
    service_.emplace(*files_, *workers_, thread_, counters_, service_options(options_, security_.token, leases_));
    transport::ListenerOptions listener_options;
    listener_options.endpoints = security_.endpoints;
    listener_options.strangers_per_s = static_cast<int>(options_.strangers_per_second);
    listener_options.server_key = security_.server_key;
    listener_options.authorizer = security_.authorizer.get();
    REMOFILE_TRY(listener, bind(std::move(listener_options)));
    listener_ = std::move(listener);
    REMOFILE_CHECK(open_data_port());
    REMOFILE_CHECK(offer_metrics());
    keep_answers();
    thread_.use(listener_.get(), sealed_listener_.get());
    watch_changes();
    watch_mounts();

    std::string text;
    const auto say = [&](log::Level level, const std::string& line) {
        log::write(level, line);
        text += line + "\n";
    };
    for (const std::string& warning : security_.warnings)
        say(log::Level::warn, warning);
    if (sealed_listener_) {
        for (const std::string& endpoint : sealed_listener_->endpoints())
            say(log::Level::info, "data lanes at " + endpoint);
    }
    for (const std::string& endpoint : listener_->endpoints())
        say(log::Level::info, "listening on " + endpoint);
    if (const std::string line = files_->change_watch_text(); !line.empty())
        log::write(log::Level::info, line);
    for (const std::string& line : client_lines(listener_->endpoints(), security_.server_key))
        say(log::Level::info, line);
    return text;
}

Result<> Server::offer_metrics() {
    if (!options_.metrics)
        return {};
    const auto started = static_cast<std::uint64_t>(std::time(nullptr));
    REMOFILE_TRY(port, transport::MetricsPort::open(reactor_, *options_.metrics, [this, started] {
                     return metrics_text(counters_, *service_, version, started);
                 }));
    metrics_ = std::move(port);
    log::info("metrics at {}", metrics_->url());
    if (options_.metrics->beyond_loopback)
        log::warn("metrics are neither encrypted nor authorised, and can be read from other machines");
    return {};
}

// Everything works without: then a program may be told of an error when the server is killed.
void Server::keep_answers() {
    auto journal = open_journal(options_.directory, security_, listener_->endpoints());
    if (!journal)
        return log::warn("answers will not be known after a crash of the server: {}", journal.error().to_string());
    journal_ = std::move(*journal);
    service_->keep_answers_in(journal_);
}

// A program that writes all the time makes an event with each write; a pause between two looks lets the kernel join
// them.
void Server::watch_changes() {
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
        reactor_.after(pause, [this] { watch_changes(); });
    });
}

void Server::watch_mounts() {
    ChangeWatch* watch = files_->change_watch();
    if (watch == nullptr)
        return;
    reactor_.watch(watch->mounts().descriptor(), [this, watch] {
        if (watch->mounts().changed())
            service_->mounts_changed();
    });
}

Result<std::unique_ptr<transport::Listener>> Server::bind(transport::ListenerOptions options) {
    if (security_.server_key)
        options.tickets = &tickets_;
    options.counters = &counters_;
    options.congestion_control = options_.congestion_control;
    return transport::Listener::bind(
        *context_, reactor_, std::move(options),
        [this](const transport::RouteId& route, const auto& peer, wire::Message message) {
            memory_.busy();
            service_->on_message(route, peer, std::move(message));
        },
        [this](const transport::RouteId& route) { service_->on_unclogged(route); },
        [this](const transport::RouteId& route) { service_->on_lost(route); });
}

// Everything works without it, if it is not the one that was asked for.
Result<> Server::open_data_port() {
    if (!security_.server_key || options_.data_port == 0 || !transport::has_fast_cipher())
        return {};
    auto bound = bind_data_port(listener_->endpoints(), options_.data_port, [this](std::vector<std::string> endpoints) {
        transport::ListenerOptions options;
        options.endpoints = std::move(endpoints);
        options.route_prefix = sealed_route_prefix;
        options.name = "connections for data";
        return bind(std::move(options));
    });
    if (!bound && options_.data_port)
        return bound.error();
    if (!bound)
        log::warn("no second port for data is to be had, so all goes by the first: {}", bound.error().to_string());
    else if (*bound) {
        sealed_listener_ = std::move(*bound);
        service_->offer_sealed_lanes(tickets_, port_of(sealed_listener_->endpoints().front()).value_or(0));
    }
    return {};
}

void Server::stop() {
    if (std::exchange(stopping_, true)) {
        finished_ = false;
        reactor_.stop();  // asked twice: now
        return;
    }
    log::info("stopping");
    service_->stop(stop_deadline, [this](bool finished) {
        finished_ = finished;
        reactor_.stop();
    });
}

// Clients that are in stay in; whoever comes needs the new one.
void Server::read_token_again() {
    if (options_.token_file.empty()) {
        log::info("nothing to read again: authorized_keys is read whenever it changes, the rest only at the start");
        return;
    }
    auto token = load_token(options_.token_file);
    if (!token) {
        log::error("the token stays as it was: {}", token.error().to_string());
        return;
    }
    service_->change_token(std::move(*token));
    log::info("the token has been read again");
}

void Server::on_signal() {
    signalfd_siginfo signal{};
    while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
        switch (signal.ssi_signo) {
            case SIGUSR1:
                log_counters(counters_);
                break;
            case SIGHUP:
                read_token_again();
                break;
            default:
                stop();
        }
    }
}

int Server::run() {
    reactor_.watch(signals_.get(), [this] { on_signal(); });
    reactor_.spin_before_sleeping(transport::usual_spin);
    reactor_.run();
    reactor_.unwatch(signals_.get());
    // Ends waits for locks and closes what clients had open. A worker may still be in a system call that does not
    // return (a dead disk): then leave without it.
    metrics_.reset();
    // Sessions that have not said goodbye go on with the next server.
    if (journal_ != nullptr)
        journal_->leave();
    service_.reset();
    if (journal_ != nullptr)
        journal_->remove_if_unneeded();
    if (!workers_->stop(last_grace)) {
        log::error("a request does not end; stopping without it");
        pid_file_.reset();
        log::flush();
        ::_exit(exit_unfinished);
    }
    log::info("stopped");
    return finished_ ? exit_clean : exit_unfinished;
}

}  // namespace

int serve(const ServerOptions& options, StartReport& report) {
    log::configure("remofile-server", options.log_level,
                   report.is_daemon() ? log::Target::syslog : log::Target::standard_error, options.log_format);
    harden();
    REMOFILE_ASSERT(sodium_init() >= 0);
    auto signals = take_signals();
    if (!signals) {
        report.failed(signals.error().to_string(), exit_failed);
        return exit_failed;
    }
    Server server(options, std::move(*signals));
    const auto started = server.start();
    if (!started) {
        const int code = started.error().status == Status::bad_usage ? exit_usage : exit_failed;
        report.failed(started.error().to_string(), code);
        return code;
    }
    report.started(*started);
    return server.run();
}

}  // namespace remofile::server
