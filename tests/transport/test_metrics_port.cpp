// SPDX-License-Identifier: MIT
// The metrics port, and whoever may come to it: each test has a reactor on a thread of its own, as programs have.
#include "transport/metrics_port.hpp"

#include <atomic>
#include <catch.hpp>
#include <thread>
#include <vector>

#include "base/exposition.hpp"
#include "harness/http_get.hpp"
#include "transport/reactor.hpp"

using namespace remofile;
using namespace remofile::transport;
using namespace remofile::test;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view get = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

class Served {
public:
    explicit Served(std::string text = "x 1\n", MetricsPort::Limits limits = MetricsPort::Limits{})
        : text_(std::move(text)) {
        auto opened = MetricsPort::open(
            reactor_, *parse_metrics_address("0"),
            [this] {
                ++made_;
                return text_;
            },
            limits);
        REQUIRE(opened);
        port_ = std::move(*opened);
        number_ = port_->port();
        thread_ = std::thread([this] { reactor_.run(); });
    }
    ~Served() {
        reactor_.stop();
        thread_.join();
    }
    Served(const Served&) = delete;
    Served& operator=(const Served&) = delete;

    std::uint16_t port() const { return number_; }
    int made() const { return made_; }
    // By way of the reactor's thread, whose they are.
    std::size_t connections() {
        std::atomic<std::ptrdiff_t> count = -1;
        reactor_.post([&] { count = static_cast<std::ptrdiff_t>(port_->connections()); });
        while (count < 0)
            std::this_thread::yield();
        return static_cast<std::size_t>(count);
    }

private:
    std::string text_;
    std::atomic<int> made_ = 0;
    Reactor reactor_;
    std::unique_ptr<MetricsPort> port_;
    std::uint16_t number_ = 0;
    std::thread thread_;
};

bool refused_with(const std::string& answer, std::string_view status) {
    return answer.starts_with("HTTP/1.1 " + std::string(status)) &&
           answer.find("Connection: close\r\n") != std::string::npos;
}

}  // namespace

TEST_CASE("addresses of metrics are of loopback unless another is named") {
    const auto parsed = [](std::string_view text) {
        const auto address = parse_metrics_address(text);
        REQUIRE(address);
        return address->host + " " + std::to_string(address->port) + (address->beyond_loopback ? " beyond" : "");
    };
    CHECK(parsed("9100") == "127.0.0.1 9100");
    CHECK(parsed("localhost:9100") == "127.0.0.1 9100");
    CHECK(parsed("127.0.0.2:1") == "127.0.0.2 1");
    CHECK(parsed("[::1]:9100") == "::1 9100");
    CHECK(parsed("192.0.2.1:9100") == "192.0.2.1 9100 beyond");
    CHECK(parsed("[::]:9100") == ":: 9100 beyond");
    CHECK(parsed("*:9100") == "0.0.0.0 9100 beyond");
    for (const char* wrong : {"", ":", "x", ":9100", "1.2.3.4", "1.2.3.4:", "host:9100", "::1:9100", "[::1]", "[]:1",
                              "65536", "-1", "9100 ", "http://127.0.0.1:1"}) {
        INFO(wrong);
        const auto refused = parse_metrics_address(wrong);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().to_string().find("ADDRESS:PORT") != std::string::npos);
    }
}

TEST_CASE("GET /metrics is answered with the text and its type, and the connection ends") {
    Served served("# TYPE x gauge\nx 1\n");
    const std::string answer = http(served.port(), get);
    CHECK(refused_with(answer, "200 OK"));
    CHECK(answer.find("Content-Type: " + std::string(Exposition::content_type) + "\r\n") != std::string::npos);
    CHECK(answer.find("Content-Length: 19\r\n") != std::string::npos);
    CHECK(answer.ends_with("\r\n\r\n# TYPE x gauge\nx 1\n"));
    CHECK(http(served.port(), "GET /metrics?a=b HTTP/1.0\n\n").ends_with("x 1\n"));
    const std::string head = http(served.port(), "HEAD /metrics HTTP/1.1\r\n\r\n");
    CHECK(head.find("Content-Length: 19\r\n") != std::string::npos);
    CHECK(head.ends_with("\r\n\r\n"));
}

TEST_CASE("other requests are refused") {
    Served served;
    CHECK(refused_with(http(served.port(), "GET / HTTP/1.1\r\n\r\n"), "404 "));
    CHECK(refused_with(http(served.port(), "GET /metricsx HTTP/1.1\r\n\r\n"), "404 "));
    CHECK(refused_with(http(served.port(), "POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"), "405 "));
    for (const char* garbage : {"\r\n\r\n", "GET\r\n\r\n", "GET /metrics\r\n\r\n", "GET /metrics SSH-2.0\r\n\r\n",
                                "\x16\x03\x01\n\n", " HTTP/1.1\r\n\r\n"}) {
        INFO(garbage);
        CHECK(refused_with(http(served.port(), garbage), "400 "));
    }
    CHECK(served.made() == 0);
}

TEST_CASE("a request without an end is refused at the greatest size") {
    Served served("x 1\n", {.max_request_bytes = 1024});
    CHECK(refused_with(http(served.port(), "GET /metrics HTTP/1.1\r\nX: " + std::string(1200, 'x')), "431 "));
    // One that goes on sending is ended, whatever it sends.
    const UniqueFd flood = connect_to(served.port());
    bool ended = false;
    for (int i = 0; i < 100'000 && !ended; ++i)
        ended = !say(flood, std::string(1024, 'x'));
    CHECK(ended);
    CHECK(http(served.port(), get).ends_with("x 1\n"));
}

TEST_CASE("who says nothing, or only half, is ended after a while, and holds up nobody") {
    Served served("x 1\n", {.max_age = 300ms});
    const UniqueFd silent = connect_to(served.port());
    const UniqueFd half = connect_to(served.port());
    REQUIRE(say(half, get.substr(0, 20)));
    CHECK(http(served.port(), get).ends_with("x 1\n"));
    CHECK(hear(silent) == "");
    CHECK(hear(half) == "");
    CHECK(eventually(Milliseconds{10'000}, [&] { return served.connections() == 0; }));
}

TEST_CASE("many that say nothing do not keep out who asks") {
    Served served("x 1\n", {.max_connections = 4, .max_age = 600s});
    std::vector<UniqueFd> silent;
    for (int i = 0; i < 50; ++i)
        silent.push_back(connect_to(served.port()));
    CHECK(http(served.port(), get).ends_with("x 1\n"));
    CHECK(served.connections() <= 4);
    CHECK(hear(silent.front()) == "");
}

TEST_CASE("who takes the answer slowly gets all of it, and holds up nobody") {
    const std::string text(8U << 20, 'x');
    Served served(text);
    const UniqueFd slow = connect_to(served.port());
    REQUIRE(say(slow, get));
    // Its answer does not fit what the system buffers: it is under way.
    REQUIRE(eventually(Milliseconds{10'000}, [&] { return served.made() == 1; }));
    CHECK(http(served.port(), "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    const auto heard = hear(slow);
    REQUIRE(heard);
    CHECK(heard->ends_with("\r\n\r\n" + text));
}

TEST_CASE("a flood of requests makes the text no more often than it changes") {
    Served served("x 1\n", {.text_life = 600s});
    for (int i = 0; i < 50; ++i)
        REQUIRE(http(served.port(), get).ends_with("x 1\n"));
    CHECK(served.made() == 1);
}

TEST_CASE("a port that is taken is an error that names it") {
    Served served;
    Reactor reactor;
    const auto second =
        MetricsPort::open(reactor, {.host = "127.0.0.1", .port = served.port()}, [] { return std::string(); });
    REQUIRE_FALSE(second);
    CHECK(second.error().to_string().find("127.0.0.1:" + std::to_string(served.port())) != std::string::npos);
}
