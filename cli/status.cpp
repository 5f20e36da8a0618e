// SPDX-License-Identifier: MIT
// remofile status: who uses a server, and what it has done; or what a mount does.
#include <sys/stat.h>
#include <sys/xattr.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
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

// ---------------------------------------------------------------- of a mount

// As a shell's user writes one. A source has a colon before its first slash.
bool is_local_path(const std::string& text) {
    return text.find(':') == std::string::npos || text.starts_with('/') || text.starts_with("./");
}

Result<std::filesystem::path> mountpoint_of(const std::string& path) {
    std::error_code failed;
    std::filesystem::path at = std::filesystem::canonical(path, failed);
    struct stat status {};
    if (failed || ::stat(at.c_str(), &status) != 0)
        return make_error(from_errno(failed ? failed.value() : errno),
                          fmt::format("{}: {}", log::printable(path), failed ? failed.message() : strerror(errno)));
    struct stat above {};
    while (at.has_relative_path() && ::stat(at.parent_path().c_str(), &above) == 0 && above.st_dev == status.st_dev)
        at = at.parent_path();
    return at;
}

// "name": value pairs, without what groups them.
std::string plain_text_of_mount(std::string_view json) {
    std::string text;
    while (true) {
        const auto begin = json.find('"');
        const auto end = begin == std::string_view::npos ? begin : json.find("\": ", begin + 1);
        if (end == std::string_view::npos)
            return text;
        const std::string_view name = json.substr(begin + 1, end - begin - 1);
        json.remove_prefix(end + 3);
        const std::string_view value = json.substr(0, json.find_first_of(",{}"));
        if (!value.empty() && (value != "0" || name.find('.') == std::string_view::npos))
            text += fmt::format("{:<44} {:>16}\n", log::printable(std::string(name)),
                                value == "true"    ? "yes"
                                : value == "false" ? "no"
                                                   : log::printable(std::string(value)));
    }
}

ExitStatus show_mount_status(const std::string& path, bool as_json) {
    constexpr std::size_t max_bytes = 64U << 10;
    const auto mountpoint = mountpoint_of(path);
    if (!mountpoint)
        return complain(mountpoint.error());
    std::string json(max_bytes, '\0');
    const ssize_t size = ::getxattr(mountpoint->c_str(), "remofs.status", json.data(), json.size());
    if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
        return complain(make_error(Status::bad_usage, fmt::format("{}: not a mount of remofs", log::printable(path))));
    if (size < 0)
        return complain(make_error(from_errno(errno),
                                   fmt::format("{}: {}", log::printable(mountpoint->string()), strerror(errno))));
    json.resize(static_cast<std::size_t>(size));
    std::fputs(as_json ? (json + "\n").c_str() : plain_text_of_mount(json).c_str(), stdout);
    return ExitStatus::success;
}

}  // namespace

std::function<ExitStatus()> prepare_status(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    app.add_option(
           "SOURCE", options->connect.source,
           "HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET; or a directory of a mount")
        ->required();
    add_key_options(app, options->connect);
    app.add_flag("--json", options->json, "Write JSON, with the counters that are zero too");
    return [options] {
        if (is_local_path(options->connect.source))
            return show_mount_status(options->connect.source, options->json);
        return with_session(options->connect, [options](client::Session& session, transport::Reactor&) {
            return show_status(session, options->json);
        });
    };
}

}  // namespace remofile::cli
