// SPDX-License-Identifier: MIT
// remofile ping: how long a round trip takes.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/log.hpp"
#include "cli/connection.hpp"

namespace remofile::cli {
namespace {

constexpr unsigned default_count = 10;
// Enough for any statistics; each answer is kept.
constexpr unsigned max_count = 1'000'000;

struct Options {
    client::ConnectOptions connect;
    unsigned count = default_count;
};

double to_microseconds(Duration duration) {
    return std::chrono::duration<double, std::micro>(duration).count();
}

// One after the other, without pause.
Task<Result<>> measure(client::Session& session, const Clock& clock, unsigned count) {
    std::vector<Duration> times;
    for (unsigned i = 0; i < count; ++i) {
        const TimePoint start = clock.now();
        const auto reply = co_await session.call(wire::Ping{});
        if (!reply)
            co_return Result<>(reply.error());
        times.push_back(clock.now() - start);
    }
    std::ranges::sort(times);
    const std::string text = fmt::format("{} round trips: min {:.0f} µs, median {:.0f} µs, max {:.0f} µs\n", count,
                                         to_microseconds(times.front()), to_microseconds(times[times.size() / 2]),
                                         to_microseconds(times.back()));
    std::fputs(text.c_str(), stdout);
    co_return Result<>();
}

}  // namespace

std::function<ExitStatus()> prepare_ping(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    add_connect_options(app, options->connect);
    app.add_option("-c,--count", options->count, "Number of round trips (default 10)")
        ->check(CLI::Range(1U, max_count));
    return [options] {
        return with_session(options->connect, [options](client::Session& session, transport::Reactor& reactor) {
            return measure(session, reactor.clock(), options->count);
        });
    };
}

}  // namespace remofile::cli
