// SPDX-License-Identifier: MIT
// remofile trust: learns a server's key from the server itself, and writes it down once a person has agreed to it.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.hpp"
#include "cli/command.hpp"
#include "client/hosts_file.hpp"
#include "transport/context.hpp"
#include "transport/endpoint_address.hpp"
#include "transport/key_inquiry.hpp"
#include "transport/keys.hpp"
#include "transport/lane.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {
namespace {

constexpr Duration patience = std::chrono::seconds(5);

struct Options {
    std::string host;
    bool yes = false;
    bool replace = false;
};

// A host as a SOURCE has it; a whole SOURCE is as good.
Result<transport::Source> understand(const std::string& host) {
    const bool is_source = host.find('/') != std::string::npos;
    REMOFILE_TRY(named, client::look_up(is_source ? host : host + ":/"));
    REMOFILE_TRY(source, transport::parse_source(named.source));
    if (source.host_and_port.empty())
        return make_error(Status::bad_usage, "the server of a socket of this machine cannot be asked for its key");
    return source;
}

// Whether the server at the endpoint holds the secret key of that public one, which it proves by the handshake of each
// connection. The error that ended it if it has, but does not let this client in.
Result<std::optional<Error>> have_it_proved(const std::string& endpoint, const transport::PublicKey& server_key,
                                            const transport::KeyPair& identity) {
    transport::Context context;
    transport::Reactor reactor;
    std::optional<Error> ended;
    transport::Lane lane(context, reactor,
                         {.endpoint = endpoint, .identity = identity, .server_key = server_key, .ticket = {}},
                         {.on_connected = [&] { reactor.stop(); },
                          .on_message = [](wire::Message) {},
                          .on_disconnected =
                              [&](Error error) {
                                  ended = std::move(error);
                                  reactor.stop();
                              }});
    lane.connect();
    reactor.run();
    if (ended && ended->status != Status::not_authorized)
        return *ended;
    return ended;
}

std::string to_text(std::span<const transport::PublicKey> keys) {
    std::string text;
    for (const transport::PublicKey& key : keys)
        text += (text.empty() ? "" : " or ") + key.to_text();
    return text;
}

// A server that is to change its key is known by several.
void say_known(const transport::Source& source, std::vector<transport::PublicKey> known,
               const transport::PublicKey& told) {
    std::string text = fmt::format("{} has the key that is known: {}\n", source.host_and_port, told.to_text());
    std::erase(known, told);
    if (!known.empty())
        text += fmt::format("it is known to change its key, from or to {}\n", to_text(known));
    std::fputs(text.c_str(), stdout);
}

void warn_of_other_key(const transport::Source& source, const std::string& file,
                       std::span<const transport::PublicKey> known, const transport::PublicKey& told) {
    const std::string text = fmt::format(
        "remofile: WARNING: {0} NOW HAS ANOTHER KEY\n"
        "    known: {1}    ({2})\n"
        "    now:   {3}\n"
        "Either the server was given a new key, or somebody answers in its place, and would see and change all that\n"
        "goes there. Ask whoever runs the server. Only if the new key is right: remofile trust --replace {0}\n",
        source.host_and_port, to_text(known), log::printable(file), told.to_text());
    std::fputs(text.c_str(), stderr);
}

// What a person types.
bool is_yes(std::string_view answer) {
    while (!answer.empty() && (answer.back() == '\n' || answer.back() == '\r' || answer.back() == ' '))
        answer.remove_suffix(1);
    return answer == "y" || answer == "Y" || answer == "yes";
}

Result<> ask_person(const Options& options) {
    if (options.yes)
        return {};
    if (::isatty(STDIN_FILENO) == 0)
        return make_error(Status::bad_usage,
                          "standard input is no terminal, so nobody can be asked: pass --yes if that key is right; "
                          "nothing was written");
    std::fflush(stdout);
    std::fputs("It must be the key that remofile-server shows when it starts. Trust it? [y/N] ", stderr);
    std::array<char, 16> answer{};
    if (std::fgets(answer.data(), answer.size(), stdin) == nullptr || !is_yes(answer.data()))
        return make_error(Status::cancelled, "not trusted; nothing was written");
    return {};
}

// That of a line which cannot be understood, too, if it is to be replaced.
Result<std::vector<transport::PublicKey>> find_known(const std::filesystem::path& file, const transport::Source& source,
                                                     const Options& options) {
    auto known = transport::find_known_server(file, source.host_and_port);
    if (!known && known.error().status == Status::invalid && options.replace)
        return std::vector<transport::PublicKey>();
    return known;
}

Result<> trust(const Options& options) {
    REMOFILE_TRY(source, understand(options.host));
    REMOFILE_TRY(directory, transport::config_directory());
    const std::filesystem::path file = directory / "known_servers";
    REMOFILE_TRY(known, find_known(file, source, options));
    REMOFILE_TRY(told, transport::ask_for_key(source.host_and_port, patience));
    if (std::ranges::find(known, told) != known.end()) {
        say_known(source, std::move(known), told);
        return {};
    }
    if (!known.empty() && !options.replace) {
        warn_of_other_key(source, file, known, told);
        return make_error(Status::wrong_server_key, "nothing was written");
    }
    REMOFILE_TRY(identity, transport::load_or_create_key_pair(directory / "identity.key"));
    REMOFILE_TRY(refused, have_it_proved(source.endpoint, told, identity));
    const std::string shown = fmt::format("{} has the key {}\n", source.host_and_port, told.to_text());
    std::fputs(shown.c_str(), stdout);
    REMOFILE_CHECK(ask_person(options));
    REMOFILE_CHECK(transport::write_known_server(file, source.host_and_port, {&told, 1}));
    const std::string done = fmt::format("trusted: written to {}\n", log::printable(file.native()));
    std::fputs(done.c_str(), stdout);
    if (refused)
        std::fprintf(stderr, "remofile: %s\n", log::printable(refused->to_string()).c_str());
    return {};
}

}  // namespace

std::function<ExitStatus()> prepare_trust(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    app.add_option("HOST", options->host, "HOST[:PORT] of a server, or a SOURCE")->required();
    app.add_flag("--yes", options->yes, "Do not ask: the key has been compared, or is taken as it comes");
    app.add_flag("--replace", options->replace, "Let the key take the place of another one that is known");
    return [options] {
        const Result<> outcome = trust(*options);
        return outcome ? ExitStatus::success
                       : complain(outcome.error(), client::exit_status_of_setup(outcome.status()));
    };
}

}  // namespace remofile::cli
