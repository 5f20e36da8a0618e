// SPDX-License-Identifier: MIT
#include "client/client_list.hpp"

#include <algorithm>
#include <ctime>
#include <iterator>

#include "base/log.hpp"

namespace remofile::client {
namespace {

// More would not fit the line that a person reads.
constexpr std::size_t max_named_clients = 5;

}  // namespace

std::vector<wire::Client> others_than(std::string_view name, const std::vector<wire::Client>& clients) {
    std::vector<wire::Client> others;
    std::ranges::copy_if(clients, std::back_inserter(others),
                         [name](const wire::Client& client) { return client.name != name; });
    return others;
}

std::string local_time(std::uint64_t seconds) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    char text[32];
    if (seconds > INT32_MAX * 100ULL || localtime_r(&time, &parts) == nullptr ||
        std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &parts) == 0)
        return "an unknown time";
    return text;
}

std::string describe(const wire::Client& client) {
    return fmt::format("{} ({}) since {}{}", client.name.empty() ? "somebody" : log::printable(client.name),
                       log::printable(client.address), local_time(client.since),
                       client.exclusive ? ", exclusively" : "");
}

std::string describe(std::span<const wire::Client> clients) {
    std::string text;
    for (std::size_t i = 0; i < clients.size() && i < max_named_clients; ++i)
        text += (i > 0 ? "; " : "") + describe(clients[i]);
    if (clients.size() > max_named_clients)
        text += fmt::format("; and {} more", clients.size() - max_named_clients);
    return text.empty() ? "another client" : text;
}

}  // namespace remofile::client
