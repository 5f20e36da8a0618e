// SPDX-License-Identifier: MIT
// Who may open a sealed lane, and with which keys: tickets that a client has been given over its encrypted connection.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.hpp"
#include "base/guarded.hpp"
#include "base/strong_id.hpp"
#include "transport/listener.hpp"
#include "transport/message_cipher.hpp"

namespace remofile::transport {

// Callable from any thread. Bounded: one ticket for each lane of each session, and each for a short time.
class LaneTickets {
public:
    explicit LaneTickets(const Clock& clock = Clock::system()) : clock_(clock) {}

    // A ticket is good for so long.
    static constexpr Duration lifetime = std::chrono::seconds(30);

    // A new one, for one connection. It takes the place of an unused one for the same lane.
    LaneTicket issue(SessionId session, std::uint8_t lane, Peer holder);

    // Whether a connection that shows this name may stand; true once for each ticket.
    bool admit(std::string_view name);

    struct Claim {
        LaneKeys keys;
        Peer holder;
    };
    // What belongs to an admitted connection's name. Once; the ticket is gone then.
    std::optional<Claim> claim(std::string_view name);

private:
    struct Issued {
        std::pair<SessionId, std::uint8_t> lane;
        LaneKeys keys;
        Peer holder;
        TimePoint expires;
        bool admitted = false;
    };
    using ByName = std::map<std::string, Issued, std::less<>>;

    const Clock& clock_;
    Guarded<ByName> tickets_;
};

}  // namespace remofile::transport
