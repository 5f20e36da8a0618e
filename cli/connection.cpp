// SPDX-License-Identifier: MIT
#include "cli/connection.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/log.hpp"
#include "client/client_list.hpp"
#include "transport/context.hpp"
#include "transport/endpoint_address.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {
namespace {

// A command that is answered by nothing for so long is better ended than waited for.
constexpr Duration request_timeout = std::chrono::seconds(30);

struct Connection {
    transport::Context context;
    transport::Reactor reactor;
    Counters counters;
    std::unique_ptr<client::Session> session;
    Result<> outcome;
};

void say_who_else_is_there(const std::vector<wire::Client>& others) {
    if (others.empty())
        return;
    const std::string who = client::describe(std::span<const wire::Client>(others));
    std::fprintf(stderr, "remofile: the server is also in use by %s\n", who.c_str());
}

Task<void> run(Connection& connection, client::SessionOptions options, SessionWork work) {
    auto opened = co_await client::Session::open(connection.context, connection.reactor, std::move(options),
                                                 connection.counters, nullptr);
    if (opened) {
        connection.session = std::move(*opened);
        say_who_else_is_there(connection.session->hello().others);
        connection.outcome = co_await connection.session->act_as_process();
        if (connection.outcome)
            connection.outcome = co_await work(*connection.session, connection.reactor);
        connection.session->close();
    } else {
        connection.outcome = opened.error();
    }
    connection.reactor.stop();
}

ExitStatus run_with(client::SessionOptions options, const SessionWork& work) {
    options.request_timeout = request_timeout;
    Connection connection;
    spawn(run(connection, std::move(options), work), [&](Status status) {
        connection.outcome = status;
        connection.reactor.stop();
    });
    connection.reactor.spin_before_sleeping(transport::usual_spin);
    connection.reactor.run();
    return connection.outcome ? ExitStatus::success : complain(connection.outcome.error());
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
        REMOFILE_TRY(parsed, transport::parse_source(source));
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

Task<Result<>> work_on_files(client::Session& session, transport::Reactor& reactor, std::vector<std::string> paths,
                             const ThreadedFileWork& work) {
    client::RemoteTree tree(session);
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
}

ExitStatus with_session(const client::ConnectOptions& options, const SessionWork& work) {
    auto session_options = client::make_session_options(options);
    if (!session_options)
        return complain(session_options.error());
    return run_with(std::move(*session_options), work);
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
        return complain(session_options.error());
    session_options->path = "/";
    return run_with(std::move(*session_options), [&](client::Session& session, transport::Reactor& reactor) {
        return work_on_files(session, reactor, std::move(remote->paths), work);
    });
}

}  // namespace remofile::cli
