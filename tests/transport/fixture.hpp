// SPDX-License-Identifier: MIT
// What the tests of this layer share: waiting on a condition, temporary directories, a listener with its lanes.
#pragma once

#include <atomic>
#include <catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "transport/context.hpp"
#include "transport/keys.hpp"
#include "transport/lane.hpp"
#include "transport/listener.hpp"
#include "transport/reactor.hpp"

namespace remofile::transport {

using namespace std::chrono_literals;

// Long enough for a busy machine under a sanitizer; a test that waits for it has failed.
inline constexpr Duration test_deadline = 30s;

// Runs the reactor until `condition` holds; false if it does not within the deadline.
inline bool run_until(Reactor& reactor, const std::function<bool()>& condition, Duration deadline = test_deadline) {
    bool held = false;
    bool over = false;
    const TimerId limit = reactor.after(deadline, [&] {
        over = true;
        reactor.stop();
    });
    TimerId next{};
    std::function<void()> look = [&] {
        held = condition();
        if (held)
            reactor.stop();
        else if (!over)
            next = reactor.after(1ms, [&] { look(); });
    };
    look();
    reactor.run();
    reactor.cancel(limit);
    reactor.cancel(next);
    return held || condition();
}

// Time that passes when the test says so.
class FakeClock final : public Clock {
public:
    TimePoint now() const override { return TimePoint(Duration(ticks_.load())); }
    void advance(Duration by) { ticks_ += by.count(); }

private:
    std::atomic<Duration::rep> ticks_{1'000'000'000};
};

template <class T>
T value_of(Result<T> result) {
    INFO((result ? "" : result.error().to_string()));
    REQUIRE(result.has_value());
    return std::move(*result);
}

class TemporaryDirectory {
public:
    TemporaryDirectory() {
        std::string name = (std::filesystem::temp_directory_path() / "remofile-test-XXXXXX").native();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

// Lets in a fixed set of keys.
class KeySet final : public Authorizer {
public:
    explicit KeySet(std::set<PublicKey> keys) : keys_(std::move(keys)) {}
    std::optional<std::string> authorize(const PublicKey& key, std::string_view) override {
        ++asked;
        return keys_.contains(key) ? std::optional<std::string>("a comment") : std::nullopt;
    }
    std::atomic<int> asked{0};

private:
    std::set<PublicKey> keys_;
};

inline wire::Message message_of(std::string_view head, std::vector<std::string> bulk = {}) {
    wire::Message message;
    message.head = Buffer::copy_of(head);
    for (const std::string& frame : bulk)
        message.bulk.push_back(Buffer::copy_of(std::string_view(frame)));
    return message;
}

// A listener that keeps what it receives.
struct TestServer {
    struct Arrival {
        RouteId route;
        Peer peer;
        std::string head;
        std::vector<std::string> bulk;
    };
    Context& context;
    Reactor& reactor;
    KeyPair key = KeyPair::generate();
    ListenerOptions options;
    Counters counters;
    std::vector<Arrival> arrivals;
    std::vector<RouteId> unclogged;
    std::function<void(const Arrival&)> on_arrival;
    std::unique_ptr<Listener> listener;

    TestServer(Context& given_context, Reactor& given_reactor, Authorizer* authorizer)
        : context(given_context), reactor(given_reactor) {
        options.endpoints = {"tcp://127.0.0.1:*"};
        options.authorizer = authorizer;
        if (authorizer != nullptr)
            options.server_key = key;
        options.linger = 100ms;
        options.counters = &counters;
    }
    // Once it listens, starting again listens on the same port: as soon as libzmq, which closes on its own thread, has
    // let go of it.
    void start() {
        REQUIRE(run_until(reactor, [this] { return try_start(); }));
        options.endpoints = listener->endpoints();
    }
    bool try_start() {
        auto bound = Listener::bind(
            context, reactor, options,
            [this](const RouteId& route, const std::function<Peer()>& peer, wire::Message message) {
                keep(route, peer(), std::move(message));
            },
            [this](const RouteId& route) { unclogged.push_back(route); });
        if (!bound && bound.error().status == Status::busy)
            return false;
        listener = value_of(std::move(bound));
        return true;
    }
    void stop() { listener.reset(); }
    void keep(const RouteId& route, Peer peer, wire::Message message) {
        Arrival arrival{route, std::move(peer), std::string(message.head.text()), {}};
        for (const Buffer& frame : message.bulk)
            arrival.bulk.emplace_back(frame.text());
        arrivals.push_back(arrival);
        if (on_arrival)
            on_arrival(arrival);
    }
    const std::string& endpoint() const { return listener->endpoints().front(); }
};

// A lane that keeps what happens to it.
struct TestLane {
    Reactor& reactor;
    int connections = 0;
    std::vector<Error> failures;
    std::vector<std::string> messages;
    Lane lane;

    TestLane(Context& context, Reactor& given_reactor, LaneOptions options)
        : reactor(given_reactor),
          lane(context, reactor, std::move(options),
               {.on_connected = [this] { ++connections; },
                .on_message = [this](wire::Message message) { messages.emplace_back(message.head.text()); },
                .on_disconnected = [this](Error error) { failures.push_back(std::move(error)); }}) {}

    // Connects and waits for how it ends.
    bool connect() {
        const int before = connections;
        const std::size_t failures_before = failures.size();
        lane.connect();
        REQUIRE(run_until(reactor, [&] { return connections > before || failures.size() > failures_before; }));
        return connections > before;
    }
    Error failure() {
        REQUIRE_FALSE(failures.empty());
        return failures.back();
    }
};

}  // namespace remofile::transport
