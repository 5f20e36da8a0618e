// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// Which number stands for which identity in the present epoch. Pure bookkeeping.
//
// A number is given to another identity only when no request that carries it is unanswered or waits to be sent, and
// when it has not been used for a while, so that a request that is about to be made never acts as somebody else either.
class CredentialTable {
public:
    struct Identity {
        std::uint32_t uid = 0;
        std::uint32_t gid = 0;
        std::vector<std::uint32_t> groups;  // in the caller's order
        friend auto operator<=>(const Identity&, const Identity&) = default;
    };

    // A machine has few users at work at a time; servers keep as many credentials for a session.
    static constexpr std::size_t max_identities = 256;
    static constexpr Duration min_idle_time = std::chrono::minutes(1);

    // The number of an identity that the server knows, and takes note of its use.
    std::optional<std::uint32_t> find(const Identity& identity, TimePoint now);

    // A number for a new identity, taken from the one that has been idle longest if all are in use; it is the
    // identity's once confirm() is called. None if no number is free.
    std::optional<std::uint32_t> reserve(TimePoint now);
    void confirm(std::uint32_t number, Identity identity, TimePoint now);
    void give_back(std::uint32_t number);

    // A request that carries the number, as long as it lives. Must not outlive the table.
    class Use {
    public:
        Use(Use&& other) noexcept : table_(std::exchange(other.table_, nullptr)), number_(other.number_) {}
        Use& operator=(Use&&) = delete;
        ~Use() {
            if (table_ != nullptr)
                table_->end_use(number_);
        }

    private:
        friend class CredentialTable;
        Use(CredentialTable& table, std::uint32_t number) : table_(&table), number_(number) {}
        CredentialTable* table_;
        std::uint32_t number_;
    };
    // None if the number stands for nobody.
    std::optional<Use> use(std::uint32_t number, TimePoint now);

    // Those that the server knows.
    std::vector<wire::Credential> all() const;
    // The server knows none of them any more. Numbers go on from where they were, so that an old one is recognised.
    void clear();

private:
    struct Entry {
        std::optional<Identity> identity;  // none: reserved
        TimePoint used{};
        std::size_t uses = 0;  // now
    };
    void end_use(std::uint32_t number);

    std::map<std::uint32_t, Entry> entries_;
    std::map<Identity, std::uint32_t> numbers_;
    std::uint32_t last_number_ = 0;
};

}  // namespace remofile::client
