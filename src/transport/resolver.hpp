// SPDX-License-Identifier: MIT
// Host names to addresses without waiting for a name server on anybody's thread. Internal to this layer.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "transport/reactor.hpp"

namespace remofile::transport {

// One place that a lane can try to connect to.
struct Candidate {
    std::string endpoint;  // for ZeroMQ, numeric: nothing is left to be looked up
    sockaddr_storage address{};
    socklen_t address_bytes = 0;
};

// Looks up one endpoint, any number of times, one at a time. Used on its reactor's thread only.
//
// A name is looked up by a thread of its own, because getaddrinfo() takes as long as it takes and cannot be
// interrupted; waiting for it at the end would hang a program whose name server is silent. That thread touches only
// memory that it shares the ownership of, and is the one thread that is not joined (docs/THREADS.md). There is at most
// one a resolver.
class Resolver {
public:
    using OnResolved = std::function<void(Result<std::vector<Candidate>>)>;

    Resolver(Reactor& reactor, std::string endpoint);
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

    // Calls `on_resolved` once, not before it has returned, unless cancelled. At least one candidate, in the order in
    // which to try them. Errors: unreachable, bad_usage for what is no endpoint.
    void resolve(OnResolved on_resolved);
    void cancel();

private:
    struct Lookup;

    Reactor& reactor_;
    std::string endpoint_;
    std::shared_ptr<Lookup> lookup_;  // shared with the thread
};

}  // namespace remofile::transport
