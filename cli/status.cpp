// SPDX-License-Identifier: MIT
// remofile status: who uses a server, and what it has done; or what a mount does.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>

#include "base/json_text.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "cli/connection.hpp"
#include "cli/mount_status.hpp"
#include "cli/screen.hpp"
#include "cli/status_rates.hpp"
#include "cli/transfer.hpp"
#include "client/client_list.hpp"

namespace remofile::cli {
namespace {

// A remofs that does not answer for so long is stopped, or hangs.
constexpr Duration mount_patience = std::chrono::seconds(10);

struct Options {
    client::ConnectOptions connect;
    bool json = false;
    std::optional<Duration> watch;  // the pause between two samples
};

// A server or a mount at one moment, for a program and for a person.
struct Sample {
    Observed observed;
    CounterValues counters;
    std::string json_members;  // of an object, without its braces
    std::string text;
};

// Writes samples as they come, with what has happened between the last two.
class Output {
public:
    explicit Output(const Options& options) : options_(options) {}

    // False once standard output takes no more.
    bool write(const Sample& sample) {
        const TimePoint now = Clock::system().now();
        std::optional<Rates> rates;
        if (last_)
            rates = rates_between(sample.observed, last_->counters, sample.counters, now - last_->time);
        last_ = Last{sample.counters, now};
        std::fputs((options_.json ? json(sample, rates) : text(sample, rates)).c_str(), stdout);
        return std::fflush(stdout) == 0;
    }

private:
    struct Last {
        CounterValues counters;
        TimePoint time;
    };

    std::string json(const Sample& sample, const std::optional<Rates>& rates) const {
        if (!options_.watch)
            return "{" + sample.json_members + "}\n";
        const std::chrono::duration<double> time = std::chrono::system_clock::now().time_since_epoch();
        return fmt::format("{{\"time\": {:.3f}, \"rates\": {}, {}}}\n", time.count(), json_of(sample.observed, rates),
                           sample.json_members);
    }

    std::string text(const Sample& sample, const std::optional<Rates>& rates) const {
        if (!options_.watch)
            return sample.text;
        const std::string text = plain_text_of(sample.observed, rates) + sample.text;
        winsize size{};
        if (::isatty(STDOUT_FILENO) == 0 || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 2)
            return text + "\n";
        return screenful(text, size.ws_row, size.ws_col);
    }

    const Options& options_;
    std::optional<Last> last_;
};

// ---------------------------------------------------------------- of a server

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

// A client, and the export that it uses; empty if that has no name.
struct Use {
    wire::Client client;
    std::string export_name;
};

std::string plain_text(const wire::ServerStatusReply& status, const std::vector<Use>& uses,
                       const std::vector<Incomplete>& incomplete) {
    std::string text =
        fmt::format("remofile-server {}, running since {}\n\n{} client{}:\n", log::printable(status.version),
                    client::local_time(status.started), uses.size(), uses.size() == 1 ? "" : "s");
    for (const Use& use : uses)
        text += "  " + client::describe(use.client) +
                (use.export_name.empty() ? "" : "; export " + log::printable(use.export_name)) + leases_of(use.client) +
                "\n";
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

std::string json_members(const wire::ServerStatusReply& status, const std::vector<Use>& uses,
                         const std::vector<Incomplete>& incomplete) {
    std::string text = fmt::format("\"kind\": \"server\", \"version\": {}, \"started\": {}, \"clients\": [",
                                   json_text(status.version), status.started);
    for (std::size_t i = 0; i < uses.size(); ++i) {
        const wire::Client& client = uses[i].client;
        text += fmt::format(
            "{}{{\"name\": {}, \"address\": {}, \"since\": {}, \"exclusive\": {}, \"leases\": {}, \"revoked\": {}, "
            "\"expired\": {}{}}}",
            i > 0 ? ", " : "", json_text(client.name), json_text(client.address), client.since, client.exclusive,
            client.leases, client.revoked, client.expired,
            uses[i].export_name.empty() ? "" : ", \"export\": " + json_text(uses[i].export_name));
    }
    text += "], \"incomplete\": [";
    for (std::size_t i = 0; i < incomplete.size(); ++i)
        text += fmt::format("{}{{\"name\": {}, \"size\": {}}}", i > 0 ? ", " : "", json_text(incomplete[i].name),
                            incomplete[i].size);
    text += "], \"counters\": {";
    for (std::size_t i = 0; i < status.counters.size(); ++i)
        text +=
            fmt::format("{}{}: {}", i > 0 ? ", " : "", json_text(status.counters[i].name), status.counters[i].value);
    return text + "}";
}

Task<std::vector<Incomplete>> find_incomplete(client::Session& session) {
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
    co_return incomplete;
}

Sample sample_of(const wire::ServerStatusReply& status, const std::vector<Use>& uses,
                 const std::vector<Incomplete>& incomplete) {
    Sample sample{.observed = Observed::server,
                  .counters = {},
                  .json_members = json_members(status, uses, incomplete),
                  .text = plain_text(status, uses, incomplete)};
    for (const wire::CounterValue& counter : status.counters)
        sample.counters.emplace(counter.name, counter.value);
    return sample;
}

// Of all exports that we may use; an older server has but one.
Task<Result<std::vector<Use>>> find_uses(client::Session& session, const wire::ServerStatusReply& status) {
    std::vector<Use> uses;
    if ((session.hello().features & wire::feature_exports) == 0) {
        for (const wire::Client& client : status.clients)
            uses.push_back({client, {}});
        co_return Result<std::vector<Use>>(std::move(uses));
    }
    const auto reply = co_await session.call(wire::Exports{});
    if (!reply)
        co_return Result<std::vector<Use>>(reply.error());
    for (const wire::ExportEntry& entry : reply->body.exports) {
        for (const wire::Client& client : entry.clients)
            uses.push_back({client, entry.name});
    }
    co_return Result<std::vector<Use>>(std::move(uses));
}

Task<Result<>> show_status(client::Session& session, transport::Reactor& reactor, const Options& options) {
    Output output(options);
    // Once: a directory may be large.
    const std::vector<Incomplete> incomplete = co_await find_incomplete(session);
    while (true) {
        const auto reply = co_await session.call(wire::ServerStatus{});
        if (!reply)
            co_return Result<>(reply.error());
        const auto uses = co_await find_uses(session, reply->body);
        if (!uses)
            co_return Result<>(uses.error());
        if (!output.write(sample_of(reply->body, *uses, incomplete)) || !options.watch)
            co_return Result<>();
        Completion<bool> pause;
        reactor.after(*options.watch, [&pause] { pause.deliver(true); });
        co_await pause;
    }
}

// ---------------------------------------------------------------- of a mount

// As a shell's user writes one. A source has a colon before its first slash.
bool is_local_path(const std::string& text) {
    return text.find(':') == std::string::npos || text.starts_with('/') || text.starts_with("./");
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

Sample sample_of(const MountStatus& status) {
    std::string_view members = status.json;
    members.remove_prefix(std::min<std::size_t>(1, members.size()));
    if (members.ends_with('}'))
        members.remove_suffix(1);
    return {.observed = Observed::mount,
            .counters = counters_of_mount(status.json),
            .json_members = fmt::format("\"kind\": \"mount\", \"mountpoint\": {}, {}",
                                        json_text(status.mountpoint.string()), members),
            .text = plain_text_of_mount(status.json)};
}

// Ctrl-C, as a descriptor, while the object lives.
class Interruption {
public:
    Interruption() {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGINT);
        ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
        fd_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    }

    // False once it has come.
    bool pause(Duration time) const {
        pollfd event{.fd = fd_.get(), .events = POLLIN, .revents = 0};
        const auto pause = std::chrono::duration_cast<std::chrono::milliseconds>(time);
        return ::poll(&event, 1, static_cast<int>(pause.count())) == 0;
    }

private:
    UniqueFd fd_;
};

ExitStatus show_mount_status(const Options& options) {
    std::optional<Interruption> interruption;
    if (options.watch)
        interruption.emplace();
    Output output(options);
    while (true) {
        const auto status = read_mount_status(options.connect.source, mount_patience);
        if (!status)
            return complain(status.error());
        if (!output.write(sample_of(*status)) || !interruption || !interruption->pause(*options.watch))
            return ExitStatus::success;
    }
}

// Seconds, with a fraction if need be.
Duration parse_pause(const std::string& text) {
    constexpr double least_s = 0.1;
    constexpr double most_s = 86'400;
    double seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    // Also refuses what is no number.
    if (error != std::errc() || end != text.data() + text.size() || !(seconds >= least_s && seconds <= most_s))
        throw CLI::ValidationError("expected seconds, from 0.1 to 86400");
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
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
    const auto pause = std::make_shared<std::string>();  // that the parser needs to write to
    app.add_flag("--watch{2}", *pause, "Show it again and again, with what happens a second, until Ctrl-C (2)")
        ->type_name("SECONDS")
        ->each([options, pause](const std::string& text) { options->watch = parse_pause(text); });
    return [options] {
        if (is_local_path(options->connect.source))
            return show_mount_status(*options);
        const auto work = [options](client::Session& session, transport::Reactor& reactor) {
            return show_status(session, reactor, *options);
        };
        return with_session(options->connect, work, options->watch ? OnInterrupt::succeed : OnInterrupt::die);
    };
}

}  // namespace remofile::cli
