// SPDX-License-Identifier: MIT
#include "transport/lane_tickets.hpp"

#include <sodium.h>

namespace remofile::transport {

LaneTicket LaneTickets::issue(SessionId session, std::uint8_t lane, Peer holder) {
    LaneTicket ticket;
    randombytes_buf(ticket.id.data(), ticket.id.size());
    randombytes_buf(ticket.keys.to_server.data(), ticket.keys.to_server.size());
    randombytes_buf(ticket.keys.to_client.data(), ticket.keys.to_client.size());
    const TimePoint now = clock_.now();
    const std::pair of(session, lane);
    tickets_.with([&](ByName& tickets) {
        std::erase_if(tickets,
                      [&](const auto& entry) { return entry.second.expires <= now || entry.second.lane == of; });
        tickets.emplace(
            ticket.name(),
            Issued{.lane = of, .keys = ticket.keys, .holder = std::move(holder), .expires = now + lifetime});
    });
    return ticket;
}

bool LaneTickets::admit(std::string_view name) {
    const TimePoint now = clock_.now();
    return tickets_.with([&](ByName& tickets) {
        const auto found = tickets.find(name);
        return found != tickets.end() && found->second.expires > now && !std::exchange(found->second.admitted, true);
    });
}

std::optional<LaneTickets::Claim> LaneTickets::claim(std::string_view name) {
    return tickets_.with([&](ByName& tickets) -> std::optional<Claim> {
        const auto found = tickets.find(name);
        if (found == tickets.end() || !found->second.admitted)
            return std::nullopt;
        Claim claim{.keys = found->second.keys, .holder = std::move(found->second.holder)};
        tickets.erase(found);
        return claim;
    });
}

}  // namespace remofile::transport
