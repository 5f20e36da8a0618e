// SPDX-License-Identifier: MIT
#include "client/session/identities.hpp"

#include <utility>

#include "client/waiters.hpp"

namespace remofile::client {

struct Identities::Question {
    Question(Identity given_identity, std::uint32_t given_number, std::uint64_t given_epoch)
        : identity(std::move(given_identity)), number(given_number), epoch(given_epoch) {}

    const Identity identity;
    const std::uint32_t number;
    const std::uint64_t epoch;
    std::optional<Result<std::uint32_t>> answer;
    Waiters waiting;
};

Identities::Identities(transport::Reactor& reactor, std::optional<Duration> patience, Ask ask)
    : reactor_(reactor), patience_(patience), ask_(std::move(ask)) {}

// One question an identity, however many wait for its answer.
Task<Result<std::uint32_t>> Identities::number_of(Identity identity, Cancellation* cancellation) {
    using Number = Result<std::uint32_t>;
    const auto self = shared_from_this();
    if (identity.groups.size() > wire::max_groups)
        co_return Number(make_error(Status::too_big, "the caller belongs to too many groups"));
    if (const auto known = table_.find(identity, reactor_.clock().now()))
        co_return Number(*known);

    const std::shared_ptr<Question> question = question_about(identity);
    if (question == nullptr)
        co_return Number(make_error(Status::limit_exceeded, "too many users are active at a time"));
    Status status = Status::ok;
    if (!question->answer)
        status = co_await answered_in_time(question, cancellation);
    if (status != Status::ok)
        co_return Number(status);
    co_return *question->answer;
}

Task<Result<>> Identities::act_as(Identity identity) {
    const auto self = shared_from_this();
    const std::uint64_t epoch = epoch_;
    const auto number = co_await number_of(std::move(identity), nullptr);
    if (!number)
        co_return Result<>(number.error());
    if (epoch_ != epoch)
        co_return Result<>(Status::no_session);
    own_.number = *number;
    own_.use.reset();
    if (auto use = table_.use(*number, reactor_.clock().now()))
        own_.use.emplace(std::move(*use));
    co_return Result<>();
}

std::optional<Identities::Carried> Identities::carry(std::uint32_t number) {
    Carried carried{.number = number != 0 ? number : own_.number, .use = std::nullopt};
    if (carried.number == 0)
        return carried;
    auto use = table_.use(carried.number, reactor_.clock().now());
    if (!use)
        return std::nullopt;
    carried.use.emplace(std::move(*use));
    return carried;
}

std::shared_ptr<const void> Identities::hold(std::uint32_t number) {
    struct Held {
        std::shared_ptr<Identities> keeper;  // has the table
        CredentialTable::Use use;
    };
    auto use = table_.use(number, reactor_.clock().now());
    return use ? std::make_shared<const Held>(shared_from_this(), std::move(*use)) : nullptr;
}

void Identities::begin_epoch() {
    ++epoch_;
    own_.number = 0;
    own_.use.reset();
    table_.clear();
    questions_.clear();
}

// What is being asked about the identity, begun if need be. Null if there is no number for it.
std::shared_ptr<Identities::Question> Identities::question_about(const Identity& identity) {
    if (const auto known = questions_.find(identity); known != questions_.end())
        return known->second;
    const auto number = table_.reserve(reactor_.clock().now());
    if (!number)
        return nullptr;
    auto question = std::make_shared<Question>(identity, *number, epoch_);
    questions_.emplace(identity, question);
    spawn(ask(question), [self = shared_from_this(), question](Status status) {
        if (!question->answer)
            self->answer(*question, status);
    });
    return question;
}

Task<void> Identities::ask(std::shared_ptr<Question> question) {
    const auto self = shared_from_this();
    const Identity& identity = question->identity;
    wire::Credential asked{
        .number = question->number, .uid = identity.uid, .gid = identity.gid, .groups = identity.groups};
    const Status status = co_await ask_(std::move(asked));
    answer(*question, status);
}

void Identities::answer(Question& question, Status status) {
    const auto known = questions_.find(question.identity);
    if (known != questions_.end() && known->second.get() == &question)
        questions_.erase(known);
    if (question.epoch != epoch_)
        status = Status::no_session;
    else if (status == Status::ok)
        table_.confirm(question.number, question.identity, reactor_.clock().now());
    else
        table_.give_back(question.number);
    if (status == Status::ok)
        question.answer.emplace(question.number);
    else
        question.answer.emplace(status);
    question.waiting.wake(Status::ok);
}

// ok once there is an answer.
Task<Status> Identities::answered_in_time(std::shared_ptr<Question> question, Cancellation* cancellation) {
    Cancellation patience;
    bool timed_out = false;
    std::optional<Cancellation::Watch> watch;
    if (cancellation != nullptr && cancellation->cancelled())
        co_return Status::interrupted;
    if (cancellation != nullptr)
        watch.emplace(cancellation->watch([patience]() mutable { patience.cancel(); }));
    transport::TimerId timer;
    if (patience_)
        timer = reactor_.after(*patience_, [patience, &timed_out]() mutable {
            timed_out = true;
            patience.cancel();
        });
    const auto self = shared_from_this();
    const Status status = co_await question->waiting.wait(&patience);
    reactor_.cancel(timer);
    co_return timed_out ? Status::timed_out : status;
}

}  // namespace remofile::client
