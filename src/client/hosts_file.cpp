// SPDX-License-Identifier: MIT
#include "client/hosts_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <optional>
#include <utility>

#include "base/log.hpp"
#include "base/toml_text.hpp"
#include "base/unique_fd.hpp"
#include "transport/endpoint_address.hpp"
#include "transport/home_directory.hpp"
#include "transport/keys.hpp"
#include "transport/text_file.hpp"
#include "wire/export_path.hpp"

namespace remofile::client {
namespace {

constexpr std::string_view file_name = "hosts.toml";
constexpr std::string_view directory_of_all = "/etc/remofile";
// Some thousand hosts; the file is read at each start.
constexpr std::size_t max_file_bytes = 1U << 20;

// Where a value is written.
struct Place {
    const std::string& file;
    const toml::key& key;

    Error error(std::string_view what) const { return toml_error(file, key.source(), what); }
};

// "~/" is the account's home, and what does not begin at the root begins where the file is.
Result<std::string> as_path(const Place& place, const std::string& text) {
    if (text.starts_with("~/")) {
        REMOFILE_TRY(home, transport::home_directory());
        return (home / text.substr(2)).native();
    }
    return (std::filesystem::path(place.file).parent_path() / text).native();
}

Result<> set_address(HostSettings& host, const Place& place, std::string text) {
    if (text.find('/') != std::string::npos || !transport::parse_source(text + ":/"))
        return place.error(fmt::format("address: \"{}\" is not HOST or HOST:PORT", log::printable(text)));
    host.address = std::move(text);
    return {};
}

Result<> set_export(HostSettings& host, const Place& place, std::string text) {
    if (!wire::is_export_name(text))
        return place.error(fmt::format("export: \"{}\" is no name of an export", log::printable(text)));
    host.export_name = std::move(text);
    return {};
}

Result<> set_server_key(HostSettings& host, const Place& place, std::string text) {
    if (transport::PublicKey::from_text(text)) {
        host.server_key = std::move(text);
        return {};
    }
    REMOFILE_TRY(path, as_path(place, text));
    host.server_key = std::move(path);
    return {};
}

template <auto Member>
Result<> set_path(HostSettings& host, const Place& place, std::string text) {
    REMOFILE_TRY(path, as_path(place, text));
    host.*Member = std::move(path);
    return {};
}

Result<> set_options(HostSettings& host, const Place& place, std::string text) {
    host.mount_options = {
        {std::move(text), fmt::format("{}:{}: options: ", place.file, place.key.source().begin.line)}};
    return {};
}

struct Row {
    std::string_view key;
    Result<> (*set)(HostSettings&, const Place&, std::string text);
};
constexpr auto rows = std::to_array<Row>({{"address", set_address},
                                          {"export", set_export},
                                          {"server_key", set_server_key},
                                          {"identity", set_path<&HostSettings::identity>},
                                          {"token_file", set_path<&HostSettings::token_file>},
                                          {"options", set_options}});

Result<HostSettings> read_host(const std::string& file, const toml::table& table) {
    HostSettings host;
    for (const auto& [key, node] : table) {
        const Place place{file, key};
        const auto* row = std::ranges::find(rows, key.str(), &Row::key);
        if (row == rows.end())
            return place.error(fmt::format("unknown key \"{}\"", log::printable(key.str())));
        auto text = node.value_exact<std::string>();
        if (!text || text->empty() || text->find('\0') != std::string::npos)
            return place.error(fmt::format("{} must be a text", key.str()));
        REMOFILE_CHECK(row->set(host, place, std::move(*text)));
    }
    return host;
}

// Where the host of a SOURCE stands in it, and its port with the colon before it.
struct HostInSource {
    std::size_t begin = 0;
    std::string_view host;
    std::string_view port;
    std::size_t end = 0;  // of both
};

// None of what has no name of a host: sockets, IPv6 addresses, and what is no SOURCE.
std::optional<HostInSource> find_host(std::string_view source) {
    constexpr std::string_view url = "remofile://";
    const bool is_url = source.starts_with(url);
    const std::size_t begin = is_url ? url.size() : 0;
    const std::size_t slash = std::min(source.find('/', begin), source.size());
    // "HOST:PORT:/PATH" has a colon more than a URL, and "://" is of another kind of these.
    if (!is_url && (slash == 0 || source.substr(slash - 1, 2) != ":/" || source.substr(slash).starts_with("//")))
        return std::nullopt;
    const std::size_t end = is_url ? slash : slash - 1;
    const std::string_view place = source.substr(begin, end - begin);
    const std::size_t host_bytes = std::min(place.find(':'), place.size());
    if (host_bytes == 0 || place.starts_with('['))
        return std::nullopt;
    return HostInSource{begin, place.substr(0, host_bytes), place.substr(host_bytes), end};
}

// What is written of it in that file; nothing if there is none.
Result<HostSettings> look_into(const std::filesystem::path& file, bool may_be_out_of_reach, std::string_view host) {
    const std::string& name = file.native();
    const UniqueFd fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd && (errno == ENOENT || errno == ENOTDIR || (errno == EACCES && may_be_out_of_reach)))
        return HostSettings{};
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0)
        return errno_error(fmt::format("cannot read {}: {}", name, describe(from_errno(errno))));
    if (!S_ISREG(status.st_mode))
        return make_error(Status::bad_usage, fmt::format("{} is no regular file", name));
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
        return make_error(Status::access_denied, fmt::format("{} is another user's: it must be yours or root's", name));
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return make_error(Status::access_denied, fmt::format("others may write to {}: run chmod go-w on it", name));
    REMOFILE_TRY(text, transport::read_text(fd.get(), file, max_file_bytes));
    return parse_hosts(text, name, host);
}

// `settings` where they say something, `others` elsewhere.
HostSettings joined(HostSettings settings, HostSettings others) {
    for (const auto member : {&HostSettings::address, &HostSettings::export_name, &HostSettings::server_key,
                              &HostSettings::identity, &HostSettings::token_file})
        if ((settings.*member).empty())
            settings.*member = std::move(others.*member);
    std::swap(settings.mount_options, others.mount_options);
    std::ranges::move(others.mount_options, std::back_inserter(settings.mount_options));
    return settings;
}

}  // namespace

Result<HostSettings> parse_hosts(std::string_view text, const std::string& file, std::string_view host) {
    REMOFILE_TRY(table, parse_toml(text, file));
    HostSettings found;
    for (const auto& [key, node] : table) {
        const toml::table* hosts = node.as_table();
        if (key.str() != "host" || hosts == nullptr)
            return toml_error(
                file, key.source(),
                fmt::format("\"{}\": hosts are tables with names: [host.NAME]", log::printable(key.str())));
        for (const auto& [name, settings] : *hosts) {
            const toml::table* of_host = settings.as_table();
            if (of_host == nullptr)
                return toml_error(file, name.source(),
                                  fmt::format("\"{0}\" must be a table: [host.{0}]", log::printable(name.str())));
            REMOFILE_TRY(read, read_host(file, *of_host));
            if (name.str() == host)
                found = std::move(read);
        }
    }
    return found;
}

NamedSource apply_address(std::string_view source, HostSettings settings) {
    const auto place = find_host(source);
    if (!place)
        return {std::string(source), std::move(settings)};
    std::string address = settings.address.empty() ? std::string(place->host) : settings.address;
    if (!place->port.empty()) {
        // What stands behind the last bracket, if there is one, is the port.
        const std::size_t bracket = address.find(']');
        address.resize(std::min(address.find(':', bracket == std::string::npos ? 0 : bracket), address.size()));
        address += place->port;
    }
    std::string named(source.substr(0, place->begin));
    named += address;
    named += source.substr(place->end, source.find('/', place->end) - place->end);  // the colon of HOST:/PATH
    if (!settings.export_name.empty())
        named += "/" + settings.export_name;
    named += source.substr(std::min(source.find('/', place->end), source.size()));
    return {std::move(named), std::move(settings)};
}

Result<NamedSource> look_up(const std::string& source) {
    const auto place = find_host(source);
    if (!place)
        return NamedSource{source, {}};
    REMOFILE_TRY(directory, transport::config_directory());
    REMOFILE_TRY(settings, look_into(directory / file_name, false, place->host));
    if (directory != directory_of_all) {
        // Root's keys may be there, in a directory that nobody else may look into.
        REMOFILE_TRY(of_all, look_into(std::filesystem::path(directory_of_all) / file_name, true, place->host));
        settings = joined(std::move(settings), std::move(of_all));
    }
    return apply_address(source, std::move(settings));
}

}  // namespace remofile::client
