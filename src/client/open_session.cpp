// SPDX-License-Identifier: MIT
#include "client/open_session.hpp"

#include <random>
#include <utility>

namespace remofile::client {
namespace {

constexpr Duration patience = std::chrono::seconds(30);
constexpr Duration silence = std::chrono::seconds(3);
// Each attempt is a handshake, for the server too.
constexpr auto first_delay = std::chrono::milliseconds(100);
constexpr auto longest_delay = std::chrono::milliseconds(1000);

}  // namespace

Task<Result<std::unique_ptr<Session>>> open_session(transport::Context& context, transport::Reactor& reactor,
                                                    SessionOptions options, Counters& counters,
                                                    std::vector<wire::Client>* holders, std::function<void()> on_full) {
    const TimePoint begun = reactor.clock().now();
    std::minstd_rand random(std::random_device{}());
    for (auto delay = first_delay;; delay = std::min(delay * 2, longest_delay)) {
        auto opened = co_await Session::open(context, reactor, options, counters, holders);
        const Duration waited = reactor.clock().now() - begun;
        if (opened.status() != Status::limit_exceeded || waited > patience)
            co_return opened;
        if (waited > silence && on_full)
            std::exchange(on_full, {})();
        // Not all of those who are waiting at the same moment.
        Completion<bool> over;
        reactor.after(delay / 2 + delay * (random() % 100) / 100, [&over] { over.deliver(true); });
        co_await over;
    }
}

}  // namespace remofile::client
