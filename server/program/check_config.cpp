// SPDX-License-Identifier: MIT
#include "server/program/check_config.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "base/log.hpp"
#include "server/program/server_options.hpp"
#include "server/program/server_security.hpp"
#include "transport/endpoint_address.hpp"
#include "transport/keys.hpp"

namespace remofile::server {
namespace {

class Check {
public:
    explicit Check(const ServerOptions& options) : options_(options) {}

    ConfigCheck run() && {
        check_server();
        for (const ExportSettings& settings : options_.exports)
            check_export(settings);
        if (result_.problems.empty())
            note(find_directories(options_.exports, {}));
        if (result_.problems.empty())
            describe_all();
        return std::move(result_);
    }

private:
    template <class T>
    void note(const Result<T>& outcome) {
        if (!outcome)
            result_.problems.push_back(outcome.error().to_string());
    }

    void check_server() {
        for (const std::string& endpoint : options_.listen)
            note(transport::parse_listen_endpoint(endpoint));
        for (const std::string& file : {options_.server_key, options_.next_server_key}) {
            if (!file.empty())
                note(transport::load_key_pair(file));
        }
    }

    void check_export(const ExportSettings& settings) {
        note(check_identity(settings));
        note(token_of(settings));
        if (settings.name.empty())
            note(ServedDirectory::find(settings.directory));
        if (!options_.insecure)
            check_keys(file_of_keys(settings));
    }

    std::string file_of_keys(const ExportSettings& settings) const {
        if (!settings.authorized_keys.empty())
            return settings.authorized_keys;
        const auto directory = transport::config_directory();
        return directory ? (*directory / "authorized_keys").string() : std::string();
    }

    // Each file once. It need not be there yet.
    void check_keys(const std::string& file) {
        if (keys_.contains(file))
            return;
        auto& known = keys_[file];
        const auto lines = transport::read_authorized_keys(file);
        if (!lines) {
            if (lines.status() != Status::no_entry)
                note(lines);
            return;
        }
        known = lines->keys;
        for (const std::string& problem : lines->problems)
            result_.problems.push_back(file + ", " + problem);
        for (const transport::AuthorizedKey& key : lines->keys) {
            for (const std::string& name : key.exports) {
                if (std::ranges::find(options_.exports, name, &ExportSettings::name) == options_.exports.end())
                    result_.problems.push_back(fmt::format("{}, line {}: there is no export {}", file, key.line, name));
            }
        }
    }

    void describe_all() {
        for (const std::string& endpoint : options_.listen)
            result_.text += fmt::format("listen: {}\n", endpoint);
        for (const ExportSettings& settings : options_.exports)
            describe(settings);
    }

    void describe(const ExportSettings& settings) {
        std::string& text = result_.text;
        text += settings.name.empty() ? "\nexport without a name\n" : fmt::format("\nexport {}\n", settings.name);
        const auto add = [&](std::string_view name, const auto& value) {
            text += fmt::format("    {:<20} {}\n", name, value);
        };
        add("directory", log::printable(settings.directory));
        add("read-only", settings.read_only);
        add("exclusive", settings.exclusive);
        add("no-lent-inodes", settings.no_lent_inodes);
        add("no-kept-files", settings.no_kept_files);
        add("token-file", settings.token_file.empty() ? "none" : log::printable(settings.token_file));
        add("authorized-keys",
            options_.insecure ? std::string("none: whoever can connect is let in") : describe_keys(settings));
        add("identity", settings.identity == IdentityMode::client ? "client" : "squash");
        add("allow-root", settings.allow_root);
        add("session-timeout", settings.session_timeout.count());
        add("lease-term", settings.lease_term.count());
        add("watch", settings.watch ? "auto" : "none");
        add("max-clients", settings.max_clients);
        add("max-clients-per-key", settings.max_clients_per_key);
        const auto add_rate = [&](std::string_view name, std::uint64_t rate) {
            add(name, rate == 0 ? std::string("any") : std::to_string(rate));
        };
        add_rate("requests-per-second", settings.requests_per_second);
        add_rate("bytes-per-second", settings.bytes_per_second);
    }

    std::string describe_keys(const ExportSettings& settings) {
        const std::string file = file_of_keys(settings);
        const auto allowed = std::ranges::count_if(
            keys_[file], [&](const transport::AuthorizedKey& key) { return key.may_use(settings.name); });
        return fmt::format("{}: {} {}", log::printable(file), allowed, allowed == 1 ? "key" : "keys");
    }

    const ServerOptions& options_;
    std::map<std::string, std::vector<transport::AuthorizedKey>> keys_;
    ConfigCheck result_;
};

}  // namespace

ConfigCheck check_config(const std::string& file) {
    std::vector<std::string> arguments;
    if (!file.empty())
        arguments = {"--config", file};
    const auto parsed = parse_command_line(arguments);
    if (!parsed)
        return {.problems = {parsed.error().to_string()}, .text = {}};
    return Check(*parsed->options).run();
}

}  // namespace remofile::server
