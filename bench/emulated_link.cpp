// SPDX-License-Identifier: MIT
// A network link with delay, a rate and loss, between two network namespaces, for machines whose kernel has no netem.
//
// A TUN device in each namespace; packets from one are queued for as long as the link would have taken and written to
// the other. The queue in front of the link drops at its tail, as a router's does. The devices live as long as the
// program.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <iostream>
#include <random>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace {

using namespace remofile;

constexpr std::size_t max_packet_bytes = 65536;  // larger than any MTU
constexpr int packets_a_turn = 64;               // before the other direction gets its turn

struct LinkOptions {
    double delay_ms = 0;      // one way
    double rate_mbit = 0;     // in each direction; 0 for no limit
    double loss_percent = 0;  // of the packets, at random
    std::size_t queue_kib = 1024;
    unsigned seed = 1;
};

volatile std::sig_atomic_t stop_requested = 0;

// A TUN device in the named namespace (a file of /run/netns). The thread is in that namespace afterwards.
Result<UniqueFd> open_tun(const std::string& netns, const std::string& device) {
    const UniqueFd ns(::open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC));
    if (!ns || ::setns(ns.get(), CLONE_NEWNET) != 0)
        return errno_error("cannot enter the network namespace " + netns + ": " + std::strerror(errno));
    UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!tun)
        return errno_error(std::string("cannot open /dev/net/tun: ") + std::strerror(errno));
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    device.copy(request.ifr_name, IFNAMSIZ - 1);
    if (::ioctl(tun.get(), TUNSETIFF, &request) != 0)
        return errno_error("cannot make the device " + device + ": " + std::strerror(errno));
    return tun;
}

// One way through the link.
class Direction {
public:
    Direction(const LinkOptions& options, int from, int to, unsigned seed)
        : options_(options), from_(from), to_(to), random_(seed) {}

    // Takes what has arrived, as far as the queue has room and the packet is not lost.
    void receive(TimePoint now) {
        for (int i = 0; i < packets_a_turn; ++i) {
            const ssize_t size = ::read(from_, arrived_.data(), arrived_.size());
            if (size <= 0)
                return;
            const auto bytes = static_cast<std::size_t>(size);
            if (queued_bytes_ + bytes > options_.queue_kib * 1024 || lost())
                continue;
            queued_bytes_ += bytes;
            departure_ = std::max(now, departure_) + transmission_time(bytes);
            const auto delay = std::chrono::duration<double, std::milli>(options_.delay_ms);
            on_the_way_.push_back({departure_, departure_ + std::chrono::duration_cast<Duration>(delay),
                                   std::vector<char>(arrived_.begin(), arrived_.begin() + size)});
        }
    }

    // Delivers what is due, and says when the next packet is; TimePoint::max() if none is on its way.
    TimePoint deliver(TimePoint now) {
        for (; next_to_leave_ < on_the_way_.size() && on_the_way_[next_to_leave_].departure <= now; ++next_to_leave_)
            queued_bytes_ -= on_the_way_[next_to_leave_].bytes.size();
        while (!on_the_way_.empty() && on_the_way_.front().arrival <= now) {
            const auto& packet = on_the_way_.front().bytes;
            // A full receive queue drops the packet, as a network does.
            [[maybe_unused]] const ssize_t written = ::write(to_, packet.data(), packet.size());
            on_the_way_.pop_front();
            --next_to_leave_;
        }
        return on_the_way_.empty() ? TimePoint::max() : on_the_way_.front().arrival;
    }

private:
    struct Packet {
        TimePoint departure;  // when its last bit has left the queue
        TimePoint arrival;
        std::vector<char> bytes;
    };

    bool lost() { return std::uniform_real_distribution<>(0, 100)(random_) < options_.loss_percent; }

    Duration transmission_time(std::size_t bytes) const {
        if (options_.rate_mbit <= 0)
            return {};
        return std::chrono::duration_cast<Duration>(
            std::chrono::duration<double, std::micro>(static_cast<double>(bytes) * 8 / options_.rate_mbit));
    }

    const LinkOptions& options_;
    int from_;
    int to_;
    std::mt19937 random_;
    std::vector<char> arrived_ = std::vector<char>(max_packet_bytes);
    std::deque<Packet> on_the_way_;  // in the order of departure, which is that of arrival
    std::size_t next_to_leave_ = 0;  // the first of on_the_way_ whose turn to be sent has not come
    std::size_t queued_bytes_ = 0;   // from that one on
    TimePoint departure_{};          // of the last packet
};

void run(const LinkOptions& options, int a, int b) {
    Direction there(options, a, b, options.seed);
    Direction back(options, b, a, options.seed + 1);
    while (stop_requested == 0) {
        const TimePoint now = Clock::system().now();
        const TimePoint next = std::min(there.deliver(now), back.deliver(now));
        timespec timeout{.tv_sec = 1, .tv_nsec = 0};
        if (next - now < std::chrono::seconds(1)) {
            const auto wait = std::max<std::int64_t>(0, std::chrono::nanoseconds(next - now).count());
            timeout = {.tv_sec = 0, .tv_nsec = static_cast<long>(wait)};
        }
        pollfd devices[] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
        if (::ppoll(devices, 2, &timeout, nullptr) <= 0)
            continue;
        if (devices[0].revents != 0)
            there.receive(Clock::system().now());
        if (devices[1].revents != 0)
            back.receive(Clock::system().now());
    }
}

}  // namespace

int main(int argc, char** argv) {
    LinkOptions options;
    std::string netns_a;
    std::string netns_b;
    std::string device = "link0";
    CLI::App app("Joins two network namespaces by a link with delay, a rate and loss, until it is interrupted.");
    app.add_option("--delay-ms", options.delay_ms, "One-way delay")->check(CLI::NonNegativeNumber);
    app.add_option("--rate-mbit", options.rate_mbit, "Rate in each direction; 0 for no limit")
        ->check(CLI::NonNegativeNumber);
    app.add_option("--loss-percent", options.loss_percent, "Packets lost at random")->check(CLI::Range(0.0, 100.0));
    app.add_option("--queue-kib", options.queue_kib, "Queue in front of the link")->check(CLI::PositiveNumber);
    app.add_option("--seed", options.seed, "Of the loss");
    app.add_option("--device", device, "Name of the TUN device in both namespaces");
    app.add_option("NETNS_A", netns_a, "Name of a network namespace")->required();
    app.add_option("NETNS_B", netns_b, "Name of the other")->required();
    CLI11_PARSE(app, argc, argv);

    struct sigaction stop {};
    stop.sa_handler = [](int) { stop_requested = 1; };
    ::sigaction(SIGTERM, &stop, nullptr);
    ::sigaction(SIGINT, &stop, nullptr);

    const auto a = open_tun(netns_a, device);
    const auto b = a ? open_tun(netns_b, device) : Result<UniqueFd>(Status::cancelled);
    if (!a || !b) {
        std::cerr << "emulated_link: " << (a ? b.error() : a.error()).to_string() << '\n';
        return 1;
    }
    std::cout << "ready" << std::endl;
    run(options, a->get(), b->get());
    return 0;
}
