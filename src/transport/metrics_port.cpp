// SPDX-License-Identifier: MIT
#include "transport/metrics_port.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "base/exception.hpp"
#include "base/exposition.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace remofile::transport {
namespace {

constexpr int backlog = 16;
constexpr std::uint64_t listener_id = 0;
// So many events a turn: the reactor has other work.
constexpr std::size_t events_per_turn = 16;
// When the process has no descriptor left for a connection.
constexpr Duration accept_pause = std::chrono::seconds(1);

Error refuse(std::string_view text) {
    return make_error(
        Status::bad_usage,
        fmt::format("\"{}\" is no address for metrics; write PORT, ADDRESS:PORT or [IPV6]:PORT", log::printable(text)));
}

bool is_loopback(const in_addr& address) {
    return ntohl(address.s_addr) >> 24 == 127;
}

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

SocketAddress socket_address(const MetricsAddress& address) {
    SocketAddress result;
    if (address.host.find(':') != std::string::npos) {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(result.storage);
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(address.port);
        inet_pton(AF_INET6, address.host.c_str(), &v6.sin6_addr);
        result.size = sizeof v6;
    } else {
        auto& v4 = reinterpret_cast<sockaddr_in&>(result.storage);
        v4.sin_family = AF_INET;
        v4.sin_port = htons(address.port);
        inet_pton(AF_INET, address.host.c_str(), &v4.sin_addr);
        result.size = sizeof v4;
    }
    return result;
}

std::uint16_t port_of(int fd) {
    SocketAddress bound;
    bound.size = sizeof bound.storage;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound.storage), &bound.size);
    // The port is at the same place in both families.
    return ntohs(reinterpret_cast<const sockaddr_in&>(bound.storage).sin_port);
}

std::string response(std::string_view status, std::string_view type, std::string_view body, bool with_body,
                     std::string_view more = {}) {
    return fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}", status,
                       type, body.size(), more, with_body ? body : std::string_view());
}

std::string refusal(std::string_view status, std::string_view more = {}) {
    return response(status, "text/plain", fmt::format("{}\n", status), true, more);
}

// Whether the head is whole: an empty line has come.
bool is_whole(std::string_view head) {
    return head.find("\r\n\r\n") != std::string_view::npos || head.find("\n\n") != std::string_view::npos;
}

}  // namespace

Result<MetricsAddress> parse_metrics_address(std::string_view text) {
    MetricsAddress address{.host = "127.0.0.1"};
    const auto colon = text.rfind(':');
    const std::string_view port = colon == std::string_view::npos ? text : text.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (port.empty() || error != std::errc() || end != port.data() + port.size())
        return refuse(text);
    if (colon == std::string_view::npos)
        return address;
    std::string host(text.substr(0, colon));
    in_addr v4{};
    in6_addr v6{};
    if (host == "localhost")
        return address;
    if (host == "*")
        host = "0.0.0.0";
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
        if (inet_pton(AF_INET6, host.c_str(), &v6) != 1)
            return refuse(text);
        address.beyond_loopback = !IN6_IS_ADDR_LOOPBACK(&v6);
    } else {
        if (inet_pton(AF_INET, host.c_str(), &v4) != 1)
            return refuse(text);
        address.beyond_loopback = !is_loopback(v4);
    }
    address.host = std::move(host);
    return address;
}

struct MetricsPort::State {
    State(Reactor& on, std::function<std::string()> made_by, Limits given)
        : reactor(on), make_text(std::move(made_by)), limits(given) {}

    struct Connection {
        UniqueFd fd;
        TimerId deadline;
        std::string request;
        std::string answer;  // empty while the request is read
        std::size_t sent = 0;
        std::size_t drained = 0;
    };
    using Connections = std::map<std::uint64_t, Connection>;

    void watch(int fd, std::uint64_t id, std::uint32_t events, int operation) const {
        epoll_event event{.events = events, .data = {.u64 = id}};
        ::epoll_ctl(epoll.get(), operation, fd, &event);
    }

    void on_events();
    void accept_one();
    void accept_later();
    void on_ready(Connections::iterator at);
    bool read(Connection& connection);
    bool write(Connection& connection, std::uint64_t id);
    bool drain(Connection& connection) const;
    std::string answer_to(std::string_view request);
    const std::string& text();
    void close(Connections::iterator at) {
        reactor.cancel(at->second.deadline);
        connections.erase(at);
    }

    Reactor& reactor;
    const std::function<std::string()> make_text;
    const Limits limits;
    // All descriptors at once, for writing too: a reactor watches for what can be read.
    UniqueFd epoll;
    UniqueFd listener;
    std::string url;
    std::uint16_t port = 0;
    std::optional<TimerId> pause;
    std::uint64_t last_id = listener_id;
    Connections connections;  // by age; max_connections at most
    std::string kept_text;
    std::optional<TimePoint> kept_since;
};

void MetricsPort::State::on_events() {
    std::array<epoll_event, events_per_turn> events{};
    const int count = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < count; ++i) {
        const std::uint64_t id = events[static_cast<std::size_t>(i)].data.u64;
        if (id == listener_id)
            accept_one();
        else if (const auto at = connections.find(id); at != connections.end())
            on_ready(at);
    }
}

void MetricsPort::State::accept_one() {
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            accept_later();
        return;
    }
    if (connections.size() >= limits.max_connections)
        close(connections.begin());
    const std::uint64_t id = ++last_id;
    const TimerId deadline = reactor.after(limits.max_age, [this, id] { connections.erase(id); });
    watch(fd.get(), id, EPOLLIN, EPOLL_CTL_ADD);
    connections.emplace(id, Connection{.fd = std::move(fd), .deadline = deadline});
}

// The listener stays readable meanwhile, and would keep the reactor busy.
void MetricsPort::State::accept_later() {
    watch(listener.get(), listener_id, 0, EPOLL_CTL_MOD);
    pause = reactor.after(accept_pause, [this] {
        pause.reset();
        watch(listener.get(), listener_id, EPOLLIN, EPOLL_CTL_MOD);
    });
}

void MetricsPort::State::on_ready(Connections::iterator at) {
    bool goes_on = false;
    try {
        Connection& connection = at->second;
        if (connection.answer.empty())
            goes_on = read(connection) && (connection.answer.empty() || write(connection, at->first));
        else if (connection.sent < connection.answer.size())
            goes_on = write(connection, at->first);
        else
            goes_on = drain(connection);
    } catch (...) {
        status_of_exception("a request for metrics");
    }
    if (!goes_on)
        close(at);
}

// False: it is over, as for the next two.
bool MetricsPort::State::read(Connection& connection) {
    std::array<char, 4096> bytes{};
    const ssize_t size = ::recv(connection.fd.get(), bytes.data(), bytes.size(), 0);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    if (size == 0)
        return false;
    connection.request.append(bytes.data(), static_cast<std::size_t>(size));
    if (is_whole(connection.request))
        connection.answer = answer_to(connection.request);
    else if (connection.request.size() > limits.max_request_bytes)
        connection.answer = refusal("431 Request Header Fields Too Large");
    return true;
}

bool MetricsPort::State::write(Connection& connection, std::uint64_t id) {
    const std::string_view rest = std::string_view(connection.answer).substr(connection.sent);
    const ssize_t size = ::send(connection.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (size < 0 && errno != EAGAIN && errno != EINTR)
        return false;
    connection.sent += size < 0 ? 0 : static_cast<std::size_t>(size);
    const bool is_sent = connection.sent == connection.answer.size();
    if (is_sent)
        ::shutdown(connection.fd.get(), SHUT_WR);
    watch(connection.fd.get(), id, is_sent ? EPOLLIN : EPOLLOUT, EPOLL_CTL_MOD);
    return true;
}

bool MetricsPort::State::drain(Connection& connection) const {
    std::array<char, 4096> bytes{};
    const ssize_t size = ::recv(connection.fd.get(), bytes.data(), bytes.size(), 0);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    connection.drained += static_cast<std::size_t>(size);
    return size > 0 && connection.drained < limits.max_drained_bytes;
}

std::string MetricsPort::State::answer_to(std::string_view request) {
    std::string_view line = request.substr(0, request.find('\n'));
    if (line.ends_with('\r'))
        line.remove_suffix(1);
    const auto first = line.find(' ');
    const auto last = line.rfind(' ');
    if (first == std::string_view::npos || first == last || !line.substr(last + 1).starts_with("HTTP/1."))
        return refusal("400 Bad Request");
    const std::string_view method = line.substr(0, first);
    std::string_view target = line.substr(first + 1, last - first - 1);
    target = target.substr(0, target.find('?'));
    if (method != "GET" && method != "HEAD")
        return refusal("405 Method Not Allowed", "Allow: GET, HEAD\r\n");
    if (target != "/metrics")
        return refusal("404 Not Found");
    return response("200 OK", Exposition::content_type, text(), method == "GET");
}

const std::string& MetricsPort::State::text() {
    const TimePoint now = reactor.clock().now();
    if (!kept_since || now - *kept_since >= limits.text_life) {
        kept_text = make_text();
        kept_since = now;
    }
    return kept_text;
}

MetricsPort::MetricsPort() = default;

Result<std::unique_ptr<MetricsPort>> MetricsPort::open(Reactor& reactor, const MetricsAddress& address,
                                                       std::function<std::string()> text, Limits limits) {
    std::unique_ptr<MetricsPort> port(new MetricsPort);
    port->state_ = std::make_unique<State>(reactor, std::move(text), limits);
    State& state = *port->state_;
    const bool is_v6 = address.host.find(':') != std::string::npos;
    const std::string shown = is_v6 ? "[" + address.host + "]" : address.host;
    const SocketAddress where = socket_address(address);
    const auto failed = [&] { return errno_error(fmt::format("cannot offer metrics at {}:{}", shown, address.port)); };
    state.listener.reset(::socket(where.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    state.epoll.reset(::epoll_create1(EPOLL_CLOEXEC));
    if (!state.listener || !state.epoll)
        return failed();
    const int one = 1;
    ::setsockopt(state.listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (::bind(state.listener.get(), reinterpret_cast<const sockaddr*>(&where.storage), where.size) != 0 ||
        ::listen(state.listener.get(), backlog) != 0)
        return failed();
    state.port = port_of(state.listener.get());
    state.url = fmt::format("http://{}:{}/metrics", shown, state.port);
    state.watch(state.listener.get(), listener_id, EPOLLIN, EPOLL_CTL_ADD);
    reactor.watch(state.epoll.get(), [&state] { state.on_events(); });
    return port;
}

MetricsPort::~MetricsPort() {
    if (!state_ || !state_->epoll)
        return;
    state_->reactor.unwatch(state_->epoll.get());
    if (state_->pause)
        state_->reactor.cancel(*state_->pause);
    while (!state_->connections.empty())
        state_->close(state_->connections.begin());
}

const std::string& MetricsPort::url() const {
    return state_->url;
}

std::uint16_t MetricsPort::port() const {
    return state_->port;
}

std::size_t MetricsPort::connections() const {
    return state_->connections.size();
}

}  // namespace remofile::transport
