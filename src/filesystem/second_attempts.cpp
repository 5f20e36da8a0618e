// SPDX-License-Identifier: MIT
#include "filesystem/second_attempts.hpp"

#include <algorithm>

namespace remofile::filesystem {
namespace {

// Longer than the requests of one system call take on a slow link.
constexpr auto life = std::chrono::seconds(10);

// So that a storm of ESTALE, after a restart of the server for example, does not use up its handles.
constexpr std::size_t max_threads = 64;
constexpr std::size_t max_held = 256;

}  // namespace

SecondAttempts::~SecondAttempts() {
    if (timer_)
        reactor_.cancel(*timer_);
}

void SecondAttempts::expect(std::uint32_t thread) {
    std::erase_if(threads_, [&](const Thread& known) { return known.id == thread; });
    if (threads_.size() == max_threads)
        threads_.pop_front();
    threads_.push_back({thread, reactor_.clock().now() + life});
}

bool SecondAttempts::is_one(std::uint32_t thread) const {
    return std::ranges::any_of(
        threads_, [&](const Thread& known) { return known.id == thread && known.until > reactor_.clock().now(); });
}

void SecondAttempts::hold(HandleId handle) {
    if (held_.size() == max_held)
        release_first();
    held_.push_back({handle, session_.epoch(), reactor_.clock().now() + life});
    if (!timer_)
        tidy_later();
}

void SecondAttempts::tidy_later() {
    timer_ = reactor_.after(held_.front().until - reactor_.clock().now(), [this] { tidy(); });
}

void SecondAttempts::tidy() {
    timer_.reset();
    while (!held_.empty() && held_.front().until <= reactor_.clock().now())
        release_first();
    if (!held_.empty())
        tidy_later();
}

void SecondAttempts::release_first() {
    if (held_.front().epoch == session_.epoch())
        session_.tell(wire::Release{held_.front().handle});
    held_.pop_front();
}

}  // namespace remofile::filesystem
