// SPDX-License-Identifier: MIT
// Connections that belong to no session, and how many answers each has had: they have no reply window, so that a
// flood of messages that deserve only an error must end in silence.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>

namespace remofile::server {

class ServiceStrangers {
public:
    // A client whose session has ended may still have this many requests on their way: 2 x max_requests.
    static constexpr std::uint32_t max_answers = 2048;
    // Beyond it the longest known are forgotten, and may get answers again.
    static constexpr std::size_t max_known = 4096;

    // Whether the connection may have one more answer.
    bool may_answer(const std::string& route) {
        const auto [known, is_new] = answers_.try_emplace(route, 0);
        if (is_new) {
            order_.push_back(route);
            if (order_.size() > max_known) {
                answers_.erase(order_.front());
                order_.pop_front();
            }
        }
        return ++known->second <= max_answers;
    }

private:
    std::unordered_map<std::string, std::uint32_t> answers_;
    std::deque<std::string> order_;
};

}  // namespace remofile::server
