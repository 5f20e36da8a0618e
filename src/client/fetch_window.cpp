// SPDX-License-Identifier: MIT
#include "client/fetch_window.hpp"

#include <algorithm>

namespace remofile::client {
namespace {

// One delay's worth keeps the link busy. The others keep up with TCP, which doubles its speed each delay while it
// starts. Others who read wait behind all of it.
constexpr double delays_ahead = 4;

}  // namespace

void FetchWindow::note_asked(std::uint64_t bytes, TimePoint now) {
    speed_.note_sent(bytes, now);
}

void FetchWindow::note_arrived(std::uint64_t bytes, TimePoint asked, TimePoint now) {
    shortest_delay_ = std::min(shortest_delay_.value_or(Duration::max()), now - asked);
    note_failed(bytes, now);
}

void FetchWindow::note_failed(std::uint64_t bytes, TimePoint now) {
    arrived_bytes_ += bytes;
    speed_.note_arrived(arrived_bytes_, now);
}

std::uint64_t FetchWindow::bytes() const {
    const auto speed = speed_.bytes_per_s();
    if (!speed || !shortest_delay_)
        return min_bytes;
    const double fills_link = delays_ahead * *speed * std::chrono::duration<double>(*shortest_delay_).count();
    return static_cast<std::uint64_t>(
        std::clamp(fills_link, static_cast<double>(min_bytes), static_cast<double>(max_bytes)));
}

}  // namespace remofile::client
