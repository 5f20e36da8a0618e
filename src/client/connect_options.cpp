// SPDX-License-Identifier: MIT
#include "client/connect_options.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <filesystem>
#include <memory>

#include "base/byte_size.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "client/hosts_file.hpp"
#include "client/remote_tree.hpp"
#include "transport/endpoint_address.hpp"
#include "transport/keys.hpp"
#include "transport/text_file.hpp"

namespace remofile::client {
namespace {

// Longer than the longest name that passwd or the kernel would give; what is longer is cut.
constexpr std::size_t max_client_name_bytes = 255;
// A token, and the line end and blanks that an editor may leave.
constexpr std::size_t max_token_file_bytes = wire::max_token_bytes + 64;

Result<std::string> load_token(const std::string& file) {
    const UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd)
        return errno_error(fmt::format("cannot read the token file {}: {}", file, describe(from_errno(errno))));
    struct stat status {};
    if (fstat(fd.get(), &status) != 0)
        return errno_error(fmt::format("cannot read the token file {}", file));
    if (!S_ISREG(status.st_mode))
        return make_error(Status::invalid, fmt::format("the token file {} is no regular file", file));
    if ((status.st_mode & 077) != 0)
        return make_error(Status::access_denied,
                          fmt::format("others may read the token file {}: run chmod 600 on it", file));
    REMOFILE_TRY(text, transport::read_text(fd.get(), file, max_token_file_bytes));
    const std::string_view token = transport::trimmed(text);
    if (token.empty() || token.size() > wire::max_token_bytes)
        return make_error(Status::invalid, fmt::format("the token file {} is empty or too long", file));
    return std::string(token);
}

Result<transport::PublicKey> given_server_key(const ConnectOptions& options) {
    // The name of a file may look like a key, as it may have 40 characters; no key is the name of a file that exists.
    std::error_code ignored;
    const bool is_file = std::filesystem::exists(options.server_key, ignored);
    if (auto key = transport::PublicKey::from_text(options.server_key); key && !is_file)
        return *key;
    if (!is_file)
        return make_error(Status::bad_usage,
                          fmt::format("{}{} is neither a key (40 characters) nor a file that holds one",
                                      options.server_key_option, options.server_key));
    return transport::load_public_key(options.server_key);
}

// Whoever has mistyped the name of a host is not helped by being told what to do about its key.
Result<> check_host(const transport::Source& source) {
    std::string host = source.host_and_port.substr(0, source.host_and_port.rfind(':'));
    if (host.empty() || host.starts_with('['))
        return {};
    addrinfo* found = nullptr;
    const int failure = ::getaddrinfo(host.c_str(), nullptr, nullptr, &found);
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
    if (failure == EAI_NONAME)
        return make_error(Status::unreachable, fmt::format("there is no host {}", log::printable(host)));
    return {};
}

// The keys by which a server is known, never empty, and who hears of those that it will have; nobody of a key that was
// given.
struct KnownServer {
    std::vector<transport::PublicKey> keys;
    std::function<void(std::span<const transport::PublicKey>)> on_change = {};
};

// The server has said, by a connection that it has proved its key on, which keys count.
void write_down(const std::filesystem::path& known_servers, const std::string& host_and_port,
                std::span<const transport::PublicKey> keys) {
    const auto written = transport::update_known_server(known_servers, host_and_port, keys);
    if (!written)
        return log::warn("{}: the keys that the server will have cannot be written down: {}", host_and_port,
                         written.error().to_string());
    std::string next;
    for (const transport::PublicKey& key : keys.subspan(1))
        next += (next.empty() ? "" : ", ") + key.to_text();
    if (*written)
        log::warn("{}: the server is known by its key {}{} from now on ({})", host_and_port, keys.front().to_text(),
                  next.empty() ? "" : ", and as its next ones by " + next, known_servers.native());
}

// Trust is never taken over from the network: the key is one that was given, written down, announced by a server that
// has proved such a key, or made by this account.
Result<KnownServer> find_server(const ConnectOptions& options, const transport::Source& source,
                                const std::filesystem::path& directory) {
    if (!options.server_key.empty()) {
        REMOFILE_TRY(given, given_server_key(options));
        return KnownServer{.keys = {given}};
    }
    const std::filesystem::path known_servers = directory / "known_servers";
    if (!source.host_and_port.empty()) {
        REMOFILE_TRY(known, transport::find_known_server(known_servers, source.host_and_port));
        if (!known.empty())
            return KnownServer{.keys = std::move(known),
                               .on_change = [known_servers, host = source.host_and_port](auto keys) {
                                   write_down(known_servers, host, keys);
                               }};
    }
    if (source.loopback) {
        auto own = transport::load_public_key(directory / "server.pub");
        if (own)
            return KnownServer{.keys = {*own}, .on_change = [](auto) {}};  // the server itself writes that file
        if (own.error().status != Status::no_entry)
            return own.error();
    }
    REMOFILE_CHECK(check_host(source));
    const std::string remedy = source.host_and_port.empty()
                                   ? std::string()
                                   : fmt::format(", or run \"remofile trust {0}\", or add the line \"{0} KEY\" to {1}",
                                                 source.host_and_port, known_servers.native());
    return make_error(Status::wrong_server_key,
                      fmt::format("the server's key is unknown: pass {}KEY (the server prints it when it "
                                  "starts){}",
                                  options.server_key_option, remedy));
}

Result<> add_keys(const ConnectOptions& options, const transport::Source& source, SessionOptions& session) {
    if (options.insecure) {
        if (!options.server_key.empty() || !options.identity.empty())
            return make_error(Status::bad_usage, "insecure means without keys: drop it, or the keys");
        return {};
    }
    REMOFILE_TRY(directory, transport::config_directory());
    REMOFILE_TRY(server, find_server(options, source, directory));
    auto identity = options.identity.empty() ? transport::load_or_create_key_pair(directory / "identity.key")
                                             : transport::load_key_pair(options.identity);
    if (!identity)
        return identity.error();
    session.lane.server_key = server.keys.front();
    session.more_server_keys.assign(server.keys.begin() + 1, server.keys.end());
    session.on_server_keys = std::move(server.on_change);
    session.lane.identity = std::move(*identity);
    return {};
}

// Where nothing else is said. Without encryption there are no keys.
ConnectOptions with_settings(ConnectOptions options, const HostSettings& settings) {
    if (!options.insecure && options.server_key.empty())
        options.server_key = settings.server_key;
    if (!options.insecure && options.identity.empty())
        options.identity = settings.identity;
    if (options.token_file.empty() && options.token.empty())
        options.token_file = settings.token_file;
    return options;
}

}  // namespace

Result<std::uint64_t> parse_bandwidth_limit(std::string_view text) {
    constexpr std::uint64_t least = 64U << 10;
    REMOFILE_TRY(bytes, parse_byte_size(text));
    if (bytes < least)
        return make_error(Status::out_of_range, "expected 64K a second at least");
    return bytes;
}

std::string own_name() {
    std::string user = std::to_string(geteuid());
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, 4096> memory{};
    if (getpwuid_r(geteuid(), &entry, memory.data(), memory.size(), &found) == 0 && found != nullptr)
        user = found->pw_name;
    std::array<char, HOST_NAME_MAX + 1> host{};
    if (gethostname(host.data(), host.size() - 1) != 0)
        return user;
    return (user + "@" + host.data()).substr(0, max_client_name_bytes);
}

Result<SessionOptions> make_session_options(const ConnectOptions& given) {
    REMOFILE_TRY(named, look_up(given.source));
    REMOFILE_TRY(source, transport::parse_source(named.source));
    const ConnectOptions options = with_settings(given, named.settings);
    SessionOptions session;
    session.lane.endpoint = source.endpoint;
    session.lane.congestion_control = options.congestion_control;
    // "..", which a server refuses, is taken out by name alone.
    REMOFILE_TRY(components, split_path(source.path));
    session.path = join_path(components);
    session.client_name = own_name();
    session.exclusive = options.exclusive;
    session.read_only = options.read_only;
    session.compression = options.compression;
    session.bandwidth_limit = options.bandwidth_limit;
    session.wait = options.wait;
    session.request_timeout = options.request_timeout;
    session.gives_up_at_once = options.gives_up_at_once;
    if (options.insecure && !source.loopback && !(options.token_file.empty() && options.token.empty()))
        return make_error(Status::bad_usage, "a token would travel in plain text: it cannot be used with insecure");
    session.token = options.token;
    if (!options.token_file.empty()) {
        REMOFILE_TRY(token, load_token(options.token_file));
        session.token = std::move(token);
    }
    if (session.token.size() > wire::max_token_bytes)
        return make_error(Status::bad_usage, "the token is too long");
    REMOFILE_CHECK(add_keys(options, source, session));
    return session;
}

}  // namespace remofile::client
