// SPDX-License-Identifier: MIT
#include "client/session/connection.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace remofile::client {
namespace {

constexpr Duration first_pause = std::chrono::milliseconds(50);
constexpr Duration max_pause = std::chrono::seconds(2);

}  // namespace

Connection::Connection(transport::Reactor& reactor, std::size_t number)
    : queue(number),
      traffic(number == data_lane ? acknowledged_window_share : acknowledged_metadata_share),
      reactor_(reactor),
      pause_(first_pause) {}

void Connection::begin_attempt() {
    stop_trying();
    stage_ = Stage::connecting;
}

void Connection::begin_greeting() {
    stage_ = Stage::greeting;
    stopping_announced_ = false;
    keys_announced_ = false;
    traffic.begin();
}

void Connection::become_ready() {
    REMOFILE_ASSERT(stage_ == Stage::greeting);
    stage_ = Stage::ready;
    failures_ = 0;
}

void Connection::go_down() {
    stage_ = Stage::down;
    reactor_.cancel(end_timer_);
    end_timer_ = {};
}

void Connection::close() {
    stop_trying();
    go_down();
    lane_.reset();
}

void Connection::send(wire::Message message, TimePoint now) {
    REMOFILE_ASSERT(has_greeted());
    traffic.note_sent(message, now);
    lane_->send(std::move(message));
}

void Connection::report_congestion(const transport::CongestionControl& control, std::string_view which) {
    const auto& outcome = lane_->congestion();
    if (outcome && congestion_reports_.is_new(*outcome))
        control.report(which, *outcome);
}

void Connection::end_after(Duration patience, std::function<void()> end) {
    if (!end_timer_)
        end_timer_ = reactor_.after(patience, std::move(end));
}

Duration Connection::next_pause() {
    return std::exchange(pause_, std::min<Duration>(pause_ * 2, max_pause));
}

void Connection::reset_pause() {
    pause_ = first_pause;
}

void Connection::try_after(Duration pause, std::function<void()> attempt) {
    stop_trying();
    retry_timer_ = reactor_.after(pause, std::move(attempt));
}

}  // namespace remofile::client
