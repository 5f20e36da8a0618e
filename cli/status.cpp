// SPDX-License-Identifier: MIT
// remofile status: who uses a server, and what it has done.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/log.hpp"
#include "cli/connection.hpp"
#include "cli/json_text.hpp"
#include "client/client_list.hpp"

namespace remofile::cli {
namespace {

struct Options {
    client::ConnectOptions connect;
    bool json = false;
};

std::string plain_text(const wire::ServerStatusReply& status) {
    std::string text =
        fmt::format("remofile-server {}, running since {}\n\n{} client{}:\n", log::printable(status.version),
                    client::local_time(status.started), status.clients.size(), status.clients.size() == 1 ? "" : "s");
    for (const wire::Client& client : status.clients)
        text += "  " + client::describe(client) + "\n";
    text += "\n";
    for (const wire::CounterValue& counter : status.counters) {
        if (counter.value != 0)
            text += fmt::format("{:<44} {:>16}\n", log::printable(counter.name), counter.value);
    }
    return text;
}

std::string json(const wire::ServerStatusReply& status) {
    std::string text =
        fmt::format("{{\"version\": {}, \"started\": {}, \"clients\": [", json_text(status.version), status.started);
    for (std::size_t i = 0; i < status.clients.size(); ++i) {
        const wire::Client& client = status.clients[i];
        text += fmt::format("{}{{\"name\": {}, \"address\": {}, \"since\": {}, \"exclusive\": {}}}", i > 0 ? ", " : "",
                            json_text(client.name), json_text(client.address), client.since, client.exclusive);
    }
    text += "], \"counters\": {";
    for (std::size_t i = 0; i < status.counters.size(); ++i)
        text +=
            fmt::format("{}{}: {}", i > 0 ? ", " : "", json_text(status.counters[i].name), status.counters[i].value);
    return text + "}}\n";
}

Task<Result<>> show_status(client::Session& session, bool as_json) {
    const auto reply = co_await session.call(wire::ServerStatus{});
    if (!reply)
        co_return Result<>(reply.error());
    const std::string text = as_json ? json(reply->body) : plain_text(reply->body);
    std::fputs(text.c_str(), stdout);
    co_return Result<>();
}

}  // namespace

std::function<ExitStatus()> prepare_status(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    add_connect_options(app, options->connect);
    app.add_flag("--json", options->json, "Write JSON, with the counters that are zero too");
    return [options] {
        return with_session(options->connect, [options](client::Session& session, const Clock&) {
            return show_status(session, options->json);
        });
    };
}

}  // namespace remofile::cli
