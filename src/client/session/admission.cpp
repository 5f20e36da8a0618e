// SPDX-License-Identifier: MIT
#include "client/session/admission.hpp"

#include <algorithm>

namespace remofile::client {
namespace {

// One HELLO waits at most this long for exclusive use; then it is asked for again.
constexpr Duration max_hello_wait = std::chrono::hours(1);

std::uint32_t to_milliseconds(Duration duration) {
    const auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(count, 0, UINT32_MAX));
}

}  // namespace

void Admission::begin(std::optional<Duration> turn, Duration patience, std::function<void()> on_timeout) {
    const TimePoint now = reactor_.clock().now();
    if (turn)
        wait_until_ = *turn > TimePoint::max() - now ? TimePoint::max() : now + *turn;
    patience_ = patience;
    on_timeout_ = std::move(on_timeout);
    timer_ = reactor_.after(patience_, on_timeout_);
}

bool Admission::decide() {
    stop_waiting();
    return std::exchange(opening_, false);
}

bool Admission::refused_as_in_use(std::vector<wire::Client> holders) {
    holders_ = std::move(holders);
    const bool waits = !opening_ || (wait_until_ && reactor_.clock().now() < *wait_until_);
    if (!waits)
        return false;
    stop_waiting();
    // The server ends the wait, unless it hangs.
    if (opening_ && *wait_until_ != TimePoint::max())
        timer_ = reactor_.after(*wait_until_ - reactor_.clock().now() + patience_, on_timeout_);
    return true;
}

std::uint32_t Admission::hello_wait_ms() const {
    if (!waiting_)
        return 0;
    return to_milliseconds(opening_ ? std::min<Duration>(*wait_until_ - reactor_.clock().now(), max_hello_wait)
                                    : max_hello_wait);
}

}  // namespace remofile::client
