// SPDX-License-Identifier: MIT
// remofile status: who uses a server, and what it has done.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/log.hpp"
#include "cli/connection.hpp"
#include "cli/json_text.hpp"
#include "cli/transfer.hpp"
#include "client/client_list.hpp"

namespace remofile::cli {
namespace {

struct Options {
    client::ConnectOptions connect;
    bool json = false;
};

// What interrupted transfers have left in a directory.
struct Incomplete {
    std::string name;
    std::uint64_t size = 0;
};

std::string leases_of(const wire::Client& client) {
    if (client.leases == 0 && client.revoked == 0 && client.expired == 0)
        return {};
    return fmt::format("; leases: {} held, {} revoked, {} expired", client.leases, client.revoked, client.expired);
}

std::string plain_text(const wire::ServerStatusReply& status, const std::vector<Incomplete>& incomplete) {
    std::string text =
        fmt::format("remofile-server {}, running since {}\n\n{} client{}:\n", log::printable(status.version),
                    client::local_time(status.started), status.clients.size(), status.clients.size() == 1 ? "" : "s");
    for (const wire::Client& client : status.clients)
        text += "  " + client::describe(client) + leases_of(client) + "\n";
    if (!incomplete.empty())
        text += "\nincomplete files here (\"remofile rm --partial\" removes them):\n";
    for (const Incomplete& file : incomplete)
        text += fmt::format("  {} ({} bytes)\n", log::printable(file.name), file.size);
    text += "\n";
    for (const wire::CounterValue& counter : status.counters) {
        if (counter.value != 0)
            text += fmt::format("{:<44} {:>16}\n", log::printable(counter.name), counter.value);
    }
    return text;
}

std::string json(const wire::ServerStatusReply& status, const std::vector<Incomplete>& incomplete) {
    std::string text =
        fmt::format("{{\"version\": {}, \"started\": {}, \"clients\": [", json_text(status.version), status.started);
    for (std::size_t i = 0; i < status.clients.size(); ++i) {
        const wire::Client& client = status.clients[i];
        text += fmt::format(
            "{}{{\"name\": {}, \"address\": {}, \"since\": {}, \"exclusive\": {}, \"leases\": {}, \"revoked\": {}, "
            "\"expired\": {}}}",
            i > 0 ? ", " : "", json_text(client.name), json_text(client.address), client.since, client.exclusive,
            client.leases, client.revoked, client.expired);
    }
    text += "], \"incomplete\": [";
    for (std::size_t i = 0; i < incomplete.size(); ++i)
        text += fmt::format("{}{{\"name\": {}, \"size\": {}}}", i > 0 ? ", " : "", json_text(incomplete[i].name),
                            incomplete[i].size);
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
    client::RemoteTree tree(session);
    const auto entries = co_await tree.list(session.hello().root);
    std::vector<Incomplete> incomplete;
    // A directory that cannot be listed is no reason to keep quiet about the server.
    for (std::size_t i = 0; entries && i < entries->size(); ++i) {
        if (is_partial((*entries)[i].name))
            incomplete.push_back({(*entries)[i].name, (*entries)[i].file.attributes.size});
    }
    if (entries)
        tree.forget(*entries);
    const std::string text = as_json ? json(reply->body, incomplete) : plain_text(reply->body, incomplete);
    std::fputs(text.c_str(), stdout);
    co_return Result<>();
}

}  // namespace

std::function<ExitStatus()> prepare_status(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    add_connect_options(app, options->connect);
    app.add_flag("--json", options->json, "Write JSON, with the counters that are zero too");
    return [options] {
        return with_session(options->connect, [options](client::Session& session, transport::Reactor&) {
            return show_status(session, options->json);
        });
    };
}

}  // namespace remofile::cli
