// SPDX-License-Identifier: MIT
#include "server/program/server_options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>

#include "base/byte_size.hpp"
#include "base/toml_text.hpp"
#include "server/program/version.hpp"
#include "transport/keys.hpp"
#include "wire/export_path.hpp"

namespace remofile::server {
namespace {

Result<> take_path(std::string& into, std::string_view value, const std::filesystem::path& directory) {
    if (value.empty())
        return make_error(Status::bad_usage, "needs the name of a file");
    if (!value.starts_with('/') && directory.empty())
        return make_error(Status::bad_usage, "the working directory is gone");
    into = (directory / value).lexically_normal();
    return {};
}

Result<std::uint32_t> parse_number(std::string_view value, std::uint32_t least, std::uint32_t most) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < least || number > most)
        return make_error(Status::bad_usage, fmt::format("\"{}\" is not a number from {} to {}", value, least, most));
    return number;
}

// The value as one of a row of words.
template <class T, std::size_t N>
Result<> take_word(T& into, std::string_view value, const std::array<std::pair<std::string_view, T>, N>& words) {
    for (const auto& [word, meaning] : words) {
        if (word == value) {
            into = meaning;
            return {};
        }
    }
    std::string all;
    for (const auto& [word, meaning] : words)
        all += (all.empty() ? "" : ", ") + std::string(word);
    return make_error(Status::bad_usage, fmt::format("\"{}\" is none of: {}", value, all));
}

constexpr std::array<std::pair<std::string_view, IdentityMode>, 2> identity_words{
    {{"squash", IdentityMode::squash}, {"client", IdentityMode::client}}};
constexpr std::array<std::pair<std::string_view, bool>, 2> auto_words{{{"auto", true}, {"none", false}}};
constexpr std::array<std::pair<std::string_view, Sandbox>, 3> sandbox_words{
    {{"auto", Sandbox::automatic}, {"on", Sandbox::on}, {"none", Sandbox::none}}};
constexpr std::array<std::pair<std::string_view, log::Level>, 4> level_words{{{"debug", log::Level::debug},
                                                                              {"info", log::Level::info},
                                                                              {"warn", log::Level::warn},
                                                                              {"error", log::Level::error}}};

constexpr std::array<std::pair<std::string_view, log::Format>, 3> format_words{
    {{"text", log::Format::text}, {"json", log::Format::json}, {"journald", log::Format::journald}}};

// A session shorter than this would end over one lost packet; one longer than a day is as good as never.
constexpr std::uint32_t min_session_timeout_s = 3;
constexpr std::uint32_t max_session_timeout_s = 86'400;
// A client that dies keeps those waiting that change what it knows.
constexpr std::uint32_t max_lease_term_s = 300;
constexpr std::uint32_t max_slow_requests_s = 3'600;
constexpr std::uint32_t most_clients = 4096;
constexpr std::uint32_t most_strangers = 10'000;
constexpr std::uint32_t most_requests_per_second = 1'000'000;
// With less a request of 1 MiB, which takes all of its client's turn, would be waited for longer than clients do.
constexpr std::uint64_t least_bytes_per_second = 64U << 10;

// A number may be written as one in the file; a path is made absolute before it is taken.
enum class Kind : std::uint8_t { flag, value, path, number, list };

// Whether an export may say it of itself.
enum class Of : std::uint8_t { server, each_export };

// A row of the table of options. `take` is called once for each value; flags get "true" or "false".
struct Row {
    std::string_view name;
    Of of;
    Kind kind;
    std::string_view placeholder;
    std::string_view help;
    Result<> (*take)(ServerOptions& options, std::string_view value);
};

template <auto member>
Result<> take_flag(ServerOptions& options, std::string_view value) {
    options.*member = value == "true";
    return {};
}
template <auto member>
Result<> take_text(ServerOptions& options, std::string_view value) {
    options.*member = value;
    return {};
}
template <auto member>
Result<> take_clients(ServerOptions& options, std::string_view value) {
    REMOFILE_TRY(number, parse_number(value, 1, most_clients));
    options.*member = number;
    return {};
}

const std::array<Row, 30> rows{{
    {"listen", Of::server, Kind::list, "ENDPOINT",
     "Where to listen: tcp://ADDRESS:PORT, tcp://*:PORT or ipc:///SOCKET; may be repeated "
     "(default tcp://127.0.0.1:6768)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         options.listen.emplace_back(value);
         return {};
     }},
    {"data-port", Of::server, Kind::number, "PORT",
     "Also listen on this TCP port, where contents travel faster, encrypted too (default: the port after that of "
     "--listen, or another if it is taken; none: everything goes by the first port)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         if (value == "none") {
             options.data_port = 0;
             return {};
         }
         REMOFILE_TRY(number, parse_number(value, 1, UINT16_MAX));
         options.data_port = static_cast<std::uint16_t>(number);
         return {};
     }},
    {"read-only", Of::each_export, Kind::flag, "", "Refuse every change", take_flag<&ServerOptions::read_only>},
    {"exclusive", Of::each_export, Kind::flag, "", "Serve one client at a time; others are told who it is",
     take_flag<&ServerOptions::exclusive>},
    {"no-lent-inodes", Of::each_export, Kind::flag, "",
     "Make no files beforehand, for which DIRECTORY gets a hidden directory",
     take_flag<&ServerOptions::no_lent_inodes>},
    {"no-kept-files", Of::each_export, Kind::flag, "",
     "Keep no removed files that are open for the next server, for which DIRECTORY gets a hidden directory",
     take_flag<&ServerOptions::no_kept_files>},
    {"token-file", Of::each_export, Kind::path, "FILE", "Ask every client for the token in FILE, besides its key",
     take_text<&ServerOptions::token_file>},
    {"authorized-keys", Of::each_export, Kind::path, "FILE",
     "Public keys of the clients to let in (default authorized_keys in the configuration directory)",
     take_text<&ServerOptions::authorized_keys>},
    {"server-key", Of::server, Kind::path, "FILE",
     "The server's secret key (default server.key in the configuration directory, made on first use)",
     take_text<&ServerOptions::server_key>},
    {"next-server-key", Of::server, Kind::path, "FILE",
     "The secret key that the server is to have next: clients that connect are told its public key, and go on when the "
     "server is started again with it as its key",
     take_text<&ServerOptions::next_server_key>},
    {"insecure", Of::server, Kind::flag, "", "Neither encrypt nor authorise: let in whoever can connect",
     take_flag<&ServerOptions::insecure>},
    {"identity", Of::each_export, Kind::value, "squash|client",
     "Whom requests act as: this server's user (squash, the default), or the client's users (client; needs root)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         return take_word(options.identity, value, identity_words);
     }},
    {"allow-root", Of::each_export, Kind::flag, "", "With --identity=client: let a client's root act as root here",
     take_flag<&ServerOptions::allow_root>},
    {"session-timeout", Of::each_export, Kind::number, "SECONDS",
     "End the session of a client that is silent for so long (default 30)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(number, parse_number(value, min_session_timeout_s, max_session_timeout_s));
         options.session_timeout = std::chrono::seconds(number);
         return {};
     }},
    {"lease-term", Of::each_export, Kind::number, "SECONDS",
     "Let clients answer from memory for so long after they last spoke, while they are told of changes (default 10, at "
     "most --session-timeout; 0: not at all)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(number, parse_number(value, 0, max_lease_term_s));
         options.lease_term = std::chrono::seconds(number);
         return {};
     }},
    {"watch", Of::each_export, Kind::value, "auto|none",
     "Notice what programs on this machine change, so that clients can go on answering from memory: where it can be "
     "done (auto, the default), or not (none: clients ask again after a second)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         return take_word(options.watch, value, auto_words);
     }},
    {"congestion-control", Of::server, Kind::value, "NAME",
     "What TCP sends with: one of the kernel's congestion controls, system (what the system uses), or auto (the "
     "default: bbr on links with a longer round trip, where the system uses cubic or reno and allows it)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(control, transport::CongestionControl::parse(value));
         options.congestion_control = std::move(control);
         return {};
     }},
    {"max-clients", Of::each_export, Kind::number, "NUMBER", "Sessions at a time (default 256)",
     take_clients<&ServerOptions::max_clients>},
    {"max-clients-per-key", Of::each_export, Kind::number, "NUMBER",
     "Sessions at a time of one key, or of one address with --insecure (default 64)",
     take_clients<&ServerOptions::max_clients_per_key>},
    {"requests-per-second", Of::each_export, Kind::number, "NUMBER",
     "Requests of one client, those of one key (or address, with --insecure), that are carried out a second; more wait "
     "for their turn (default: any number)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(number, parse_number(value, 1, most_requests_per_second));
         options.requests_per_second = number;
         return {};
     }},
    {"bytes-per-second", Of::each_export, Kind::number, "SIZE",
     "Contents that one client reads and writes a second, such as 5M; more waits for its turn (default: any number, at "
     "least 64K)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(size, parse_byte_size(value));
         if (size < least_bytes_per_second)
             return make_error(Status::bad_usage, "must be 64K at least");
         options.bytes_per_second = size;
         return {};
     }},
    {"strangers-per-second", Of::server, Kind::number, "NUMBER",
     "Connections of one host with keys that are not authorised that are answered a second, and five times as many at "
     "once (default 20)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(number, parse_number(value, 1, most_strangers));
         options.strangers_per_second = number;
         return {};
     }},
    {"tell-key", Of::server, Kind::value, "auto|none",
     "Tell whoever asks (remofile trust) this server's public key, by UDP at the ports of --listen (auto, the "
     "default), "
     "or not (none)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         return take_word(options.tell_key, value, auto_words);
     }},
    {"daemon", Of::server, Kind::flag, "", "Return once the server listens, and go on in the background; log to syslog",
     take_flag<&ServerOptions::daemon>},
    {"pid-file", Of::server, Kind::path, "FILE",
     "Write the process id to FILE; refuse to start if its server still runs", take_text<&ServerOptions::pid_file>},
    {"sandbox", Of::server, Kind::value, "auto|on|none",
     "Keep the server from all files of this machine that it does not need: where the kernel can (Landlock) and there "
     "is one export, without a name (auto, the default), always (on), or not (none)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         return take_word(options.sandbox, value, sandbox_words);
     }},
    {"metrics", Of::server, Kind::number, "ADDRESS:PORT",
     "Offer metrics for Prometheus at http://ADDRESS:PORT/metrics, to whoever can connect; PORT alone is of this "
     "machine's loopback interface (default: none)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(address, transport::parse_metrics_address(value));
         options.metrics = std::move(address);
         return {};
     }},
    {"slow-requests", Of::server, Kind::number, "SECONDS",
     "Log each request that takes so long, and where (default 10; 0: none)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         REMOFILE_TRY(number, parse_number(value, 0, max_slow_requests_s));
         options.slow_requests = std::chrono::seconds(number);
         return {};
     }},
    {"log-level", Of::server, Kind::value, "LEVEL", "debug, info (the default), warn or error",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         return take_word(options.log_level, value, level_words);
     }},
    {"log-format", Of::server, Kind::value, "text|json|journald",
     "How a line of the log looks (default text; journald where standard error is the journal)",
     [](ServerOptions& options, std::string_view value) -> Result<> {
         return take_word(options.log_format, value, format_words);
     }},
}};

constexpr std::string_view description =
    "Serves DIRECTORY to remofs and remofile clients, encrypted, on TCP port 6768 of this machine's loopback\n"
    "interface unless --listen says otherwise. A file that --config names may have several directories, as exports\n"
    "with names; without DIRECTORY and --config it is server.toml in the configuration directory, if it is there.\n"
    "\n"
    "remofile-server check-config [FILE] says what is wrong with such a file, or shows its exports.";

constexpr std::string_view footer =
    "\nThe client of the same account on the same machine needs no set-up. For others: listen beyond loopback\n"
    "(--listen tcp://*:6768), put each client's identity.pub on a line of authorized_keys, and use the line that the\n"
    "server prints on the client. SIGTERM stops the server, SIGHUP reads the configuration again, SIGUSR1 logs its\n"
    "counters.\n"
    "Exit status: 0 after a clean stop, 1 if it cannot start or fails, 2 for a wrong option or configuration, 3 if\n"
    "requests could not be finished when it stopped. See remofile-server(8).";

// What was said for each option, wherever it was said.
struct Said {
    std::vector<std::string> values;
    std::string where;  // leads an error
};
using SaidByName = std::map<std::string, Said, std::less<>>;

std::optional<std::string> scalar_text(const toml::node& node, Kind kind) {
    if (const auto text = node.value_exact<std::string>())
        return *text;
    if (const auto number = node.value_exact<std::int64_t>(); number && kind == Kind::number)
        return std::to_string(*number);
    return std::nullopt;
}

// What else it must be.
Error wrong_type(Kind kind) {
    switch (kind) {
        case Kind::flag:
            return make_error(Status::bad_usage, "must be true or false");
        case Kind::number:
            return make_error(Status::bad_usage, "must be a text or a number");
        case Kind::list:
            return make_error(Status::bad_usage, "must be a text or a list of texts");
        case Kind::value:
        case Kind::path:
            break;
    }
    return make_error(Status::bad_usage, "must be a text");
}

Result<std::vector<std::string>> config_values(const Row* row, const toml::node& node) {
    const Kind kind = row == nullptr ? Kind::value : row->kind;
    std::vector<std::string> values;
    if (kind == Kind::flag) {
        const auto flag = node.value_exact<bool>();
        if (!flag)
            return wrong_type(kind);
        values.emplace_back(*flag ? "true" : "false");
    } else if (const toml::array* list = node.as_array(); list != nullptr && kind == Kind::list) {
        for (const toml::node& element : *list) {
            auto text = scalar_text(element, kind);
            if (!text)
                return wrong_type(kind);
            values.push_back(std::move(*text));
        }
    } else {
        auto text = scalar_text(node, kind);
        if (!text)
            return wrong_type(kind);
        values.push_back(std::move(*text));
    }
    return values;
}

const Row* find_row(std::string_view name) {
    const auto* found = std::ranges::find(rows, name, &Row::name);
    return found == rows.end() ? nullptr : found;
}

// What a file says.
struct Config {
    SaidByName of_all;
    struct Export {
        std::string where;
        SaidByName said;
    };
    std::map<std::string, Export, std::less<>> exports;
};

Result<> read_option(const std::string& file, const toml::key& key, const toml::node& node, bool of_export,
                     SaidByName& said) {
    const Row* row = find_row(key.str());
    if (row == nullptr && key.str() != "directory")
        return toml_error(file, key.source(), fmt::format("unknown option \"{}\"", log::printable(key.str())));
    if (of_export && row != nullptr && row->of == Of::server)
        return toml_error(file, key.source(), fmt::format("{} is of the whole server, not of an export", key.str()));
    auto values = config_values(row, node);
    if (!values)
        return toml_error(file, key.source(), fmt::format("{} {}", key.str(), values.error().to_string()));
    said.insert_or_assign(std::string(key.str()),
                          Said{std::move(*values), fmt::format("{}:{}: {}", file, key.source().begin.line, key.str())});
    return {};
}

Result<> read_export(const std::string& file, const toml::key& key, const toml::node& node, Config& config) {
    constexpr std::size_t most_shown_bytes = 2 * wire::max_export_name_bytes;
    const std::string_view name = key.str();
    const std::string shown = log::printable(name.substr(0, most_shown_bytes));
    if (!wire::is_export_name(name))
        return toml_error(file, key.source(),
                          fmt::format("\"{}\" is no name for an export: 1 to {} letters, digits, '.', '_' and '-', the "
                                      "first one a letter or digit",
                                      shown, wire::max_export_name_bytes));
    const toml::table* table = node.as_table();
    if (table == nullptr)
        return toml_error(file, key.source(), fmt::format("{} must be a table: [export.{}]", shown, shown));
    if (config.exports.size() == wire::max_exports)
        return toml_error(file, key.source(), fmt::format("there may be {} exports", wire::max_exports));
    Config::Export& read =
        config.exports
            .emplace(name, Config::Export{fmt::format("{}:{}: export {}", file, key.source().begin.line, name), {}})
            .first->second;
    for (const auto& [option, value] : *table)
        REMOFILE_CHECK(read_option(file, option, value, true, read.said));
    if (!read.said.contains("directory"))
        return make_error(Status::bad_usage, fmt::format("{}: no directory is given", read.where));
    return {};
}

Result<Config> read_config(const std::string& file) {
    // toml++ takes a directory for an empty file.
    std::error_code ignored;
    if (std::filesystem::is_directory(file, ignored))
        return make_error(Status::bad_usage, fmt::format("the configuration file {} is a directory", file));
    toml::table table;
    try {
        table = toml::parse_file(file);
    } catch (const toml::parse_error& error) {
        // Without a line it was the file that could not be read.
        if (error.source().begin.line == 0)
            return make_error(Status::bad_usage, fmt::format("cannot read the configuration file {}", file));
        return toml_error(file, error.source(), error.description());
    }
    Config config;
    for (const auto& [key, node] : table) {
        if (key.str() != "export") {
            REMOFILE_CHECK(read_option(file, key, node, false, config.of_all));
            continue;
        }
        const toml::table* exports = node.as_table();
        if (exports == nullptr || exports->empty())
            return toml_error(file, key.source(), "exports are tables with names: [export.NAME]");
        for (const auto& [name, settings] : *exports)
            REMOFILE_CHECK(read_export(file, name, settings, config));
    }
    return config;
}

// What is said, and in place of it what is said over it.
SaidByName said_over(SaidByName said, const SaidByName& over) {
    for (const auto& [name, what] : over)
        said.insert_or_assign(name, what);
    return said;
}

Result<> take_all(const SaidByName& said, const std::filesystem::path& directory, ServerOptions& options) {
    for (const auto& [name, what] : said) {
        for (const std::string& value : what.values) {
            const Row* row = find_row(name);
            std::string path;
            Result<> taken;
            if (row == nullptr || row->kind == Kind::path)
                taken = take_path(path, value, directory);
            if (taken && row == nullptr)
                options.directory = path;
            else if (taken)
                taken = row->take(options, row->kind == Kind::path ? path : value);
            if (!taken)
                return make_error(Status::bad_usage, fmt::format("{}: {}", what.where, taken.error().to_string()));
        }
    }
    return {};
}

Result<> check_export(const ExportSettings& settings, bool insecure) {
    const auto wrong = [&](std::string_view what) {
        return make_error(Status::bad_usage, fmt::format("{}: {}", settings.where, what));
    };
    if (settings.allow_root && settings.identity != IdentityMode::client)
        return wrong("allow-root means nothing without identity = \"client\"");
    if (insecure && !settings.authorized_keys.empty())
        return wrong("authorized-keys means nothing to an insecure server");
    return {};
}

// The command line comes last, and an export's own table after what the file says of all.
Result<ServerOptions> apply(const Config& config, const SaidByName& command_line,
                            const std::filesystem::path& directory) {
    ServerOptions options;
    REMOFILE_CHECK(take_all(said_over(config.of_all, command_line), directory, options));
    if (options.listen.empty())
        options.listen.emplace_back("tcp://127.0.0.1:6768");
    if (config.exports.empty()) {
        if (options.directory.empty())
            return make_error(Status::bad_usage, "no directory to serve was given; try: remofile-server --help");
        if (options.allow_root && options.identity != IdentityMode::client)
            return make_error(Status::bad_usage, "--allow-root means nothing without --identity=client");
        options.exports.push_back(options);
        return options;
    }
    for (const SaidByName* said : {&command_line, &config.of_all}) {
        if (const auto found = said->find("directory"); found != said->end())
            return make_error(Status::bad_usage,
                              fmt::format("{}: there are exports with names, which have directories of their own",
                                          found->second.where));
    }
    SaidByName over_exports = command_line;
    std::erase_if(over_exports, [](const auto& said) { return find_row(said.first)->of == Of::server; });
    for (const auto& [name, own] : config.exports) {
        ServerOptions taken = options;
        REMOFILE_CHECK(take_all(said_over(own.said, over_exports), directory, taken));
        taken.name = name;
        taken.where = own.where;
        REMOFILE_CHECK(check_export(taken, options.insecure));
        options.exports.push_back(taken);
    }
    return options;
}

// If it is there.
std::string usual_config_file() {
    const auto directory = transport::config_directory();
    std::error_code ignored;
    if (!directory || !std::filesystem::exists(*directory / "server.toml", ignored))
        return {};
    return *directory / "server.toml";
}

// CLI11 would take "--insecure=false" for what turns it on, or off again.
Result<> refuse_values_of_flags(const std::vector<std::string>& arguments) {
    for (const std::string& argument : arguments) {
        if (argument == "--")
            break;
        const std::size_t equals = argument.find('=');
        if (equals == std::string::npos || !argument.starts_with("--"))
            continue;
        const std::string name = argument.substr(0, equals);
        const Row* row = find_row(std::string_view(name).substr(2));
        if (name == "--help" || name == "--version" || (row != nullptr && row->kind == Kind::flag))
            return make_error(Status::bad_usage, fmt::format("{} takes no value; try: remofile-server --help", name));
    }
    return {};
}

}  // namespace

bool ServerOptions::is_same_process(const ServerOptions& other) const {
    const auto text = [](const std::optional<transport::MetricsAddress>& address) {
        return address ? fmt::format("{}:{}", address->host, address->port) : std::string();
    };
    return listen == other.listen && data_port == other.data_port && server_key == other.server_key &&
           next_server_key == other.next_server_key && insecure == other.insecure &&
           congestion_control == other.congestion_control && strangers_per_second == other.strangers_per_second &&
           slow_requests == other.slow_requests && tell_key == other.tell_key && daemon == other.daemon &&
           pid_file == other.pid_file && sandbox == other.sandbox && text(metrics) == text(other.metrics) &&
           log_level == other.log_level && log_format == other.log_format;
}

std::filesystem::path working_directory() {
    std::error_code gone;
    return std::filesystem::current_path(gone);
}

Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments,
                                       const std::filesystem::path& working_directory) {
    REMOFILE_CHECK(refuse_values_of_flags(arguments));
    CLI::App app{std::string(description), "remofile-server"};
    app.footer(std::string(footer));
    app.set_version_flag("--version", fmt::format("remofile-server {}", version));
    std::string directory;
    std::string config;
    app.add_option("DIRECTORY", directory, "The directory to serve");
    app.add_option("--config", config, "Read options from a TOML file; the command line wins")->type_name("FILE");
    std::map<std::string_view, std::string> texts;
    std::map<std::string_view, std::vector<std::string>> lists;
    for (const Row& row : rows) {
        const std::string name = "--" + std::string(row.name);
        if (row.kind == Kind::flag) {
            app.add_flag(name)->description(std::string(row.help));
        } else if (row.kind != Kind::list) {
            app.add_option(name, texts[row.name], std::string(row.help))
                ->type_name(std::string(row.placeholder))
                ->take_last();
        } else {
            app.add_option(name, lists[row.name], std::string(row.help))
                ->type_name(std::string(row.placeholder))
                ->allow_extra_args(false);  // one value each time it is given
        }
    }

    try {
        std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
        app.parse(reversed);
    } catch (const CLI::CallForHelp&) {
        return CommandLine{.options = {}, .text = app.help()};
    } catch (const CLI::CallForVersion&) {
        return CommandLine{.options = {}, .text = app.version() + "\n"};
    } catch (const CLI::ParseError& error) {
        return make_error(Status::bad_usage, fmt::format("{}; try: remofile-server --help", error.what()));
    }

    SaidByName said;
    if (!directory.empty())
        said.insert_or_assign("directory", Said{{directory}, "DIRECTORY"});
    for (const Row& row : rows) {
        const std::string name = "--" + std::string(row.name);
        if (app[name]->count() == 0)
            continue;
        std::vector<std::string> given = lists[row.name];
        if (row.kind != Kind::list)
            given.push_back(row.kind == Kind::flag ? "true" : texts[row.name]);
        said.insert_or_assign(std::string(row.name), Said{std::move(given), name});
    }
    Config from_file;
    if (config.empty() && directory.empty())
        config = usual_config_file();
    if (!config.empty()) {
        REMOFILE_CHECK(take_path(config, std::string(config), working_directory));
        REMOFILE_TRY(read, read_config(config));
        from_file = std::move(read);
    }
    REMOFILE_TRY(options, apply(from_file, said, working_directory));
    options.config_file = std::move(config);
    return CommandLine{.options = std::move(options), .text = {}};
}

}  // namespace remofile::server
