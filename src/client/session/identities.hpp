// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "base/task.hpp"
#include "client/requests/credential_table.hpp"
#include "client/session.hpp"
#include "transport/reactor.hpp"
#include "wire/messages.hpp"

namespace remofile::client {

// The identities that a session's requests act as: their numbers, who waits to learn one, and the one that requests
// carry that say none. One thread. Shared by the session and those who wait: it may outlive the session by a moment.
//
// Invariant: about one identity there is at most one question under way, and its number is reserved until the answer is
// there, whoever has stopped waiting: what the server may bind late must not meet another identity under the same
// number. The answer to a question of an earlier epoch binds nothing.
class Identities : public std::enable_shared_from_this<Identities> {
public:
    using Identity = CredentialTable::Identity;
    // Asks the server, as long as it takes. Whoever it is must live until the task has ended.
    using Ask = std::function<Task<Status>(wire::Credential question)>;

    // `patience`: how long one who asks for a number waits; none: as long as it takes.
    Identities(transport::Reactor& reactor, std::optional<Duration> patience, Ask ask);

    // Errors: too_big, limit_exceeded, interrupted, timed_out, and those of the server's answer.
    Task<Result<std::uint32_t>> number_of(Identity identity, Cancellation* cancellation);
    // Requests carry it from now on, until the epoch ends, unless they say another.
    Task<Result<>> act_as(Identity identity);

    // What a request carries that says this number, 0 for none: a number of this epoch, and the use that keeps it.
    struct Carried {
        std::uint32_t number = 0;
        std::optional<CredentialTable::Use> use;
    };
    // None if the number stands for nobody.
    std::optional<Carried> carry(std::uint32_t number);

    // As long as what it returns lives, the number is given to no other identity. Null if it stands for nobody.
    std::shared_ptr<const void> hold(std::uint32_t number);

    // What the server was told: all that is needed to tell it again.
    std::vector<wire::Credential> known() const { return table_.all(); }
    // The server knows none of them any more.
    void begin_epoch();

private:
    // A CREDENTIAL under way, and those who wait for its answer. Shared by them and the coroutine that asks.
    struct Question;

    std::shared_ptr<Question> question_about(const Identity& identity);
    Task<void> ask(std::shared_ptr<Question> question);
    void answer(Question& question, Status status);
    Task<Status> answered_in_time(std::shared_ptr<Question> question, Cancellation* cancellation);

    transport::Reactor& reactor_;
    const std::optional<Duration> patience_;
    const Ask ask_;
    CredentialTable table_;
    std::uint64_t epoch_ = 0;
    std::map<Identity, std::shared_ptr<Question>> questions_;
    Carried own_;  // its use lives in table_
};

}  // namespace remofile::client
