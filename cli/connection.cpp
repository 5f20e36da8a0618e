// SPDX-License-Identifier: MIT
#include "cli/connection.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "cli/ending_signals.hpp"
#include "client/client_list.hpp"
#include "client/hosts_file.hpp"
#include "client/open_session.hpp"
#include "transport/context.hpp"
#include "transport/endpoint_address.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {
namespace {

// A command that is answered by nothing for so long is better ended than waited for.
constexpr Duration request_timeout = std::chrono::seconds(30);

struct Connection {
    std::optional<transport::Context> context{std::in_place};
    transport::Reactor reactor;
    Counters counters;
    std::unique_ptr<client::Session> session;
    Result<> outcome;
};

// What the person can do about it, by this program's options. `of_exports` is what is wrong with several files where
// the server has several exports.
Error with_remedy(Error error, bool has_token, const std::string& of_exports) {
    if (error.status == Status::export_needed)
        error.message += of_exports;
    if (error.status == Status::in_use)
        error.message += "; --wait waits for its turn";
    if (error.status == Status::bad_token && !has_token)
        error.message += "; pass its file with --token-file=";
    return error;
}

void say_that_it_is_full() {
    std::fputs("remofile: the server has as many clients as it takes; trying again for half a minute\n", stderr);
}

Task<void> run(Connection& connection, client::SessionOptions options, SessionWork work, std::string of_exports) {
    const bool has_token = !options.token.empty();
    auto opened = co_await client::open_session(*connection.context, connection.reactor, std::move(options),
                                                connection.counters, nullptr, say_that_it_is_full);
    if (opened) {
        connection.session = std::move(*opened);
        connection.outcome = co_await connection.session->act_as_process();
        if (connection.outcome)
            connection.outcome = co_await work(*connection.session, connection.reactor);
        connection.session->close();
    } else {
        connection.outcome = with_remedy(opened.error(), has_token, of_exports);
    }
    connection.reactor.stop();
}

// Work that ends because the session does must not say so.
void silence() {
    const UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (::isatty(STDERR_FILENO) != 0)
        std::fputs("\n", stderr);
    std::fflush(nullptr);
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
        ::dup2(null.get(), fd);
}

// Says good-bye and ends the process. What was under way is where it would be after a kill.
[[noreturn]] void leave(Connection& connection, int signal, OnInterrupt on_interrupt) {
    silence();
    if (connection.session) {
        connection.session->close();
        // Waits until all has been sent; not for longer than EndingSignals does.
        connection.context.reset();
    }
    if (signal == SIGINT && on_interrupt == OnInterrupt::succeed)
        ::_exit(static_cast<int>(ExitStatus::success));
    die_of(signal);
}

ExitStatus run_with(client::SessionOptions options, const SessionWork& work,
                    OnInterrupt on_interrupt = OnInterrupt::die, const std::string& of_exports = {}) {
    options.request_timeout = request_timeout;
    Result<> outcome;
    {
        EndingSignals signals;
        Connection connection;
        signals.watch(connection.reactor,
                      [&connection, on_interrupt](int signal) { leave(connection, signal, on_interrupt); });
        spawn(run(connection, std::move(options), work, of_exports), [&](Status status) {
            connection.outcome = status;
            connection.reactor.stop();
        });
        connection.reactor.spin_before_sleeping(transport::usual_spin);
        connection.reactor.run();
        signals.unwatch();
        outcome = std::move(connection.outcome);
    }
    return outcome ? ExitStatus::success : complain(outcome.error());
}

// "forever", or seconds.
Duration parse_wait(const std::string& text) {
    constexpr unsigned most_seconds = 10 * 365 * 24 * 3600U;
    if (text == "forever")
        return Duration::max();
    unsigned seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc() || end != text.data() + text.size() || seconds == 0 || seconds > most_seconds)
        throw CLI::ValidationError("--wait", "expected a whole number of seconds, 1 or more");
    return std::chrono::seconds(seconds);
}

std::string from_environment(const char* variable) {
    const char* value = std::getenv(variable);
    return value == nullptr ? std::string() : value;
}

// Remofile's own variables, for what no option says.
void apply_environment(client::ConnectOptions& options) {
    if (options.token_file.empty())
        options.token = from_environment("REMOFILE_TOKEN");
    if (options.server_key.empty() && !options.insecure)
        options.server_key = from_environment("REMOFILE_PUBLIC_KEY");
}

// A path alone is one of the server that the environment names.
std::string as_source(const std::string& text) {
    const std::string host = from_environment("REMOFILE_HOSTNAME");
    if (!text.starts_with('/') || host.empty())
        return text;
    const std::string port = from_environment("REMOFILE_PORT");
    return host + (port.empty() ? "" : ":" + port) + ":" + text;
}

struct RemoteFiles {
    std::string source;  // of the first
    std::vector<std::string> paths;
};

Result<RemoteFiles> understand(std::span<const std::string> sources) {
    RemoteFiles files;
    std::string endpoint;
    for (const std::string& text : sources) {
        const std::string source = as_source(text);
        REMOFILE_TRY(named, client::look_up(source));
        REMOFILE_TRY(parsed, transport::parse_source(named.source));
        if (files.paths.empty()) {
            files.source = source;
            endpoint = parsed.endpoint;
        } else if (parsed.endpoint != endpoint) {
            return make_error(Status::bad_usage, "the files are of different servers: " + log::printable(sources[0]) +
                                                     " and " + log::printable(text));
        }
        files.paths.push_back(parsed.path);
    }
    return files;
}

// The export that all the paths lead into, if the server's exports have names; empty where they lead into several, or
// one into none.
std::string export_of(const std::vector<std::string>& paths) {
    std::string name;
    for (const std::string& path : paths) {
        const auto components = client::split_path(path);
        if (!components || components->empty() || (!name.empty() && components->front() != name))
            return {};
        name = components->front();
    }
    return name;
}

Task<Result<>> work_on_files(client::Session& session, transport::Reactor& reactor, std::vector<std::string> paths,
                             std::string export_name, const ThreadedFileWork& work) {
    const bool in_export = session.path() != "/";
    client::RemoteTree tree(session, client::max_listed_entries, in_export ? export_name : std::string());
    co_return co_await work(tree, reactor, std::move(paths));
}

}  // namespace

void add_connect_options(CLI::App& app, client::ConnectOptions& options) {
    app.add_option("SOURCE", options.source, "HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET")
        ->required();
    add_key_options(app, options);
}

void add_key_options(CLI::App& app, client::ConnectOptions& options) {
    options.server_key_option = "--server-key=";
    app.add_option("--server-key", options.server_key, "The server's public key, or the file that holds it");
    app.add_option("--identity", options.identity, "File of this client's secret key");
    app.add_option("--token-file", options.token_file, "File of the token that the server asks for");
    app.add_flag("--insecure", options.insecure, "Connect without encryption, to a server that was told the same");
    app.add_option_function<std::string>(
           "--congestion",
           [&options](const std::string& text) {
               auto parsed = transport::CongestionControl::parse(text);
               if (!parsed)
                   throw CLI::ValidationError("--congestion", parsed.error().to_string());
               options.congestion_control = std::move(*parsed);
           },
           "What TCP sends with: one of the kernel's, system, or auto, which takes bbr on longer links (auto)")
        ->type_name("NAME");
    const auto given = std::make_shared<std::string>();  // that the parser needs to write to
    app.add_flag("--wait{forever}", *given, "Wait, at most so long, if another client has the server for itself")
        ->type_name("SECONDS")
        ->each([&options, given](const std::string& text) { options.wait = parse_wait(text); });
}

void say_who_else_is_there(const client::Session& session) {
    const auto others = client::others_than(client::own_name(), session.hello().others);
    if (others.empty())
        return;
    const std::string who = client::describe(std::span<const wire::Client>(others));
    std::fprintf(stderr, "remofile: the server is also in use by %s\n", who.c_str());
}

ExitStatus with_session(const client::ConnectOptions& options, const SessionWork& work, OnInterrupt on_interrupt) {
    auto session_options = client::make_session_options(options);
    if (!session_options)
        return complain(session_options.error(), client::exit_status_of_setup(session_options.status()));
    return run_with(std::move(*session_options), work, on_interrupt);
}

ExitStatus with_files(client::ConnectOptions options, std::span<const std::string> sources, const FileWork& work) {
    return with_files(std::move(options), sources,
                      [&](client::RemoteTree& tree, transport::Reactor&, std::vector<std::string> paths) {
                          return work(tree, std::move(paths));
                      });
}

ExitStatus with_files(client::ConnectOptions options, std::span<const std::string> sources,
                      const ThreadedFileWork& work) {
    auto remote = understand(sources);
    if (!remote)
        return complain(remote.error());
    options.source = remote->source;
    apply_environment(options);
    auto session_options = client::make_session_options(options);
    if (!session_options)
        return complain(session_options.error(), client::exit_status_of_setup(session_options.status()));
    session_options->path = "/";
    const std::string export_name = export_of(remote->paths);
    if (!export_name.empty())
        session_options->export_path = "/" + export_name;
    const auto work_in_session = [&](client::Session& session, transport::Reactor& reactor) {
        return work_on_files(session, reactor, std::move(remote->paths), export_name, work);
    };
    const std::string of_exports = remote->paths.size() > 1 ? "; all files must be of the same" : "";
    return run_with(std::move(*session_options), work_in_session, OnInterrupt::die, of_exports);
}

}  // namespace remofile::cli
