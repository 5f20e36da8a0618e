// SPDX-License-Identifier: MIT
// Answers GET /metrics by HTTP/1.1 on a TCP port, on a reactor's thread, whoever asks and however: a request has a
// greatest size, a connection a greatest age, and there are only so many of them. Neither encrypted nor authorised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "transport/reactor.hpp"

namespace remofile::transport {

struct MetricsAddress {
    std::string host;        // numeric
    std::uint16_t port = 0;  // 0: the system chooses
    bool beyond_loopback = false;
};

// PORT (of loopback), ADDRESS:PORT, [IPV6]:PORT or *:PORT (all of IPv4). Error: bad_usage.
Result<MetricsAddress> parse_metrics_address(std::string_view text);

class MetricsPort {
public:
    struct Limits {
        std::size_t max_connections = 16;        // one more ends the oldest: a scraper asks and has gone
        std::size_t max_request_bytes = 8192;    // Prometheus sends some hundred
        std::size_t max_drained_bytes = 65'536;  // read and forgotten, so that an answer is not lost by a reset
        Duration max_age = std::chrono::seconds(5);
        // Whoever asks more often gets the same text: it is made on the thread that has other work.
        Duration text_life = std::chrono::milliseconds(100);
    };

    // `reactor` must outlive the port. `text` makes what is answered, on the reactor's thread.
    // Errors: those of the address, such as address in use.
    static Result<std::unique_ptr<MetricsPort>> open(Reactor& reactor, const MetricsAddress& address,
                                                     std::function<std::string()> text, Limits limits);
    static Result<std::unique_ptr<MetricsPort>> open(Reactor& reactor, const MetricsAddress& address,
                                                     std::function<std::string()> text) {
        return open(reactor, address, std::move(text), Limits{});
    }
    ~MetricsPort();
    MetricsPort(const MetricsPort&) = delete;
    MetricsPort& operator=(const MetricsPort&) = delete;

    // "http://127.0.0.1:9100/metrics"
    const std::string& url() const;
    std::uint16_t port() const;
    std::size_t connections() const;

private:
    MetricsPort();

    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::transport
