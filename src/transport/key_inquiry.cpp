// SPDX-License-Identifier: MIT
#include "transport/key_inquiry.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sodium.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "transport/handshake_limit.hpp"
#include "transport/token_bucket.hpp"
#include "transport/zap_handler.hpp"

namespace remofile::transport {
namespace {

constexpr std::string_view question = "rmf-key?";
constexpr std::string_view answer = "rmf-key!";
constexpr std::size_t nonce_bytes = 16;
constexpr std::size_t key_bytes = sizeof(PublicKey::bytes);
constexpr std::size_t inquiry_bytes = 64;  // the rest is zeros
constexpr std::size_t answer_bytes = answer.size() + nonce_bytes + key_bytes;
static_assert(answer_bytes <= inquiry_bytes);

using Inquiry = std::array<char, inquiry_bytes>;
using Answer = std::array<char, answer_bytes>;

constexpr std::string_view tcp = "tcp://";
// The reactor has other work.
constexpr int inquiries_per_turn = 16;
constexpr Duration flood_pause = std::chrono::milliseconds(100);
// Datagrams get lost.
constexpr Duration ask_again_after = std::chrono::milliseconds(500);

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;

    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

struct FreeAddresses {
    void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

// "HOST:PORT", an IPv6 address in brackets. The second is what getaddrinfo() says.
std::pair<std::vector<Address>, int> look_up(std::string_view host_and_port, int flags) {
    const auto colon = host_and_port.rfind(':');
    std::string host(host_and_port.substr(0, colon));
    const std::string port(host_and_port.substr(colon + 1));
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_DGRAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int failure = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    const std::unique_ptr<addrinfo, FreeAddresses> owner(found);
    std::vector<Address> addresses;
    for (const addrinfo* entry = found; failure == 0 && entry != nullptr; entry = entry->ai_next) {
        Address& address = addresses.emplace_back();
        address.size = entry->ai_addrlen;
        std::memcpy(&address.storage, entry->ai_addr, address.size);
    }
    return {std::move(addresses), failure};
}

std::string host_text(const Address& address) {
    std::array<char, NI_MAXHOST> text{};
    if (::getnameinfo(address.get(), address.size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0)
        return {};
    return host_of(readable_address(text.data()));
}

Result<UniqueFd> bind_udp(const std::string& endpoint) {
    const auto failed = [&] { return errno_error(fmt::format("cannot answer at {} by UDP", endpoint)); };
    const auto [addresses, failure] = look_up(std::string_view(endpoint).substr(tcp.size()), AI_NUMERICHOST);
    if (failure != 0)
        return make_error(Status::invalid, fmt::format("{}: {}", endpoint, ::gai_strerror(failure)));
    const Address& address = addresses.front();
    const bool ipv6 = address.storage.ss_family == AF_INET6;
    UniqueFd fd(::socket(address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return failed();
    const int yes = 1;
    const int no = 0;
    // An answer must come from the address that was asked, of several.
    if (ipv6) {
        ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);  // as libzmq's "[::]"
        ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &yes, sizeof yes);
    } else {
        ::setsockopt(fd.get(), IPPROTO_IP, IP_PKTINFO, &yes, sizeof yes);
    }
    if (::bind(fd.get(), address.get(), address.size) != 0)
        return failed();
    return fd;
}

// The address asked becomes the one to answer from; the way there is the routing table's affair, but for addresses that
// mean something on one link alone.
void let_routes_decide(msghdr& message) {
    for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
            in_pktinfo info{};
            std::memcpy(&info, CMSG_DATA(control), sizeof info);
            info.ipi_ifindex = 0;
            std::memcpy(CMSG_DATA(control), &info, sizeof info);
        } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
            in6_pktinfo info{};
            std::memcpy(&info, CMSG_DATA(control), sizeof info);
            if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
                info.ipi6_ifindex = 0;
            std::memcpy(CMSG_DATA(control), &info, sizeof info);
        }
    }
}

}  // namespace

struct KeyResponder::State {
    State(Reactor& on, const PublicKey& given_key, Limits limits, Counters& counted)
        : reactor(on),
          key(given_key),
          counters(counted),
          hosts(limits.per_second_of_a_host),
          flood(limits.per_second / 5.0, limits.per_second, on.clock().now()) {}

    ~State() {
        if (pause)
            reactor.cancel(*pause);
        else
            unwatch();
    }

    void watch() {
        for (const UniqueFd& socket : sockets)
            reactor.watch(socket.get(), [this, fd = socket.get()] { serve(fd); });
    }
    void unwatch() {
        for (const UniqueFd& socket : sockets)
            reactor.unwatch(socket.get());
    }

    void serve(int fd) {
        for (int i = 0; i < inquiries_per_turn; ++i) {
            if (!flood.take(reactor.clock().now())) {
                unwatch();
                pause = reactor.after(flood_pause, [this] {
                    pause.reset();
                    watch();
                });
                return;
            }
            if (!serve_one(fd))
                return;
        }
    }

    // False: there are no more.
    bool serve_one(int fd) {
        std::array<char, inquiry_bytes + 1> bytes{};  // one more, to notice a longer datagram
        alignas(cmsghdr) std::array<std::byte, 128> control{};
        Address sender;
        iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
        msghdr message{};
        message.msg_name = &sender.storage;
        message.msg_namelen = sizeof sender.storage;
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t size = ::recvmsg(fd, &message, MSG_DONTWAIT);
        if (size < 0)
            return errno == EINTR;
        sender.size = message.msg_namelen;
        const std::string_view received(bytes.data(), static_cast<std::size_t>(size));
        if (received.size() != inquiry_bytes || !received.starts_with(question) ||
            !hosts.admit(host_text(sender), reactor.clock().now())) {
            counters.at("key_inquiries.dropped").add();
            return true;
        }
        Answer told{};
        char* end = std::ranges::copy(answer, told.data()).out;
        end = std::ranges::copy(received.substr(question.size(), nonce_bytes), end).out;
        std::memcpy(end, key.bytes.data(), key.bytes.size());
        part = {.iov_base = told.data(), .iov_len = told.size()};
        let_routes_decide(message);
        const bool is_sent = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(told.size());
        counters.at(is_sent ? "key_inquiries.answered" : "key_inquiries.dropped").add();
        return true;
    }

    Reactor& reactor;
    const PublicKey key;
    Counters& counters;
    HandshakeLimit hosts;
    TokenBucket flood;
    std::vector<UniqueFd> sockets;
    std::optional<TimerId> pause;
};

KeyResponder::KeyResponder() = default;

KeyResponder::~KeyResponder() = default;

Result<std::unique_ptr<KeyResponder>> KeyResponder::open(Reactor& reactor, const std::vector<std::string>& endpoints,
                                                         const PublicKey& key, Limits limits, Counters& counters) {
    std::vector<UniqueFd> sockets;
    for (const std::string& endpoint : endpoints) {
        if (!endpoint.starts_with(tcp))
            continue;
        REMOFILE_TRY(socket, bind_udp(endpoint));
        sockets.push_back(std::move(socket));
    }
    std::unique_ptr<KeyResponder> responder(new KeyResponder);
    responder->state_ = std::make_unique<State>(reactor, key, limits, counters);
    responder->state_->sockets = std::move(sockets);
    responder->state_->watch();
    return responder;
}

namespace {

// A client's end: a socket for each address of the host.
class Asking {
public:
    explicit Asking(std::span<const Address> addresses) {
        REMOFILE_ASSERT(sodium_init() >= 0);
        std::ranges::copy(question, inquiry_.data());
        randombytes_buf(inquiry_.data() + question.size(), nonce_bytes);
        for (const Address& address : addresses) {
            UniqueFd fd(::socket(address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            // Connected, it hears of nobody else, and of refusals.
            if (fd && ::connect(fd.get(), address.get(), address.size) == 0)
                sockets_.push_back(std::move(fd));
        }
    }

    bool hopeless() const { return sockets_.empty(); }

    void ask() {
        std::erase_if(sockets_, [&](const UniqueFd& fd) {
            return ::send(fd.get(), inquiry_.data(), inquiry_.size(), MSG_NOSIGNAL) < 0 && errno != EAGAIN;
        });
    }

    // What came within that time.
    std::optional<PublicKey> wait(Duration patience) {
        const TimePoint end = Clock::system().now() + patience;
        for (TimePoint now = Clock::system().now(); now < end && !hopeless(); now = Clock::system().now()) {
            std::vector<pollfd> watched;
            for (const UniqueFd& fd : sockets_)
                watched.push_back({.fd = fd.get(), .events = POLLIN, .revents = 0});
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - now);
            ::poll(watched.data(), watched.size(), static_cast<int>(left.count()));
            for (std::size_t i = watched.size(); i-- > 0;) {
                if (watched[i].revents == 0)
                    continue;
                if (const auto key = receive(i))
                    return key;
            }
        }
        return std::nullopt;
    }

private:
    std::optional<PublicKey> receive(std::size_t index) {
        std::array<char, answer_bytes + 1> bytes{};
        const ssize_t size = ::recv(sockets_[index].get(), bytes.data(), bytes.size(), 0);
        if (size < 0 && errno != EAGAIN && errno != EINTR)
            sockets_.erase(sockets_.begin() + static_cast<std::ptrdiff_t>(index));  // nobody listens there
        const std::string_view received(bytes.data(), size < 0 ? 0 : static_cast<std::size_t>(size));
        const std::string_view nonce(inquiry_.data() + question.size(), nonce_bytes);
        if (received.size() != answer_bytes || !received.starts_with(answer) ||
            received.substr(answer.size(), nonce_bytes) != nonce)
            return std::nullopt;
        PublicKey key;
        std::memcpy(key.bytes.data(), received.data() + answer.size() + nonce_bytes, key.bytes.size());
        return key;
    }

    Inquiry inquiry_{};
    std::vector<UniqueFd> sockets_;
};

}  // namespace

Result<PublicKey> ask_for_key(const std::string& host_and_port, Duration patience) {
    const auto [addresses, failure] = look_up(host_and_port, 0);
    if (failure == EAI_NONAME)
        return make_error(Status::unreachable,
                          fmt::format("there is no host {}", host_and_port.substr(0, host_and_port.rfind(':'))));
    if (failure != 0)
        return make_error(Status::unreachable,
                          fmt::format("{} cannot be looked up: {}", host_and_port, ::gai_strerror(failure)));
    const TimePoint end = Clock::system().now() + patience;
    Asking asking(addresses);
    for (TimePoint now = Clock::system().now(); now < end && !asking.hopeless(); now = Clock::system().now()) {
        asking.ask();
        if (const auto key = asking.wait(std::min(ask_again_after, end - now)))
            return *key;
    }
    return make_error(Status::unreachable,
                      fmt::format("{} does not say what its key is: {}", host_and_port,
                                  asking.hopeless() ? "nobody answers such questions there"
                                                    : "nothing came back (a firewall may keep UDP from that port)"));
}

}  // namespace remofile::transport
