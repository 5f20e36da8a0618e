// SPDX-License-Identifier: MIT
#include "cli/status_rates.hpp"

#include <charconv>
#include <chrono>

#include "base/log.hpp"
#include "cli/progress.hpp"

namespace remofile::cli {
namespace {

std::uint64_t value_of(const CounterValues& values, std::string_view name) {
    const auto found = values.find(name);
    return found == values.end() ? 0 : found->second;
}

// All whose names begin so.
std::uint64_t sum_of(const CounterValues& values, std::string_view prefix) {
    std::uint64_t sum = 0;
    for (auto at = values.lower_bound(prefix); at != values.end() && at->first.starts_with(prefix); ++at)
        sum += at->second;
    return sum;
}

struct Totals {
    std::uint64_t requests = 0;
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
};

Totals totals_of(Observed observed, const CounterValues& values) {
    if (observed == Observed::server)
        return {.requests = value_of(values, "server.requests"),
                .bytes_in = value_of(values, "server.bytes_received"),
                .bytes_out = value_of(values, "server.bytes_sent")};
    return {.requests = sum_of(values, "client.requests."),
            .bytes_in = value_of(values, "client.bytes_received"),
            .bytes_out = value_of(values, "client.bytes_sent"),
            .hits = value_of(values, "cache.hits") + value_of(values, "names.hits"),
            .misses = value_of(values, "cache.misses") + value_of(values, "names.misses")};
}

}  // namespace

std::optional<Rates> rates_between(Observed observed, const CounterValues& before, const CounterValues& after,
                                   Duration time) {
    const double seconds = std::chrono::duration<double>(time).count();
    if (seconds <= 0)
        return std::nullopt;
    const Totals first = totals_of(observed, before);
    const Totals second = totals_of(observed, after);
    if (second.requests < first.requests || second.bytes_in < first.bytes_in || second.bytes_out < first.bytes_out ||
        second.hits < first.hits || second.misses < first.misses)
        return std::nullopt;
    const auto rate = [seconds](std::uint64_t from, std::uint64_t to) {
        return static_cast<double>(to - from) / seconds;
    };
    return Rates{.seconds = seconds,
                 .requests = rate(first.requests, second.requests),
                 .bytes_in = rate(first.bytes_in, second.bytes_in),
                 .bytes_out = rate(first.bytes_out, second.bytes_out),
                 .cache_hits = rate(first.hits, second.hits),
                 .cache_misses = rate(first.misses, second.misses)};
}

CounterValues counters_of_mount(std::string_view json) {
    CounterValues values;
    constexpr std::string_view begin = "\"counters\": {";
    const auto at = json.find(begin);
    if (at == std::string_view::npos)
        return values;
    json.remove_prefix(at + begin.size());
    while (json.starts_with('"')) {
        const auto end = json.find("\": ", 1);
        if (end == std::string_view::npos)
            break;
        const std::string_view name = json.substr(1, end - 1);
        json.remove_prefix(end + 3);
        std::uint64_t value = 0;
        const auto [rest, error] = std::from_chars(json.data(), json.data() + json.size(), value);
        if (error != std::errc())
            break;
        values.emplace(name, value);
        json.remove_prefix(static_cast<std::size_t>(rest - json.data()));
        if (json.starts_with(", "))
            json.remove_prefix(2);
    }
    return values;
}

std::string json_of(Observed observed, const std::optional<Rates>& rates) {
    if (!rates)
        return "null";
    std::string text =
        fmt::format("{{\"seconds\": {:.3f}, \"requests\": {:.1f}, \"bytes_in\": {:.0f}, \"bytes_out\": {:.0f}",
                    rates->seconds, rates->requests, rates->bytes_in, rates->bytes_out);
    if (observed == Observed::mount)
        text +=
            fmt::format(", \"cache_hits\": {:.1f}, \"cache_misses\": {:.1f}", rates->cache_hits, rates->cache_misses);
    return text + "}";
}

std::string plain_text_of(Observed observed, const std::optional<Rates>& rates) {
    if (!rates)
        return {};
    std::string text = fmt::format("{:.1f} requests/s, {}/s in, {}/s out\n", rates->requests,
                                   size_text(rates->bytes_in), size_text(rates->bytes_out));
    const double asked = rates->cache_hits + rates->cache_misses;
    if (observed == Observed::mount && asked > 0)
        text += fmt::format("{:.1f} cache hits/s ({:.0f} %), {:.1f} misses/s\n", rates->cache_hits,
                            100 * rates->cache_hits / asked, rates->cache_misses);
    return text;
}

}  // namespace remofile::cli
