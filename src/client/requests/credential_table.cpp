// SPDX-License-Identifier: MIT
#include "client/requests/credential_table.hpp"

#include <algorithm>

namespace remofile::client {

std::optional<std::uint32_t> CredentialTable::find(const Identity& identity, TimePoint now) {
    const auto found = numbers_.find(identity);
    if (found == numbers_.end())
        return std::nullopt;
    entries_[found->second].used = now;
    return found->second;
}

std::optional<std::uint32_t> CredentialTable::reserve(TimePoint now) {
    std::uint32_t number = last_number_ + 1;
    if (entries_.size() >= max_identities) {
        const auto idle_since = [](const auto& entry) {
            return entry.second.identity && entry.second.uses == 0 ? entry.second.used : TimePoint::max();
        };
        const auto oldest = std::ranges::min_element(entries_, {}, idle_since);
        if (idle_since(*oldest) == TimePoint::max() || now - oldest->second.used < min_idle_time)
            return std::nullopt;
        number = oldest->first;
        numbers_.erase(*oldest->second.identity);
    } else {
        last_number_ = number;
    }
    entries_[number] = {};
    return number;
}

void CredentialTable::confirm(std::uint32_t number, Identity identity, TimePoint now) {
    const auto found = entries_.find(number);
    if (found == entries_.end())
        return;  // cleared meanwhile
    numbers_[identity] = number;
    found->second = {.identity = std::move(identity), .used = now};
}

void CredentialTable::give_back(std::uint32_t number) {
    entries_.erase(number);
}

std::optional<CredentialTable::Use> CredentialTable::use(std::uint32_t number, TimePoint now) {
    const auto found = entries_.find(number);
    if (found == entries_.end() || !found->second.identity)
        return std::nullopt;
    found->second.used = now;
    ++found->second.uses;
    return Use(*this, number);
}

// Of a number that clear() has forgotten: nothing.
void CredentialTable::end_use(std::uint32_t number) {
    if (const auto found = entries_.find(number); found != entries_.end())
        --found->second.uses;
}

std::vector<wire::Credential> CredentialTable::all() const {
    std::vector<wire::Credential> known;
    for (const auto& [number, entry] : entries_) {
        if (entry.identity)
            known.push_back({number, entry.identity->uid, entry.identity->gid, entry.identity->groups});
    }
    return known;
}

void CredentialTable::clear() {
    entries_.clear();
    numbers_.clear();
}

}  // namespace remofile::client
