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
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/allocator.hpp"
#include "base/log.hpp"
#include "server/program/data_port.hpp"
#include "server/program/journal_file.hpp"
#include "server/program/pid_file.hpp"
#include "server/program/sandbox.hpp"
#include "server/program/served_export.hpp"
#include "server/program/server_metrics.hpp"
#include "server/program/server_security.hpp"
#include "server/program/version.hpp"
#include "server/sessions/export_router.hpp"
#include "server/sessions/session_token.hpp"
#include "server/sessions/worker_pool.hpp"
#include "transport/context.hpp"
#include "transport/idle_memory.hpp"
#include "transport/key_inquiry.hpp"
#include "transport/keys.hpp"
#include "transport/listener.hpp"
#include "transport/reactor.hpp"
#include "wire/machine_start.hpp"

namespace remofile::server {
namespace {

// How long a clean stop waits for requests under way, and then for a worker that a system call holds.
constexpr Duration stop_deadline = std::chrono::seconds(5);
constexpr Duration last_grace = std::chrono::milliseconds(500);

// 0: it is not known.
std::uint32_t number_of_machine_start() {
    const std::string id = machine_start();
    std::array<std::uint8_t, crypto_generichash_BYTES_MIN> hash{};
    crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const std::uint8_t*>(id.data()), id.size(), nullptr,
                       0);
    std::uint32_t number = 0;
    std::memcpy(&number, hash.data(), sizeof number);
    return id.empty() ? 0 : std::max(number, std::uint32_t{1});
}

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

// The folders of a file that may be replaced at any time, by its name and where that leads now.
void add_folders_of(const std::string& file, std::vector<std::string>& into) {
    if (file.empty())
        return;
    std::error_code failed;
    into.push_back(std::filesystem::path(file).parent_path());
    const std::filesystem::path real = std::filesystem::weakly_canonical(file, failed);
    if (!failed)
        into.push_back(real.parent_path());
}

// What the options lead to, now and when they are read again.
Reach reach_of(const ServerOptions& options, const Security& security) {
    // Names of accounts, programs' libraries, and what the process asks the kernel about itself.
    Reach reach{
        .changes = {"/dev/null"}, .reads = {"/etc", "/usr", "/lib", "/lib64", "/proc", "/dev/urandom"}, .tidies = {}};
    for (const ExportSettings& settings : options.exports) {
        reach.changes.push_back(settings.directory);
        add_folders_of(security.file_of_keys(settings), reach.reads);
        add_folders_of(settings.token_file, reach.reads);
    }
    if (const auto folder = prepare_journal_folder())
        reach.changes.push_back(*folder);
    if (const auto directory = transport::config_directory())
        reach.reads.push_back(*directory);
    add_folders_of(options.token_file, reach.reads);
    add_folders_of(options.config_file, reach.reads);
    add_folders_of(options.server_key, reach.reads);
    add_folders_of(options.next_server_key, reach.reads);
    add_folders_of(options.pid_file, reach.tidies);
    for (const std::string& endpoint : security.endpoints) {
        if (constexpr std::string_view scheme = "ipc://"; endpoint.starts_with(scheme))
            add_folders_of(endpoint.substr(scheme.size()), reach.tidies);
    }
    return reach;
}

void log_counters(const Counters& counters) {
    for (const auto& [name, value] : counters.snapshot()) {
        if (value != 0)
            log::info("counter {} {}", name, value);
    }
}

// How often it is looked whether an export that is served no longer has lost its last session.
constexpr Duration retired_period = std::chrono::seconds(1);

// Members in the order in which they are made; they go the other way round.
class Server {
public:
    Server(ServerOptions options, const Words& words, UniqueFd signals)
        : options_(std::move(options)), words_(words), signals_(std::move(signals)) {}
    ~Server() { end_exports(); }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    // Everything up to listening. The lines to show for it.
    Result<std::string> start();
    // Until a signal; the exit status.
    int run();

private:
    using Exports = std::vector<std::unique_ptr<ServedExport>>;

    Result<std::unique_ptr<transport::Listener>> bind(transport::ListenerOptions options);
    Result<> open_data_port();
    void tell_key();
    Result<> offer_metrics();
    Result<> confine_itself();
    Result<> check_reach(const ExportSettings& settings, const ServedDirectory& directory) const;
    std::string metrics(std::uint64_t started) const;
    void on_signal();
    ServiceOptions lobby_options() const;
    ExportSurroundings surroundings(std::size_t exports);
    Result<Exports> open_exports();
    void begin(ServedExport& served);
    void reload();
    Result<> take_over(ServerOptions options);
    void sweep();
    void end_exports();
    void stop();

    ServerOptions options_;
    const Words& words_;
    UniqueFd signals_;
    std::uint64_t boot_ = 0;
    Counters counters_;
    std::optional<PidFile> pid_file_;
    Security security_;
    std::vector<ServedDirectory> confined_to_;  // empty: it is not
    std::string sandbox_text_;                  // for the log
    transport::Reactor reactor_;
    transport::IdleMemory memory_{reactor_, give_back_freed_memory};
    FileService::SharedDescriptors descriptors_{};
    Exports exports_;  // goes after the workers
    ReactorThread thread_{reactor_};
    std::optional<transport::Context> context_;
    transport::LaneTickets tickets_;
    std::unique_ptr<transport::Listener> listener_;
    std::unique_ptr<transport::Listener> sealed_listener_;  // goes before the other: that asks for its tickets
    std::optional<WorkerPool> workers_;
    std::optional<ExportRouter> router_;
    std::unique_ptr<transport::MetricsPort> metrics_;
    std::unique_ptr<transport::KeyResponder> key_responder_;
    std::optional<transport::TimerId> sweep_timer_;
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
    boot_ = wire::make_boot(number_of_machine_start(), randombytes_random());
    REMOFILE_CHECK(confine_itself());
    descriptors_ = FileService::share_descriptors(options_.has_names() ? wire::max_exports : 1);
    context_.emplace();
    workers_.emplace(WorkerPool::default_options(), counters_);
    router_.emplace(*workers_, thread_, counters_, lobby_options());
    REMOFILE_TRY(exports, open_exports());
    exports_ = std::move(exports);
    transport::ListenerOptions listener_options;
    listener_options.endpoints = security_.endpoints;
    listener_options.strangers_per_s = static_cast<int>(options_.strangers_per_second);
    listener_options.server_key = security_.server_key;
    listener_options.authorizer = security_.keys.get();
    REMOFILE_TRY(listener, bind(std::move(listener_options)));
    listener_ = std::move(listener);
    REMOFILE_CHECK(open_data_port());
    tell_key();
    REMOFILE_CHECK(offer_metrics());
    thread_.use(listener_.get(), sealed_listener_.get());
    if (!sandbox_text_.empty())
        log::info("{}", sandbox_text_);
    for (const auto& served : exports_)
        begin(*served);

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
    for (const transport::PublicKey& key : security_.next_keys)
        say(log::Level::info, "clients are told the key that the server will have next: " + key.to_text());
    for (const std::string& line : client_lines(listener_->endpoints(), security_.server_key, options_.exports))
        say(log::Level::info, line);
    if (key_responder_) {
        for (const std::string& line : trust_lines(listener_->endpoints(), security_.server_key->public_key()))
            say(log::Level::info, line);
    }
    return text;
}

// Before threads start, and after all has been made that lies elsewhere.
Result<> Server::confine_itself() {
    const bool may_have_more = options_.has_names() && options_.sandbox == Sandbox::automatic;
    if (options_.sandbox == Sandbox::none || may_have_more)
        return {};
    const auto confined = confine(reach_of(options_, security_));
    if (confined) {
        sandbox_text_ = "of this machine's files the server can use those that it serves, and its own";
        for (const ExportSettings& settings : options_.exports) {
            if (auto directory = ServedDirectory::find(settings.directory))
                confined_to_.push_back(std::move(*directory));
        }
        return {};
    }
    const std::string reason = confined.status() == Status::not_supported ? "this kernel has no Landlock of version 2"
                                                                          : confined.error().to_string();
    if (options_.sandbox == Sandbox::on)
        return make_error(confined.status(), "the server cannot be kept from other files (--sandbox=on): " + reason);
    sandbox_text_ = "the server is not kept from other files than it needs: " + reason;
    return {};
}

// Whether the files of a directory can be used that was not served when the server was confined. Error: bad_usage.
Result<> Server::check_reach(const ExportSettings& settings, const ServedDirectory& directory) const {
    if (confined_to_.empty() || std::ranges::find(confined_to_, directory) != confined_to_.end())
        return {};
    return make_error(Status::bad_usage, fmt::format("{}{}: the server can use no directories but those with which it "
                                                     "was started (--sandbox); start it again",
                                                     settings.place(), log::printable(directory.path)));
}

// What is asked of all exports, to those who come to none.
ServiceOptions Server::lobby_options() const {
    ServiceOptions lobby;
    lobby.limits.max_sessions = options_.max_clients;
    lobby.limits.max_sessions_per_owner = options_.max_clients_per_key;
    lobby.version = version;
    lobby.boot = boot_;
    return lobby;
}

ExportSurroundings Server::surroundings(std::size_t exports) {
    return {.reactor = reactor_,
            .thread = thread_,
            .executor = *workers_,
            .counters = counters_,
            .router = *router_,
            .security = security_,
            .descriptors = descriptors_,
            .exports = exports,
            .boot = boot_,
            .slow_request = options_.slow_requests};
}

Result<Server::Exports> Server::open_exports() {
    REMOFILE_TRY(tokens, tokens_of(options_.exports));
    Exports opened;
    std::vector<ServedDirectory> directories;
    if (options_.has_names()) {
        REMOFILE_TRY(found, find_directories(options_.exports, {}));
        directories = std::move(found);
    }
    for (std::size_t i = 0; i < options_.exports.size(); ++i) {
        const ExportSettings& settings = options_.exports[i];
        // Without a name: opening it says what is wrong.
        const auto directory = directories.empty()
                                   ? ServedDirectory::find(settings.directory).value_or(ServedDirectory())
                                   : directories[i];
        REMOFILE_TRY(served, ServedExport::open(settings, tokens[i], directory, surroundings(options_.exports.size())));
        opened.push_back(std::move(served));
    }
    REMOFILE_TRY(token, token_of(options_));
    router_->lobby().change(lobby_options().limits, {}, false, token);
    return opened;
}

void Server::begin(ServedExport& served) {
    if (sealed_listener_)
        served.service().offer_sealed_lanes(tickets_, port_of(sealed_listener_->endpoints().front()).value_or(0));
    served.begin(listener_->endpoints());
    const std::string who = served.name().empty() ? "" : "export " + served.name() + ": ";
    if (!served.name().empty())
        log::info("{}{}", who, served.directory().path);
    if (const std::string line = served.change_watch_text(); !line.empty())
        log::info("{}{}", who, line);
}

Result<> Server::offer_metrics() {
    if (!options_.metrics)
        return {};
    const auto started = static_cast<std::uint64_t>(std::time(nullptr));
    REMOFILE_TRY(
        port, transport::MetricsPort::open(reactor_, *options_.metrics, [this, started] { return metrics(started); }));
    metrics_ = std::move(port);
    log::info("metrics at {}", metrics_->url());
    if (options_.metrics->beyond_loopback)
        log::warn("metrics are neither encrypted nor authorised, and can be read from other machines");
    return {};
}

// Those that are served no longer are not told of: another one may have the name.
std::string Server::metrics(std::uint64_t started) const {
    std::vector<ExportMetrics> told;
    for (const auto& served : exports_) {
        if (!served->is_retired())
            told.push_back({.name = served->name(), .counters = served->counters(), .service = served->service()});
    }
    return metrics_text(counters_, told, version, started);
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
            router_->on_message(route, peer, std::move(message));
        },
        [this](const transport::RouteId& route) { router_->on_unclogged(route); },
        [this](const transport::RouteId& route) { router_->on_lost(route); });
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
    else
        sealed_listener_ = std::move(*bound);
    return {};
}

// Everything works without it, for whoever has the key from elsewhere.
void Server::tell_key() {
    if (!security_.server_key || !options_.tell_key)
        return;
    const transport::KeyResponder::Limits limits{.per_second_of_a_host =
                                                     static_cast<int>(options_.strangers_per_second)};
    auto opened = transport::KeyResponder::open(reactor_, listener_->endpoints(), security_.server_key->public_key(),
                                                limits, counters_);
    if (opened)
        key_responder_ = std::move(*opened);
    else
        log::warn("clients cannot ask for this server's key: {}", opened.error().to_string());
}

void Server::stop() {
    if (std::exchange(stopping_, true)) {
        finished_ = false;
        reactor_.stop();  // asked twice: now
        return;
    }
    log::info("stopping");
    router_->stop(stop_deadline, [this](bool finished) {
        finished_ = finished;
        reactor_.stop();
    });
}

// What cannot be understood, or not be had, changes nothing.
void Server::reload() {
    if (stopping_)
        return;
    auto said = parse_command_line(words_.arguments, words_.working_directory);
    Result<> taken;
    if (!said)
        taken = said.error();
    else if (said->options)
        taken = take_over(std::move(*said->options));
    if (taken)
        log::info("the configuration has been read again");
    else
        log::error("the configuration stays as it was: {}", taken.error().to_string());
}

// Everything that can fail comes first. An export that goes on being served is one of the same name and directory;
// others that there were take no new sessions.
Result<> Server::take_over(ServerOptions options) {
    for (const ExportSettings& settings : options.exports)
        REMOFILE_CHECK(check_identity(settings));
    REMOFILE_TRY(tokens, tokens_of(options.exports));
    REMOFILE_TRY(lobby_token, token_of(options));

    std::vector<ServedDirectory> directories;
    std::vector<ServedExport*> kept;  // in the order of the settings; null for new ones
    for (const ExportSettings& settings : options.exports) {
        auto directory = ServedDirectory::find(settings.directory);
        if (!directory)
            return make_error(Status::bad_usage, settings.place() + directory.error().to_string());
        const auto known = std::ranges::find_if(exports_, [&](const auto& served) {
            return served->name() == settings.name && served->directory() == *directory;
        });
        kept.push_back(known == exports_.end() ? nullptr : known->get());
        directories.push_back(std::move(*directory));
    }
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (kept[i] == nullptr)
            REMOFILE_CHECK(check_reach(options.exports[i], directories[i]));
    }
    std::vector<ServedDirectory> others;
    for (const auto& served : exports_) {
        if (std::ranges::find(kept, served.get()) == kept.end() && !served->is_idle())
            others.push_back(served->directory());
    }
    REMOFILE_CHECK(find_directories(options.exports, others));

    Exports opened;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (kept[i] != nullptr)
            continue;
        REMOFILE_TRY(served,
                     ServedExport::open(options.exports[i], tokens[i], directories[i], surroundings(kept.size())));
        opened.push_back(std::move(served));
    }

    if (!options.is_same_process(options_))
        log::warn("what the configuration says of the whole server, but for exports, counts when it is started again");
    security_.let_in(options.exports);
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (kept[i] == nullptr)
            continue;
        kept[i]->revive();
        kept[i]->change(options.exports[i], tokens[i]);
    }
    for (const auto& served : exports_) {
        if (std::ranges::find(kept, served.get()) != kept.end() || served->is_retired())
            continue;
        served->retire();
        if (!served->name().empty())
            log::info("export {}: no longer served; its {} sessions go on", served->name(),
                      served->service().sessions());
    }
    sweep();  // what goes now leaves its file of answers to others
    for (auto& served : opened) {
        begin(*served);
        exports_.push_back(std::move(served));
    }
    options_.max_clients = options.max_clients;
    options_.max_clients_per_key = options.max_clients_per_key;
    router_->lobby().change(lobby_options().limits, {}, false, lobby_token);
    return {};
}

// Exports that are served no longer go with their last session.
void Server::sweep() {
    if (sweep_timer_)
        reactor_.cancel(*sweep_timer_);
    sweep_timer_.reset();
    if (stopping_)
        return;
    std::erase_if(exports_, [](const auto& served) { return served->is_retired() && served->is_idle(); });
    if (std::ranges::any_of(exports_, [](const auto& served) { return served->is_retired(); }))
        sweep_timer_ = reactor_.after(retired_period, [this] {
            sweep_timer_.reset();
            sweep();
        });
}

void Server::end_exports() {
    for (const auto& served : exports_)
        served->end();
    router_.reset();
}

void Server::on_signal() {
    signalfd_siginfo signal{};
    while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
        switch (signal.ssi_signo) {
            case SIGUSR1:
                log_counters(counters_);
                break;
            case SIGHUP:
                reload();
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
    end_exports();
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

int serve(const ServerOptions& options, const Words& words, StartReport& report) {
    log::configure("remofile-server", options.log_level,
                   report.is_daemon() ? log::Target::syslog : log::Target::standard_error, options.log_format);
    harden();
    REMOFILE_ASSERT(sodium_init() >= 0);
    auto signals = take_signals();
    if (!signals) {
        report.failed(signals.error().to_string(), exit_failed);
        return exit_failed;
    }
    Server server(options, words, std::move(*signals));
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
