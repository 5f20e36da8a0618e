// SPDX-License-Identifier: MIT
#include "cli/connection.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "client/client_list.hpp"
#include "transport/context.hpp"
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

Task<void> run(Connection& connection, client::SessionOptions options,
               std::function<Task<Result<>>(client::Session&, const Clock&)> work) {
    auto opened = co_await client::Session::open(connection.context, connection.reactor, std::move(options),
                                                 connection.counters, nullptr);
    if (opened) {
        connection.session = std::move(*opened);
        say_who_else_is_there(connection.session->hello().others);
        connection.outcome = co_await work(*connection.session, connection.reactor.clock());
        connection.session->close();
    } else {
        connection.outcome = opened.error();
    }
    connection.reactor.stop();
}

}  // namespace

void add_connect_options(CLI::App& app, client::ConnectOptions& options) {
    options.server_key_option = "--server-key=";
    app.add_option("SOURCE", options.source, "HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET")
        ->required();
    app.add_option("--server-key", options.server_key, "The server's public key, or the file that holds it");
    app.add_option("--identity", options.identity, "File of this client's secret key");
    app.add_option("--token-file", options.token_file, "File of the token that the server asks for");
    app.add_flag("--insecure", options.insecure, "Connect without encryption, to a server that was told the same");
}

ExitStatus with_session(const client::ConnectOptions& options,
                        const std::function<Task<Result<>>(client::Session&, const Clock&)>& work) {
    auto session_options = client::make_session_options(options);
    if (!session_options)
        return complain(session_options.error());
    session_options->request_timeout = request_timeout;
    Connection connection;
    spawn(run(connection, std::move(*session_options), work));
    connection.reactor.run();
    return connection.outcome ? ExitStatus::success : complain(connection.outcome.error());
}

}  // namespace remofile::cli
