// SPDX-License-Identifier: MIT
#include "transport/resolver.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>

#include "base/guarded.hpp"
#include "base/log.hpp"

namespace remofile::transport {
namespace {

// A host with more addresses than that is tried at the first ones: each takes its share of the time to connect.
constexpr std::size_t max_candidates = 4;

constexpr std::string_view tcp = "tcp://";
constexpr std::string_view ipc = "ipc://";

struct HostAndPort {
    std::string host;  // without brackets
    std::string port;
};

std::optional<HostAndPort> split(std::string_view endpoint) {
    if (!endpoint.starts_with(tcp))
        return std::nullopt;
    endpoint.remove_prefix(tcp.size());
    const auto colon = endpoint.rfind(':');
    if (colon == std::string_view::npos)
        return std::nullopt;
    std::string_view host = endpoint.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    return HostAndPort{.host = std::string(host), .port = std::string(endpoint.substr(colon + 1))};
}

std::optional<Candidate> to_candidate(const addrinfo& info) {
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> port{};
    if (info.ai_addrlen > sizeof(sockaddr_storage) ||
        getnameinfo(info.ai_addr, info.ai_addrlen, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return std::nullopt;
    Candidate candidate;
    const bool brackets = info.ai_family == AF_INET6;
    candidate.endpoint =
        fmt::format("{}{}{}{}:{}", tcp, brackets ? "[" : "", host.data(), brackets ? "]" : "", port.data());
    std::memcpy(&candidate.address, info.ai_addr, info.ai_addrlen);
    candidate.address_bytes = info.ai_addrlen;
    return candidate;
}

Result<std::vector<Candidate>> look_up(const HostAndPort& where, int flags) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* list = nullptr;
    const int failure = getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &list);
    if (failure != 0)
        return make_error(Status::unreachable,
                          fmt::format("cannot find the host {}: {}", where.host,
                                      failure == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(failure)));
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
    std::vector<Candidate> candidates;
    for (const addrinfo* info = list; info != nullptr && candidates.size() < max_candidates; info = info->ai_next) {
        if (auto candidate = to_candidate(*info))
            candidates.push_back(std::move(*candidate));
    }
    if (candidates.empty())
        return make_error(Status::unreachable, fmt::format("the host {} has no usable address", where.host));
    return candidates;
}

Result<std::vector<Candidate>> ipc_candidate(std::string_view endpoint) {
    const std::string_view path = endpoint.substr(ipc.size());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path))
        return make_error(Status::bad_usage, fmt::format("{} is no usable path of a socket", path));
    std::memcpy(address.sun_path, path.data(), path.size());
    Candidate candidate;
    candidate.endpoint = endpoint;
    std::memcpy(&candidate.address, &address, sizeof(address));
    candidate.address_bytes = sizeof(address);
    return std::vector{std::move(candidate)};
}

// RFC 6761 gives localhost its meaning without asking anybody. IPv4 first: that is where a server listens by default.
Result<std::vector<Candidate>> localhost_candidates(const std::string& port) {
    REMOFILE_TRY(candidates, look_up({.host = "127.0.0.1", .port = port}, AI_NUMERICHOST));
    if (auto more = look_up({.host = "::1", .port = port}, AI_NUMERICHOST))
        candidates.push_back(std::move(more->front()));
    return candidates;
}

}  // namespace

struct Resolver::Lookup {
    struct Progress {
        Reactor* reactor = nullptr;  // to post the result to; null once nobody wants it
        OnResolved on_resolved;
        bool running = false;
    };
    Guarded<Progress> progress;

    // On the looking-up thread.
    static void finish(const std::shared_ptr<Lookup>& lookup, Result<std::vector<Candidate>> result) {
        lookup->progress.with([&](Progress& progress) {
            progress.running = false;
            if (progress.reactor != nullptr)
                progress.reactor->post(
                    [lookup, result = std::move(result)]() mutable { deliver(*lookup, std::move(result)); });
        });
    }
    // On the reactor's.
    static void deliver(Lookup& lookup, Result<std::vector<Candidate>> result) {
        const OnResolved on_resolved =
            lookup.progress.with([](Progress& progress) { return std::exchange(progress.on_resolved, nullptr); });
        if (on_resolved)
            on_resolved(std::move(result));
    }
};

Resolver::Resolver(Reactor& reactor, std::string endpoint)
    : reactor_(reactor), endpoint_(std::move(endpoint)), lookup_(std::make_shared<Lookup>()) {}

Resolver::~Resolver() {
    lookup_->progress.with([](Lookup::Progress& progress) {
        progress.reactor = nullptr;
        progress.on_resolved = nullptr;
    });
}

void Resolver::cancel() {
    lookup_->progress.lock()->on_resolved = nullptr;
}

void Resolver::resolve(OnResolved on_resolved) {
    const bool still_running = lookup_->progress.with([&](Lookup::Progress& progress) {
        progress.reactor = &reactor_;
        progress.on_resolved = std::move(on_resolved);
        return std::exchange(progress.running, true);
    });
    if (still_running)
        return;  // an earlier call's thread will bring the answer to this one

    const auto where = split(endpoint_);
    if (endpoint_.starts_with(ipc))
        return Lookup::finish(lookup_, ipc_candidate(endpoint_));
    if (!where)
        return Lookup::finish(lookup_, make_error(Status::bad_usage, endpoint_ + " is no endpoint"));
    if (where->host == "localhost")
        return Lookup::finish(lookup_, localhost_candidates(where->port));
    if (auto numeric = look_up(*where, AI_NUMERICHOST))
        return Lookup::finish(lookup_, std::move(numeric));
    try {
        std::thread([lookup = lookup_, host_and_port = *where] {
            pthread_setname_np(pthread_self(), "resolve");
            Lookup::finish(lookup, look_up(host_and_port, AI_ADDRCONFIG));
        }).detach();
    } catch (const std::system_error& failure) {
        Lookup::finish(lookup_, make_error(Status::unreachable, fmt::format("cannot start a thread to look up {}: {}",
                                                                            where->host, failure.what())));
    }
}

}  // namespace remofile::transport
